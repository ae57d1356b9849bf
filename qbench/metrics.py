"""How good a network's predictions are, and how those of two differ; pictures and characters alike are predictions.

The distortion of tensors is in :mod:`qbench.measuring`.
"""

import math
from typing import NamedTuple

import torch
from scipy.special import bdtr
from torch import Tensor
from torch.nn import functional

from .errors import InputError


class McNemar(NamedTuple):
    """Predictions that only one of two networks gets right, and the exact two-sided p of equal accuracy."""

    only_first: int
    only_second: int
    p_value: float


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of predictions whose largest logit is the label's.

    Args:
        logits: [n, classes]. The first of equal logits counts.
        labels: integers, [n].
    """
    return _share(_correct(logits, labels))


def bits_per_character(logits: Tensor, labels: Tensor) -> float:
    """Mean of -log2 P(label) over characters, in float64, P the softmax of the logits. Not finite where they are not.

    Classes that all have equal logits cost log2(classes).

    Args:
        logits: [n, classes].
        labels: integers, [n].

    Reference: Shannon, Prediction and entropy of printed English, 1951.
    """
    _require_labels(logits, labels)
    return float(functional.cross_entropy(logits.double(), labels)) / math.log(2)


def flips(first: Tensor, second: Tensor) -> float:
    """Share of predictions in which two networks choose different classes; logits [n, classes] each.

    Reference: Dutta, Krishnan, Kwatra, Ramjee, Accuracy is not all you need, 2024, section 3.
    """
    _same_shape(first, second)
    return _share(first.argmax(1) != second.argmax(1))


def kl(first: Tensor, second: Tensor) -> float:
    """Mean over predictions of KL(P || Q) = sum P log(P / Q) in nats, in float64.

    P and Q are the softmax of ``first`` and ``second``, logits [n, classes]. Not finite where logits are not.

    Reference: Kullback, Leibler, On information and sufficiency, 1951, equation 2.4.
    """
    _same_shape(first, second)
    log_p, log_q = (logits.double().log_softmax(1) for logits in (first, second))
    return float((log_p.exp() * (log_p - log_q)).sum(1).mean())


def mcnemar(first: Tensor, second: Tensor, labels: Tensor) -> McNemar:
    """McNemar's exact test on two networks' logits [n, classes] for the same labels, [n].

    Under equal accuracy the discordant predictions fall to either side with probability 1/2.

    Reference: McNemar, Note on the sampling error of the difference between correlated proportions, 1947.
    """
    _same_shape(first, second)
    right, also_right = _correct(first, labels), _correct(second, labels)
    only_first, only_second = int((right & ~also_right).sum()), int((also_right & ~right).sum())
    discordant = only_first + only_second
    p_value = min(1.0, 2 * float(bdtr(min(only_first, only_second), discordant, 0.5)))
    return McNemar(only_first, only_second, p_value)


def _correct(logits: Tensor, labels: Tensor) -> Tensor:
    _require_labels(logits, labels)
    return logits.argmax(1) == labels


def _require_labels(logits: Tensor, labels: Tensor) -> None:
    if logits.dim() != 2 or labels.shape != logits.shape[:1]:
        raise InputError(f"labels of shape [{len(logits)}] are needed, not {tuple(labels.shape)}")
    _require_some(labels)


def _require_some(predictions: Tensor) -> None:
    if predictions.numel() == 0:
        raise InputError("no predictions to count; the test set is empty")


def _share(chosen: Tensor) -> float:
    _require_some(chosen)
    return int(chosen.sum(dtype=torch.int64)) / chosen.numel()


def _same_shape(first: Tensor, second: Tensor) -> None:
    if first.dim() != 2 or first.shape != second.shape:
        raise InputError(f"two logits [n, classes] are needed, not {[*first.shape]} and {[*second.shape]}")
