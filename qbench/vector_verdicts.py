"""What one tensor says of the hypotheses of suite ``gradients`` that one tensor can test."""

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias, final

import torch
from scipy import stats
from torch import Tensor

from . import suite
from .errors import InputError
from .gradient_figures import FIGURES, SAMPLE, figures
from .hypotheses import Estimate, Hypothesis, Support
from .measuring import require_tensor

FEWEST = 4096
BLOCKS = 8
_SUITE = Path(__file__).parent / "suites" / "gradients.toml"
Word: TypeAlias = Literal["holds", "fails", "undecided"]
_WORDS: dict[Support, Word] = {
    "supports": "holds",
    "contradicts": "fails",
    "undecided": "undecided",
}


@final
@dataclass(frozen=True)
class VectorVerdict:
    """One claim: its figures with 95 % intervals (None: not defined for this tensor), and whether it holds.

    ``needed`` is the verdict over the claim that must fail for this one to hold; None where there is no such claim.
    """

    hypothesis: Hypothesis
    figures: Mapping[str, Estimate | None]
    verdict: Word
    needed: Word | None = None

    @property
    def id(self) -> str:
        return self.hypothesis.id

    @property
    def claim(self) -> str:
        return self.hypothesis.claim

    @property
    def region(self) -> str:
        return self.hypothesis.region_text()

    @property
    def why(self) -> str:
        """What decided, in words."""
        parts = [text for text in (self._of_need(), self._of_figures()) if text]
        return "; ".join(parts)

    def _of_need(self) -> str:
        """What the claim that must fail has to do with the verdict."""
        says: dict[Word | None, tuple[Word, str]] = {
            "fails": ("holds", "fails, as it must"),
            "holds": ("fails", "holds, but this claim needs it to fail"),
            "undecided": ("undecided", "is undecided, and this claim needs it to fail"),
        }
        verdict, text = says.get(self.needed, (None, ""))
        return f"{self.hypothesis.needs_failed} {text}" if verdict == self.verdict else ""

    def _of_figures(self) -> str:
        found = [(region, self.figures.get(region.figure)) for region in self.hypothesis.regions]
        if self.verdict == "holds":
            return (
                "every figure lies inside its region"
                if len(found) > 1
                else "the figure lies inside its region"
            )
        outside = [region.figure for region, one in found if region.support(one) == "contradicts"]
        if self.verdict == "fails":
            return _says(outside, "lies outside its region", "lie outside their regions")
        undefined = [region.figure for region, one in found if one is None]
        across = [region.figure for region, one in found if one and region.support(one) == "undecided"]
        says = [
            _says(undefined, "is not defined here", "are not defined here"),
            _says(across, "has an interval across a bound", "have intervals across bounds"),
        ]
        return "; ".join(filter(None, says))


def _says(names: Sequence[str], one: str, several: str) -> str:
    return f"{', '.join(names)} {several if len(names) > 1 else one}" if names else ""


@final
@dataclass(frozen=True)
class GradientVerdicts:
    """The verdicts over one tensor, by id or in order; prints as a table."""

    shape: tuple[int, ...]
    verdicts: tuple[VectorVerdict, ...]

    def __getitem__(self, name: str) -> VectorVerdict:
        found = [one for one in self.verdicts if one.id == name]
        if not found:
            raise KeyError(f"no verdict {name!r}; there are: {', '.join(one.id for one in self.verdicts)}")
        return found[0]

    def __iter__(self) -> Iterator[VectorVerdict]:
        return iter(self.verdicts)

    def __len__(self) -> int:
        return len(self.verdicts)

    def __str__(self) -> str:
        rows = [("figure", "value", "95 % interval", "region")]
        rows += [row for one in self.verdicts for row in _rows(one)]
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = iter(_line("", "", "  ".join(map(str.ljust, row, widths))) for row in rows)
        shown = [next(lines)]
        for one in self.verdicts:
            shown += [_line(one.id, one.verdict, one.claim), _line("", "", f"because {one.why}")]
            shown += itertools.islice(lines, len(one.figures))
        return "\n".join(shown)


def _line(name: str, verdict: str, text: str) -> str:
    return f"{name:<4}{verdict:<11}{text}".rstrip()


