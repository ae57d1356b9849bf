import itertools
import math
import random

import pytest

from qbench.allocation import (
    Option,
    Options,
    greedy,
    loss,
    optimal,
    reverse_water_filling,
    size,
    uniform,
    upgraded,
    water_filling,
)
from qbench.errors import InputError

CHOICES = (2, 3, 4, 5, 6, 8)


def layers(seed: int, count: int, choices: tuple[int, ...] = CHOICES) -> list[list[Option]]:
    """Bytes by bits and a few more, losses that fall by about 6 dB a bit, not always in order."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        elements, scale = draw.randrange(40, 400), draw.lognormvariate(0, 2)
        found.append(
            [
                Option(elements * b // 8 + draw.randrange(9), scale * 4.0**-b * draw.lognormvariate(0, 0.5))
                for b in choices
            ]
        )
    return found


def best(options: Options, budget: int) -> float:
    """By trying everything."""
    every = itertools.product(*(range(len(layer)) for layer in options))
    return min(loss(options, chosen) for chosen in every if size(options, chosen) <= budget)


def budgets(options: Options, count: int) -> list[int]:
    """From the cheapest to the dearest, evenly."""
    low = sum(min(point.nbytes for point in layer) for layer in options)
    high = sum(max(point.nbytes for point in layer) for layer in options)
    return [low + (high - low) * step // (count - 1) for step in range(count)]


def test_an_example_by_hand() -> None:
    """Saved per byte: first layer 8/10 then 1/10, second 5/10 then 4/10. 20 bytes more go to 8/10 and 5/10."""
    options = [
        [Option(10, 10.0), Option(20, 2.0), Option(30, 1.0)],
        [Option(10, 10.0), Option(20, 5.0), Option(30, 1.0)],
    ]
    assert greedy(options, 20) == greedy(options, 29) == [0, 0]
    assert greedy(options, 30) == [1, 0]
    assert greedy(options, 40) == [1, 1]
    assert greedy(options, 50) == [1, 2]
    assert greedy(options, 10**9) == [2, 2]


def test_a_point_above_the_hull_is_jumped_over() -> None:
    """20 bytes save 9 together, the first 10 of them only 1: the middle point is for budgets too small for more."""
    options = [[Option(10, 10.0), Option(20, 9.0), Option(30, 1.0)], [Option(10, 3.0), Option(20, 1.0)]]
    assert greedy(options, 40) == [2, 0]
    assert greedy(options, 30) == [0, 1]
    assert greedy([options[0]], 29) == [1]


def test_more_bytes_for_more_loss_are_never_taken() -> None:
    options = [[Option(10, 1.0), Option(20, 2.0), Option(30, 1.0)]]
    assert greedy(options, 100) == optimal(options, 100) == [0]


def test_the_order_of_options_does_not_matter() -> None:
    options = [[Option(30, 1.0), Option(10, 10.0), Option(20, 2.0)]]
    assert [greedy(options, budget) for budget in (10, 20, 30)] == [[1], [2], [0]]


def test_one_option_for_all_where_upgrades_end_badly() -> None:
    """The two steepest upgrades are the first layer's, 1 and 0.9 per byte; they leave 2 bytes and a loss of 21."""
    options = [
        [Option(10, 20.0), Option(20, 10.0), Option(30, 1.0)],
        [Option(10, 20.0), Option(22, 9.8), Option(34, 9.0)],
    ]
    assert upgraded(options, 42, start=[0, 0]) == [2, 0]
    assert greedy(options, 42) == optimal(options, 42) == [1, 1]


def test_infinite_losses_are_left_first() -> None:
    options = [[Option(1, 9.0), Option(2, 1.0)], [Option(1, math.inf), Option(9, math.inf), Option(10, 5.0)]]
    assert greedy(options, 11) == optimal(options, 11) == [0, 2]
    assert loss(options, optimal(options, 2)) == math.inf


@pytest.mark.parametrize("seed", range(6))
def test_optimal_is_the_best_of_all(seed: int) -> None:
    options = layers(seed, 4)
    for budget in budgets(options, 12):
        chosen = optimal(options, budget)
        assert size(options, chosen) <= budget
        assert loss(options, chosen) == best(options, budget)


