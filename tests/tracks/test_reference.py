"""Known values: how they are read, what z is, and that the suite's rows come out."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from qbench import plugins, suite
from qbench.cli.reference import chi_square, show
from qbench.cli.rendering import Screen
from qbench.errors import ParameterError, SpecError
from qbench.measuring import decode
from qbench.schema import Cell, Outcome, Spec
from qbench.tracks.reference import Reference
from qbench.tracks.reference_quantities import SCORED, Scored, Totals, in_units
from qbench.tracks.reference_value import Published

ROOT = Path(__file__).resolve().parents[2]


class Bench:
    """What the track asks of its surroundings, in this process."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.catalog = plugins.load(["all"])

    def build(self, kind: Any, spec: Spec) -> Any:
        return self.catalog.build(kind, spec)

    def quantizer(self, spec: Spec) -> Any:
        return self.catalog.build("quantizer", spec)

    def decode(self, payloads: list[bytes]) -> list[Tensor]:
        return [decode(payload) for payload in payloads]

    def loaded(self) -> None:
        pass


def outcome(
    quantizer: str | None = None, dataset: str | None = "gaussian", seed: int = 0, **budget: Any
) -> Outcome:
    bench = Bench()
    track = Reference(**budget)
    cell = Cell(
        track="reference",
        track_version=1,
        target="source",
        quantizer=bench.catalog.quantizer(quantizer).spec if quantizer else None,
        dataset=Spec(name=dataset) if dataset else None,
        seed=seed,
        budget=track.spec.parameters,
    )
    return track.run(cell, bench)  # type: ignore[arg-type]


# --- known values as they are printed ---


@pytest.mark.parametrize(
    ("printed", "value", "error", "rounding"),
    [
        (0.25, 0.25, 0.0, 0.0),  # a number is exact
        (".363380", 0.36338, 0.0, 1e-6),
        ("1.0000", 1.0, 0.0, 1e-4),
        ("-.1847734", -0.1847734, 0.0, 1e-7),
        ("6.4424e-4", 6.4424e-4, 0.0, 1e-8),
        ("8.048(3)", 8.048, 3e-3, 1e-3),
        (".09479(5)", 0.09479, 5e-5, 1e-5),
        ("6.44(12)e-4", 6.44e-4, 1.2e-5, 1e-6),
    ],
)
def test_digits_say_how_exact_a_value_is(printed: Any, value: float, error: float, rounding: float) -> None:
    read = Published.read(printed)
    assert (read.low, read.high) == (value, value)
    assert read.error == pytest.approx(error)
    assert read.rounding == pytest.approx(rounding)


def test_z_is_the_difference_over_all_three_errors() -> None:
    """SE^2 = ours^2 + reference^2 + rounding^2 / 12."""
    known, ours = Published.read("8.048(3)"), 0.004
    error = math.sqrt(0.004**2 + 0.003**2 + 0.001**2 / 12)
    assert known.z(8.06, ours) == pytest.approx((8.06 - 8.048) / error)
    assert known.z(8.04, ours) == pytest.approx((8.04 - 8.048) / error)


def test_a_tolerance_is_four_standard_errors() -> None:
    absolute, relative = Published.read("20.73", tolerance=0.02), Published.read(0.5, tolerance="2 %")
    assert absolute.error == pytest.approx(0.005)
    assert relative.z(0.5 * 1.02, 0.0) == pytest.approx(4)


def test_in_a_range_every_value_is_right() -> None:
    known = Published.read(".328 to .3680")
    assert [known.z(x, 0.01) for x in (0.328, 0.35, 0.368)] == [0, 0, 0]
    error = math.sqrt(0.01**2 + 0.0001**2 / 12)  # the ends are printed numbers, too
    assert known.z(0.308, 0.01) == pytest.approx(-0.02 / error)
    assert known.z(0.388, 0.01) == pytest.approx(0.02 / error)
    # a tolerance is one of the ends
    assert Published.read("1.0000 to 2.0000", tolerance="2 %").z(2.04, 0.0) == pytest.approx(4, rel=1e-4)


