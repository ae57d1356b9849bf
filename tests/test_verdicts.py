"""Verdicts over many cells: exactly 80 %, exactly 5/6, and which factor a figure varies with."""

import itertools
from collections.abc import Callable, Sequence
from fractions import Fraction

import pytest

from qbench.hypotheses import Estimate, Hypothesis
from qbench.verdicts import Observation, Tally, decide, epsilon_squared

ONE = Hypothesis(id="H", claim="small", track="float", all=[{"figure": "x", "at_most": 1.0}])
TWO = [{"figure": name, "at_most": 1.0} for name in "xy"]
GOOD, BAD, OPEN = Estimate.exact(0.5), Estimate.exact(2.0), Estimate(1.0, 0.5, 1.5)
MODELS = ("mlp", "cnn", "alexnet", "resnet18", "densenet121", "googlenet")
OPTIMIZERS = ("sgd", "momentum", "rmsprop", "adagrad", "adam", "adamw")


def cells(*estimates: Estimate | None) -> list[Observation]:
    """Cells of one architecture and one optimizer."""
    return [
        Observation({"architecture": "mlp", "optimizer": "sgd", "seed": str(n)}, {"x": estimate})
        for n, estimate in enumerate(estimates)
    ]


@pytest.mark.parametrize(
    ("good", "bad", "open_", "outcome"),
    [
        (5, 0, 0, "holds"),
        (4, 1, 0, "holds"),
        (4, 0, 1, "holds"),
        (79, 21, 0, "depends"),
        (80, 20, 0, "holds"),
        (1, 4, 0, "fails"),
        (21, 79, 0, "depends"),
        (20, 80, 0, "fails"),
        (0, 3, 1, "depends"),
        (0, 0, 9, "depends"),
        (0, 0, 0, "unmeasured"),
        (1, 0, 0, "holds"),
    ],
)
def test_eighty_percent_of_all_cells_decide(good: int, bad: int, open_: int, outcome: str) -> None:
    verdict = decide(ONE, cells(*[GOOD] * good, *[BAD] * bad, *[OPEN] * open_))
    assert verdict.outcome == outcome
    assert verdict.tally == Tally(good, bad, open_)


def test_a_figure_that_could_not_be_had_is_undecided() -> None:
    assert decide(ONE, cells(GOOD, GOOD, GOOD, GOOD, None)).outcome == "holds"
    assert decide(ONE, cells(GOOD, GOOD, GOOD, None)).outcome == "depends"


def grid(good: Callable[[str, str, int], bool]) -> list[Observation]:
    """6 architectures x 6 optimizers x 10 seeds."""
    return [
        Observation(
            {"architecture": m, "optimizer": o, "seed": str(s)}, {"x": GOOD if good(m, o, s) else BAD}
        )
        for m, o, s in itertools.product(MODELS, OPTIMIZERS, range(10))
    ]


def test_five_of_six_architectures_are_enough() -> None:
    """One architecture contradicts in every cell: 5/6 of the cells support, in 5/6 of the architectures."""
    verdict = decide(ONE, grid(lambda model, optimizer, seed: model != "cnn"))
    assert verdict.outcome == "holds"
    assert verdict.by("architecture")["cnn"] == Tally(0, 60, 0)


@pytest.mark.parametrize("factor", ["architecture", "optimizer"])
def test_four_of_six_groups_are_too_few_though_the_cells_are_enough(factor: str) -> None:
    """Two groups support in 7 of 10 cells, the others in all: 90 % of the cells, 4 of 6 groups."""
    low = {"cnn", "mlp", "sgd", "adam"}

    def good(model: str, optimizer: str, seed: int) -> bool:
        return (model if factor == "architecture" else optimizer) not in low or seed < 7

    verdict = decide(ONE, grid(good))
    assert verdict.tally.supports == 324
    assert verdict.outcome == "depends"