def _rows(one: VectorVerdict) -> Iterator[tuple[str, str, str, str]]:
    regions = {region.figure: str(region) for region in one.hypothesis.regions}
    for name, estimate in one.figures.items():
        yield (name, *_texts(estimate), regions.get(name, "shown only"))


def gradient_verdicts(x: Tensor, *, seed: int = 0) -> GradientVerdicts:
    """Whether one tensor is Gaussian, identically distributed, independent, ... : the claims G0 to G6.

    Figures are :func:`qbench.gradient_figures.figures` of the whole tensor. Their intervals come from 8 blocks, into
    which the longer side is dealt at random: ``value +- t(7, .975) s sqrt(m / M)``, where s is the standard deviation
    between blocks, and m and M are the coordinates that a figure of a block and of the whole is taken from (at most
    2^16). A claim holds if every interval lies inside its region, fails if one lies wholly outside.

    Args:
        x: float, at least 4096 coordinates; a matrix of rows by all that follows. A vector is read as rows of about
            ``sqrt(n)`` consecutive coordinates; fewer than ``sqrt(n)`` at its end are left out.
        seed: of the samples, the permuted controls and the blocks.

    Raises:
        InputError: too few coordinates, not a float tensor, NaN or infinity; says how many and where the first is.
    """
    require_tensor("x", x)
    matrix = _matrix(x)
    estimates = _estimates(matrix, torch.Generator().manual_seed(seed))
    known = {one.id: one for one in _hypotheses()}
    return GradientVerdicts(
        tuple(x.shape),
        tuple(_verdict(one, known.get(one.needs_failed or ""), estimates) for one in known.values()),
    )


@lru_cache
def _hypotheses() -> tuple[Hypothesis, ...]:
    """Those whose figures are all of one tensor."""
    stated = suite.parse(_SUITE).hypothesis
    return tuple(one for one in stated if not one.against and set(one.figures) <= set(FIGURES))


def _verdict(
    hypothesis: Hypothesis, needed: Hypothesis | None, estimates: Mapping[str, Estimate | None]
) -> VectorVerdict:
    of_needed = needed and needed.support(estimates)
    support = hypothesis.support(estimates, of_needed)
    names = [*hypothesis.figures, *hypothesis.report]
    found = {name: estimates[name] for name in names if name in estimates}
    return VectorVerdict(hypothesis, found, _WORDS[support], _WORDS[of_needed] if of_needed else None)


def _matrix(x: Tensor) -> Tensor:
    if not x.is_floating_point() or x.numel() < FEWEST:
        raise InputError(
            f"a {x.dtype} tensor of shape {tuple(x.shape)} has {x.numel()} coordinates; verdicts need floats, at "
            f"least {FEWEST} of them"
        )
    if x.dim() > 1:
        return x.detach().reshape(x.shape[0], -1)
    rows = math.isqrt(x.numel())
    columns = x.numel() // rows
    return x.detach()[: rows * columns].reshape(rows, columns)


def _estimates(matrix: Tensor, generator: torch.Generator) -> dict[str, Estimate | None]:
    whole = figures(matrix, generator)
    side = int(matrix.shape[1] > matrix.shape[0])
    order = torch.randperm(matrix.shape[side], generator=generator).to(matrix.device)
    parts = [matrix.index_select(side, places) for places in order.tensor_split(BLOCKS)]
    found = [figures(part, generator) for part in parts]
    sizes = [min(part.numel(), SAMPLE) for part in (parts[-1], matrix)]
    width = float(stats.t.ppf(0.975, BLOCKS - 1)) * math.sqrt(sizes[0] / sizes[1])
    return {name: _estimate(value, [one[name] for one in found], width) for name, value in whole.items()}


def _estimate(value: float, of_blocks: Sequence[float], width: float) -> Estimate | None:
    """None where the figure is not defined for the tensor or for one of the blocks."""
    if not all(map(math.isfinite, [value, *of_blocks])):
        return None
    half = width * statistics.stdev(of_blocks)
    return Estimate(value, value - half, value + half)


def _texts(estimate: Estimate | None) -> tuple[str, str]:
    if estimate is None:
        return "-", "not defined here"
    return f"{estimate.value:.4g}", f"{estimate.low:.4g} to {estimate.high:.4g}"
