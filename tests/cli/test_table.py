"""``qbench table``: means and errors by hand, and nothing mixed."""

import csv
import io
import math
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qbench.cli import matrix
from qbench.headlines import Measured
from qbench.registry import Registry

with pytest.MonkeyPatch.context() as patch:
    for folder in Path(__file__).parents[:2]:
        patch.syspath_prepend(str(folder))
    from tabling import HEADLINE, accuracy, add, cell, tables


@pytest.fixture
def held(tmp_path: Path) -> Registry:
    """Two quantizers on two models; on mlp one of them has a seed more."""
    held = Registry(tmp_path / "r.duckdb")
    values = {
        ("uniform(bits=4)", "mlp"): (90.0, 92.0, 10.0),
        ("uniform(bits=2)", "mlp"): (80.0, 84.0),
        ("uniform(bits=4)", "cnn"): (95.0,),
        ("uniform(bits=2)", "cnn"): (96.0,),
    }
    add(
        held,
        [
            (cell(quantizer, model, seed=seed), accuracy(value, float(quantizer[-2]) + 0.5, 100 - value))
            for (quantizer, model), several in values.items()
            for seed, value in enumerate(several)
        ],
    )
    return held


@pytest.fixture
def table(qb: Callable[..., Any]) -> Callable[..., str]:
    def call(held: Registry, *words: object) -> str:
        ended = qb("table", "--registry", held.path, *words)
        assert (ended.code, ended.err) == (0, "")
        return str(ended.out)

    return call


def test_means_over_common_seeds_with_their_standard_error(held: Registry, table: Callable[..., str]) -> None:
    """mlp: of seeds 0 and 1 (90 + 92) / 2 +- 2 / 2 and (80 + 84) / 2 +- 4 / 2; the third seed is one's own."""
    (rows,) = tables(table(held))
    assert rows == [
        ["quantizer", "bits/elem", "mlp, n = 2", "cnn, n = 1"],
        ["float32", "32", "99.00 ± 0.00", "99.00"],
        ["uniform(bits=2)", "2.50", "82.00 ± 2.00", "**96.00**"],
        ["uniform(bits=4)", "4.50", "**91.00** ± 1.00", "95.00"],
    ]


def test_what_is_said_of_a_table(held: Registry, table: Callable[..., str]) -> None:
    out = table(held)
    assert out.startswith("**ptq, weight: accuracy in %, digits, adam**\n\n")
    assert f"Suite standard, digest {'d' * 12}, on cpu." in out
    assert "Means over n seeds ± standard error where n \\> 1." in out
    assert "Only the seeds that all quantizers of a column have." in out
    assert "Bold: the best in each column." in out
    (rows,) = tables(one := table(held, "--where", "model=cnn"))
    assert rows[0] == ["quantizer", "bits/elem", "digits"]
    assert "One seed." in one
    assert "Only the seeds" not in one


def test_the_command_makes_the_table_again(
    held: Registry, qb: Callable[..., Any], table: Callable[..., str]
) -> None:
    words = ("--where", "quantizer=uniform model=mlp,cnn", "--columns", "model,dataset", "--metric", "kl")
    for form in ("markdown", "latex"):
        out = table(held, *words, "--format", form)
        command = re.search(r"^% (.*)$", out, re.MULTILINE) if form == "latex" else re.search(r"`(.*)`", out)
        assert command
        assert shlex.split(command[1])[:2] == ["qbench", "table"]
        assert qb(*shlex.split(command[1])[1:]).out == out


def test_less_is_better_of_some_quantities(held: Registry, table: Callable[..., str]) -> None:
    (rows,) = tables(out := table(held, "--metric", "kl"))
    assert [row[2:] for row in rows[1:]] == [
        ["18.0000 ± 2.0000", "**4.0000**"],
        ["**9.0000** ± 1.0000", "5.0000"],
    ]
    assert "float32" not in out
    (rows,) = tables(out := table(held, "--metric", "baseline_accuracy"))
    assert "Nothing is in bold" in out
    assert rows[1][2] == "99 ± 0"


def test_equal_as_written_is_equally_good(tmp_path: Path, table: Callable[..., str]) -> None:
    held = Registry(tmp_path / "r.duckdb")
    values = {"uniform(bits=2)": 90.001, "uniform(bits=3)": 90.0, "uniform(bits=4)": 89.0}
    add(held, [(cell(quantizer), accuracy(value)) for quantizer, value in values.items()])
    (rows,) = tables(table(held))
    assert [row[2] for row in rows[2:]] == ["**90.00**", "**90.00**", "89.00"]


