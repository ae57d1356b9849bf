"""Known values at the end of a run: measured, reference, z, and a chi-square over all z. No torch here."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from ..registry import Registry
from . import rendering
from .rendering import BAD, GOOD, Screen

TRACK = "reference"
DEVIATES = 4.0
DOUBTFUL_P = 1e-4
_QUERY = f"""
    SELECT result_id, facts->>'$.row', facts->>'$.reference', facts->>'$.varies'
    FROM results WHERE track = '{TRACK}'
"""


@dataclass(frozen=True)
class Known:
    """A row's label and the known value as it is printed; whether its z varies from sample to sample."""

    row: str
    reference: str
    varies: bool


def known_values(registry: Registry) -> dict[str, Known]:
    """By result, for those of the reference track."""
    rows = registry.sql(_QUERY).fetchall()
    return {found: Known(row or "", value or "", varies == "true") for found, row, value, varies in rows}


def chi_square(z: Sequence[float]) -> tuple[float, float]:
    """The sum of the squares of independent z, and the probability of as much."""
    from scipy.special import chdtrc

    total = math.fsum(value * value for value in z)
    return total, float(chdtrc(len(z), total)) if z else 1.0


def show(screen: Screen, registry: Registry, rows: Sequence[Mapping[str, Any]], cells: Sequence[str]) -> bool:
    """The table, if the run had such rows, in the order of ``cells``; whether the chi-square is one of chance."""
    held = [row for row in rows if row["track"] == TRACK and "z" in row["metrics"]]
    if not held:
        return True
    held.sort(key=lambda row: cells.index(row["cell_id"]))
    known = known_values(registry)
    columns = [
        ("row", "left"),
        ("measured", "right"),
        ("reference", "right"),
        ("+-", "right"),
        ("z", "right"),
    ]
    screen.heading("reference, source", f"z = (measured - reference) / +-, at most {DEVIATES:g} either way")
    screen.say()
    screen.show(rendering.table(columns, _lines(held, known)))
    total, p = chi_square([_value(row, "z") for row in held if known[row["result_id"]].varies])
    count, likely = sum(known[row["result_id"]].varies for row in held), p >= DOUBTFUL_P
    exact = f"; {len(held) - count} more are exact or in a range" if count < len(held) else ""
    screen.say()
    screen.say(f"chi-square {total:.1f} on {count} rows, p = {p:.3g}{exact}", GOOD if likely else BAD)
    return likely


def _lines(held: Sequence[Mapping[str, Any]], known: Mapping[str, Known]) -> Iterator[list[Text | str]]:
    for row in held:
        one, z, error = known[row["result_id"]], _value(row, "z"), _value(row, "standard_error")
        mark = rendering.text(z_text(z), BAD if abs(z) > DEVIATES else "")
        yield [one.row, rendering.significant(_value(row, "measured")), one.reference, f"{error:.2g}", mark]


def in_brief(metrics: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Measured, reference and z on one line; None where a result is not of this kind."""
    if not {"measured", "reference", "z"} <= set(metrics):
        return None
    measured, known, z = (float(metrics[name]["value"]) for name in ("measured", "reference", "z"))
    return f"{measured:.5g} for {known:.5g}, z {z_text(z)}"


def z_text(z: float) -> str:
    """Two decimals and a sign; what is beyond all doubt in powers of ten."""
    return f"{z:+.2f}" if abs(z) < 1000 else f"{z:+.0e}"


def _value(row: Mapping[str, Any], name: str) -> float:
    return float(row["metrics"][name]["value"])
