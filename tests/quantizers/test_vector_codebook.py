import itertools

import pytest
import torch
from sklearn.cluster import KMeans as ReferenceKMeans

from qbench.quantizers.vector_codebook import beam_search, k_means, nearest, summed


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def squared_error(vectors, codebook):
    return float((codebook[nearest(vectors, codebook)] - vectors).double().square().sum())


def test_nearest_codeword_is_nearest(gaussian):
    vectors, codebook = gaussian(5000, 5), gaussian(300, 5, seed=1)
    distances = torch.cdist(vectors.double(), codebook.double())
    found = distances.gather(1, nearest(vectors, codebook)[:, None])[:, 0]
    assert torch.allclose(found, distances.amin(1), atol=1e-6)


@pytest.mark.parametrize(("d", "count", "n"), [(2, 8, 3000), (4, 16, 4096), (8, 64, 8192)])
def test_k_means_ends_in_local_optima_as_good_as_sklearns(gaussian, d, count, n):
    """Mean squared errors of eight seeds each, which differ by the draw: no more than 4 standard errors above."""
    vectors = gaussian(n, d)
    ours, reference = torch.tensor(
        [
            [squared_error(vectors, k_means(vectors, count, generator(seed))) for seed in range(8)],
            [
                ReferenceKMeans(count, n_init=1, random_state=seed).fit(vectors.numpy()).inertia_
                for seed in range(8)
            ],
        ]
    )
    assert float(ours.mean() - reference.mean()) < 4 * float(((ours.var() + reference.var()) / 8).sqrt())


def test_as_many_vectors_as_codewords_are_their_own_codewords(gaussian):
    vectors = gaussian(20, 6)
    repeated = vectors.repeat(50, 1)
    assert torch.equal(k_means(repeated, 20, generator()).unique(dim=0), vectors.unique(dim=0))
    assert torch.equal(k_means(repeated, 33, generator()).unique(dim=0), vectors.unique(dim=0))


def test_one_codeword_is_the_mean(gaussian):
    vectors = gaussian(1000, 3)
    assert torch.allclose(k_means(vectors, 1, generator())[0], vectors.mean(0), atol=1e-6)
    assert k_means(torch.zeros(0, 3), 2, generator()).tolist() == [[0] * 3] * 2


def test_training_is_reproducible(gaussian):
    vectors = gaussian(2000, 4)
    assert torch.equal(k_means(vectors, 32, generator(3)), k_means(vectors.clone(), 32, generator(3)))


def test_a_wide_beam_finds_the_best_of_all_sums(gaussian):
    """As wide as there are partial sums, the search is exhaustive."""
    codebooks, vectors = gaussian(3, 4, 2, seed=1), gaussian(200, 2)
    every = torch.tensor(list(itertools.product(range(4), repeat=3)))
    best = torch.cdist(vectors.double(), summed(every, codebooks).double()).amin(1)
    found = summed(beam_search(vectors, codebooks, 64), codebooks)
    assert torch.allclose((found - vectors).double().norm(dim=1), best, atol=1e-5)


def test_a_beam_is_never_worse_than_greedy(gaussian, gain_z):
    """Vector by vector; and on average better the wider it is, by 4 paired standard errors."""
    codebooks, vectors = gaussian(4, 16, 4, seed=1), gaussian(3000, 4)
    errors = [
        (summed(beam_search(vectors, codebooks, width), codebooks) - vectors).square().sum(1)
        for width in (1, 2, 4, 16)
    ]
    for wider in errors[1:]:
        assert bool((wider <= errors[0]).all())
    for narrow, wide in itertools.pairwise(errors):
        assert gain_z(narrow, wide) > 4


def test_greedy_takes_the_nearest_of_what_is_left():
    codebooks = torch.tensor([[[0.0], [1.0]], [[0.0], [0.4]], [[-0.1], [0.1]]])
    assert beam_search(torch.tensor([[1.35], [0.3]]), codebooks, 1).tolist() == [[1, 1, 0], [0, 1, 0]]


def test_training_is_bounded_to_equally_spaced_vectors(gaussian):
    vectors = gaussian(4000, 4)
    bounded = k_means(vectors, 16, generator(), limit=1000)
    assert torch.equal(bounded, k_means(vectors[::4], 16, generator()))
