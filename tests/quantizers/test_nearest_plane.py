"""Nearest-plane decoding against Babai's algorithm by Gram-Schmidt, and the factor it works on."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from qbench.quantizers.nearest_plane import nearest_plane, triangular_factor


def gram(columns: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(2 * columns, columns, generator=generator, dtype=torch.float64) + 0.5
    return inputs.T @ inputs / max(1, len(inputs))


def integers(weights: Tensor, factor: Tensor, **begin) -> Tensor:
    """The integer point that the algorithm finds."""
    found = torch.empty_like(weights)

    def round_column(j: int, wanted: Tensor) -> Tensor:
        found[:, j] = wanted.round()
        return found[:, j]

    nearest_plane(weights, factor, round_column, **begin)
    return found


def babai(target: Tensor, basis: Tensor) -> Tensor:
    """Coefficients of the lattice point, last basis vector first, by modified Gram-Schmidt."""
    orthogonal = basis.clone()
    for i, k in itertools.combinations(range(len(basis)), 2):
        orthogonal[k] -= (orthogonal[k] @ orthogonal[i]) / (orthogonal[i] @ orthogonal[i]) * orthogonal[i]
    found = torch.zeros(len(basis), dtype=torch.float64)
    for i in reversed(range(len(basis))):
        found[i] = ((target @ orthogonal[i]) / (orthogonal[i] @ orthogonal[i])).round()
        target = target - found[i] * basis[i]
    return found


@pytest.mark.parametrize("columns", [1, 2, 24])
def test_equals_babai(columns):
    """On the symmetric square root of H, its rows in reverse: Babai's algorithm starts with its last vector."""
    values, vectors = torch.linalg.eigh(gram(columns))
    root = (vectors * values.sqrt()) @ vectors.T
    weights = 5 * torch.randn(6, columns, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = torch.stack([babai(row @ root, root.flip(0)).flip(0) for row in weights])
    assert torch.equal(integers(weights, triangular_factor(gram(columns), 0.0)), expected)


def test_what_a_start_is_given_is_the_best_if_the_rest_were_free():
    """Least squares over all columns from the start on, those before it fixed; 300 columns, past two blocks."""
    matrix, starts = gram(300), (0, 100, 130, 290)
    weights = 5 * torch.randn(3, 300, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    given: dict[int, Tensor] = {}
    found = integers(weights, triangular_factor(matrix, 0.0), starts=starts, begin=given.__setitem__)
    assert list(given) == list(starts)
    assert torch.equal(given[0], weights[:, :100])
    for start, until in itertools.pairwise([*starts, 300]):
        fixed = (weights - found)[:, :start]
        rest = torch.linalg.solve(matrix[start:, start:], matrix[start:, :start] @ fixed.T).T
        assert torch.allclose(given[start], (weights[:, start:] + rest)[:, : until - start], atol=1e-8)


def test_starts_change_nothing_by_themselves():
    weights = 5 * torch.randn(3, 300, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    factor = triangular_factor(gram(300), 0.01)
    assert torch.equal(integers(weights, factor), integers(weights, factor, starts=range(0, 300, 7)))


@pytest.mark.parametrize("columns", [0, 1, 5, 40])
def test_the_factor_is_upper_triangular_and_multiplies_to_the_matrix(columns):
    matrix = gram(columns)
    factor = triangular_factor(matrix, 0.02)
    mean = matrix.diagonal().mean() if columns else 0
    assert torch.equal(factor, factor.triu())
    assert torch.allclose(factor @ factor.T, matrix + 0.02 * mean * torch.eye(columns), atol=1e-12)


def test_columns_that_were_never_used_stand_alone():
    """With the mean of the others on the diagonal; with 1 where there are no others."""
    matrix = torch.diag(torch.tensor([4.0, 0.0, 2.0], dtype=torch.float64))
    assert triangular_factor(matrix, 0.0).diagonal().tolist() == pytest.approx(
        [2, math.sqrt(3), math.sqrt(2)]
    )
    assert torch.equal(triangular_factor(torch.zeros(3, 3).double(), 0.0), torch.eye(3).double())


def test_damping_grows_until_a_singular_matrix_has_a_factor():
    """A matrix of rank 1, and one that rounding made indefinite: both within 1e-8 of their mean diagonal."""
    vector = torch.arange(1.0, 9.0, dtype=torch.float64)
    for matrix in (torch.outer(vector, vector), torch.outer(vector, vector) - 1e-11 * torch.eye(8)):
        factor = triangular_factor(matrix, 0.0)
        assert bool((factor.diagonal() > 0).all())
        assert float((factor @ factor.T - matrix).abs().max()) < 1e-8 * float(matrix.diagonal().mean())
