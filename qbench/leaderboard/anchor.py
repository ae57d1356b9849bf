"""Bits saved: how many times the bits of a frozen uniform quantizer it would take to be as good.

Seeds are averaged first: see :mod:`qbench.leaderboard.averaging`. For each unit and kind of device the anchor's
points, sorted by rate R, form a curve over quality Q: SQNR in dB of sources and tensors, -ln KL of networks. Points
that are not better than every cheaper one are left out, so that Q rises; between the others log2 R is linear in Q. A
point (R_i, Q_i) saves

    gain_i = log2(R_anchor(Q_i) / R_i)

which is no number of bits but the logarithm of a ratio: of a gain g, 1 - 2^-g of the anchor's bits are saved, see
:func:`qbench.leaderboard.standings.saved_percent`. There is no extrapolation: a point outside the curve has no gain and
is censored, -1 where it is worse than all of the anchor's, +1 where it is better, by more than ``EDGE``. A curve has at
least two points.

Reference: Bjontegaard 2001, "Calculation of average PSNR differences between RD-curves" (VCEG-M33), of which this is
the form for single points.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..schema import Spec

Numbers = NDArray[np.float64]

ANCHOR = {"scheme": "midrise", "granularity": "channel", "range": "mse", "scale_dtype": "float16"}
# Ranges of activations are the observer's, below; the quantizer's own, which says nothing there, is the default.
ANCHOR_OF_ACTIVATIONS = {
    "scheme": "asymmetric",
    "granularity": "tensor",
    "range": "minmax",
    "scale_dtype": "float16",
}
# Where the budget says how ranges are chosen or bits allotted, the anchor has the plain choice.
_PLAIN = {
    "mode": "static",
    "observer": "mse",
    "method": "uniform",
    "error_feedback": False,
    "rectified": "exact",
}
# Who computes in another order gets the same error give or take this much, dB or nat: no reason to be outside.
EDGE = 1e-3
# Accuracy says something about bits where it is neither saturated nor lost.
LOSSES = (1.0, 20.0)
# What a row is compared at equal values of: the weights beside quantized activations.
EQUAL = ("weights",)


def is_anchor(spec: Spec | None, track: str, target: str, in_row: Mapping[str, Any]) -> bool:
    """Whether this is a point of the anchor: ``uniform`` as frozen, in a budget without refinements."""
    if spec is None or spec.name != "uniform":
        return False
    through = target == "activation" and track in ("ptq", "qat")
    frozen = ANCHOR_OF_ACTIVATIONS if through else ANCHOR
    plain = all(in_row.get(name) in (None, value) for name, value in _PLAIN.items())
    return plain and all(spec.parameters.get(name, value) == value for name, value in frozen.items())


def scale_of_quality(name: str, values: Numbers) -> Numbers:
    """Quality on the scale that it is averaged and compared on, more is better.

    dB as they are, -ln of a divergence (none at all is better than any: infinite), of accuracies the negative loss.
    """
    if name == "accuracy_drop":
        return -values
    if name != "kl":
        return values
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(values > 0, -np.log(values), np.where(np.isnan(values), np.nan, np.inf))


def telling(name: str, scaled: Numbers) -> Numbers:
    """The same, NaN where it says nothing about bits: accuracies but for losses of 1 to 20 points."""
    if name != "accuracy_drop":
        return scaled
    return np.where((scaled <= -LOSSES[0]) & (scaled >= -LOSSES[1]), scaled, np.nan)


def curve(rate: Numbers, quality: Numbers) -> tuple[Numbers, Numbers]:
    """log2 of the rates and the qualities of an anchor, rising in both; empty where fewer than two points are left.

    Args:
        rate, quality: its points, any order, more quality is better.

    >>> curve(np.array([4.0, 2.0, 3.0]), np.array([20.0, 10.0, 9.0]))
    (array([1., 2.]), array([10., 20.]))
    """
    usable = np.isfinite(rate) & np.isfinite(quality) & (rate > 0)
    order = np.lexsort((-quality[usable], rate[usable]))
    bits, good = rate[usable][order], quality[usable][order]
    best = np.maximum.accumulate(good)
    rises = np.r_[True, best[1:] > best[:-1]] if len(best) else np.zeros(0, dtype=bool)
    if rises.sum() < 2:
        return np.empty(0), np.empty(0)
    return np.log2(bits[rises]), best[rises]


def saved(
    log_rates: Numbers, qualities: Numbers, rate: Numbers, quality: Numbers
) -> tuple[Numbers, NDArray[np.int8]]:
    """Gain of each point against a curve, NaN where it is censored or there is none; and how it is censored.

    >>> saved(np.array([1.0, 2.0]), np.array([10.0, 20.0]), np.array([2.0, 2.0]), np.array([15.0, 21.0]))
    (array([0.5, nan]), array([0, 1], dtype=int8))
    """
    gain, outside = np.full(len(rate), np.nan), np.zeros(len(rate), dtype=np.int8)
    if not len(qualities):
        return gain, outside
    outside[quality < qualities[0] - EDGE] = -1
    outside[quality > qualities[-1] + EDGE] = 1
    inside = (outside == 0) & np.isfinite(quality) & (rate > 0)
    gain[inside] = np.interp(quality[inside], qualities, log_rates) - np.log2(rate[inside])
    return gain, outside
