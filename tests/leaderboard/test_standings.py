"""Ranks, ties and reasons on boards made by hand."""

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qbench.leaderboard.resampling import intervals
from qbench.leaderboard.standings import BITS, Standing, saved_percent, standings

Gains = dict[str, float]


def point(method: str, unit: str, gain: float, **given: Any) -> dict[str, Any]:
    """A row of points; ``unit`` is ``model on dataset``."""
    plain = {
        "board": "board",
        "rate_class": "fixed",
        "label": f"the {method}",
        "family": "scalar",
        "plugin": "",
        "device": "cpu",
        "dataset": unit.rpartition(" on ")[2],
        "rate": 4.0,
        "quality": 20.0,
        "gain_se": 0.0,
        "censored": 0,
        "seeds": 1,
        "coverage": 1.0,
        "failed": 0,
        "reproduced": 0,
        "spec": f"{method}(bits=4)",
    }
    return {"method": method, "unit": unit, "gain": gain} | plain | given


def table(gains: dict[str, list[float]], **given: Any) -> pd.DataFrame:
    """Methods with a gain in each of units 0, 1, ..., a data set each."""
    return pd.DataFrame(
        [
            point(method, f"net on data-{number:02}", gain, **given)
            for method, row in gains.items()
            for number, gain in enumerate(row)
        ]
    )


def of(found: list[Standing], method: str, rate_class: str = "fixed") -> Standing:
    return next(one for one in found if one.method == method and one.rate_class == rate_class)


def test_ranks_are_by_mean_gain() -> None:
    found = standings(table({"a": [0.1, 0.3], "b": [0.5, 0.3], "c": [-0.2, -0.4]}))
    assert [(one.method, one.rank, one.label) for one in found] == [
        ("b", 1, "the b"),
        ("a", 2, "the a"),
        ("c", 3, "the c"),
    ]
    assert [one.gain for one in found] == pytest.approx([0.4, 0.2, -0.3])
    assert [(one.n, one.units) for one in found] == [(2, 2)] * 3


def test_equal_gains_share_a_rank() -> None:
    found = standings(table({"a": [0.1, 0.2], "b": [0.3, 0.0], "c": [0.0, 0.0]}))
    assert [one.rank for one in found] == [1, 1, 3]


def test_points_of_a_unit_are_averaged_first() -> None:
    """Unit 0 has points 1 and 3, unit 1 has 0: the mean is 1, not 4/3."""
    rows = table({"a": [1.0, 0.0]})
    more = pd.DataFrame([point("a", "net on data-00", 3.0, rate=2.0, spec="a(bits=2)")])
    found = standings(pd.concat([rows, more], ignore_index=True))[0]
    assert found.gain == pytest.approx(1.0)
    assert (found.points, found.single, found.bits_low, found.bits_high) == (3, False, 2.0, 4.0)


def test_half_of_the_methods_make_a_unit_count() -> None:
    """Unit 2 has one of four methods, unit 1 two: unit 1 counts, and who lacks it has no rank, a gain though."""
    found = standings(
        table({"a": [0.1, 0.2, 9.0], "b": [0.3, 0.1]}).pipe(
            lambda rows: pd.concat([rows, table({"c": [0.5], "d": [0.4]})], ignore_index=True)
        )
    )
    assert [(one.method, one.rank, one.n, one.units) for one in found] == [
        ("b", 1, 2, 2),
        ("a", 2, 2, 2),
        ("c", None, 1, 2),
        ("d", None, 1, 2),
    ]
    assert of(found, "a").gain == pytest.approx(0.15)
    assert of(found, "c").gain == pytest.approx(0.5)
    assert of(found, "c").why_unranked == "not measured on 1 of 2 units"


def test_censored_points_have_no_gain_and_are_counted() -> None:
    rows = table({"a": [0.1, 0.2], "b": [0.3, math.nan]})
    rows.loc[rows["gain"].isna(), "censored"] = 1
    found = standings(rows)
    assert of(found, "b").rank is None
    assert of(found, "b").censored == 1
    assert of(found, "b").why_unranked == "outside the anchor's range on 1 of 2 units"
    assert of(found, "a").rank == 1