def test_a_group_supports_at_exactly_eighty_percent() -> None:
    assert decide(ONE, grid(lambda model, optimizer, seed: seed < 8)).outcome == "holds"
    assert decide(ONE, grid(lambda m, o, seed: seed < (7 if m in ("cnn", "mlp") else 9))).outcome == "depends"


def test_of_two_architectures_both_must_support() -> None:
    observations = [
        one
        for one in grid(lambda m, o, s: m == "mlp" or s < 7)
        if one.factors["architecture"] in ("mlp", "cnn")
    ]
    verdict = decide(ONE, observations)
    assert Fraction(verdict.tally.supports, verdict.tally.cells) == Fraction(85, 100)
    assert verdict.outcome == "depends"


def test_failing_asks_for_no_groups() -> None:
    assert decide(ONE, grid(lambda model, optimizer, seed: model == "cnn")).outcome == "fails"


def test_shares_of_variance_are_those_of_an_additive_design() -> None:
    """x = a(architecture) + b(optimizer) over a full grid of 72: (var a - 5 var b / 66) / (var a + var b)."""
    a = dict(zip(MODELS, (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)))
    b = dict(zip(OPTIMIZERS, (0.0, 0.0, 0.0, 4.0, 4.0, 4.0)))
    observations = [
        Observation({"architecture": m, "optimizer": o, "window": w}, {"x": Estimate.exact(a[m] + b[o])})
        for m, o, w in itertools.product(MODELS, OPTIMIZERS, ("early", "late"))
    ]
    verdict = decide(ONE, observations)
    var_a, var_b = 35 / 12, 4.0
    shares = {
        "optimizer": (var_b - 5 * var_a / 66) / (var_a + var_b),
        "architecture": (var_a - 5 * var_b / 66) / (var_a + var_b),
    }
    assert list(verdict.components) == list(shares)
    assert verdict.components == pytest.approx(shares, rel=1e-12)
    assert verdict.largest_component is not None
    assert verdict.largest_component[0] == "optimizer"


@pytest.mark.parametrize(
    ("labels", "values", "share"),
    [
        ("aabb", (1, 3, 5, 7), 0.7),  # between 16, within 4: (16 - 4 / 2) / 20
        (
            "aabb",
            (0, 2, 1, 3),
            0.0,
        ),  # between 1, within 4: less than labels that say nothing have in the mean
        ("aabb", (1, 1, 2, 2), 1.0),
        ("abcd", (1, 2, 3, 4), 0.0),
        ("aabb", (1, 1, 1, 1), 0.0),
        ("aaaa", (1, 2, 3, 4), 0.0),
    ],
)
def test_epsilon_squared_by_hand(labels: str, values: Sequence[float], share: float) -> None:
    assert epsilon_squared(list(labels), values) == pytest.approx(share, abs=1e-15)


def test_labels_that_say_nothing_have_no_share_whatever_their_number() -> None:
    """Over all orders of six values eta squared has mean 2/5, and eta^2 - 2 (1 - eta^2) / 3 has mean 0."""
    orders = list(itertools.permutations((1, 2, 3, 5, 8, 13)))
    etas = [_eta(order) for order in orders]
    uncut = [eta - 2 * (1 - eta) / 3 for eta in etas]
    assert sum(etas) / len(etas) == pytest.approx(2 / 5)
    assert sum(uncut) / len(uncut) == pytest.approx(0, abs=1e-12)
    found = [epsilon_squared(list("aabbcc"), order) for order in orders]
    assert found == pytest.approx([max(0.0, one) for one in uncut], abs=1e-12)


def _eta(values: Sequence[float]) -> float:
    """Between pairs, of 6 values."""
    mean = sum(values) / 6
    between = sum(2 * ((one + other) / 2 - mean) ** 2 for one, other in zip(values[::2], values[1::2]))
    return between / sum((value - mean) ** 2 for value in values)


