"""The charts of the page: one chart, one file; :func:`all_charts` makes them in the order of the page."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...registry import Registry
from ..boards import Board
from .beta import beta
from .chart import Chart
from .gradient_codes import gradient_codes
from .gradient_density import gradient_density
from .gradient_increments import gradient_increments
from .gradient_memory import gradient_memory
from .heat import heat
from .pareto import pareto
from .profile import profile
from .sensitivity import sensitivity
from .signature import signature
from .sources import sources
from .throughput import throughput
from .traffic import traffic

if TYPE_CHECKING:
    import pandas as pd

    from ..standings import Standing

__all__ = ["Chart", "all_charts"]


def all_charts(
    registry: Registry,
    boards: Sequence[Board],
    points: "pd.DataFrame",
    standings: Mapping[str, Sequence["Standing"]],
) -> list[Chart]:
    """Every chart, with data or with what to run; never two digests in one.

    Args:
        registry: scans, layers and gradients are read from it.
        boards, points: of :func:`qbench.leaderboard.points.points_of`.
        standings: of each board, by its key.

    Raises:
        RegistryError: the registry cannot be read.
    """
    on_sources = points[points["board"] == _sources(boards)]
    return [
        signature(on_sources),
        pareto(points, boards),
        heat(points, boards, standings),
        profile(points, boards, standings),
        sources(on_sources),
        beta(registry),
        sensitivity(registry),
        gradient_density(registry),
        gradient_memory(registry),
        gradient_increments(registry),
        gradient_codes(registry),
        traffic(registry, points, boards),
        throughput(_one_device(on_sources)),
    ]


def _sources(boards: Sequence[Board]) -> str:
    """The board of iid sources to draw; "" where there is none."""
    own = [board for board in boards if (board.track, board.target) == ("rate-distortion", "source")]
    chosen = max(own, key=lambda board: (board.default, board.results), default=None)
    return "" if chosen is None else chosen.key


def _one_device(points: "pd.DataFrame") -> "pd.DataFrame":
    """Rows of the kind of device that most were measured on."""
    if not len(points):
        return points
    return points[points["device"] == points["device"].value_counts().index[0]]
