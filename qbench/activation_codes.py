"""What a network's activations become when they are quantized: static codebooks from calibration, or one a sample."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Literal

import torch
from torch import Tensor, nn

from . import capture
from .components import Quantizer
from .errors import InputError, PluginError
from .layers import LAYERS, weight_tensors
from .measuring import fit
from .message import Message
from .observers import PERCENTILE, Observer, observed_range
from .sample_codes import ActivationCode, reads_text, together
from .schema import derived_seed

_BATCH: Final = 32
_HELD: Final = 1 << 26  # elements of calibration inputs at a time


def activation_names(
    module: nn.Module, inputs: Tensor, first_last: Literal["quantize", "keep"] = "quantize"
) -> list[str]:
    """The layers whose inputs are quantized, by the names of their weights, in the order of use.

    The first layer of a network of pictures is left out: its input is the picture itself, of 8 bits. The first
    layer of a network of text reads an embedding, which counts. With ``keep`` the first and the last layer's inputs
    stay as they are.

    Args:
        inputs: pictures [n, channels, height, width] or text [n, length], uint8; the first is shown to the network.

    Raises:
        InputError: no layer is left.
    """
    used = list(capture.activations(module, inputs[:1]))
    names = used[1:] if inputs.dim() == 4 or first_last == "keep" else used
    names = names[:-1] if first_last == "keep" else names
    if not names:
        raise InputError(
            f"first_last={first_last!r} leaves none of the inputs of {len(used)} layers to quantize; the picture "
            "itself is not one of them; name a deeper model"
        )
    return names


def observe(
    module: nn.Module,
    inputs: Tensor,
    quantizer: Quantizer,
    names: Sequence[str],
    observer: Observer = "mse",
    *,
    seed: int,
    percent: float = PERCENTILE,
) -> dict[str, Message]:
    """A static codebook for the inputs of each layer, by name: fitted to calibration inputs, clipped.

    The observer, one of :mod:`qbench.observers`, says where they are clipped; it sees them in batches of 32. The
    quantizer's own ``fit`` sees all of them. Inputs of the network are as it takes them, [n, ...].

    Args:
        module: the network with the weights it will have; it is not changed.
        names: of :func:`activation_names`.
        percent: of the magnitudes inside, for observer=percentile.
    """
    codebooks = {}
    for group in _groups(module, inputs, names):
        seen = _seen(module, inputs, group)
        for name in group:
            batches = seen.pop(name)

            def generator(name: str = name) -> torch.Generator:
                return torch.Generator(inputs.device).manual_seed(derived_seed(seed, name, "codebook"))

            low, high = observed_range(batches, observer, percent, quantizer, generator, together)
            clipped = together(torch.cat(batches)).clamp(low, high)
            codebooks[name] = fit(quantizer, clipped, generator=generator())
    return codebooks


def _groups(module: nn.Module, inputs: Tensor, names: Sequence[str]) -> Iterator[list[str]]:
    """As many layers at a time as their inputs fit into memory."""
    sizes = {name: x.numel() * len(inputs) for name, x in capture.activations(module, inputs[:1]).items()}
    group: list[str] = []
    for name in names:
        if group and sum(sizes[other] for other in (*group, name)) > _HELD:
            yield group
            group = []
        group.append(name)
    yield group


def _seen(module: nn.Module, inputs: Tensor, names: Sequence[str]) -> dict[str, list[Tensor]]:
    seen: dict[str, list[Tensor]] = {name: [] for name in names}
    for at in range(0, len(inputs), _BATCH):
        found = capture.activations(module, inputs[at : at + _BATCH])
        for name in names:
            seen[name].append(found[name])
    return seen


@contextmanager
def coded_activations(
    module: nn.Module,
    quantizer: Quantizer,
    names: Sequence[str],
    codebooks: Mapping[str, Message] | None = None,
    *,
    seed: int,
) -> Iterator[dict[str, ActivationCode]]:
    """Within the block the inputs of these layers are what decodes from their codes; their bits are counted.

    Each sample is a message of its own: a picture, or one position of a text, so that no scale tells of later
    characters. Static (``codebooks`` of :func:`observe`): the codebook is there before any sample. Dynamic (None): one
    is fitted to each sample and counts with it. An activation that several layers read is coded for each. The network
    is to be called as :func:`qbench.classifier.evaluate` calls it.

    Raises:
        InvalidReconstructionError: when the network is called, a layer's input is NaN or infinite.
        PluginError: the quantizer changed its own parameters.
    """
    before = quantizer.spec.model_copy(deep=True)
    device = next(module.parameters()).device
    tokens = reads_text(module)
    coded = {
        name: ActivationCode(
            name, quantizer, None if codebooks is None else codebooks[name], seed, device, tokens
        )
        for name in names
    }
    known = {id(weight.parameter): weight.name for weight in weight_tensors(module)}
    handles = [
        layer.register_forward_pre_hook(coded[name], with_kwargs=True)
        for layer in module.modules()
        if isinstance(layer, LAYERS) and (name := known.get(id(layer._parameters.get("weight")), "")) in coded
    ]
    try:
        yield coded
    finally:
        for handle in handles:
            handle.remove()
    if quantizer.spec != before:
        raise PluginError(
            f"{before} became {quantizer.spec} while coding; keep what was learned in codebook or codes"
        )