def test_exact_values_must_agree_to_what_float64_resolves() -> None:
    assert Published.read(4.5).z(4.5, 0.0) == 0
    assert abs(Published.read(4.5).z(4.5 + 1e-6, 0.0)) > 4
    assert Published.read(0.0).z(0.0, 0.0) == 0


@pytest.mark.parametrize("budget", [{"value": "about 3"}, {"value": "1", "tolerance": "much"}, {"value": ""}])
def test_what_cannot_be_read_is_refused(budget: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match="write"):
        Reference(**budget)


def test_a_row_says_what_it_lacks() -> None:
    with pytest.raises(ParameterError, match="needs lattice=NAME"):
        Reference(quantity="nsm")
    with pytest.raises(SpecError, match="quantity=mse needs quantizer and dataset"):
        outcome(dataset=None)
    with pytest.raises(SpecError, match="needs dataset"):
        outcome(dataset=None, quantity="limit")


# --- standard errors from the spread ---


def test_the_jackknife_of_a_mean_is_the_mean_and_its_standard_error() -> None:
    x = torch.tensor([1.0, 2.0, 4.0, 9.0], dtype=torch.float64)
    found = Totals(torch.stack([x, torch.ones(4).double()], 1), lambda t: float(t[0] / t[1])).jackknife()
    assert found.value == pytest.approx(4)
    assert found.standard_error == pytest.approx(float(x.std()) / 2)
    assert found.samples == pytest.approx(x.tolist())


def test_the_jackknife_takes_the_bias_away() -> None:
    """Of the squared mean: E (mean)^2 = mu^2 + s^2 / n, and mean^2 - s^2 / n is what the jackknife gives."""
    x = torch.tensor([1.0, 2.0, 4.0, 9.0], dtype=torch.float64)
    found = Totals(torch.stack([x, torch.ones(4).double()], 1), lambda t: float(t[0] / t[1]) ** 2).jackknife()
    assert found.value == pytest.approx(16 - float(x.var()) / 4)


def test_one_unit_alone_is_exact() -> None:
    assert Totals(torch.tensor([[3.0]]), lambda total: float(total[0])).jackknife().standard_error == 0


def signs(seed: int) -> Scored:
    """The sign of 64 x 64 Gaussian values times their mean magnitude."""
    x = torch.randn(64, 8, 8, generator=torch.Generator().manual_seed(seed))
    return Scored(x, x.sign() * math.sqrt(2 / math.pi), 0.0, None)  # type: ignore[arg-type]


def thirds(seed: int) -> Scored:
    """Three values of probability 1/2, 1/4, 1/4: 1.5 bits."""
    x = torch.rand(64, 8, 8, generator=torch.Generator().manual_seed(seed))
    return Scored(x, (x > 0.5).float() + (x > 0.75).float(), 0.0, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("quantity", "sample", "truth"),
    [
        ("mse", signs, 1 - 2 / math.pi),
        ("cosine", signs, math.sqrt(2 / math.pi)),
        ("sqnr_db", signs, -10 * math.log10(1 - 2 / math.pi)),
        ("entropy", thirds, 1.5),
    ],
)
def test_standard_errors_cover(quantity: str, sample: Any, truth: float) -> None:
    """z of 400 samples: mean 0 within 4 / sqrt(400), and of a t with 63 degrees of freedom 95.4 % lie within 2.04:
    at least 92 % do, with a binomial standard error of 1.0 %; not over 98.7 % do.
    """
    z = []
    for seed in range(400):
        found = SCORED[quantity](sample(seed)).jackknife()
        z.append((found.value - truth) / found.standard_error)
    assert abs(sum(z) / 400) < 0.2
    assert 0.92 < sum(abs(value) < 2.04 for value in z) / 400 < 0.987


def test_parts_of_the_first_axis_are_units() -> None:
    assert in_units(torch.zeros(2048, 10), 10).shape == (64, 32, 10)
    assert in_units(torch.zeros(16, 10), 10).shape == (16, 1, 10)
    assert in_units(torch.zeros(12, 10), 10).shape == (4, 3, 10)


