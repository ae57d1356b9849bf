"""Track reference: what contradicts a known value, and that the suite's rows come out."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from qbench import plugins, suite
from qbench.cli.reference import chi_square
from qbench.errors import ParameterError, SpecError
from qbench.measuring import decode
from qbench.schema import Cell, Outcome, Spec
from qbench.tracks.reference import Reference
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


def test_rows_that_are_all_a_bit_off_end_in_1(tmp_path: Path) -> None:
    """Four times z = 3.5: chi-square 49 on 4 rows, p = exp(-24.5) (1 + 24.5) = 5.8e-10."""
    ended = run(tmp_path, limits(tmp_path, "0.243", "0.257", "0.2430", "0.2570"))
    assert "chi-square 49.0 on 4 rows, p = 5.84e-10" in ended.stdout, ended.stderr
    assert "contradicts" not in ended.stdout
    assert ended.returncode == 1
    listed = run(tmp_path, "", command="results")
    assert "D of 0.243" in listed.stdout
    assert "0.25 for 0.243, z +3.50" in listed.stdout


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
