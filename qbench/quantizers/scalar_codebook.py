"""Codebooks of real numbers: the nearest level, Lloyd's iteration, and the optimum in one dimension."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

Floats = NDArray[np.float64]

BINS = 4096
BINS_OF_MANY = 1024


def nearest(rows: Tensor, levels: Tensor) -> Tensor:
    """Indices of the nearest of the ascending ``levels`` [rows, L], for values [rows, row length]."""
    thresholds = (levels[:, 1:] + levels[:, :-1]) / 2
    return torch.searchsorted(thresholds.contiguous(), rows.contiguous(), out_int32=True)


def look_up(codes: Tensor, levels: Tensor) -> Tensor:
    """``levels[row, code]``, shape of ``codes`` [rows, row length], for levels [rows, L]."""
    return levels.gather(1, codes.long())


def ascending(rows: Tensor) -> Tensor:
    """Each row sorted, float64, on the CPU, where sums are the same from run to run."""
    return rows.sort(1).values.cpu().double()


def companded(ordered: Tensor, count: int) -> Tensor:
    """``count`` levels for each row of ascending values [rows, row length], of density ~ p^(1/3).

    That is the density of the best levels at high rate. Between two quantiles a distance d apart that hold a
    share m of the values, p = m / d, so m^(1/3) d^(2/3) of the levels lie there.

    Reference: Panter & Dite 1951, "Quantization Distortion in Pulse-Count Modulation with Nonuniform Spacing
    of Levels".
    """
    length = ordered.shape[1]
    if length == 1:
        return ordered.expand(-1, count)
    angles = torch.linspace(0, math.pi, min(length, BINS), dtype=torch.float64)
    ranks = ((length - 1) / 2 * (1 - angles.cos())).round().long()  # dense at both ends, where values are few
    quantiles = ordered[:, ranks]
    shares = ranks.diff().double() ** (1 / 3) * quantiles.diff(dim=1) ** (2 / 3)
    share = pad(shares.cumsum(1), (1, 0))
    wanted = share[:, -1:] * (torch.arange(count) + 0.5) / count
    right = torch.searchsorted(share, wanted).clamp(1, share.shape[1] - 1)
    start, stop = share.gather(1, right - 1), share.gather(1, right)
    part = ((wanted - start) / (stop - start).clamp(min=1e-300)).clamp(0, 1)
    return torch.lerp(quantiles.gather(1, right - 1), quantiles.gather(1, right), part)


def lloyd(ordered: Tensor, levels: Tensor, iterations: int) -> Tensor:
    """``levels`` [rows, L] after that many of Lloyd's iterations on rows of ascending values; never worse.

    Each level becomes the mean of what is nearest to it. An empty cell keeps its level.

    Reference: Lloyd 1982, "Least Squares Quantization in PCM", method I.
    """
    sums, last = pad(ordered.cumsum(1), (1, 0)), None
    for _ in range(iterations):
        thresholds = (levels[:, 1:] + levels[:, :-1]) / 2
        inner = torch.searchsorted(ordered, thresholds.contiguous())
        if last is not None and torch.equal(inner, last):
            break
        last = inner
        ends = pad(pad(inner, (1, 0)), (0, 1), value=ordered.shape[1])
        counts = ends.diff(dim=1)
        means = sums.gather(1, ends).diff(dim=1) / counts.clamp(min=1)
        levels = torch.where(counts > 0, means, levels)
    return levels


def optimal(values: Tensor, count: int) -> Tensor:
    """The ``count`` levels of least mean squared error for ``values``, ascending, [count], float64.

    Exact where at most 4096 distinct values occur; beyond that exact on 1024 bins of :func:`companded` width,
    then improved by Lloyd's iteration on the values themselves. Levels left over repeat the last.

    Reference: Bruce 1965, "Optimum Quantization"; divide and conquer as in Wu 1991, "Optimal Quantization by
    Matrix Searching".
    """
    ordered = ascending(values.reshape(1, -1))
    if ordered.numel() == 0:
        return ordered.new_zeros(count)
    points, weights = torch.unique_consecutive(ordered[0], return_counts=True)
    if points.numel() <= BINS:
        return torch.from_numpy(optimal_means(points.numpy(), weights.double().numpy(), count))
    points, weights = _binned(ordered)
    levels = torch.from_numpy(optimal_means(points.numpy(), weights.double().numpy(), count))
    return lloyd(ordered, levels[None], iterations=200)[0]


def _binned(ordered: Tensor) -> tuple[Tensor, Tensor]:
    bins = nearest(ordered, companded(ordered, BINS_OF_MANY))[0]
    weights = torch.bincount(bins, minlength=BINS_OF_MANY)
    sums = torch.bincount(bins, ordered[0], minlength=BINS_OF_MANY)
    used = weights > 0
    return sums[used] / weights[used], weights[used]


def optimal_means(points: Floats, weights: Floats, count: int) -> Floats:
    """Dynamic programming over ascending weighted points: ``count`` runs of least total squared error."""
    if points.size <= count:
        return np.pad(points, (0, count - points.size), mode="edge")
    centre = np.average(points, weights=weights)
    moments = np.zeros((3, points.size + 1))
    moments[:, 1:] = np.cumsum(weights * (points - centre) ** np.arange(3)[:, None], axis=1)
    cost = _run_cost(moments, np.zeros(points.size, int), np.arange(1, points.size + 1))
    best = np.concatenate([[np.inf], cost])
    starts = [np.zeros(points.size + 1, int)]
    for _ in range(count - 1):
        best, start = _one_more_run(best, moments)
        starts.append(start)
    ends = [points.size]
    for start in reversed(starts):
        ends.append(start[ends[-1]])
    first = ends[:0:-1]
    return np.asarray(np.add.reduceat(weights * points, first) / np.add.reduceat(weights, first))


def _run_cost(moments: Floats, start: Any, end: Any) -> Floats:
    """Squared error about their mean of the points in ``[start, end)``."""
    weight, first, second = moments[:, end] - moments[:, start]
    cost: Floats = second - first**2 / weight
    return cost


def _one_more_run(best: Floats, moments: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """``min over i < j of best[i] + cost(i, j)`` and its i for every end j.

    The best i ascends with j, so the i of one j bounds those on either side: each pass halves the spacing of
    the ends that are solved, and looks at about as many i as there are points.
    """
    points = best.size - 1
    lowest, starts = np.full(points + 1, np.inf), np.zeros(points + 1, int)
    spacing = 1 << points.bit_length() - 1
    while spacing:
        ends = np.arange(spacing, points + 1, 2 * spacing)
        first = starts[ends - spacing]
        after = ends + spacing
        last = np.minimum(np.where(after <= points, starts[np.minimum(after, points)], points), ends - 1)
        counts = last - first + 1
        offsets = np.cumsum(counts) - counts
        tried = np.arange(counts.sum()) - np.repeat(offsets - first, counts)
        total = best[tried] + _run_cost(moments, tried, np.repeat(ends, counts))
        lowest[ends] = np.minimum.reduceat(total, offsets)
        hits = np.flatnonzero(total == np.repeat(lowest[ends], counts))
        starts[np.repeat(ends, counts)[hits]] = tried[hits]
        spacing //= 2
    return lowest, starts
