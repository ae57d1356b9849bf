"""How two classifiers differ. The distortion of tensors is in :mod:`qbench.measuring`."""

from typing import NamedTuple

import torch
from scipy.special import bdtr
from torch import Tensor

from .errors import InputError


class McNemar(NamedTuple):
    """Pictures that only one of two classifiers gets right, and the exact two-sided p of equal accuracy."""

    only_first: int
    only_second: int
    p_value: float


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of pictures whose largest logit is the label's.

    Args:
        logits: [n, classes]. The first of equal logits counts.
        labels: integers, [n].
    """
    return _share(_correct(logits, labels))


def flips(first: Tensor, second: Tensor) -> float:
    """Share of pictures that two classifiers put into different classes; logits [n, classes] each.

    Reference: Dutta, Krishnan, Kwatra, Ramjee, Accuracy is not all you need, 2024, section 3.
    """
    _same_shape(first, second)
    return _share(first.argmax(1) != second.argmax(1))


def kl(first: Tensor, second: Tensor) -> float:
    """Mean over pictures of KL(P || Q) = sum P log(P / Q) in nats, in float64.

    P and Q are the softmax of ``first`` and ``second``, logits [n, classes]. Not finite where logits are not.

    Reference: Kullback, Leibler, On information and sufficiency, 1951, equation 2.4.
    """
    _same_shape(first, second)
    log_p, log_q = (logits.double().log_softmax(1) for logits in (first, second))
    return float((log_p.exp() * (log_p - log_q)).sum(1).mean())


def mcnemar(first: Tensor, second: Tensor, labels: Tensor) -> McNemar:
    """McNemar's exact test on two classifiers' logits [n, classes] for the same pictures.

    Under equal accuracy the discordant pictures fall to either side with probability 1/2.

    Reference: McNemar, Note on the sampling error of the difference between correlated proportions, 1947.
    """
    _same_shape(first, second)
    right, also_right = _correct(first, labels), _correct(second, labels)
    only_first, only_second = int((right & ~also_right).sum()), int((also_right & ~right).sum())
    discordant = only_first + only_second
    p_value = min(1.0, 2 * float(bdtr(min(only_first, only_second), discordant, 0.5)))
    return McNemar(only_first, only_second, p_value)


def _correct(logits: Tensor, labels: Tensor) -> Tensor:
    if logits.dim() != 2 or labels.shape != logits.shape[:1]:
        raise InputError(f"labels of shape [{len(logits)}] are needed, not {tuple(labels.shape)}")
    return logits.argmax(1) == labels


def _share(chosen: Tensor) -> float:
    if chosen.numel() == 0:
        raise InputError("no pictures to count; the test set is empty")
    return int(chosen.sum(dtype=torch.int64)) / chosen.numel()


def _same_shape(first: Tensor, second: Tensor) -> None:
    if first.dim() != 2 or first.shape != second.shape:
        raise InputError(f"two logits [n, classes] are needed, not {[*first.shape]} and {[*second.shape]}")
