"""Which few of many scales code vectors best together."""

import torch
from torch import Tensor


def best_subset(errors: Tensor, k: int, start: list[int] | None = None) -> list[int]:
    """k rows, ascending, of ``errors`` [candidates, vectors]: the sum over vectors of the least error is small.

    Rows are chosen greedily (or ``start`` is taken), then exchanged one at a time, always for the best other row,
    until no exchange helps: the vertex substitution of the k-median problem.

    Reference: Teitz & Bart, 1968, Heuristic methods for estimating the generalized vertex median of a weighted graph.
    """
    chosen = list(start or [])
    for _ in range(k - len(chosen)):
        chosen.append(_best_addition(errors, chosen)[0])
    total = float(errors[chosen].amin(0).sum())
    improved = True
    while improved:
        improved = False
        for place in range(k):
            others = chosen[:place] + chosen[place + 1 :]
            candidate, error = _best_addition(errors, others)
            if error < total * (1 - 1e-9):
                chosen, total, improved = [*others, candidate], error, True
    return sorted(chosen)


def _best_addition(errors: Tensor, chosen: list[int]) -> tuple[int, float]:
    best = errors if not chosen else torch.minimum(errors, errors[chosen].amin(0))
    totals = best.sum(1)
    totals[chosen] = torch.inf
    place = int(totals.argmin())
    return place, float(totals[place])