@pytest.mark.parametrize("seed", range(6))
def test_greedy_fits_and_is_near_the_optimum(seed: int) -> None:
    """Above the least loss by no more than one upgrade along the convex hulls saves, the first that does not fit."""
    options = layers(seed, 9)
    for budget in budgets(options, 25):
        chosen = greedy(options, budget)
        assert size(options, chosen) <= budget
        least = loss(options, optimal(options, budget))
        assert loss(options, chosen) >= least * (1 - 1e-12)
        assert loss(options, chosen) <= least + first_passed_over(options, budget)


def hull_steps(options: Options) -> list[tuple[float, int, float]]:
    """Upgrades along the lower convex hulls, steepest first: loss saved per byte, bytes, loss saved."""
    steps = []
    for layer in options:
        at = min(layer)
        while further := [p for p in layer if p.nbytes > at.nbytes and p.loss < at.loss]:
            to = max(further, key=lambda p: (at.loss - p.loss) / (p.nbytes - at.nbytes))
            more, saved = to.nbytes - at.nbytes, at.loss - to.loss
            steps.append((saved / more, more, saved))
            at = to
    return sorted(steps, reverse=True)


def first_passed_over(options: Options, budget: int) -> float:
    """What the first upgrade along the hulls that does not fit would save; 0 where all fit."""
    left = budget - sum(min(layer).nbytes for layer in options)
    for _, more, saved in hull_steps(options):
        left -= more
        if left < 0:
            return saved
    return 0.0


@pytest.mark.parametrize("seed", range(4))
def test_greedy_is_optimal_where_the_hull_ends_on_the_budget(seed: int) -> None:
    """Every choice of equal slopes is the best of its size (Everett 1963)."""
    options = layers(seed, 6)
    budget, left = (
        sum(min(layer).nbytes for layer in options),
        loss(options, [layer.index(min(layer)) for layer in options]),
    )
    for _, more, saved in hull_steps(options):
        budget, left = budget + more, left - saved
        assert size(options, greedy(options, budget)) == budget
        assert loss(options, greedy(options, budget)) == pytest.approx(left)
        assert loss(options, optimal(options, budget)) == pytest.approx(left)


@pytest.mark.parametrize("seed", range(3))
def test_optimal_is_no_worse_than_one_choice_for_all(seed: int) -> None:
    options = layers(seed, 20)
    for number in range(len(CHOICES)):
        budget = size(options, [number] * 20)
        assert uniform(options, budget) == [number] * 20
        assert loss(options, optimal(options, budget)) <= loss(options, uniform(options, budget))


def test_what_does_not_fit() -> None:
    options = [[Option(10, 1.0), Option(7, 2.0)], [Option(5, 1.0), Option(9, 0.5)]]
    for method in (greedy, optimal):
        with pytest.raises(InputError, match="the cheapest options take 12 bytes, the budget is 11"):
            method(options, 11)
    with pytest.raises(
        InputError, match="one option for all layers takes at least 15 bytes, the budget is 14"
    ):
        uniform(options, 14)


def test_bad_options() -> None:
    with pytest.raises(InputError, match="a loss is NaN"):
        greedy([[Option(1, math.nan)]], 10)
    for nothing in ([], [[]]):
        with pytest.raises(InputError, match="at least one option"):
            greedy(nothing, 10)
    with pytest.raises(InputError, match=r"layers have \[1, 2\] options"):
        uniform([[Option(1, 1.0)], [Option(1, 1.0), Option(2, 0.0)]], 10)


def test_parallel_gaussian_sources() -> None:
    """theta = 1 for variances 16, 4, 1/4 and 3 bits in all: 2, 1 and 0 bits, errors 1, 1 and 1/4 (theorem 10.3.3)."""
    assert reverse_water_filling([16, 4, 0.25], [1, 1, 1], [1, 1, 1], 1.0) == pytest.approx([2, 1, 0])
    # a third bit per layer and more: 3/2 log2 4 are spread over all three from theta = 1/4 on
    assert reverse_water_filling([16, 4, 0.25], [1, 1, 1], [1, 1, 1], 5 / 3) == pytest.approx([3, 2, 0])
    assert reverse_water_filling([16, 4, 0.25], [1, 1, 1], [1, 1, 1], 8 / 3) == pytest.approx([4, 3, 1])


def test_equal_layers_share_equally() -> None:
    assert reverse_water_filling([3.0] * 4, [7, 1, 5, 90], [2.0] * 4, 2.5) == pytest.approx([2.5] * 4)