# --- quantities of which the answer is known by hand ---


def scored(x: Any, y: Any, at: float = 0.0) -> Scored:
    return Scored(torch.tensor(x).double(), torch.tensor(y).double(), at, None)  # type: ignore[arg-type]


def test_quantities_by_hand() -> None:
    x, y = [[[3.0, 4.0]], [[0.0, 2.0]]], [[[3.0, 0.0]], [[0.0, 1.0]]]

    def of(quantity: str, at: float = 0.0) -> float:
        totals = SCORED[quantity](scored(x, y, at))
        return totals.follows(totals.rows.sum(0))

    assert of("mse") == pytest.approx(17 / 4)
    assert of("sqnr_db") == pytest.approx(10 * math.log10(29 / 17))
    assert of("cosine") == pytest.approx(11 / math.sqrt(29 * 10))
    assert of("angle") == pytest.approx(math.degrees(math.acos(11 / math.sqrt(290))))
    assert of("vector_cosine") == pytest.approx((3 / 5 + 1) / 2)
    assert of("vector_cosine_deviation") == pytest.approx(0.2)
    assert of("relative_variance") == pytest.approx((16 / 25 + 1 / 4) / 2)
    assert of("nonzeros") == 1
    assert of("entropy") == pytest.approx(1.5)  # 0 twice, 1, 3
    assert of("level", 1) == pytest.approx((3 + 1) / 2)  # the second of 0, 3 and of 0, 1
    assert of("step") == pytest.approx((3 + 1) / 2)
    assert of("threshold") == pytest.approx((3.5 + 1) / 2)  # 4 becomes zero and 3 does not; 0 and 2


def test_levels_of_groups_are_in_units_of_the_largest() -> None:
    found = scored([[[0.0] * 3]] * 2, [[[2.0, -1.0, 0.5]], [[-8.0, -4.0, 2.0]]], at=1.0)
    assert SCORED["group_level"](found).jackknife().value == pytest.approx(-0.5)  # -1, -.5, .25, 1


# --- a cell ---

ONE_BIT = "lloyd-max(bits=1,table=gaussian)"
SMALL = {"shape": (64, 1024), "fit_elements": 65536}


def test_a_right_value_is_ok() -> None:
    found = outcome(ONE_BIT, row="one bit", value=".363380", **SMALL)
    assert found.status == "ok"
    values = {name: measurement.value for name, measurement in found.measurements.items()}
    assert values["z"] == pytest.approx((values["measured"] - 0.36338) / values["standard_error"])
    # squared errors of one bit have a standard deviation of .62 / sqrt(2) at most
    assert 0.2 < values["standard_error"] / (0.44 / 256) < 2
    assert len(found.measurements["measured"].samples) == 64
    assert found.facts == {"row": "one bit", "reference": ".363380", "varies": True}


def test_a_wrong_value_contradicts() -> None:
    found = outcome(ONE_BIT, row="one bit", value=".3264", **SMALL)
    assert found.status == "impossible"
    assert abs(found.measurements["z"].value or 0) > 4
    measured, z = found.measurements["measured"].value, found.measurements["z"].value
    for part in ("one bit", f"{measured:.6g}", ".3264", f"{z:+.1f}", "contradicts a known value"):
        assert part in str(found.error)


def test_every_row_has_its_own_data() -> None:
    one, other, again = (
        outcome(ONE_BIT, row=row, value=".36338", **SMALL) for row in ("one", "other", "one")
    )
    values = [found.measurements["measured"].value for found in (one, other, again)]
    assert values[0] == values[2] != values[1]


def test_the_rate_is_that_of_the_elements() -> None:
    """4 bits and a float16 in 64; counts and the tensor's own scale do not show."""
    found = outcome(
        "uniform(bits=4,group_size=64)", quantity="rate", value=4.25, shape=(12, 16384), fit_elements=0
    )
    assert found.measurements["measured"].value == 4.25
    assert not found.facts["varies"]


