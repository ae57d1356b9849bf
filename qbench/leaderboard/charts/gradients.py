"""What the charts of gradients share: the windows of a training, and numbers of many trainings together."""

from collections.abc import Sequence

import numpy as np

from ...registry import Registry
from .limits import Floats
from .newest import Taken, taken
from .words import count, plain

WINDOWS = ("early", "middle", "late")
TRACK = "gradient-statistics"
WEIGHTS = "weights"
EMPTY = "Run `qbench run --suite gradients` to watch the gradients of trainings."


def trainings(registry: Registry, *names: str) -> list[Taken]:
    """Those whose gradients of weights were watched, with measurements of these names.

    Of the digest of gradient-statistics that has most results. Gradients of the outputs of layers are left out:
    they are another quantity, and nothing follows them from step to step.
    """
    return [one for one in taken(registry, TRACK, names) if one.budget.get("gradient", WEIGHTS) == WEIGHTS]


def told(found: Sequence[Taken]) -> str:
    """Which trainings these are, in words."""
    models = sorted({plain(one.words["model"], 24) for one in found})
    sets = sorted({plain(one.words["dataset"], 24) for one in found})
    optimizers = sorted({plain(one.words["optimizer"], 24) for one in found})
    parts = [", ".join(models), "on " + ", ".join(sets), "by " + ", ".join(optimizers)]
    return f"Gradients of weights, {count(len(found), 'training')}: {' '.join(parts)}"


def middle(values: Floats) -> tuple[Floats, Floats, Floats]:
    """The median over trainings with the 10th and the 90th percentile, of values [trainings, ...]."""
    low, mid, high = np.percentile(values, [10, 50, 90], axis=0)
    return mid, low, high
