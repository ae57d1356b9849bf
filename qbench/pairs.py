"""What the difference between two results of a cell comes to.

A difference is judged by the first of these that its pair allows:

exact
    bits and bytes that the code alone decides, or the code and equal weights: any difference counts
McNemar's test
    accuracies of networks of equal weights. Each kept how many predictions its float model alone got right (``lost``)
    and how many it alone (``gained``), so that at most the sum of all four are right in one only: the p-value is the
    largest that these allow
Fisher's test
    accuracies of other networks; for their differences to float a normal test
normal, paired t, Welch's t
    quantities with a 95 % interval, with as many draws of equal inputs, with other draws
same inputs
    what is computed from equal weights, or from none, without a training: any difference beyond rounding counts
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

from . import significance
from .records import EXACT, Record

Verdict: TypeAlias = Literal["moved", "within noise", "untested"]

ROUNDING = 1e-6  # of the value, on one machine; decoding may differ by as much
OTHER_ROUNDING = 1e-3  # of the value, between machines, for sums over a network
SMALLEST = 1e-6  # an absolute one: divergences near 0 are differences of larger numbers
_QUANTILE = 1.959964  # of the normal distribution, for 95 % on both sides


@final
@dataclass(frozen=True)
class Pair:
    """Two results of a cell on one kind of device."""

    first: Record
    second: Record

    @property
    def equal_weights(self) -> bool:
        """Whether both started from the same trained network, or neither from any."""
        return self.first.baseline_sha256 == self.second.baseline_sha256

    @property
    def same_inputs(self) -> bool:
        """Whether nothing but code and rounding can make a difference."""
        return self.equal_weights and not self.first.trains and not self.second.trains

    @property
    def same_reference(self) -> bool:
        """Whether ``lost`` and ``gained`` are against the predictions of one network."""
        fine_tuned = any("finetuned_accuracy" in one.metrics for one in (self.first, self.second))
        return self.equal_weights and self.first.baseline_sha256 is not None and not fine_tuned

    @property
    def same_arithmetic(self) -> bool:
        """Whether equal inputs give equal bits: equal environments, and no GPU, which adds in any order."""
        one, other = self.first, self.second
        kinds = {one.device_kind, other.device_kind}
        return one.environment_id == other.environment_id and kinds == {"cpu"}

    @property
    def changed_status(self) -> bool:
        return self.first.status != self.second.status

    def values(self, name: str) -> tuple[float | None, float | None]:
        return self.first.value(name), self.second.value(name)

    def planned(self, name: str) -> bool:
        """Whether a quantity is bits or bytes that the code alone decides."""
        chosen = self.first.headline
        fixed = self.first.rate_class == self.second.rate_class == "fixed"
        return name in EXACT and fixed and (chosen is None or chosen.own_bits)


@final
@dataclass(frozen=True)
class Judgement:
    """What judged a difference, its p-value where it has one, and what follows where no p-value is needed."""

    method: str
    p: float | None = None
    verdict: Verdict | None = None


def judge(pair: Pair, name: str) -> Judgement | None:
    """What the difference of two unequal values comes to; None where nothing can tell."""
    before, after = pair.values(name)
    if before is None or after is None:
        return Judgement("in one only", verdict="moved")
    if pair.planned(name) or (name in EXACT and pair.same_inputs):
        return Judgement("exact", verdict="moved")
    if abs(after - before) <= ROUNDING * max(abs(before), abs(after)):
        return Judgement("rounding", verdict="within noise")
    found = _by_predictions(pair, name) or _by_interval(pair, name, after - before) or by_draws(pair, name)
    if found is None and pair.same_inputs:
        moved = pair.same_arithmetic or abs(after - before) > rounding(before, after)
        found = Judgement("same inputs", verdict="moved" if moved else "within noise")
    return found


def rounding(before: float, after: float) -> float:
    """How far apart two machines may be that compute the same."""
    return max(OTHER_ROUNDING * max(abs(before), abs(after)), SMALLEST)


def _by_predictions(pair: Pair, name: str) -> Judgement | None:
    if name == "accuracy_drop":
        return (pair.same_reference and _by_predictions(pair, "accuracy")) or _by_drops(pair)
    first, second = (right_predictions(one, name) for one in (pair.first, pair.second))
    if first is None or second is None:
        return None
    discordant = discordant_predictions(pair)
    if name == "accuracy" and pair.same_reference and discordant is not None:
        gain = second[0] - first[0]
        discordant = max(discordant, abs(gain))
        p = significance.mcnemar((discordant - gain) // 2, (discordant + gain) // 2)
        return Judgement("McNemar", p)
    return Judgement("Fisher", significance.fisher(*first, *second))


def _by_drops(pair: Pair) -> Judgement | None:
    before, after = pair.values("accuracy_drop")
    errors = drop_error(pair.first), drop_error(pair.second)
    if before is None or after is None or errors[0] is None or errors[1] is None:
        return None
    return Judgement("normal", significance.normal(after - before, math.hypot(errors[0], errors[1])))


def right_predictions(one: Record, name: str) -> tuple[int, int] | None:
    """How many of how many predictions are right, where the quantity is an accuracy in percent."""
    share = one.value(name)
    if not name.endswith("accuracy") or share is None or not 0 <= share <= 100 or one.unit(name) != "%":
        return None
    count = int(one.metrics[name]["n"])
    return round(share / 100 * count), count


def discordant_predictions(pair: Pair) -> int | None:
    """The most predictions that only one of two networks with the same float model can have right."""
    found = [one.count(name) for one in (pair.first, pair.second) for name in ("lost", "gained")]
    return None if None in found else sum(count for count in found if count is not None)


def drop_error(one: Record) -> float | None:
    """Standard error of ``accuracy_drop`` in percentage points: (lost - gained) / n with the same n predictions.

    100 sqrt(lost + gained - (lost - gained)^2 / n) / n; one prediction at least is taken for doubtful.
    """
    lost, gained, count = one.count("lost"), one.count("gained"), one.metrics.get("lost", {}).get("n")
    if lost is None or gained is None or not count:
        return None
    return 100 * math.sqrt(max(1.0, lost + gained - (lost - gained) ** 2 / count)) / int(count)


def interval_error(one: Record, name: str) -> float | None:
    """Standard error of a quantity with a 95 % interval."""
    half = one.half_interval(name)
    return None if half is None else half / _QUANTILE


def _by_interval(pair: Pair, name: str, change: float) -> Judgement | None:
    errors = interval_error(pair.first, name), interval_error(pair.second, name)
    if errors[0] is None or errors[1] is None:
        return None
    return Judgement("normal", significance.normal(change, math.hypot(errors[0], errors[1])))


def by_draws(pair: Pair, name: str, *, matched: bool = True) -> Judgement | None:
    """By the draws behind a quantity; equal draws cannot tell why the quantity is another."""
    first, second = pair.first.draws(name), pair.second.draws(name)
    if min(len(first), len(second)) < 2 or first == second:
        return None
    if matched and len(first) == len(second) and pair.same_inputs:
        differences = [b - a for a, b in zip(first, second, strict=True)]
        return Judgement("paired t", significance.paired(differences))
    return Judgement("Welch", significance.welch(first, second))
