"""Networks tested on another data set than the one they were trained on."""

from collections.abc import Mapping

from torch import nn

from ..classifier import evaluate
from ..components import Examples
from ..errors import InputError
from ..metrics import accuracy
from ..schema import Measurement, Spec
from ..workbench import Workbench


def transfer(
    dataset: str | None, modules: Mapping[str, nn.Module], data: Examples, bench: Workbench
) -> dict[str, Measurement]:
    """Accuracy in percent of each network on the test examples of ``dataset``; nothing where that is None.

    Args:
        dataset: specification of the other data set, with the classes and the shape of ``data``.
        modules: networks by the prefix of their measurement, ``<prefix>transfer_accuracy``.
        data: what they were trained on.

    Raises:
        InputError: the other examples have another shape or another number of classes.
        DataError: they are not there, or damaged.
    """
    other = transfer_data(dataset, data, bench)
    if other is None:
        return {}
    labels = other.test_labels.flatten()
    shares = {prefix: accuracy(evaluate(m, other.test_inputs), labels) for prefix, m in modules.items()}
    return {
        f"{prefix}transfer_accuracy": Measurement(value=100 * share, unit="%", n=len(labels))
        for prefix, share in shares.items()
    }


def transfer_data(dataset: str | None, data: Examples, bench: Workbench) -> Examples | None:
    """The examples of ``dataset``, that a network trained on ``data`` can be tested on; None for None.

    Raises:
        InputError: the other examples have another shape or another number of classes.
        DataError: they are not there, or damaged.
    """
    if dataset is None:
        return None
    other = bench.data(Spec.parse(dataset))
    if (other.shape, other.classes) != (data.shape, data.classes):
        raise InputError(
            f"transfer={dataset!r}: its examples have shape {list(other.shape)} and {other.classes} classes; the "
            f"network was trained on shape {list(data.shape)} and {data.classes} classes. Name a data set that has both"
        )
    return other
