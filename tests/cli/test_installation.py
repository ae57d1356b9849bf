"""``qbench plugins``, ``doctor`` and ``fetch``."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qbench import plugins
from qbench.errors import DataError

HOSTILE = "[bold]x[/bold]\x1b[2J"


def test_plugins_lists_components_and_what_is_broken(qb: Callable[..., Any], distribution: Any) -> None:
    distribution(f"raise ImportError({HOSTILE!r})", name="ill")
    rows = qb("plugins", "--json").json
    assert all(set(r) == {"kind", "name", "distribution", "version", "entry_point", "error"} for r in rows)
    uniform = [row for row in rows if (row["kind"], row["name"]) == ("quantizer", "uniform")]
    assert [(row["distribution"], row["error"]) for row in uniform] == [("qbench-suite", None)]
    shown = qb("plugins")
    assert shown.code == 0
    assert "entry point ill of ill 1.0: ImportError: [bold]x[/bold]\\x1b[2J" in shown.out
    assert "\x1b" not in shown.out


def test_doctor_has_a_line_for_everything(
    qb: Callable[..., Any], ran: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("QBENCH_DATA", str(tmp_path))
    ended = qb("doctor", "--registry", ran.registry, "--json")
    assert ended.code == 0
    assert all(set(row) == {"check", "status", "detail", "remedy"} for row in ended.json)
    found = {row["check"]: row for row in ended.json}
    assert {"python", "torch", "duckdb", "device", "cores", "plugins", "data folder", "cache"} <= set(found)
    assert "10 results (8 ok) of 1 runs" in found["registry"]["detail"]
    data = {row["detail"].split(":")[0]: row for row in ended.json if row["check"] == "data set"}
    assert data["digits"]["status"] == "ok"
    assert (data["mnist"]["status"], data["mnist"]["remedy"]) == ("warn", "qbench fetch mnist (11.6 MB)")


def test_doctor_finds_an_unusable_registry(qb: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "r.duckdb").write_text("no registry")
    shown = qb("doctor", "--registry", tmp_path / "r.duckdb").out
    assert re.search(r"^bad +registry ", shown, re.MULTILINE), shown
    ended = qb("doctor", "--registry", tmp_path / "r.duckdb", "--json")
    assert ended.code == 1
    (bad,) = [row for row in ended.json if row["status"] == "bad"]
    assert "is not a DuckDB file" in bad["detail"]


def test_fetch_leaves_what_is_whole(
    qb: Callable[..., Any], fashion_mnist_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QBENCH_DATA", str(fashion_mnist_root))
    assert qb("fetch", "fashion-mnist", "digits").out.count("there and whole") == 2


def test_a_fetch_that_fails_is_one_line(
    qb: Callable[..., Any], refused: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QBENCH_DATA", str(tmp_path))
    mnist = plugins.catalog().entry("dataset", "mnist").component

    def fails(self: Any, root: Path) -> None:
        raise DataError("cannot fetch mnist:\nnobody answers")

    monkeypatch.setattr(mnist, "fetch", fails)
    refused(qb("fetch", "mnist"), "cannot fetch mnist: nobody answers")