def test_a_censored_point_beside_others_costs_no_rank() -> None:
    rows = table({"a": [0.1, 0.2]})
    more = pd.DataFrame([point("a", "net on data-00", math.nan, censored=-1)])
    found = standings(pd.concat([rows, more], ignore_index=True))[0]
    assert (found.rank, found.censored, found.gain) == (1, 1, pytest.approx(0.15))


def test_without_an_anchor_methods_are_sorted_by_quality() -> None:
    rows = table({"a": [math.nan], "b": [math.nan], "c": [math.nan]})
    rows["quality"] = [0.2, 0.1, 0.3]
    found = standings(rows, better=-1)
    assert [one.method for one in found] == ["b", "a", "c"]
    assert {one.rank for one in found} == {None}
    assert found[0].why_unranked == "nothing to compare with: no anchor curve here"
    assert [one.method for one in standings(rows, better=1)] == ["c", "a", "b"]


def test_the_bits_filter_takes_the_lower_end() -> None:
    rows = pd.concat(
        [
            table({"a": [gain]}, rate=rate, spec=f"a({rate})")
            for gain, rate in ((1, 1.49), (2, 1.5), (4, 2.5))
        ],
        ignore_index=True,
    )
    assert {
        name: [one.gain for one in standings(rows, bits=BITS[name])] for name in ("1", "2", "3", "4")
    } == {
        "1": [1.0],
        "2": [2.0],
        "3": [4.0],
        "4": [],
    }


def test_the_ranges_of_bits_leave_no_gap() -> None:
    ends = [*BITS.values()]
    assert (ends[0][0], ends[-1][1]) == (0, 12)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(ends))


def test_a_device_by_itself() -> None:
    rows = pd.concat([table({"a": [1.0]}), table({"a": [3.0]}, device="cuda")], ignore_index=True)
    assert standings(rows)[0].gain == pytest.approx(2.0)
    assert standings(rows, device="cuda")[0].gain == pytest.approx(3.0)
    assert standings(rows, device="tpu") == []


def test_below_eight_units_a_ranking_is_provisional() -> None:
    seven, eight = (standings(table({"a": [1.0] * n, "b": [0.0] * n})) for n in (7, 8))
    assert [(one.provisional, one.tied) for one in seven] == [(True, None)] * 2
    assert [(one.provisional, one.tied) for one in eight] == [(False, True), (False, False)]


def test_ties_with_the_best_by_hand() -> None:
    """8 units: a flip of all signs is the only other one as far off: p = 2 / 256; three other methods, Holm: < .05.

    Those whose differences from the best cancel have p = 1.
    """
    best = [1.0] * 8
    other = [1.0 + 0.5 * (-1) ** n for n in range(8)]
    found = standings(
        table({"best": best, "worse": [0.5] * 8, "worst": [0.0] * 8, "other": [x - 0.01 for x in other]})
    )
    assert {one.method: one.tied for one in found} == {
        "best": True,
        "other": True,
        "worse": False,
        "worst": False,
    }


def test_many_methods_need_more_evidence() -> None:
    """p = 2 / 256 for each of m others: rejected by Holm for m = 6 (12 / 256 < .05), not for m = 7 (14 / 256)."""
    for others, tied in ((6, False), (7, True)):
        rows = {"best": [1.0] * 8} | {f"other-{n}": [0.5] * 8 for n in range(others)}
        found = standings(table(rows))
        assert {one.tied for one in found if one.method != "best"} == {tied}


def test_rate_classes_are_ranked_apart() -> None:
    """The entropy-coded method saves far more, and says nothing about those of fixed rate."""
    fixed = table({"a": [0.2] * 8, "b": [0.1] * 8})
    coded = table({"a": [2.0] * 8, "c": [1.9] * 8}, rate_class="coded")
    found = standings(pd.concat([coded, fixed], ignore_index=True))
    assert [(one.rate_class, one.method, one.rank, one.tied) for one in found] == [
        ("fixed", "a", 1, True),
        ("fixed", "b", 2, False),
        ("coded", "a", 1, True),
        ("coded", "c", 2, False),
    ]


def test_units_of_the_other_class_do_not_count() -> None:
    fixed = table({"a": [0.2]})
    coded = table({"c": [0.5, 0.5]}, rate_class="coded")
    assert [one.units for one in standings(pd.concat([fixed, coded], ignore_index=True))] == [1, 2]


