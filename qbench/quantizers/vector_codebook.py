"""Codebooks of vectors: blocks of a tensor, k-means, nearest codewords, beam search over sums of codewords."""

import math
from typing import Literal

import torch
from torch import Tensor

from .scalar_codebook import optimal
from .vectors import blocks, strided

CodebookDtype = Literal["float16", "float32"]

TRAINING_VECTORS = 2**17
_SEEDING_VECTORS = 2**13
_ITERATIONS = 15
_VISITS = 2**20
_CHUNK_ENTRIES = 2**19
_JOINT_VECTORS = 2**15
_RIDGE = 1e-3


def training_blocks(x: Tensor, dimension: int) -> Tensor:
    """The blocks that hold elements only, or the one block there is, on the CPU, where sums have one order."""
    return blocks(x, dimension)[: max(1, x.numel() // dimension)].cpu()


def stored(codebook: Tensor, dtype: CodebookDtype, device: torch.device) -> Tensor:
    """The codebook as it travels, on the device of the data."""
    return codebook.to(device, torch.float16 if dtype == "float16" else torch.float32)


def k_means(vectors: Tensor, count: int, generator: torch.Generator, limit: int = TRAINING_VECTORS) -> Tensor:
    """``count`` codewords of small mean squared error for vectors [n, d] on the CPU; [count, d], float32.

    From at most ``limit`` of the vectors, equally spaced: Lloyd's iteration, at most 15 times (60 where there are
    few), from greedy k-means++; in one dimension the optimum. Codewords repeat where there are fewer distinct
    vectors; they are zeros where there are none.

    Reference: Linde, Buzo & Gray 1980, "An Algorithm for Vector Quantizer Design"; Arthur & Vassilvitskii
    2007, "k-means++: The Advantages of Careful Seeding".
    """
    if len(vectors) == 0:
        return torch.zeros(count, vectors.shape[1])
    vectors = strided(vectors, limit).float()
    if vectors.shape[1] == 1:
        return optimal(vectors, count).float()[:, None]
    codebook = _seeds(strided(vectors, max(_SEEDING_VECTORS, 4 * count)), count, generator)
    exact, last = vectors.double(), None
    for _ in range(max(_ITERATIONS, min(_VISITS // len(vectors), 4 * _ITERATIONS))):
        codes = nearest(vectors, codebook)
        if last is not None and torch.equal(codes, last):
            break
        codebook, last = _centroids(exact, codes, codebook), codes
    return codebook


def residual_codebooks(
    vectors: Tensor,
    stages: int,
    count: int,
    generator: torch.Generator,
    dtype: CodebookDtype,
    width: int = 1,
) -> Tensor:
    """Codebooks [stages, count, d] as they travel, each by :func:`k_means` from what the earlier ones leave.

    With ``width`` 1 that are the residuals of the greedy code, else those of all paths that a beam search keeps.
    """
    codebooks: list[Tensor] = []
    residuals = vectors
    for _ in range(stages):
        codebooks.append(stored(k_means(residuals, count, generator), dtype, vectors.device))
        known = torch.stack(codebooks).float()
        if len(codebooks) < stages:
            residuals = _left(strided(vectors, max(1, TRAINING_VECTORS // width)), known, width)
    return torch.stack(codebooks)


def _left(vectors: Tensor, codebooks: Tensor, width: int) -> Tensor:
    """What the codes of the ``width`` best paths leave of the vectors, [n width, d]."""
    if width == 1 or len(vectors) == 0:
        return vectors - summed(_greedy(vectors, codebooks), codebooks)
    parts = torch.split(vectors, max(1, _CHUNK_ENTRIES // (width * codebooks.shape[1])))
    return torch.cat([_beam(part, codebooks, width)[0].flatten(0, 1) for part in parts])


def least_squares_codebooks(vectors: Tensor, codebooks: Tensor, width: int, rounds: int) -> Tensor:
    """The codebooks, float32, after that many rounds of coding the vectors and solving for all codewords at once.

    The round of least squared error on at most 2^15 of the vectors is returned, the start among them.
    """
    vectors, best, least = strided(vectors, _JOINT_VECTORS), codebooks.float(), math.inf
    codebooks = best
    for _ in range(rounds + 1 if len(vectors) else 0):
        codes = beam_search(vectors, codebooks, width)
        error = float((summed(codes, codebooks) - vectors).double().square().sum())
        if error < least:
            best, least = codebooks, error
        codebooks = _joint_codewords(vectors, codes, codebooks)
    return best


def _joint_codewords(vectors: Tensor, codes: Tensor, codebooks: Tensor) -> Tensor:
    """The codewords of least squared error given the codes, by the normal equations, float64.

    They start from the codewords there are and solve for the change, which a ridge of 1e-3 of a vector keeps small:
    only sums are determined, and codewords that no vector uses are not at all.
    """
    stages, count, _ = codebooks.shape
    columns = codes + count * torch.arange(stages)
    pairs = (columns[:, :, None] * (stages * count) + columns[:, None, :]).flatten()
    gram = torch.bincount(pairs, minlength=(stages * count) ** 2).double().view(stages * count, -1)
    residuals = (vectors - summed(codes, codebooks)).double()
    right = torch.zeros(stages * count, vectors.shape[1], dtype=torch.float64)
    for stage in range(stages):
        right.index_add_(0, columns[:, stage], residuals)
    gram.diagonal().add_(_RIDGE)
    change = torch.cholesky_solve(right, torch.linalg.cholesky(gram))
    return (codebooks + change.view_as(codebooks)).float()


def _centroids(vectors: Tensor, codes: Tensor, codebook: Tensor) -> Tensor:
    """The mean of the float64 vectors of each code; the codeword itself where there are none."""
    counts = torch.bincount(codes, minlength=len(codebook))[:, None]
    sums = torch.zeros(codebook.shape, dtype=torch.float64).index_add_(0, codes, vectors)
    return torch.where(counts > 0, (sums / counts.clamp(min=1)).float(), codebook)


def _seeds(vectors: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` of the vectors: each the best of a few drawn with probability ~ squared distance to those before."""
    trials = 2 + int(math.log(count))
    draws = torch.rand(count, trials, dtype=torch.float64, generator=generator, device=generator.device).cpu()
    energy = vectors.square().sum(1)
    error = torch.ones_like(energy)  # the first is drawn uniformly
    seeds = torch.empty(count, vectors.shape[1])
    for i in range(count):
        mass = error.double().cumsum(0)
        drawn = vectors[torch.searchsorted(mass, draws[i] * mass[-1], right=True).clamp(max=len(vectors) - 1)]
        bound = error if i else torch.full_like(error, torch.inf)
        distances = torch.addmm(energy, drawn, vectors.T, alpha=-2).add_(drawn.square().sum(1)[:, None])
        best = torch.minimum(distances, bound).sum(1).argmin()
        seeds[i] = drawn[best]
        error = torch.minimum((vectors - seeds[i]).square().sum(1), bound)
    return seeds


def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Indices [n] of the nearest codewords [k, d] of vectors [n, d]: least ``|c|^2 / 2 - x c``."""
    half_energy = codebook.square().sum(1) / 2
    parts = torch.split(vectors, max(1, _CHUNK_ENTRIES // len(codebook)))
    return torch.cat([_argmin(torch.addmm(half_energy, part, codebook.T, alpha=-1)) for part in parts])


def _argmin(rows: Tensor) -> Tensor:
    """Where each row is least; on the CPU by numpy, three times as fast."""
    return torch.from_numpy(rows.numpy().argmin(1)) if rows.device.type == "cpu" else rows.argmin(1)


def _least(rows: Tensor, count: int) -> Tensor:
    """Where the ``count`` least of each row are, ascending, [n, count]; on the CPU the rows are lost.

    There every minimum is found and taken out, which is several times as fast as a selection.
    """
    if rows.device.type != "cpu":
        return rows.topk(count, dim=1, largest=False).indices
    found = []
    for _ in range(count):
        found.append(_argmin(rows))
        rows.scatter_(1, found[-1][:, None], torch.inf)
    return torch.stack(found, 1)


def summed(codes: Tensor, codebooks: Tensor) -> Tensor:
    """``sum over m of codebooks[m, codes[:, m]]``, [n, d], for codes [n, M] and codebooks [M, k, d]."""
    total = codebooks.new_zeros(len(codes), codebooks.shape[2])
    for stage, codebook in enumerate(codebooks):
        total = total + codebook[codes[:, stage].long()]
    return total


def beam_search(vectors: Tensor, codebooks: Tensor, width: int) -> Tensor:
    """Codes [n, M] of a small error of :func:`summed` against vectors [n, d]; never worse than one by one.

    Stage by stage the ``width`` best partial sums are kept. Width 1 is the greedy code; a wider search that
    ends above it returns it.
    """
    greedy = _greedy(vectors, codebooks)
    if width == 1 or len(vectors) == 0:
        return greedy
    parts = torch.split(vectors, max(1, _CHUNK_ENTRIES // (width * codebooks.shape[1])))
    found = torch.cat([_beam(part, codebooks, width)[1][:, 0] for part in parts])
    errors = [(summed(codes, codebooks) - vectors).square().sum(1) for codes in (found, greedy)]
    return torch.where((errors[0] < errors[1])[:, None], found, greedy)


def _greedy(vectors: Tensor, codebooks: Tensor) -> Tensor:
    residuals, codes = vectors, []
    for codebook in codebooks:
        codes.append(nearest(residuals, codebook))
        residuals = residuals - codebook[codes[-1]]
    return torch.stack(codes, 1)


def _beam(vectors: Tensor, codebooks: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Residuals [n, w, d] and codes [n, w, M] of the w best paths, best first."""
    count = codebooks.shape[1]
    residuals, paths = (
        vectors[:, None],
        torch.zeros(len(vectors), 1, 0, dtype=torch.long, device=vectors.device),
    )
    for codebook in codebooks:
        errors = torch.addmm(codebook.square().sum(1) / 2, residuals.flatten(0, 1), codebook.T, alpha=-1)
        errors = errors.view(len(vectors), -1, count).add_(residuals.square().sum(2, keepdim=True) / 2)
        kept = _least(errors.flatten(1), min(width, errors.shape[1] * count))
        parent, code = kept // count, kept % count
        paths = torch.cat([_chosen(paths, parent), code[:, :, None]], 2)
        residuals = _chosen(residuals, parent) - codebook[code]
    return residuals, paths


def _chosen(paths: Tensor, parent: Tensor) -> Tensor:
    """``paths[i, parent[i, j]]``, [n, kept, entries], of [n, width, entries]."""
    return paths.gather(1, parent[:, :, None].expand(-1, -1, paths.shape[2]))
