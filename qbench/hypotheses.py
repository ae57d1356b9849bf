"""Hypotheses: claims stated as regions of figures before any run, and what one cell says of them.

    [[hypothesis]]
    id = "G5"
    claim = "most values lie near zero, few far"
    track = "gradient-statistics"
    windows = ["early", "middle", "late"]           # each is a cell of its own; measurements are <window>.<figure>
    all = [
      { figure = "median_magnitude", at_most = 0.575 },
      { figure = "tail_share", at_least = 0.0062 },
    ]

A cell supports a region if the figure's interval lies inside, contradicts it if the interval lies wholly outside, and
is undecided otherwise. Hypotheses belong to the protocol of their track: all but the wording of the claim and
what is shown beside it is part of its digest.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeAlias, final

from pydantic import Field, FiniteFloat, field_validator, model_validator

from .errors import SuiteError
from .schema import Frozen, Name
from .selection import Selection

Support: TypeAlias = Literal["supports", "contradicts", "undecided"]
HypothesisId = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,15}$")]


@final
@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; ``low`` and ``high`` equal the value where it is exact."""

    value: float
    low: float
    high: float

    @classmethod
    def exact(cls, value: float) -> "Estimate":
        return cls(value, value, value)

    def __sub__(self, other: "Estimate") -> "Estimate":
        """The difference, with every value that the two intervals leave open."""
        return Estimate(self.value - other.value, self.low - other.high, self.high - other.low)


