"""Units: a model on a data set, by an optimizer and a training where those differ. Texts and their short forms."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, final

from ..schema import Spec
from ..settings import differences, written
from .methods import Labels, spec_of


class Site(NamedTuple):
    """Where something is quantized; a source has neither model nor optimizer."""

    model: Spec | None
    dataset: Spec | None
    optimizer: Spec | None

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Site":
        """Of names and parameters as JSON, each after the other."""
        return cls(*(spec_of(*texts[place : place + 2]) for place in (0, 2, 4)))


@final
class Units:
    """Texts of units; those of one board differ.

    Args:
        sites: the sites that occur.
        found: for each board number the (site number, training) that stand on it; a training is what of a budget
            makes a unit.
    """

    def __init__(
        self, sites: Sequence[Site], found: Mapping[int, Sequence[tuple[int, Mapping[str, Any]]]]
    ) -> None:
        self._sites = sites
        self._labels = [Labels([one for one in column if one]) for column in zip(*sites, strict=True)]
        self._texts = {board: self._of_board(units) for board, units in found.items()}

    def text(self, board: int, unit: int) -> str:
        """Of unit number ``unit`` among those of the board."""
        return self._texts[board][unit]

    def model(self, site: int) -> str:
        return self._short(0, self._sites[site].model)

    def dataset(self, site: int) -> str:
        return self._short(1, self._sites[site].dataset)

    def optimizer(self, site: int) -> str:
        return self._short(2, self._sites[site].optimizer)

    def _short(self, place: int, spec: Spec | None) -> str:
        return self._labels[place](spec) if spec else ""

    def _of_board(self, units: Sequence[tuple[int, Mapping[str, Any]]]) -> list[str]:
        several = len({self.optimizer(site) for site, _ in units}) > 1
        same: dict[int, list[int]] = defaultdict(list)
        for number, (site, _) in enumerate(units):
            same[site].append(number)
        words = [""] * len(units)
        for site, numbers in same.items():
            for number, own in zip(numbers, differences([units[n][1] for n in numbers]), strict=True):
                words[number] = ", ".join([self._place(site, several), *written(own)])
        return words

    def _place(self, site: int, several: bool) -> str:
        on = " on ".join(text for text in (self.model(site), self.dataset(site)) if text)
        return f"{on}, {self.optimizer(site)}" if several and self.optimizer(site) else on