def test_a_factor_that_says_next_to_nothing_is_not_named() -> None:
    """Windows differ by 1 beside a spread of 3 between seeds."""
    observations = [
        Observation({"window": w, "seed": str(s)}, {"x": Estimate.exact(offset + 3.0 * s)})
        for (w, offset), s in itertools.product([("early", 0.0), ("middle", 1.0), ("late", 0.0)], range(10))
    ]
    assert decide(ONE, observations).components == {}


def test_seeds_are_no_component_and_equal_figures_have_none() -> None:
    varied = cells(*[Estimate.exact(float(n)) for n in range(4)])
    assert decide(ONE, varied).components == {}
    assert decide(ONE, cells(GOOD, GOOD)).largest_component is None


def test_the_figure_that_contradicts_is_named_though_another_has_fewer_supports() -> None:
    """y contradicts in every cnn; x supports in fewer cells, being undecided in most."""
    both = Hypothesis(id="H", claim="small", track="float", all=TWO)
    observations = [
        Observation(
            {"architecture": model, "seed": str(n)},
            {"x": GOOD if n < 3 else OPEN, "y": GOOD if model == "mlp" else BAD},
        )
        for model, n in itertools.product(("mlp", "cnn"), range(12))
    ]
    verdict = decide(both, observations)
    assert (verdict.of_figure("x"), verdict.of_figure("y")) == (Tally(6, 0, 18), Tally(12, 12, 0))
    assert (verdict.deciding, verdict.outcome) == ("y", "depends")
    assert verdict.components == pytest.approx({"architecture": 1.0})


def test_of_figures_that_contradict_alike_the_least_supported_decides() -> None:
    both = Hypothesis(id="H", claim="small", track="float", all=TWO)
    observations = [Observation({}, {"x": GOOD, "y": GOOD if n < 2 else OPEN}) for n in range(5)]
    verdict = decide(both, observations)
    assert (verdict.deciding, verdict.outcome) == ("y", "depends")
    assert verdict.of_figure("x") == Tally(5, 0, 0)
    assert verdict.of_figure("y") == Tally(2, 0, 3)


def test_of_alternatives_the_most_supported_decides() -> None:
    either = Hypothesis(id="H", claim="small", track="float", any=TWO)
    observations = [Observation({}, {"x": BAD, "y": GOOD if n < 4 else BAD}) for n in range(5)]
    verdict = decide(either, observations)
    assert (verdict.deciding, verdict.outcome) == ("y", "holds")
    observations = [Observation({}, {"x": BAD, "y": BAD if n < 4 else OPEN}) for n in range(5)]
    verdict = decide(either, observations)
    assert (verdict.deciding, verdict.outcome) == ("y", "fails")


def test_a_scale_mixture_is_what_fails_before_normalizing_and_holds_after() -> None:
    first = Hypothesis(id="G1", claim="as it is", track="float", all=[{"figure": "raw", "at_most": 1.0}])
    second = Hypothesis(
        id="G2", claim="after", track="float", needs_failed="G1", all=[{"figure": "x", "at_most": 1.0}]
    )

    def outcome(raw: Estimate, after: Estimate) -> str:
        return decide(second, [Observation({}, {"raw": raw, "x": after})], first).outcome

    assert outcome(BAD, GOOD) == "holds"
    assert outcome(GOOD, GOOD) == "fails"
    assert outcome(BAD, BAD) == "fails"
    assert outcome(OPEN, GOOD) == "depends"


def test_medians_by_factor() -> None:
    observations = [
        Observation({"architecture": m, "data set": d}, {"x": Estimate.exact(float(v))})
        for (m, d), v in zip(itertools.product(("mlp", "cnn"), ("digits", "mnist")), (1, 2, 30, 40))
    ]
    verdict = decide(ONE, observations)
    assert verdict.median("x") == 16
    assert verdict.median("x", {"architecture": "cnn"}) == 35
    assert verdict.median("x", {"data set": "mnist"}) == 21
    assert verdict.median("x", {"architecture": "vit"}) is None