def test_rate_classes_have_a_best_each(held: Registry, table: Callable[..., str]) -> None:
    add(
        held,
        [
            (cell(q, seed=seed), accuracy(97.0 + n, 1.25))
            for n, q in enumerate(("ecsq(rate=2.0)", "ecsq(rate=3.0)"))
            for seed in (0, 1)
        ],
        rate_class="coded",
    )
    (rows,) = tables(out := table(held))
    assert [row[0] for row in rows] == [
        *("quantizer", "float32", "fixed length", "uniform(bits=2)", "uniform(bits=4)"),
        *("entropy-coded", "ecsq(rate=2.0)", "ecsq(rate=3.0)"),
    ]
    assert rows[3][2:] == ["82.00 ± 2.00", "**96.00**"]
    assert rows[4][2] == "**91.00** ± 1.00"
    assert [row[2:] for row in rows[-2:]] == [["97.00 ± 0.00", "-"], ["**98.00** ± 0.00", "-"]]
    assert "Bold: the best of fixed length and of entropy-coded in each column." in out


def test_digests_devices_and_settings_stand_apart(tmp_path: Path, table: Callable[..., str]) -> None:
    held = Registry(tmp_path / "r.duckdb")
    add(held, [(cell("nf4"), accuracy(90.0))], digest="a" * 64)
    add(held, [(cell("fp4"), accuracy(91.0))], digest="b" * 64)
    add(held, [(cell("mxfp4"), accuracy(92.0))], digest="b" * 64, device="GPU 3000")
    add(held, [(cell("mxfp6", first_last="float"), accuracy(93.0))], digest="b" * 64)
    out = table(held)
    assert all(len(rows) == 3 for rows in tables(out))
    sources = re.findall(r"digest (\w+), on ([^.]+)\.", out)
    values = [(rows[-1][0], rows[-1][-1]) for rows in tables(out)]
    assert set(zip(values, sources, strict=True)) == {
        (("nf4", "90.00"), ("a" * 12, "cpu")),
        (("fp4", "91.00"), ("b" * 12, "cpu")),
        (("mxfp4", "92.00"), ("b" * 12, "GPU 3000")),
        (("mxfp6", "93.00"), ("b" * 12, "cpu")),
    }
    assert out.count("first\\_last=float") == 1
    assert len(tables(table(held, "--where", "device=cpu digest=b"))) == 2


def test_only_the_newest_that_ended_well(held: Registry, table: Callable[..., str]) -> None:
    add(held, [(cell("uniform(bits=4)", "cnn"), accuracy(97.0))], attempt=2)
    add(held, [(cell("uniform(bits=2)", "cnn"), accuracy(99.9))], attempt=2, status="impossible")
    out = table(held, "--where", "model=cnn")
    assert "97.00" in out
    assert not {"95.00", "96.00", "99.90"} & set(re.findall(r"\d\d\.\d\d", out))


@pytest.mark.parametrize(
    ("words", "heads", "first"),
    [
        (["--rows", "model"], ["model", "float32, 32 bits/elem, n = 1 to 2"], ["mlp", "99.00 ± 0.00"]),
        (["--columns", "model"], ["quantizer", "bits/elem"], ["float32", "32"]),
        (["--columns", "dataset,model"], ["quantizer", "bits/elem", "digits, mlp, n = 2"], ["float32", "32"]),
        (
            ["--rows", "model", "--columns", "dataset"],
            ["model", "bits/elem", "digits, n = 1 to 2"],
            ["mlp", "2.50"],
        ),
        (["--columns", "dataset"], ["quantizer", "bits/elem", "digits"], ["float32", "32", "99.00 ± 0.00"]),
    ],
)
def test_sides(
    held: Registry, table: Callable[..., str], words: list[str], heads: list[str], first: list[str]
) -> None:
    rows = tables(out := table(held, *words))[0]
    assert rows[0][: len(heads)] == heads
    assert rows[1][: len(first)] == first
    parts = {"--rows model --columns dataset": 2, "--columns dataset": 2}.get(" ".join(words), 1)
    assert len(tables(out)) == parts
    shown = sorted(re.findall(r"\b(?:82|91|95|96)\.00", out))
    assert shown == ["82.00", "91.00", "95.00", "96.00"]


def test_quantizers_that_part_tables_are_named_and_nothing_is_bold(
    held: Registry, table: Callable[..., str]
) -> None:
    out = table(held, "--rows", "model", "--columns", "dataset")
    titles = re.findall(r"^\*\*(.*)\*\*$", out, re.MULTILINE)
    assert ["bits=2" in title for title in titles] == [True, False]
    assert all(not cell.startswith("**") for rows in tables(out) for row in rows for cell in row)


