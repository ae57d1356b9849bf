"""``qbench results``, ``show``, ``export`` and ``merge``."""

import contextlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from qbench.cli import rendering, results

KEYS = {
    *("result_id", "cell_id", "run_id", "suite", "digest", "track", "quantizer", "parameters", "model"),
    *("dataset", "optimizer", "seed", "target", "device", "status", "error", "metrics"),
}


def test_results_as_json_have_exactly_the_stated_keys(qb: Callable[..., Any], ran: Any) -> None:
    rows = qb("results", "--registry", ran.registry, "--json").json
    assert len(rows) == 10
    assert all(set(row) == KEYS for row in rows)
    assert {row["suite"] for row in rows} == {"tiny"}
    assert all(set(metric) == {"value", "unit", "n"} for row in rows for metric in row["metrics"].values())
    assert {row["status"] for row in rows if row["quantizer"] == "refuses"} == {"error"}


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["--where", "quantizer=uniform"], 4),
        (["--where", "quantizer=uniform", "--where", "bits=2 dataset=laplacian"], 1),
        (["--where", "status=error"], 2),
        (["--suite", "tiny"], 10),
        (["--where", "status=timeout"], 0),
        (["--where", "status=error quantizer=uniform"], 0),
        (["--limit", "3"], 3),
    ],
)
def test_results_are_selected(qb: Callable[..., Any], ran: Any, words: list[str], count: int) -> None:
    assert len(qb("results", "--registry", ran.registry, "--json", *words).json) == count


def test_results_for_people(qb: Callable[..., Any], ran: Any) -> None:
    out = qb("results", "--registry", ran.registry).out
    assert re.search(
        r"^[0-9a-f]{10}  uniform\(bits=2\) +gaussian +2\.\d{3} +\d\.\d\d dB +ok$", out, re.MULTILINE
    )
    assert re.search(r"refuses +gaussian +- +- +error", out)
    assert "10 results, track rate-distortion, seed 0" in out
    none = qb("results", "--registry", ran.registry, "--where", "status=timeout")
    assert (none.code, none.out[:38]) == (0, "no result meets 'status=timeout'; leav")


@pytest.mark.parametrize("command", ["results", "table", "cite", "recipes", "compare"])
def test_a_slip_in_a_selection_is_named_by_every_command(
    qb: Callable[..., Any], refused: Callable[..., None], ran: Any, command: str
) -> None:
    words = [ran.registry, ran.registry] if command == "compare" else ["--registry", ran.registry]
    says = "ecsq, lloyd-max, refuses, uniform; did you mean 'uniform'?"
    refused(qb(command, *words, "--where", "quantizer=unifrom"), says)


def test_a_suite_that_never_ran_is_named(
    qb: Callable[..., Any], refused: Callable[..., None], ran: Any
) -> None:
    refused(
        qb("results", "--registry", ran.registry, "--suite", "tini"), "there are: tiny; did you mean 'tiny'?"
    )


def test_a_quantizer_without_a_paper_is_said_to_have_none(qb: Callable[..., Any], ran: Any) -> None:
    ended = qb("cite", "--quantizer", "refuses")
    assert (ended.code, ended.out.count("@")) == (0, 1)
    assert re.fullmatch(
        r"qbench: quantizer refuses of \S+ \S+: it names no paper; .*`reference`\n", ended.err
    )
    assert qb("cite", "--quantizer", "uniform").err == ""


def row(result_id: str, budget: dict[str, Any], model: dict[str, Any], weights: float | None = None) -> Any:
    metrics = {"rate": {"value": 4.0}} | ({} if weights is None else {"weight_rate": {"value": weights}})
    plain = {"result_id": result_id, "track": "ptq", "target": "weight", "seed": 0, "status": "ok"}
    named = {"quantizer": "nf4", "parameters": {}, "model": "mlp", "dataset": "digits", "optimizer": None}
    settings = {"model": model, "dataset": {}, "optimizer": {}}
    return {**plain, **named, "metrics": metrics, "settings": settings, "budget": budget}


def test_results_that_differ_in_budget_or_model_only_do_not_look_alike() -> None:
    rows = [
        row("a", {"method": "greedy", "rate": 4.0}, {"width": 8}),
        row("b", {"method": "uniform", "rate": 4.0}, {"width": 8}),
        row("c", {"method": "greedy", "rate": 4.0}, {"width": 16}, weights=8.0),
    ]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        results._list(rendering.Screen(), rows, 3, {})
    shown = [line.rstrip() for line in out.getvalue().splitlines()]
    assert shown[2:5] == [
        "a       nf4, method=greedy   mlp(width=8) digits       4.000        -",
        "b       nf4, method=uniform  mlp(width=8) digits       4.000        -",
        "c       nf4                  mlp(width=16) digits  W8.0 A4.0        -",
    ]
    assert "3 results, track ptq, seed 0, status ok" in out.getvalue()


def test_show_tells_everything_and_how_to_do_it_again(
    qb: Callable[..., Any], ran: Any, tmp_path: Path
) -> None:
    row = qb(
        "results", "--registry", ran.registry, "--json", "--where", "quantizer=lloyd-max dataset=gaussian"
    ).json[0]
    shown = qb("show", row["result_id"][:8], "--registry", ran.registry).out
    mse = row["metrics"]["mse"]
    assert re.search(rf"^mse +{mse['value']:.6g} +mse +2 ", shown, re.MULTILINE)
    for text in (row["cell_id"], row["run_id"], "rate_class", f"torch {torch.__version__.split('+')[0]}"):
        assert text in shown
    again = qb("show", row["result_id"], "--registry", ran.registry, "--json").json[0]["command"]
    assert again in shown
    words = again.split()[1:]
    words[words.index("tiny")] = str(ran.suite)
    words[words.index(str(ran.registry))] = str(tmp_path / "r.duckdb")
    assert words.pop(0) == "run"
    plan = qb("plan", *(word.strip("'") for word in words), "--json").json
    assert [cell["cell_id"] for cell in plan] == [row["cell_id"]]


def test_show_prints_a_failure_without_obeying_it(qb: Callable[..., Any], ran: Any) -> None:
    row = qb("results", "--registry", ran.registry, "--json", "--where", "status=error").json[0]
    shown = qb("show", row["result_id"], "--registry", ran.registry).out
    assert "[bold]x[/bold]\\x1b[2J" in shown
    assert "Traceback" in shown
    assert "\x1b" not in shown


def test_an_export_says_that_it_replaced_a_file(qb: Callable[..., Any], ran: Any, tmp_path: Path) -> None:
    first, second = (qb("export", tmp_path / "x.parquet", "--registry", ran.registry).out for _ in range(2))
    assert " ".join(second.split()) == " ".join(first.split()) + ", which was replaced"


def test_export_and_merge_go_round(qb: Callable[..., Any], ran: Any, tmp_path: Path) -> None:
    parquet, copy = tmp_path / "out.parquet", tmp_path / "copy.duckdb"
    assert "10 results written" in qb("export", parquet, "--registry", ran.registry).out
    first = qb("merge", parquet, "--registry", copy, "--json").json
    assert first == [{"added": 10, "present": 0, "rejected": 0, "reason": None}]
    second = qb("merge", parquet, ran.registry, "--registry", copy)
    assert second.code == 0
    assert "0 new, 20 known, 0 rejected" in second.out
    theirs, ours = (qb("results", "--registry", path, "--json").json for path in (copy, ran.registry))
    assert sorted(theirs, key=lambda row: str(row["result_id"])) == sorted(
        ours, key=lambda row: str(row["result_id"])
    )
