"""Rounding columns in turn, each corrected for the errors of those before it: nearest-plane decoding."""

from collections.abc import Callable, Collection
from itertools import pairwise

import torch
from torch import Tensor

_BLOCK = 128  # columns whose errors reach later ones in one product; it changes speed, not the result


def nearest_plane(
    weights: Tensor,
    factor: Tensor,
    round_column: Callable[[int, Tensor], Tensor],
    *,
    starts: Collection[int] = (),
    begin: Callable[[int, Tensor], None] = lambda start, free: None,
) -> None:
    """Round the columns of ``weights`` W [rows, n] from the first to the last against ``factor`` R [n, n].

    R is upper triangular with a positive diagonal. Column j is rounded from
    ``w_j + sum over k < j of (w_k - w^_k) R_kj / R_jj``, which makes ``tr((W - W^) R R^T (W - W^)^T)`` least
    given the columns before it, if those after it were free.

    Args:
        weights: float64.
        factor: float64.
        round_column: is given j and what column j should be, [rows]; returns w^_j.
        starts: columns before which ``begin`` is called.
        begin: is given such a column and what it and all later ones up to the next start should be, were they
            all free, [rows, their number].

    Reference: Babai 1986, "On Lovasz' lattice reduction and the nearest lattice point problem", section 3.
    """
    count = weights.shape[1]
    until = dict(pairwise([*sorted(starts), count]))
    error = torch.zeros_like(weights)
    for first, last in pairwise(sorted({*range(0, count, _BLOCK), *starts, count})):
        if first in until:
            begin(first, weights[:, first : until[first]] + _pull(error, factor, first, until[first]))
        carried = error[:, :first] @ factor[:first, first:last]
        for j in range(first, last):
            pull = carried[:, j - first] + error[:, first:j] @ factor[first:j, j]
            error[:, j] = weights[:, j] - round_column(j, weights[:, j] + pull / factor[j, j])


def _pull(error: Tensor, factor: Tensor, first: int, last: int) -> Tensor:
    """What the errors before ``first`` add to the best free columns from there to ``last``."""
    carried = error[:, :first] @ factor[:first, first:last]
    corner = factor[first:last, first:last]
    pull: Tensor = torch.linalg.solve_triangular(corner, carried, upper=True, left=False)
    return pull


def triangular_factor(gram: Tensor, damping: float) -> Tensor:
    """R, upper triangular, with ``R R^T = gram + damping m I``, m the mean of gram's positive diagonal entries.

    A diagonal entry of 0 counts as m (as 1 where all are 0). Where that is not positive definite in float64,
    damping grows tenfold, from at least 1e-10, until it is.
    """
    diagonal = gram.diagonal()
    used = diagonal > 0
    mean = diagonal[used].mean() if bool(used.any()) else diagonal.new_ones(())
    unused = torch.where(used, 0.0, mean)
    while True:
        # backwards, a lower factor of H is an upper one
        lower, failed = torch.linalg.cholesky_ex((gram + torch.diag(unused + damping * mean)).flip(0, 1))
        if not failed:
            factor: Tensor = lower.flip(0, 1)
            return factor
        damping = max(10 * damping, 1e-10)
