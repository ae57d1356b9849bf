import math

import numpy as np
import pytest
import torch
from scipy import special, stats

from qbench.errors import InputError
from qbench.metrics import accuracy, bits_per_character, flips, kl, mcnemar


def one_hot(*classes: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(classes), 3).float()


def test_accuracy_counts() -> None:
    assert accuracy(one_hot(0, 1, 2, 2), torch.tensor([0, 1, 2, 0])) == 0.75


def test_accuracy_of_more_pictures_than_float32_counts() -> None:
    pictures = 2**24 + 3
    logits = torch.tensor([[1.0, 0.0]]).expand(pictures, 2)
    labels = torch.zeros(pictures, dtype=torch.int64)
    labels[-1] = 1
    assert accuracy(logits, labels) == (pictures - 1) / pictures


@pytest.mark.parametrize("classes", [2, 3, 256])
def test_equal_logits_cost_the_logarithm_of_the_classes(classes: int) -> None:
    labels = torch.tensor([0, classes - 1])
    found = bits_per_character(torch.full((2, classes), 7.5), labels)
    assert found == pytest.approx(math.log2(classes), rel=1e-14)


def test_bits_of_known_probabilities() -> None:
    """P = 1/2, 1/4, 1/4 and labels 0, 0, 1, 2: (1 + 1 + 2 + 2) / 4 bits."""
    logits = torch.tensor([[2.0, 1.0, 1.0]], dtype=torch.float64).expand(4, 3) * math.log(2)
    assert bits_per_character(logits, torch.tensor([0, 0, 1, 2])) == pytest.approx(1.5, rel=1e-14)


def test_bits_far_from_the_label_are_exact() -> None:
    """A logit 60 ln 2 below the other costs log2(1 + 2^60) = 60 bits; float32 logits are within 2^-24 of that."""
    logits = torch.tensor([[60 * math.log(2), 0.0]])
    assert bits_per_character(logits, torch.tensor([1])) == pytest.approx(60, rel=2**-24)
    assert not math.isfinite(bits_per_character(torch.tensor([[math.inf, 0.0]]), torch.tensor([0])))


def test_flips_ignore_the_labels_and_the_scale() -> None:
    assert flips(one_hot(0, 1, 2, 0), 5 * one_hot(0, 2, 2, 1) - 3) == 0.5


def test_kl_of_two_coins() -> None:
    """P = (p, 1-p), Q = (q, 1-q): KL = p ln(p/q) + (1-p) ln((1-p)/(1-q)); logits (ln(p/(1-p)), 0)."""
    p, q = 0.8, 0.3
    first, second = (torch.tensor([[math.log(x / (1 - x)), 0.0]], dtype=torch.float64) for x in (p, q))
    assert kl(first, second) == pytest.approx(
        p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)), rel=1e-12
    )
    assert kl(first, first + 7) == pytest.approx(0, abs=1e-15)


def test_kl_agrees_with_scipy() -> None:
    first, second = torch.randn(2, 50, 10, generator=torch.Generator().manual_seed(0)).unbind()
    p, q = (special.softmax(logits.numpy().astype(np.float64), axis=1) for logits in (first, second))
    assert kl(first, second) == pytest.approx(stats.entropy(p, q, axis=1).mean(), rel=1e-12)


def test_kl_in_the_tail_and_beyond() -> None:
    """KL((1, 0) || (e^-200, 1)) = 200 up to 200 e^-200; infinite logits have none."""
    assert kl(torch.tensor([[200.0, 0.0]]), torch.tensor([[0.0, 200.0]])) == pytest.approx(200, rel=1e-12)
    assert not math.isfinite(kl(torch.tensor([[1.0, 0.0]]), torch.tensor([[math.inf, 0.0]])))


def test_mcnemar_counts_and_the_binomial_tail() -> None:
    """Discordant 1 : 7, so p = 2 (C(8,0) + C(8,1)) / 2^8 = 18/256."""
    labels = torch.zeros(10, dtype=torch.int64)
    first, second = one_hot(*[0] * 2, *[1] * 7, 2), one_hot(0, 1, *[0] * 7, 1)
    assert mcnemar(first, second, labels) == (1, 7, pytest.approx(18 / 256, rel=1e-12))


def test_mcnemar_of_equal_classifiers() -> None:
    assert mcnemar(one_hot(0, 1), one_hot(0, 1), torch.tensor([0, 0])) == (0, 0, 1.0)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"shape \[2\] are needed, not \(3,\)"):
        accuracy(one_hot(0, 1), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(InputError, match=r"not \[2, 3\] and \[1, 3\]"):
        flips(one_hot(0, 1), one_hot(0))
    with pytest.raises(InputError, match=r"shape \[2\] are needed, not \(1, 2\)"):
        bits_per_character(one_hot(0, 1), torch.zeros(1, 2, dtype=torch.int64))
    for share in (accuracy, bits_per_character):
        with pytest.raises(InputError, match="test set is empty"):
            share(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