@final
class Region(Frozen):
    """Where a figure must lie, bounds included."""

    figure: Name
    at_least: FiniteFloat | None = None
    at_most: FiniteFloat | None = None

    @model_validator(mode="after")
    def _bounds_enclose_something(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError(f"figure {self.figure!r} has no bound: give at_least, at_most or both")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(
                f"figure {self.figure!r}: at_least={self.at_least} is above at_most={self.at_most}"
            )
        return self

    def support(self, estimate: Estimate | None) -> Support:
        """What an estimate says; None, a figure that could not be had, says nothing.

        >>> Region(figure="shape", at_least=1.8, at_most=2.2).support(Estimate(1.9, 1.7, 2.1))
        'undecided'
        """
        if estimate is None:
            return "undecided"
        least = -float("inf") if self.at_least is None else self.at_least
        most = float("inf") if self.at_most is None else self.at_most
        if estimate.high < least or estimate.low > most:
            return "contradicts"
        return "supports" if least <= estimate.low and estimate.high <= most else "undecided"

    def __str__(self) -> str:
        if self.at_least is None:
            return f"{self.figure} <= {self.at_most:g}"
        if self.at_most is None:
            return f"{self.figure} >= {self.at_least:g}"
        return f"{self.at_least:g} <= {self.figure} <= {self.at_most:g}"


@final
class Hypothesis(Frozen):
    """A claim, the region of figures in which it is true, and the cells that it is about.

    Attributes:
        track: whose cells are judged; the suite has a grid of it.
        where: terms that narrow them, as in ``--select``.
        windows: prefixes of measurements, each a cell of its own; without them a figure is the measurement's name.
        all: every figure inside supports, any figure outside contradicts.
        any: any figure inside supports, every figure outside contradicts.
        fails: regions that contradict in place of the outside, joined the other way: any of them beside ``all``,
            every one beside ``any``.
        needs_failed: a hypothesis that the same cell must contradict besides.
        against: parameters of a quantizer; figures are differences to the cell that has them and is the same in all
            else.
        budget: entries that a cell's budget must have.
        exact: figures have no interval, and their values are taken for exact.
        report: further figures that are shown and decide nothing.
    """

    id: HypothesisId
    claim: str = Field(min_length=1, max_length=1000)
    track: Name
    where: str = ""
    windows: list[Name] = Field(default_factory=list)
    all: list[Region] = Field(default_factory=list)
    any: list[Region] = Field(default_factory=list)
    fails: list[Region] = Field(default_factory=list)
    needs_failed: HypothesisId | None = None
    against: dict[str, Any] = Field(default_factory=dict)
    budget: dict[str, Any] = Field(default_factory=dict)
    exact: bool = False
    report: list[Name] = Field(default_factory=list)

    @field_validator("where")
    @classmethod
    def _terms(cls, where: str) -> str:
        try:
            Selection.parse(where)
        except SuiteError as error:
            raise ValueError(str(error)) from None
        return where

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if bool(self.all) == bool(self.any):
            raise ValueError(f"hypothesis {self.id}: give either all or any, with at least one region")
        if self.needs_failed == self.id:
            raise ValueError(f"hypothesis {self.id} needs itself to fail")
        return self

    @property
    def regions(self) -> list[Region]:
        return self.all or self.any

    @property
    def figures(self) -> list[str]:
        """Those that decide, each once."""
        return list(dict.fromkeys(region.figure for region in [*self.regions, *self.fails]))

    @property
    def measured(self) -> list[str]:
        """Names of measurements that decide, the ends of their intervals included."""
        ends = [""] if self.exact else ["", ".low", ".high"]
        names = [measurement(window, figure) for window in self.windows or [""] for figure in self.figures]
        return [f"{name}{end}" for name in names for end in ends]

    def protocol(self) -> dict[str, Any]:
        """What a digest covers: everything that decides."""
        unsaid = set() if self.budget else {"budget"}
        return self.model_dump(mode="json", exclude={"claim", "report"} | unsaid)

    def support(self, estimates: Mapping[str, Estimate | None], needed: Support | None = None) -> Support:
        """What the figures of one cell say; ``needed`` is what they say of the hypothesis in ``needs_failed``."""
        inside = [region.support(estimates.get(region.figure)) for region in self.regions]
        found = every(inside) if self.all else opposite(every(map(opposite, inside)))
        if self.fails and found != "supports":
            failed = [region.support(estimates.get(region.figure)) for region in self.fails]
            count = failed.count("supports")
            found = "contradicts" if count and (self.all or count == len(failed)) else "undecided"
        return found if needed is None else every([found, opposite(needed)])

    def region_text(self) -> str:
        """The region in words, such as ``median_magnitude <= 0.575 and tail_share >= 0.0062``."""
        text = (" and " if self.all else " or ").join(map(str, self.regions))
        if self.against:
            partner = ", ".join(f"{name}={value}" for name, value in sorted(self.against.items()))
            text = f"{text}, as a difference to {partner}"
        if self.needs_failed:
            text = f"{self.needs_failed} contradicted, and {text}"
        if self.fails:
            text += f"; fails at {(' or ' if self.all else ' and ').join(map(str, self.fails))}"
        return text


def measurement(window: str, figure: str) -> str:
    """The name under which a track stores a figure."""
    return f"{window}.{figure}" if window else figure


def every(parts: Iterable[Support]) -> Support:
    """What parts say that must all be true."""
    found = set(parts)
    if "contradicts" in found:
        return "contradicts"
    return "undecided" if "undecided" in found else "supports"


def opposite(support: Support) -> Support:
    """What is said of the negation."""
    turned: dict[Support, Support] = {"supports": "contradicts", "contradicts": "supports"}
    return turned.get(support, "undecided")


def fault(hypotheses: Sequence[Hypothesis], tracks: Iterable[str]) -> str | None:
    """What is wrong with hypotheses that stand together in a suite with grids of these tracks, if anything."""
    known, tracks, ids = {one.id: one for one in hypotheses}, set(tracks), [one.id for one in hypotheses]
    for one in hypotheses:
        if ids.count(one.id) > 1:
            return f"hypothesis {one.id} stands there {ids.count(one.id)} times; ids are unique"
        if one.track not in tracks:
            there = ", ".join(sorted(tracks))
            return f"hypothesis {one.id} is about track {one.track!r}, of which there is no grid; there are: {there}"
        if one.needs_failed and (wrong := _fault_of_need(one, known)):
            return f"hypothesis {one.id} needs {one.needs_failed!r} to fail, {wrong}"
    return None


def _fault_of_need(one: Hypothesis, known: Mapping[str, Hypothesis]) -> str | None:
    needed = known.get(one.needs_failed or "")
    if needed is None:
        return f"which is not there; there are: {', '.join(known)}"
    if needed.needs_failed:
        return f"which needs {needed.needs_failed!r} to fail itself; one step is allowed"
    for name in ("track", "where", "budget", "windows", "against"):
        if getattr(needed, name) != getattr(one, name):
            return f"which is about other cells: give both the same {name}"
    return None
