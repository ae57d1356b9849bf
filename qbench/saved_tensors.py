"""A network that keeps what its backward pass needs as messages of a quantizer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.multiprocessing.reductions import StorageWeakRef

from .codec import Code, prepare
from .components import Context, Quantizer
from .errors import InputError
from .layers import weight_tensors
from .message import Message, Stream, is_coded, nbytes
from .schema import derived_seed


@dataclass
class Kept:
    """What forward passes kept for backward, the same memory once, without parameters and buffers.

    Attributes:
        steps: forward passes. tensors: those that were coded.
        elements: of coded tensors. float_nbytes: bytes they would have taken.
        nbytes: bytes of their messages, codebooks included.
        left_nbytes: bytes of everything else, kept as it is.
        coded: whether any stream was entropy-coded.
    """

    steps: int = 0
    tensors: int = 0
    elements: int = 0
    float_nbytes: int = 0
    nbytes: int = 0
    left_nbytes: int = 0
    coded: bool = False


@final
class CodedActivations(nn.Module):
    """The network ``module``, whose forward pass is exact and whose backward pass sees decoded activations.

    In training mode each call is one step. Float tensors that autograd keeps, of ``least`` elements or more, are
    coded where they are kept and decoded where they are used; everything else is kept as it is: parameters, buffers,
    indices, masks, and the statistics of a BatchNorm, [channels], and of a LayerNorm, [n, positions, 1]. The codebook
    is fitted on each tensor, whose first axis is the channel axis: examples, so that a scale per channel is one per
    example. The float tensor itself is let go. Bytes are those of packed messages; in this process they lie unpacked.

    Where a tensor has no negative value and some zeros, as behind a ReLU, a further bit each says which are zero,
    unless ``rectified`` is off: zeros come back as zeros, the others positive, and so a ReLU lets the same gradients
    pass. ``context.progress`` is the share of ``steps`` done, ``context.public["step"]`` their number.

    Args:
        module: from examples to logits; the loss and what it keeps are outside.
        seed: of the one generator that stochastic encoders draw from.
        steps: how many will be taken.

    Raises:
        FloatingPointError: when called, where an activation is NaN or infinite.

    Reference: Chakrabarti & Moseley 2019, "Backprop with Approximate Activations for Memory-efficient Network
    Training", section 3; Chen et al. 2021, "ActNN", section 3.
    """

    def __init__(
        self,
        module: nn.Module,
        quantizer: Quantizer,
        *,
        seed: int,
        steps: int,
        least: int = 1024,
        rectified: bool = True,
    ) -> None:
        super().__init__()
        self.module, self.steps, self.least, self.kept = module, steps, least, Kept()
        device = next(module.parameters()).device
        generator = torch.Generator(device).manual_seed(derived_seed(seed, "saved activations"))
        self._encoder = _Encoder(Code(quantizer), generator, rectified)
        self._own: set[int] = set()
        self._step: dict[tuple[Any, ...], _Coded | None] = {}

    def forward(self, inputs: Tensor) -> Tensor:
        self._step.clear()
        if not self.training or not torch.is_grad_enabled():
            logits: Tensor = self.module(inputs)
            return logits
        weights = self._cast_weights(inputs.device.type)
        held = [*self.module.parameters(), *self.module.buffers(), *weights.values()]
        self._own = {tensor.untyped_storage().data_ptr() for tensor in held}
        with saved_tensors_hooks(self._pack, _unpack):
            logits = functional_call(self.module, weights, (inputs,))
        self.kept.steps += 1
        return logits

    def _cast_weights(self, device: str) -> dict[str, Tensor]:
        """What autocast would make of the weights, made here to be known as no activations."""
        if not torch.is_autocast_enabled(device):
            return {}
        dtype = torch.get_autocast_dtype(device)
        return {weight.name: weight.parameter.to(dtype) for weight in weight_tensors(self.module)}

    def _pack(self, x: Tensor) -> "Tensor | _Packed":
        storage = x.untyped_storage()
        if storage.data_ptr() in self._own:
            return x
        # a weak reference lets the memory go and keeps its name from being given to another tensor in this step
        name = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
        key = (name, x._version, x.storage_offset(), x.numel(), x.dtype, *_layout(x))
        if key not in self._step:
            self._step[key] = self._keep(x)
        found = self._step[key]
        return x if found is None else _Packed(found, x.shape, x.stride())

    def _keep(self, x: Tensor) -> "_Coded | None":
        """None for what is kept as it is."""
        if not self._is_activation(x):
            self.kept.left_nbytes += x.nbytes
            return None
        public = {"step": self.kept.steps}
        coded = self._encoder.encode(x, min(1.0, self.kept.steps / self.steps), public)
        self.kept.tensors += 1
        self.kept.elements += x.numel()
        self.kept.float_nbytes += x.nbytes
        self.kept.nbytes += nbytes(coded.codebook) + nbytes(coded.codes)
        self.kept.coded |= is_coded(coded.codebook) or is_coded(coded.codes)
        return coded

    def _is_activation(self, x: Tensor) -> bool:
        statistics = x.dim() < 2 or (x.dim() == 3 and x.shape[-1] == 1)
        return x.is_floating_point() and x.numel() >= self.least and not statistics


@dataclass(frozen=True)
class _Encoder:
    code: Code
    generator: torch.Generator
    rectified: bool

    def encode(self, x: Tensor, progress: float, public: dict[str, Any]) -> "_Coded":
        context = Context(self.generator, public=public, progress=progress)
        with _apart(x.device), saved_tensors_hooks(lambda own: own, lambda own: own):
            prepared = _finite(x)
            codebook = self.code.fit(prepared, context)
            codes: Message = {"x": self.code.encode(prepared, codebook, context)}
            if self.rectified and bool((x >= 0).all()) and bool((x == 0).any()):
                codes["positive"] = Stream(prepared > 0, 2)
        return _Coded(self.code, codebook, codes, x.shape, x.stride(), x.dtype, x.device)


def _finite(x: Tensor) -> Tensor:
    try:
        return prepare(x)
    except InputError:
        # the quantizer is not to blame
        raise FloatingPointError("an activation became NaN or infinite; lower the learning rate") from None


@contextmanager
def _apart(device: torch.device) -> Iterator[None]:
    """Codes decide on exact values, and what they compute is no part of the network."""
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield


@dataclass(frozen=True)
class _Coded:
    """A tensor's messages, and what autograd knows of it anyway."""

    code: Code
    codebook: Message
    codes: Message
    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    def decode(self) -> Tensor:
        """In the memory format of the original."""
        codes, positive = self.codes["x"], self.codes.get("positive")
        assert isinstance(codes, dict)
        limits = torch.finfo(self.dtype)
        with _apart(self.device):
            y = (
                self.code.decode(codes, self.codebook, self.shape)
                .clamp(limits.min, limits.max)
                .to(self.dtype)
            )
            if isinstance(positive, Stream):
                y = torch.where(y > 0, y, limits.smallest_normal) * positive.values.reshape(y.shape)
            if 0 in self.stride:
                return y
            return torch.empty_strided(self.shape, self.stride, dtype=y.dtype, device=y.device).copy_(y)


@dataclass(frozen=True)
class _Packed:
    """One view of a coded tensor."""

    coded: _Coded
    shape: torch.Size
    stride: tuple[int, ...]


def _unpack(packed: Tensor | _Packed) -> Tensor:
    if isinstance(packed, Tensor):
        return packed
    y = packed.coded.decode()
    return y if 0 in packed.stride else y.as_strided(packed.shape, packed.stride)


def _layout(x: Tensor) -> tuple[tuple[int, ...], ...]:
    """Nothing where x fills its stretch of memory, so that all its views are one; else shape and strides."""
    dense = torch.empty_like(x, device="meta").stride() == x.stride()
    return () if dense else (x.shape, x.stride())
