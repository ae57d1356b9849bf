"""The table of known values at the end of a run."""

from typing import Any

import pytest

from qbench.cli.reference import show
from qbench.cli.rendering import Screen


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


def test_no_rows_are_no_news(capsys: pytest.CaptureFixture[str]) -> None:
    assert show(Screen(), Held([]), [{"track": "ptq", "metrics": {}}], [])  # type: ignore[arg-type]
    assert capsys.readouterr().out == ""