def test_draws_have_codebooks_of_their_own() -> None:
    """A codebook learned from 64 values moves more from draw to draw than the sample does."""
    few = outcome("lloyd-max(bits=4)", value=0.1, shape=(1, 4096), draws=32, fit_elements=64)
    many = outcome("lloyd-max(bits=4)", value=0.1, shape=(1, 4096), draws=32, fit_elements=8192)
    assert few.measurements["standard_error"].value > 2 * many.measurements["standard_error"].value


def test_correlated_pairs() -> None:
    """E sgn a sgn b = 2/pi asin(1/2) = 1/3."""
    found = outcome("binary", quantity="sign_product", at=0.5, value=1 / 3, shape=(64, 2048), fit_elements=0)
    assert found.status == "ok"
    assert 0 < found.measurements["standard_error"].value < 0.01


# --- the suite and the command ---


def test_labels_are_unique() -> None:
    rows = [planned.cell.budget["row"] for planned in planned_cells()]
    assert len(rows) == len(set(rows)) > 150


def planned_cells() -> list[Any]:
    catalog = plugins.load(["all"])
    return suite.expand(suite.load("reference", catalog), catalog)


def run(folder: Path, suite_name: str, *more: str, command: str = "run") -> subprocess.CompletedProcess[str]:
    words = [command, "--registry", str(folder / "r.duckdb"), *more]
    words += ["--suite", suite_name, "--device", "cpu"] if command == "run" else []
    return subprocess.run(
        [sys.executable, "-m", "qbench.cli", *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "QBENCH_CACHE": str(folder / "cache")},
        check=False,
    )


def limits(folder: Path, *values: str) -> str:
    """A suite of D(1) = 1/4 of a Gaussian with these known values, each to .002."""
    rows = [
        f'[[grid]]\ntrack = "reference"\ntarget = "source"\ndataset = "gaussian"\n[grid.budget]\n'
        f'row = "D of {value}"\nquantity = "limit"\nat = 1.0\nvalue = {value}\nerror = 0.002\n'
        for value in values
    ]
    (folder / "mine.toml").write_text("\n".join(['name = "mine"', "version = 1", *rows]))
    return str(folder / "mine.toml")


class Held:
    """What the table asks of a registry."""

    def __init__(self, known: list[tuple[str, str, str, str]]) -> None:
        self.known = known

    def sql(self, query: str) -> "Held":
        return self

    def fetchall(self) -> list[tuple[str, str, str, str]]:
        return self.known


def row(name: str, measured: float, z: float) -> dict[str, Any]:
    metrics = {"measured": measured, "reference": 0.25, "standard_error": 0.002, "z": z}
    return {
        "track": "reference",
        "result_id": name,
        "cell_id": f"cell {name}",
        "metrics": {key: {"value": value} for key, value in metrics.items()},
    }


def shown(capsys: pytest.CaptureFixture[str], *z: float) -> tuple[bool, list[str]]:
    """Whether rows r0, r1 and so on of these z are likely, and what is said of them, given backwards."""
    held = Held([(f"r{i}", f"D of {i}", ".25", "true") for i in range(len(z))])
    held.known.append(("exact", "rate", "4.5", "false"))
    rows = [row("exact", 4.5, 0.0), *reversed([row(f"r{i}", 0.25, value) for i, value in enumerate(z)])]
    order = [*(f"cell r{i}" for i in range(len(z))), "cell exact"]
    likely = show(Screen(), held, rows, order)  # type: ignore[arg-type]
    return likely, capsys.readouterr().out.splitlines()


def test_the_table_has_the_order_of_the_suite(capsys: pytest.CaptureFixture[str]) -> None:
    likely, lines = shown(capsys, -2.0, 1.0)
    assert likely
    at = [
        next(i for i, line in enumerate(lines) if line.startswith(what))
        for what in ("D of 0", "D of 1", "rate")
    ]
    assert at == sorted(at)
    assert lines[at[0]].split() == ["D", "of", "0", "0.25", ".25", "0.002", "-2.00"]
    # of two squares of Gaussians: exp(-5 / 2)
    assert "chi-square 5.0 on 2 rows, p = 0.0821; 1 more are exact or in a range" in lines


