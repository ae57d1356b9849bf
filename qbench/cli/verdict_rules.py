"""What the page of verdicts says of itself: its rules, and the regions that so few data could not support."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

from ..evidence import OK, Evidence, Record
from ..hypotheses import Estimate, Hypothesis, Region, measurement

RULE = """\
A cell is one model, data set, optimizer, seed and window of the training. It supports a claim if the 95 % interval of
the figure lies inside the claim's region, contradicts it if the interval lies wholly outside, and is undecided
otherwise. A claim **holds** if at least 80 % of the cells support it, and so in at least 5/6 of the architectures and
of the optimizers; it **fails** if at least 80 % contradict it; otherwise it **depends**. p-values decide nothing.
Shares are of the cells that were measured.

The deciding figure is the one to which that is due: of figures that must all lie inside the one that most cells
contradict, of equal ones the one that fewest support; of alternatives the one that most cells support. The largest
component is the factor between whose values most of the deciding figure's variance lies, each factor by itself, over
layers where these are known: epsilon squared (Kelley 1935), which is 0 in the mean where a factor says nothing. Less
than 5 % is not named: so little may be chance."""

OF_GRADIENTS = """\
A figure of gradients is the median over layers of at least 4,096 coordinates, weighted by their sizes. Where one of
these layers has more than half of their coordinates, as for the weights of cnn, which has two or three such layers, it
is that layer's figure alone. Trainings run in bfloat16 autocast where the processor multiplies it natively (fact
`training_precision`). Distributions, coding and drift are of gradients evaluated again in float32 at the same weights;
what is followed from step to step, such as gains of prediction, is as the optimizer got it.

The intervals come from a bootstrap over steps that is widened where these are few. As measured, it covers the mean of n
independent Gaussian steps in 91 to 95 % of cases for n = 4 to 32 (99 % for 3), that of steps correlated by 0.5 in 80 to
86 %: there cells decide too readily, either way. Shares of steps have the interval of Clopper and Pearson. With nothing
against it that of n steps still reaches down to 0.025^(1/n), 48 % for 5 and 63 % for 8, so that fewer than 72 steps
cannot support a share of at least 95 %."""

_TRACK_OF_GRADIENTS = "gradient-statistics"
_TAIL = 0.025
_NORMAL = 1.959964


@final
@dataclass(frozen=True)
class _Counted:
    """A figure that counts ``what``; ``best``: its interval for n of them where none speaks ``against``."""

    what: str
    against: str
    best: Callable[[int], Estimate]
    still: str = ""


def _share(n: int) -> Estimate:
    """Clopper and Pearson's interval of n out of n."""
    return Estimate(1.0, _TAIL ** (1 / n), 1.0)


def _loss(n: int) -> Estimate:
    """Agresti and Min's interval in percentage points of n predictions of which none changes."""
    reach = 100 * _NORMAL / (n + 2)
    return Estimate(0.0, -reach, reach)


_STEPS = _Counted("steps", "with none against it", _share)
_PICTURES = _Counted(
    "test pictures",
    "where no prediction changes",
    _loss,
    " They can contradict or be undecided, and support only if more predictions are gained than lost.",
)
_COUNTED = {"drift_kept": _STEPS, "lipschitz_kept": _STEPS, "int8_loss": _PICTURES}


def rules(evidence: Evidence) -> list[str]:
    """The paragraphs that belong to the tracks of the suite."""
    return [RULE, *([OF_GRADIENTS] if _TRACK_OF_GRADIENTS in evidence.records else [])]


def limits(evidence: Evidence) -> str:
    """A list of the regions that measured cells have too few data to support; empty without any."""
    found = [
        f"- {hypothesis.id}: {said}"
        for hypothesis in evidence.suite.hypothesis
        for region in hypothesis.regions
        if (said := _limit(evidence, hypothesis, region))
    ]
    return "\n".join(["Cells with too few data to support a region:", "", *found]) if found else ""


def _limit(evidence: Evidence, hypothesis: Hypothesis, region: Region) -> str:
    counted = _COUNTED.get(region.figure.rpartition(".")[2])
    if counted is None:
        return ""
    sizes = [pair for one in evidence.about(hypothesis) for pair in _sizes(one, hypothesis, region.figure)]
    few = [(n, where) for n, where in sizes if region.support(counted.best(n)) != "supports"]
    if not few:
        return ""
    most, places = max(n for n, _ in few), ", ".join(sorted({where for _, where in few if where}))
    best = counted.best(most)
    return (
        f"`{region}` in {len(few)} of {len(sizes)} cells{places and f' ({places})'}, which have "
        f"{_between([n for n, _ in few])} {counted.what}; {counted.against} the interval of {most} is still "
        f"{best.low:.3g} to {best.high:.3g}.{counted.still}"
    )


def _sizes(record: Record, hypothesis: Hypothesis, figure: str) -> Iterator[tuple[int, str]]:
    """How many a figure counts in each cell of a record, and the data set."""
    where = record.cell.dataset.name if record.cell.dataset else ""
    for window in hypothesis.windows or [""]:
        found = record.metrics.get(measurement(window, figure)) if record.status == OK else None
        if found is not None:
            yield int(found["n"]), where


def _between(numbers: Sequence[int]) -> str:
    least, most = min(numbers), max(numbers)
    return f"{least}" if least == most else f"{least} to {most}"