def test_intervals_are_those_of_the_resampling() -> None:
    rng = np.random.default_rng(5)
    gains = rng.normal(size=(2, 9))
    rows = table({"a": gains[0].tolist(), "b": gains[1].tolist()}, gain_se=0.1)
    expected = intervals(gains, np.full((2, 9), 0.1), [f"data-{n:02}" for n in range(9)])
    found = standings(rows)
    for number, method in enumerate("ab"):
        assert (of(found, method).low, of(found, method).high) == pytest.approx(tuple(expected[number]))


def test_the_order_of_rows_changes_nothing() -> None:
    rng = np.random.default_rng(6)
    rows = table({name: rng.normal(size=10).tolist() for name in "abcd"}, gain_se=0.05)
    assert standings(rows) == standings(rows.sample(frac=1, random_state=1))


def test_quality_is_that_at_the_median_bits() -> None:
    rows = pd.concat(
        [
            table({"a": [0.0, 0.0]}, rate=r, quality=q, spec=f"a({r})")
            for r, q in ((8, 48), (2, 12), (4, 24), (3, 18))
        ],
        ignore_index=True,
    )
    assert standings(rows)[0].quality == 18.0


def test_facts_of_a_method() -> None:
    rows = table({"a": [0.1, 0.2]}, coverage=0.9, failed=3, family="lattice", plugin="stranger")
    rows["seeds"], rows["reproduced"] = [3, 1], [1, 2]
    found = standings(rows)[0]
    assert (found.seeds, found.reproduced, found.failed, found.coverage) == (1, 3, 3, pytest.approx(0.9))
    assert (found.family, found.plugin, found.single, found.why_unranked) == ("lattice", "stranger", True, "")


def test_facts_are_over_the_units_that_count() -> None:
    """Unit 2 has one method of four and does not count: nothing of a is told of it, however different it is there."""
    plain = {"a": [0.1, 0.2], "b": [0.3, 0.1], "c": [0.5, 0.4], "d": [0.4, 0.2]}
    rows = table(plain, quality=20.0, reproduced=1, seeds=3)
    far = {"rate": 8.0, "quality": 48.0, "coverage": 0.5, "reproduced": 7, "seeds": 1}
    more = [
        point("a", "net on data-02", 9.0, **far),
        point("a", "net on data-02", math.nan, **far, censored=1, spec="a(bits=9)"),
    ]
    found = standings(pd.concat([rows, pd.DataFrame(more)], ignore_index=True))
    assert of(found, "a") == of(standings(rows), "a")
    one = of(found, "a")
    assert (one.quality, one.bits_low, one.bits_high, one.coverage) == (20, 4, 4, 1)
    assert (one.points, one.censored, one.seeds, one.reproduced, one.single) == (2, 0, 3, 2, True)


def test_without_a_rank_facts_are_over_the_units_that_count_and_are_there() -> None:
    rows = table({"a": [0.1, 0.2], "b": [0.3, 0.1], "d": [0.4, 0.2], "e": [0.4, 0.2]})
    more = [
        point("c", "net on data-00", 0.5, quality=10.0),
        point("c", "net on data-02", 0.5, quality=30.0),
        point("only", "net on data-03", 0.5, quality=50.0, rate=7.0),
    ]
    found = standings(pd.concat([rows, pd.DataFrame(more)], ignore_index=True))
    some, none = of(found, "c"), of(found, "only")
    assert (some.rank, some.n, some.points, some.quality) == (None, 1, 1, 10)
    assert (none.rank, none.n, none.points, none.quality, none.bits_low) == (None, 0, 1, 50, 7)


def test_gains_are_told_as_shares_of_the_bits() -> None:
    """Half the bits are a gain of 1; 1.26 times the bits one of -1/3."""
    assert saved_percent(1.0) == pytest.approx(50)
    assert saved_percent(math.log2(100 / 58)) == pytest.approx(42)
    assert saved_percent(-math.log2(1.26)) == pytest.approx(-26)
    assert math.isnan(saved_percent(math.nan))


def test_points_of_several_boards_are_refused() -> None:
    with pytest.raises(ValueError, match="2 boards"):
        standings(pd.concat([table({"a": [0.1]}), table({"a": [0.1]}, board="other")]))