def test_csv_has_a_line_per_figure_unrounded(held: Registry, table: Callable[..., str]) -> None:
    lines = list(csv.DictReader(io.StringIO(table(held, "--format", "csv"))))
    found = {(line["quantizer"], line["model"]): line for line in lines}
    assert len(lines) == 6
    line = found["uniform(bits=2)", "mlp"]
    assert float(line["value"]) == 82
    assert float(line["standard_error"]) == pytest.approx(4 / math.sqrt(2) / math.sqrt(2))
    assert (line["seeds"], line["bits"], line["best"]) == ("2", "2.5", "0")
    assert (line["track"], line["target"], line["digest"], line["metric"]) == (
        "ptq",
        "weight",
        "d" * 64,
        "accuracy",
    )
    assert found["uniform(bits=2)", "cnn"]["standard_error"] == ""
    assert found["uniform(bits=2)", "cnn"]["best"] == "1"


def test_csv_has_no_formulas(tmp_path: Path, table: Callable[..., str]) -> None:
    held = Registry(tmp_path / "r.duckdb")
    add(held, [(cell("nf4"), accuracy(90.0) | {"mse": -1.5})], device="=HYPERLINK(1)\n\u202e")
    (*_, line) = csv.DictReader(io.StringIO(table(held, "--format", "csv", "--metric", "mse")))
    assert line["device"] == "'=HYPERLINK(1)\\n\\u202e"
    assert float(line["value"]) == -1.5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--where", "track=qat"], "selection track=qat: no result of registry"),
        (["--where", "nothing=1"], "unknown key 'nothing'"),
        (
            ["--metric", "klx"],
            "has the metric 'klx'; they have: accuracy, accuracy_drop, baseline_accuracy, kl, rate",
        ),
        (["--columns", "seed"], "--columns 'seed' is not one of quantizer, model, dataset, optimizer"),
        (["--columns", "model,quantizer"], "'quantizer' can be in one place only"),
        (["--columns", "model,model"], "'model' can be in one place only"),
        (["--format", "html"], "'html' is not one of"),
    ],
)
def test_bad_input(
    held: Registry, qb: Callable[..., Any], refused: Callable[..., None], words: list[str], said: str
) -> None:
    refused(qb("table", "--registry", held.path, *words), said)


def test_no_registry(tmp_path: Path, qb: Callable[..., Any], refused: Callable[..., None]) -> None:
    refused(qb("table", "--registry", tmp_path / "none.duckdb"), "no registry at")


def test_weights_and_activations_have_their_bits(tmp_path: Path, table: Callable[..., str]) -> None:
    held = Registry(tmp_path / "r.duckdb")
    ones = [
        cell(q, weights=w).model_copy(update={"target": "activation"})
        for q, w in (("uniform(bits=4)", "uniform(bits=8)"), ("uniform(bits=8)", None))
    ]
    add(held, [(one, accuracy(90.0, 4.25) | {"weight_rate": 8.5}) for one in ones])
    (rows,) = tables(table(held))
    assert rows[0] == ["quantizer", "W bits", "A bits", "digits"]
    assert [row[0] for row in rows[1:]] == [
        *("float32", "uniform(bits=4), weights uniform(bits=8)", "uniform(bits=8), weights float32"),
    ]
    assert [row[1:3] for row in rows[1:]] == [["32", "32"], ["8.50", "4.25"], ["8.50", "4.25"]]


def test_trained_models_are_lines(tmp_path: Path, table: Callable[..., str]) -> None:
    held = Registry(tmp_path / "r.duckdb")
    ones = [
        cell("nf4", model).model_copy(update={"track": "float", "quantizer": None})
        for model in ("mlp", "cnn")
    ]
    add(held, [(one, {"accuracy": 90.0 + n}) for n, one in enumerate(ones)])
    for words in ((), ("--rows", "model")):
        (rows,) = tables(table(held, *words))
        assert rows == [["model, optimizer", "digits"], ["cnn, adam", "91.00"], ["mlp, adam", "90.00"]]
    (rows,) = tables(table(held, "--rows", "dataset"))
    assert rows == [["dataset", "cnn, adam", "mlp, adam"], ["digits", "91.00", "90.00"]]


def test_a_network_tested_on_other_data_has_a_column() -> None:
    one = Measured(
        cell("nf4", transfer="mnist"),
        {n: {"value": v} for n, v in (accuracy(90.0) | {"transfer_accuracy": 60.0}).items()},
    )
    found = matrix.matrix([one], HEADLINE, lambda _, spec: str(spec))
    assert [dict(place)["dataset"] for place in found.places] == ["digits", "digits, tested on mnist"]
    assert [figure.value for figure in found.figures.values()] == [90.0, 60.0]
