"""Learned codebooks side by side with faiss and scikit-learn, on vectors that neither was trained on."""

import numpy as np
import pytest
import torch
from torch import Tensor

import qbench

pytestmark = pytest.mark.filterwarnings("ignore")
DIMENSION, TRAINING, HELD_OUT = 8, 2**14, 2**14
WORSE = 1.01  # at most 1 % more error


def vectors(seed: int, count: int) -> Tensor:
    return torch.randn(count, DIMENSION, generator=torch.Generator().manual_seed(seed))


def ours(quantizer: str) -> float:
    """Held-out error of a codebook of 2^14 training vectors."""
    samples, held_out = vectors(0, TRAINING), vectors(1, HELD_OUT)
    return qbench.measure(qbench.quantizer(quantizer), held_out, samples=samples).mse


def theirs(trained: object) -> float:
    """The same of a faiss quantizer."""
    trained.train(vectors(0, TRAINING).numpy())
    held_out = vectors(1, HELD_OUT).numpy()
    return float(np.square(trained.decode(trained.compute_codes(held_out)) - held_out).mean())


def test_product_vq_and_faiss() -> None:
    """8 bits for a block of 8: one codebook of 256, k-means on 64 vectors a centroid; 25 rounds in faiss."""
    faiss = pytest.importorskip("faiss")
    assert ours("product-vq(dimension=8,bits=8)") <= WORSE * theirs(faiss.ProductQuantizer(DIMENSION, 1, 8))


def test_product_vq_of_two_subspaces_and_faiss() -> None:
    """Two codebooks of 256 for the halves of a vector."""
    faiss = pytest.importorskip("faiss")
    found = ours("product-vq(dimension=4,bits=8,subspaces=2)")
    assert found <= WORSE * theirs(faiss.ProductQuantizer(DIMENSION, 2, 8))


@pytest.mark.parametrize(("search", "width"), [("greedy", 1), ("beam", 8)])
def test_residual_vq_and_faiss(search: str, width: int) -> None:
    """2 x 8 bits, d = 8, a beam of equal width for training and encoding."""
    faiss = pytest.importorskip("faiss")
    library = faiss.ResidualQuantizer(DIMENSION, 2, 8)
    library.max_beam_size = width
    assert ours(f"residual-vq(stages=2,bits=8,dimension=8,search={search},width={width})") <= WORSE * theirs(
        library
    )


def test_kmeans_and_scikit_learn() -> None:
    """16 levels of 131,072 scalars; scikit-learn with k-means++ and its best of three starts."""
    from sklearn.cluster import KMeans

    samples, held_out = vectors(0, TRAINING).reshape(-1, 1), vectors(1, HELD_OUT).reshape(-1, 1)
    library = KMeans(16, n_init=3, random_state=0).fit(samples.numpy().astype(np.float64))
    nearest = library.cluster_centers_[library.predict(held_out.numpy().astype(np.float64))]
    expected = float(np.square(nearest - held_out.numpy()).mean())
    found = qbench.measure(qbench.quantizer("kmeans", bits=4), held_out, samples=samples)
    assert found.mse <= WORSE * expected