def test_a_weight_counts_like_a_variance_and_elements_like_copies() -> None:
    together = reverse_water_filling([1.0, 4.0], [3, 2], [8.0, 0.5], 1.5)
    apart = reverse_water_filling([8.0, 8.0, 8.0, 2.0, 2.0], [1] * 5, [1.0] * 5, 1.5)
    assert apart == pytest.approx([together[0]] * 3 + [together[1]] * 2)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0, 4.0])
def test_conditions_of_the_optimum(seed: int, rate: float) -> None:
    """Karush, Kuhn and Tucker: the budget is met, errors of layers with bits are one theta, the others' are below."""
    draw = random.Random(seed)
    variances = [draw.lognormvariate(0, 3) for _ in range(9)]
    weights = [draw.lognormvariate(0, 1) for _ in range(9)]
    elements = [draw.randrange(1, 1000) for _ in range(9)]
    found = reverse_water_filling(variances, elements, weights, rate)
    spent = math.fsum(n * r for n, r in zip(elements, found, strict=True))
    assert spent == pytest.approx(rate * sum(elements), abs=1e-9 * sum(elements))
    errors = [w * s * 4.0**-r for w, s, r in zip(weights, variances, found, strict=True)]
    active = [error for error, r in zip(errors, found, strict=True) if r > 0]
    idle = [error for error, r in zip(errors, found, strict=True) if r == 0]
    assert active == pytest.approx([max(errors)] * len(active))
    assert all(error <= max(errors) * (1 + 1e-12) for error in idle)


def test_layers_without_variance_or_weight_get_nothing() -> None:
    assert reverse_water_filling([0.0, 2.0, 2.0], [1, 1, 2], [1.0, 0.0, 1.0], 1.0) == pytest.approx([0, 0, 2])
    assert reverse_water_filling([0.0, 1.0], [1, 1], [1.0, 0.0], 1.0) == [0, 0]


@pytest.mark.parametrize(
    ("variances", "elements", "weights", "rate", "message"),
    [
        ([1.0], [1, 1], [1.0], 1.0, "1 variances, 2 elements, 1 weights"),
        ([-1.0], [1], [1.0], 1.0, "must be finite and not negative"),
        ([1.0], [1], [math.inf], 1.0, "must be finite and not negative"),
        ([1.0], [1], [1.0], math.nan, "rate nan"),
        ([1.0], [0], [1.0], 1.0, r"elements \[0\] at least 1"),
    ],
)
def test_refused(
    variances: list[float], elements: list[int], weights: list[float], rate: float, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        reverse_water_filling(variances, elements, weights, rate)


def test_whole_bits_where_the_water_level_gives_them() -> None:
    """Variances 4^k apart and no bytes around the codes: 6, 5, 4, 3 and 2 bits are the real ones already."""
    variances, elements = [4.0**k for k in (4, 3, 2, 1, 0)], [800] * 5
    nbytes = [[100 * bits for bits in CHOICES]] * 5
    picks = water_filling(nbytes, CHOICES, variances, elements, [1.0] * 5, budget=100 * (6 + 5 + 4 + 3 + 2))
    assert [CHOICES[pick] for pick in picks] == [6, 5, 4, 3, 2]


@pytest.mark.parametrize("seed", range(5))
def test_rounding_down_fits_and_leaves_no_upgrade(seed: int) -> None:
    draw = random.Random(seed)
    elements = [draw.randrange(50, 500) for _ in range(12)]
    variances, weights = ([draw.lognormvariate(0, 2) for _ in range(12)] for _ in range(2))
    nbytes = [[n * bits // 8 + draw.randrange(9) for bits in CHOICES] for n in elements]
    for rate in (3.0, 4.0, 5.5):
        budget = math.floor(rate * sum(elements) / 8)
        picks = water_filling(nbytes, CHOICES, variances, elements, weights, budget)
        spent = sum(row[pick] for row, pick in zip(nbytes, picks, strict=True))
        assert spent <= budget
        dearer = [
            row[pick + 1] - row[pick] for row, pick in zip(nbytes, picks, strict=True) if pick + 1 < len(row)
        ]
        assert not dearer or min(dearer) > budget - spent


def test_the_least_loss_may_lie_below_zero() -> None:
    """A divergence of zero may be measured a little below: the best choice has the least sum all the same."""
    options = [[Option(1, 3.0), Option(2, -1e-9)], [Option(1, 2.0), Option(2, -2e-9)]]
    assert optimal(options, 4) == greedy(options, 4) == [1, 1]
