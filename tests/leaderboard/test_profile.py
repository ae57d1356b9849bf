"""Profiles over boards, the best at a number of bits, fronts."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qbench.leaderboard.boards import Board
from qbench.leaderboard.points import points_of
from qbench.leaderboard.profile import best_at, front, profile, undominated
from qbench.registry import Registry

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from synthetic import add


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.duckdb"


def points(path: Path) -> tuple[list[Board], pd.DataFrame]:
    return points_of(Registry(path), {"method-1": {"family": "lattice"}})


def test_the_best_at_each_number_of_bits(path: Path) -> None:
    """A bit better at 2, 3, 4 and 8 bits of an anchor measured at those: log2(3/2), log2(4/3), then 4^(1/4)... in log2
    R, linear from 4 to 8: 1/4; and at 8 bits beyond the range, where the anchor alone is left."""
    add(path, quantizers=3, bits=(2, 3, 4, 8), gains=(0, 1, 0.5), models=3, datasets=3)
    boards, table = points(path)
    found = best_at(table, boards[0])
    assert [(one.bits, one.label, one.family) for one in found] == [
        ("2", "method-1", "lattice"),
        ("4", "method-1", "lattice"),
        ("8", "uniform", "other"),
    ]
    assert [one.gain for one in found] == pytest.approx([math.log2(1.5), 0.25, 0])
    assert [(one.rate, one.n, one.tied) for one in found] == [(2, 9, 0), (4, 9, 0), (8, 9, 0)]
    assert (found[0].low, found[0].high) == pytest.approx((math.log2(1.5),) * 2)
    kl = np.mean([0.1 * (1 + place) * 4.0**-3 for place in range(9)])
    assert found[0].quality == pytest.approx(kl)
    assert (
        found[0].text
        == f"method-1: KL {kl:.2g} nat at 2.00 bits, 33 % fewer bits than the anchor (33 % fewer, n = 9)"
    )


def test_without_a_ranking_nobody_is_best(path: Path) -> None:
    add(path, quantizers=2, bits=(2,))
    boards, table = points(path)
    assert best_at(table, boards[0]) == []


def test_a_profile_has_methods_of_two_boards(path: Path) -> None:
    """method-2 stands on one board only; method-1 saves 1/2 a bit on one, loses 1/2 on the other."""
    add(path, quantizers=3, bits=(2, 4), gains=(0, 1, 1))
    add(path, quantizers=2, bits=(2, 4), gains=(0, -1), models=0, track="rate-distortion", target="source")
    boards, table = points(path)
    found = profile(table, boards)
    sources, weights = (board.key for board in boards)
    assert found["label"].tolist() == ["uniform", "method-1"]
    assert found[sources].tolist() == pytest.approx([0, -0.5])
    assert found[weights].tolist() == pytest.approx([0, 0.5])
    assert found.columns.tolist() == ["core", "label", "family", "rate_class", sources, weights]


def test_boards_without_an_anchor_are_no_part_of_a_profile(path: Path) -> None:
    add(path, quantizers=2, bits=(2, 4))
    add(path, quantizers=2, bits=(2,), models=0, track="rate-distortion", target="source")
    assert profile(*reversed(points(path))).empty  # type: ignore[arg-type]


def test_what_nothing_beats() -> None:
    rate = np.array([2.0, 2.0, 3.0, 4.0, 4.0, 5.0])
    quality = np.array([10.0, 10.0, 9.0, 20.0, 19.0, 20.0])
    assert undominated(rate, quality).tolist() == [True, True, False, True, False, False]


def test_the_front_is_of_means_over_units_in_each_class(path: Path) -> None:
    """method-1 is better than the anchor at every rate and method-2 worse; the coded one is on its own front."""
    add(path, quantizers=4, bits=(2, 4), gains=(0, 0.5, -0.5, -3), coded=1)
    boards, table = points(path)
    marked = front(table, boards)
    assert marked.index.equals(table.index)
    assert table[marked].groupby("quantizer", observed=True).size().to_dict() == {
        "method-1": 8,
        "method-3": 8,
    }


def test_who_lacks_a_unit_is_on_no_front(path: Path) -> None:
    add(path, quantizers=3, bits=(2, 4), gains=(0, 0.5, 1), models=1, datasets=2)
    boards, table = points(path)
    some = table[(table["quantizer"] != "method-2") | (table["dataset"] == "data-0")]
    marked = front(some, boards)
    assert some[marked]["quantizer"].unique().tolist() == ["method-1"]
