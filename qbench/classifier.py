"""A network with its input normalization, its loss, and its exact evaluation."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .components import Model
from .errors import ParameterError


class Classifier(nn.Module):
    """A network with the normalization of its input: logits of uint8 pictures [n, channels, height, width].

    ``mean`` and ``std``: per channel, [1, channels, 1, 1], in grey levels 0 to 255.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, images: Tensor) -> Tensor:
        pictures = images.to(torch.float32, memory_format=torch.channels_last)
        logits: Tensor = self.network((pictures - self.mean) / self.std)
        return logits


class Reader(nn.Module):
    """A network that takes the numbers of characters: logits of uint8 text [n, length]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, text: Tensor) -> Tensor:
        logits: Tensor = self.network(text.long())
        return logits


def classifier(model: Model, shape: tuple[int, ...], classes: int, images: Tensor | None = None) -> nn.Module:
    """An untrained network that takes uint8 pictures or text, on the CPU.

    Args:
        shape: of one input: channels, height, width, or length.
        images: whose mean and deviation normalize pictures; None where weights are loaded afterwards.

    Raises:
        ParameterError: the model takes text and the shape is that of pictures, or the other way round.
    """
    inputs = "pictures" if len(shape) == 3 else "text"
    if model.inputs != inputs:
        raise ParameterError(
            f"model {model.name!r} takes {model.inputs}, and these examples are {inputs} of shape {list(shape)}; "
            "name another model or data set"
        )
    if inputs == "text":
        return Reader(model.build(shape, classes))
    mean, std = (torch.zeros(shape[0]), torch.ones(shape[0])) if images is None else _normalization(images)
    module = Classifier(model.build(shape, classes), mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1))
    # parameters of four dimensions only; convolutions are 1.1 to 1.7 times as fast on a CPU
    return module.to(memory_format=torch.channels_last)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over predictions in nats, float32; logits [..., classes], labels [...]."""
    return functional.cross_entropy(logits.float().flatten(0, -2), labels.flatten())


def evaluate(module: nn.Module, inputs: Tensor, batch: int = 512) -> Tensor:
    """Logits of all ``inputs`` in float32, a row for each prediction: evaluation mode, no autocast, no TF32.

    Args:
        inputs: uint8, pictures [n, channels, height, width] or text [n, length], on any device.
        batch: inputs at a time; another one may change the last bits.
    """
    device = next(module.parameters()).device
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad(), exact_kernels(), torch.autocast(device.type, enabled=False):
            parts = (inputs[at : at + batch].to(device) for at in range(0, len(inputs), batch))
            return torch.cat([module(part).float().flatten(0, -2) for part in parts])
    finally:
        module.train(was_training)


@contextmanager
def exact_kernels() -> Iterator[None]:
    """Float32 means float32, and convolutions on a GPU add in one order; as it was afterwards."""
    cudnn, cuda, mkldnn = (vars(torch.backends)[name] for name in ("cudnn", "cuda", "mkldnn"))
    operations = (cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn)
    settings: list[tuple[Any, str, Any]] = [(operation, "fp32_precision", "ieee") for operation in operations]
    settings += [(cudnn, "deterministic", True), (cudnn, "benchmark", False)]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in settings]
    try:
        for owner, name, value in settings:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def _normalization(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel from counts of the 256 grey levels: the same on every device."""
    counts = torch.stack([torch.bincount(channel.reshape(-1), minlength=256) for channel in images.unbind(1)])
    share = counts.cpu().double() / (images.numel() / images.shape[1])
    grey = torch.arange(256, dtype=torch.float64)
    mean = share @ grey
    variance = (share * (grey - mean[:, None]).square()).sum(1)
    std = torch.where(variance > 0, variance.sqrt(), torch.ones_like(variance))
    return mean.float(), std.float()


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """bfloat16 where the device multiplies it natively, else None: emulated it is slower than float32.

    One thread with AVX-512 BF16 trains the mlp 1.3 to 1.6 times as fast with it, the cnn 1.7 to 2 times.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    # torch 2.11 may lack the query; such a CPU trains in float32
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return torch.bfloat16 if device.type == "cpu" and native else None
