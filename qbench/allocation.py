"""Sharing a budget of bytes or bits among layers. Losses of layers are taken to add up."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from .errors import InputError


class Option(NamedTuple):
    """A way to store a layer: its bytes and what it costs in quality; the loss may be infinite."""

    nbytes: int
    loss: float


_RATES = 256
Options: TypeAlias = Sequence[Sequence[Option]]


def size(options: Options, chosen: Sequence[int]) -> int:
    """Bytes of a choice: the number of an option for each layer."""
    return sum(layer[number].nbytes for layer, number in zip(options, chosen, strict=True))


def loss(options: Options, chosen: Sequence[int]) -> float:
    """Sum of the losses of a choice."""
    return math.fsum(layer[number].loss for layer, number in zip(options, chosen, strict=True))


def greedy(options: Options, budget: int) -> list[int]:
    """From the cheapest option of every layer the upgrades of most loss saved per byte, as long as one fits.

    While everything fits, a layer's next upgrade ends on the lower convex hull of its points, and the choice is the
    best of its size. At the end of the budget an upgrade that does not fit is passed over for one that does: the sum
    of losses is then above the least one by at most what the first upgrade passed over would have saved. Where one
    option for all layers, with the upgrades that fit beside it, is better than that, it is taken instead.

    Args:
        options: for each layer, in any order. budget: bytes of all layers.

    Returns:
        The number of each layer's option.

    Raises:
        InputError: not even the cheapest options fit, or a loss is NaN.

    Reference: Shoham & Gersho 1988, "Efficient bit allocation for an arbitrary set of quantizers"; Westerink,
    Biemond & Boekee 1988, "An optimal bit allocation algorithm for sub-band coding".
    """
    starts = [_cheapest(options, budget), *_alike(options)]
    found = [upgraded(options, budget, start) for start in starts if size(options, start) <= budget]
    return min(found, key=lambda chosen: loss(options, chosen))


def upgraded(options: Options, budget: int, start: Sequence[int]) -> list[int]:
    """The walk of :func:`greedy` from ``start``, a choice that fits."""
    chosen, left = list(start), budget - size(options, start)
    while (upgrade := _steepest(options, chosen, left)) is not None:
        layer, number = upgrade
        left -= options[layer][number].nbytes - options[layer][chosen[layer]].nbytes
        chosen[layer] = number
    return chosen


def _steepest(options: Options, chosen: Sequence[int], left: int) -> tuple[int, int] | None:
    """Layer and option of the upgrade that saves most per byte and fits; of equal ones the smaller, the earlier."""
    best, found = (0.0, 0), None
    for layer, points in enumerate(options):
        now = points[chosen[layer]]
        for number, point in enumerate(points):
            more = point.nbytes - now.nbytes
            if more <= left and point.loss < now.loss:
                steepness = ((now.loss - point.loss) / more if more > 0 else math.inf, -more)
                if steepness > best:
                    best, found = steepness, (layer, number)
    return found


def optimal(options: Options, budget: int) -> list[int]:
    """The choice of least loss that fits: the multiple-choice knapsack, exactly.

    Layer after layer, keeps every sum of bytes and losses that no other one beats in both. Their number can grow
    with the budget or double with a layer; it stays small where sizes of layers repeat.

    Raises:
        InputError: as :func:`greedy`.

    Reference: Kellerer, Pferschy & Pisinger 2004, "Knapsack Problems", chapter 11: dynamic programming, with the
    undominated states of Nemhauser & Ullmann 1969.
    """
    found = [layer[number].loss for layer, number in zip(options, greedy(options, budget), strict=True)]
    # a little slack, for sums in another order round otherwise
    bound = math.fsum(found) + 1e-9 * math.fsum(map(abs, found))
    bytes_after = _sums_after([min(point.nbytes for point in layer) for layer in options])
    loss_after = _sums_after([min(point.loss for point in layer) for layer in options])
    states: list[tuple[int, float, tuple[int, ...]]] = [(0, 0.0, ())]
    for layer, more_bytes, more_loss in zip(options, bytes_after, loss_after, strict=True):
        reached = (
            (nbytes + point.nbytes, lost + point.loss, (*path, number))
            for nbytes, lost, path in states
            for number, point in enumerate(layer)
        )
        hopeful = [s for s in reached if s[0] + more_bytes <= budget and s[1] + more_loss <= bound]
        states = _undominated(hopeful)
    return list(min(states, key=lambda state: state[1])[2])


def _sums_after(values: Sequence[float]) -> list[float]:
    """Of all that come after each."""
    return list(itertools.accumulate(reversed(values), initial=0))[-2::-1]


def _undominated(
    states: list[tuple[int, float, tuple[int, ...]]],
) -> list[tuple[int, float, tuple[int, ...]]]:
    kept: list[tuple[int, float, tuple[int, ...]]] = []
    for state in sorted(states):
        if not kept or state[1] < kept[-1][1]:
            kept.append(state)
    return kept


def uniform(options: Options, budget: int) -> list[int]:
    """The last option that all layers can take alike.

    Raises:
        InputError: none fits, or the layers have different numbers of options.
    """
    counts = {len(layer) for layer in options}
    if len(counts) != 1:
        raise InputError(f"layers have {sorted(counts)} options; one for all needs as many in each")
    fitting = [chosen for chosen in _alike(options) if size(options, chosen) <= budget]
    if not fitting:
        least = min(size(options, chosen) for chosen in _alike(options))
        raise InputError(
            f"one option for all layers takes at least {least} bytes, the budget is {budget}; raise the rate or "
            "allow fewer bits"
        )
    return fitting[-1]


def _alike(options: Options) -> list[list[int]]:
    return [[number] * len(options) for number in range(min(map(len, options)))]


def _cheapest(options: Options, budget: int) -> list[int]:
    if not options or not all(options):
        raise InputError("every layer needs at least one option, and there must be a layer")
    if any(math.isnan(point.loss) for layer in options for point in layer):
        raise InputError("a loss is NaN; give a number or infinity")
    cheapest = [min(range(len(layer)), key=layer.__getitem__) for layer in options]
    least = size(options, cheapest)
    if least > budget:
        raise InputError(
            f"the cheapest options take {least} bytes, the budget is {budget}; raise the rate or allow fewer bits"
        )
    return cheapest


def water_filling(
    nbytes: Sequence[Sequence[int]],
    choices: Sequence[int],
    variances: Sequence[float],
    elements: Sequence[int],
    weights: Sequence[float],
    budget: int,
) -> list[int]:
    """Reverse water-filling in whole bits: real bits rounded down to ``choices`` at the highest rate that fits.

    The rates tried are the budget's in 256 steps. What is left is spent by :func:`greedy` on the loss
    n_l w_l s_l^2 4^-bits that the theory predicts.

    Args:
        nbytes: of each layer at each choice. choices: bits, rising.
        variances, elements, weights: of each layer, as :func:`reverse_water_filling` takes them.
        budget: bytes of all layers.

    Returns:
        The number of each layer's choice.

    Raises:
        InputError: the budget is too small, or as :func:`reverse_water_filling`.
    """
    terms = [n * w * s for n, w, s in zip(elements, weights, variances, strict=True)]
    options = [
        [Option(count, term * 4.0**-bits) for count, bits in zip(row, choices, strict=True)]
        for row, term in zip(nbytes, terms, strict=True)
    ]
    highest = 8 * budget / sum(elements)
    for step in range(_RATES, -1, -1):
        real = reverse_water_filling(variances, elements, weights, highest * step / _RATES)
        start = [max(0, sum(bits <= rate for bits in choices) - 1) for rate in real]
        if size(options, start) <= budget:
            return upgraded(options, budget, start)
    return greedy(options, budget)


def reverse_water_filling(
    variances: Sequence[float], elements: Sequence[int], weights: Sequence[float], rate: float
) -> list[float]:
    """Bits per element of Gaussian layers that make the weighted squared error least.

    ``R_l = max(0, 1/2 log2(w_l s_l^2 / theta))``, theta such that sum n_l R_l = rate sum n_l. Each layer's error
    w_l s_l^2 4^-R_l is then theta, or w_l s_l^2 where that is less: such a layer gets no bits.

    Args:
        variances: s_l^2, in squared units. elements: n_l. weights: w_l, what a squared error of 1 costs.
        rate: mean over elements, in bits.

    Returns:
        R_l, real numbers. All are 0 where no layer has a positive w_l s_l^2.

    Raises:
        InputError: a value is negative or not finite, a layer has no elements, or lengths differ.

    Reference: Cover & Thomas 2006, "Elements of Information Theory", theorem 10.3.3.
    """
    if not len(variances) == len(elements) == len(weights):
        raise InputError(
            f"{len(variances)} variances, {len(elements)} elements, {len(weights)} weights: give as many"
        )
    if any(not 0 <= value < math.inf for value in (*variances, *weights, rate)) or any(
        n < 1 for n in elements
    ):
        raise InputError(
            f"variances {[*variances]}, weights {[*weights]} and the rate {rate} must be finite and not negative, "
            f"elements {[*elements]} at least 1"
        )
    logs = [_log2(variance) + _log2(weight) for variance, weight in zip(variances, weights, strict=True)]
    level = _water_level(logs, elements, rate * sum(elements))
    return [max(0.0, (log - level) / 2) for log in logs]


def _log2(value: float) -> float:
    return math.log2(value) if value else -math.inf


def _water_level(logs: Sequence[float], elements: Sequence[int], bits: float) -> float:
    """log2 theta. With layers in falling order, it stands above every one that gets no bits."""
    count, total, level = 0, 0.0, math.inf
    for log, n in sorted(zip(logs, elements, strict=True), reverse=True):
        if log == -math.inf or (count and log <= level):
            break
        count, total = count + n, total + n * log
        level = (total - 2 * bits) / count
    return level