def test_a_deviating_row_stands_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    _, lines = shown(capsys, 0.0, 4.1e6)
    assert any(line.startswith("D of 1") and line.endswith("+4e+06") for line in lines)


def test_rows_that_are_all_a_bit_off_end_in_1(tmp_path: Path) -> None:
    """Four times z = 3.5: chi-square 49 on 4 rows, p = exp(-24.5) (1 + 24.5) = 5.8e-10."""
    ended = run(tmp_path, limits(tmp_path, "0.243", "0.257", "0.2430", "0.2570"))
    assert "chi-square 49.0 on 4 rows, p = 5.84e-10" in ended.stdout, ended.stderr
    assert "contradicts" not in ended.stdout
    assert ended.returncode == 1
    listed = run(tmp_path, "", command="results")
    assert "D of 0.243" in listed.stdout
    assert "0.25 for 0.243, z +3.50" in listed.stdout


def test_no_rows_are_no_news(capsys: pytest.CaptureFixture[str]) -> None:
    assert show(Screen(), Held([]), [{"track": "ptq", "metrics": {}}], [])  # type: ignore[arg-type]
    assert capsys.readouterr().out == ""


def nearest_e8(x: Tensor) -> Tensor:
    """The nearer of the nearest points of D8 and of D8 + 1/2."""

    def nearest_d8(x: Tensor) -> Tensor:
        rounded = x.round()
        worst = (x - rounded).abs().argmax(1, keepdim=True)
        step = (x - rounded).gather(1, worst).sign()
        odd = rounded.sum(1, keepdim=True) % 2
        return rounded.scatter_add(1, worst, odd * torch.where(step == 0, 1.0, step))

    points = torch.stack([nearest_d8(x), nearest_d8(x - 0.5) + 0.5])
    distances = (points - x).square().sum(2)
    return torch.where((distances[0] <= distances[1])[:, None], points[0], points[1])


def nested_e8(x: Tensor, m: int, beta: float) -> Tensor:
    """What the index of the nearest point of (beta/m) E8, modulo m, decodes to (Conway, Sloane 1983)."""
    basis = torch.eye(8, dtype=torch.float64) - torch.diag(torch.ones(7, dtype=torch.float64), -1)
    basis[0, 0], basis[7] = 2.0, 0.5
    index = (nearest_e8(m * x / beta) @ basis.inverse()).round() % m
    point = index @ basis
    return beta / m * (point - m * nearest_e8(point / m))


def test_decoded_errors_of_nested_e8_by_a_second_program() -> None:
    """The rows' values are those of this program at 10^7 vectors; here 2^17, within 4 of both standard errors."""
    rows = [p.cell for p in planned_cells() if p.cell.budget["row"].endswith("wrap, decoded")]
    assert len(rows) == 4
    for cell in rows:
        parameters, known = cell.quantizer.parameters, Published.read(cell.budget["value"])
        x = torch.randn(2**17, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        errors = (x - nested_e8(x, parameters["m"], parameters["beta"])).square().mean(1)
        assert abs(known.z(float(errors.mean()), float(errors.std()) / 2**8.5)) < 4


@pytest.mark.slow
def test_every_known_value_comes_out(tmp_path: Path) -> None:
    """|z| <= 4 in every row and p > 1e-4 of the chi-square; seeds are fixed, so this fails for a reason only."""
    ended = run(tmp_path, "reference", "--json")
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert {row["status"] for row in rows} == {"ok"}, [row["error"] for row in rows if row["error"]]
    assert ended.returncode == 0, ended.stderr
    assert len(rows) == len(planned_cells())
    z = {row["cell_id"]: row["metrics"]["z"]["value"] for row in rows}
    assert all(abs(value) <= 4 for value in z.values())
    # all z, those of exact rows (0) among them: at most what the command says of those that vary
    assert chi_square([value for value in z.values() if value])[1] > 1e-4
    assert "chi-square" in ended.stderr
