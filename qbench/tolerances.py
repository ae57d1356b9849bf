"""Whether a result that was run again holds, quantity by quantity.

A quantity holds if the newer value is no further from the older than its tolerance:

0
    bits and bytes that the code alone decides; accuracies, bits and bytes of equal weights in the same environment, if
    that is without a GPU
one prediction in 1000, at least one
    accuracies of equal weights elsewhere: rounding turns the closest calls
4 standard errors of a difference
    quantities with draws or a 95 % interval; accuracies of other weights, by the number of predictions; what else is
    measured on other weights, if at least three seeds were measured here
0.1 %, at least 1e-6
    what else is computed from equal weights, or from none, without a training

The errors are those of the newer measurement, for both: whoever wrote the older one may have stated any.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

from .pairs import Pair, discordant_predictions, drop_error, interval_error, right_predictions, rounding
from .records import EXACT, Record

ERRORS = 4.0
SEEDS = 3
ONE_IN = 1000  # predictions of which one may turn by rounding

Outcome: TypeAlias = Literal["holds", "does not hold", "cannot be compared"]
Tolerance: TypeAlias = tuple[float | None, str]


@final
@dataclass(frozen=True)
class Check:
    """A quantity before and after; ``tolerance`` and ``holds`` are None where nothing says how far is too far."""

    quantity: str
    unit: str
    before: float
    after: float | None
    tolerance: float | None
    because: str

    @property
    def difference(self) -> float | None:
        return None if self.after is None else self.after - self.before

    @property
    def holds(self) -> bool | None:
        if self.difference is None:
            return False
        if self.difference == 0:
            return True
        return None if self.tolerance is None else abs(self.difference) <= self.tolerance * (1 + 1e-9)


@final
@dataclass(frozen=True)
class Held:
    """What all checks together come to, and why."""

    outcome: Outcome
    why: str
    checks: tuple[Check, ...] = ()


def held_against(pair: Pair, seeds: Iterable[Record]) -> Held:
    """Whether the first, older result of a pair holds, now that there is the second.

    Args:
        pair: of one cell; the first ended well.
        seeds: results of the cell with other seeds and with its own that were measured where the second was.
    """
    first, second = pair.first, pair.second
    if not second.ok:
        outcome: Outcome = (
            "does not hold" if second.status in ("impossible", "invalid") else "cannot be compared"
        )
        return Held(outcome, f"the cell now ended as {second.status}")
    if first.rate_class != second.rate_class:
        return Held("does not hold", f"its rate class is {second.rate_class}, not {first.rate_class}")
    known = list(seeds)
    checks = tuple(_check(pair, name, before, known) for name, before in _stated(first))
    failed = [check.quantity for check in checks if check.holds is False]
    if failed:
        return Held("does not hold", f"further off than allowed: {', '.join(failed)}", checks)
    unjudged = [check for check in checks if check.holds is None]
    if unjudged or not checks:
        reason = f"{unjudged[0].quantity}: {unjudged[0].because}" if unjudged else "it states nothing"
        return Held("cannot be compared", reason, checks)
    return Held("holds", _extent(checks), checks)


def _stated(record: Record) -> list[tuple[str, float]]:
    return [(name, value) for name in record.quantities if (value := record.value(name)) is not None]


def _extent(checks: Sequence[Check]) -> str:
    equal = sum(check.difference == 0 for check in checks)
    return (
        "every quantity is equal"
        if equal == len(checks)
        else f"{equal} of {len(checks)} quantities are equal"
    )


def _check(pair: Pair, name: str, before: float, seeds: Sequence[Record]) -> Check:
    after = pair.second.value(name)
    tolerance, because = (
        (0.0, "not measured now") if after is None else _tolerance(pair, name, before, after, seeds)
    )
    return Check(name, pair.first.unit(name), before, after, tolerance, because)


def _tolerance(pair: Pair, name: str, before: float, after: float, seeds: Sequence[Record]) -> Tolerance:
    if pair.planned(name):
        return 0.0, "decided by the code"
    counted = name in EXACT or name == "accuracy_drop" or right_predictions(pair.second, name) is not None
    if counted and pair.same_inputs and pair.same_arithmetic:
        return 0.0, "equal inputs and environment"
    found = _of_predictions(pair, name) or _of_samples(pair.second, name)
    if found is not None:
        return found
    if pair.same_inputs:
        return rounding(before, after), "equal inputs"
    return _of_seeds(name, seeds)


def _of_predictions(pair: Pair, name: str) -> Tolerance | None:
    second = pair.second
    right = right_predictions(second, "accuracy" if name == "accuracy_drop" else name)
    if right is None:
        return None
    count = right[1]
    if pair.same_inputs:
        return 100 * max(1.0, count / ONE_IN) / count, "equal inputs, by predictions"
    if name == "accuracy_drop":
        error = drop_error(second)
        return None if error is None else (ERRORS * math.sqrt(2) * error, "4 SE, by predictions")
    share = (right[0] + 1) / (count + 2)
    error = math.sqrt(share * (1 - share) / count)
    lost = (
        discordant_predictions(Pair(second, second)) if pair.same_reference and name == "accuracy" else None
    )
    if lost is not None:
        error = min(error, math.sqrt(max(1.0, lost) / 2) / count)
    return 100 * ERRORS * math.sqrt(2) * error, "4 SE, by predictions"


def _of_samples(second: Record, name: str) -> Tolerance | None:
    error, draws = interval_error(second, name), second.draws(name)
    if error is None and draws:
        error = statistics.stdev(draws) / math.sqrt(len(draws))
        return ERRORS * math.sqrt(2) * error, f"4 SE, {len(draws)} draws"
    return None if error is None else (ERRORS * math.sqrt(2) * error, "4 SE, by its interval")


def _of_seeds(name: str, seeds: Sequence[Record]) -> Tolerance:
    values = [value for one in seeds if (value := one.value(name)) is not None]
    if len(values) < SEEDS:
        return (
            None,
            f"other weights or another training, and {SEEDS} seeds measured here would say how much that is",
        )
    return ERRORS * math.sqrt(2) * statistics.stdev(values), f"4 SE, {len(values)} seeds"
