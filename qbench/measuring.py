"""Coding one tensor and measuring what came back."""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from . import plugins
from .codec import Code, Header, from_payload, inner_versions, prepare
from .components import Context, Quantizer
from .errors import InputError, PluginError
from .message import Message, entropy_bits, is_coded, pack, schema, to_device, unpack
from .schema import Spec, derived_seed

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Coded:
    """A coded tensor.

    Attributes:
        payload: header, codebook and codes; decodes by itself.
        nbytes: bytes that count towards the rate: the codes, and the codebook if it was learned from this tensor.
        static_nbytes: bytes of a codebook that existed before; reported, not amortized into the rate.
        entropy_bits: bits of the counted bytes under an adaptive coder.
        coded: whether a stream is entropy-coded.
        schema: the block that names the parts of the codes, counted in ``nbytes``.
        encode_seconds: time the quantizer took to encode, without fitting and packing.
    """

    payload: bytes
    nbytes: int
    static_nbytes: int
    entropy_bits: float
    coded: bool
    schema: bytes
    encode_seconds: float


def fit(
    quantizer: Quantizer, samples: Tensor, *, generator: torch.Generator, channel_axis: int = 0
) -> Message:
    """A static codebook, learned from ``samples``."""
    with _same_specification(quantizer):
        return Code(quantizer).fit(prepare(samples, channel_axis), Context(generator))


@contextmanager
def _same_specification(quantizer: Quantizer) -> Iterator[Spec]:
    """A specification is free of charge, so it must not change with the data.

    Raises:
        PluginError: parameters changed while fitting or encoding.
    """
    before = quantizer.spec.model_copy(deep=True)
    yield before
    if quantizer.spec != before:
        raise PluginError(
            f"{before} became {quantizer.spec} while coding; keep what was learned in codebook or codes"
        )


def code(
    quantizer: Quantizer,
    x: Tensor,
    *,
    generator: torch.Generator,
    codebook: Message | None = None,
    importance: Tensor | None = None,
    gram: Tensor | None = None,
    loss: Callable[[Tensor], Tensor] | None = None,
    channel_axis: int = 0,
) -> Coded:
    """Code ``x``, with a codebook that exists already or one learned from ``x`` and charged in full.

    ``importance``, ``gram`` and ``loss`` are what :class:`Context` says; ``loss`` takes a tensor like ``x``.

    Raises:
        InputError: ``x`` is not a finite float tensor.
        PluginError: the quantizer changed its own parameters.
    """
    prepared = prepare(x, channel_axis)
    context = Context(
        generator,
        importance=None if importance is None else _importance(importance, x, channel_axis),
        gram=None if gram is None else gram.to(prepared.device),
        loss=None if loss is None else lambda y: loss(y.movedim(0, channel_axis) if y.dim() else y),
    )
    scaled = Code(quantizer)
    with _same_specification(quantizer) as spec:
        book = pack(scaled.fit(prepared, context) if codebook is None else codebook)
        # the encoder works with what the decoder will have: what it writes into its copy reaches nobody
        sent = to_device(unpack(book)[0], prepared.device)
        began = clock(prepared)
        message = scaled.encode(prepared, sent, context)
        seconds = clock(prepared) - began
        codes = pack(message)
    own = b"" if codebook is not None else book
    header = Header(spec, quantizer.version, x.shape, x.dtype, channel_axis, inner_versions(quantizer))
    return Coded(
        payload=header.to_bytes() + book + codes,
        nbytes=len(codes) + len(own),
        static_nbytes=len(book) - len(own),
        entropy_bits=entropy_bits(message) + (entropy_bits(unpack(own)[0]) if own else 0.0),
        coded=is_coded(message) or (bool(own) and is_coded(unpack(own)[0])),
        schema=schema(message),
        encode_seconds=seconds,
    )


def stream_nbytes(messages: Sequence[Coded]) -> int:
    """Bytes of messages sent one after the other to one decoder: a schema is sent only where it changes."""
    whole = sum(one.nbytes for one in messages)
    repeated = (len(b.schema) for a, b in itertools.pairwise(messages) if a.schema == b.schema)
    return whole - sum(repeated)


def require_tensor(name: str, x: object) -> None:
    """Whether ``x`` is a tensor with elements, all of them finite.

    Raises:
        InputError: names the argument and its type, or how many elements are not finite and where the first is.
    """
    if not isinstance(x, Tensor):
        raise InputError(
            f"{name} is of type {type(x).__name__}; give a float tensor, such as torch.randn(64, 64)"
        )
    if x.numel() == 0:
        raise InputError(f"{name} is empty, of shape {tuple(x.shape)}; give at least one element")
    wrong = ~torch.isfinite(x.detach())
    if bool(wrong.any()):
        first = wrong.nonzero()[0].tolist()
        raise InputError(
            f"{int(wrong.sum()):,} of the {x.numel():,} elements of {name} are NaN or infinite, the first at "
            f"{name}{first or ''}: {x[tuple(first)].item()}; remove or replace them"
        )


def _importance(importance: Tensor, x: Tensor, channel_axis: int) -> Tensor:
    if importance.shape != x.shape or bool((importance < 0).any()):
        raise InputError(f"importance needs the shape of x, {tuple(x.shape)}, and no negative weight")
    return prepare(importance.to(x.device), channel_axis)


def clock(x: Tensor) -> float:
    """Seconds, when the device of ``x`` has done everything it was given."""
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return time.perf_counter()


@dataclass(frozen=True)
class Measured:
    """What :func:`measure` found. Rates are bits per element; ``mse`` is absolute, in squared units of x.

    ``sqnr_db`` = 10 log10(mean x^2 / mse), infinite where mse is 0; ``cosine`` between x and its reconstruction.
    """

    rate: float
    entropy_rate: float
    mse: float
    sqnr_db: float
    cosine: float
    reconstruction: Tensor
    payload: bytes
    static_bytes: int
    coded: bool

    def __repr__(self) -> str:
        return (
            f"Measured(rate={self.rate:.4f}, entropy_rate={self.entropy_rate:.4f}, mse={self.mse:.6g}, "
            f"sqnr_db={self.sqnr_db:.2f}, cosine={self.cosine:.6f})"
        )


def measure(
    quantizer: Quantizer,
    x: Tensor,
    *,
    seed: int = 0,
    samples: Tensor | None = None,
    importance: Tensor | None = None,
    channel_axis: int = 0,
    decoder: Callable[[bytes], Tensor] | None = None,
) -> Measured:
    """Quantize ``x``, decode the bytes, compare.

    Args:
        quantizer: from :func:`qbench.quantizer`.
        x: float tensor of any shape with at least one element.
        seed: of the generator that stochastic encoders draw from.
        samples: data to fit the codebook on when that is not ``x``; its bytes are then static, outside the rate.
        importance: non-negative weight of each element, of the shape of ``x``, for quantizers that use it.
        channel_axis: which axis of ``x`` (and ``samples``) holds the output channels.
        decoder: decodes the payload, elsewhere for instance; default in this process, by a new quantizer of the
            same class and parameters, so that one that no plugin offers can be measured too.

    Raises:
        InputError: no quantizer; or ``x`` is empty, or not a finite float tensor.
    """
    if not isinstance(quantizer, Quantizer):
        raise InputError(
            f"quantizer={quantizer!r} is of type {type(quantizer).__name__}; give a quantizer, such as "
            'qbench.quantizer("uniform:bits=4")'
        )
    for name, given in {"x": x, "samples": samples, "importance": importance}.items():
        if given is not None or name == "x":
            require_tensor(name, given)
    generator = torch.Generator(x.device).manual_seed(derived_seed("encoder", seed))
    codebook = (
        None if samples is None else fit(quantizer, samples, generator=generator, channel_axis=channel_axis)
    )
    coded = code(
        quantizer, x, generator=generator, codebook=codebook, importance=importance, channel_axis=channel_axis
    )
    decoded = (
        decoder(coded.payload) if decoder else from_payload(coded.payload, lambda spec: _twin(quantizer))
    )
    reconstruction = decoded.to(x.device)
    error = Distortion.between(x, reconstruction)
    return Measured(
        rate=8 * coded.nbytes / x.numel(),
        entropy_rate=coded.entropy_bits / x.numel(),
        mse=error.mse,
        sqnr_db=error.sqnr_db,
        cosine=error.cosine,
        reconstruction=reconstruction,
        payload=coded.payload,
        static_bytes=coded.static_nbytes,
        coded=coded.coded,
    )


@dataclass(frozen=True)
class Distortion:
    """Sums over elements from which every distortion measure follows; they add over tensors."""

    count: int
    error: float
    energy: float
    decoded_energy: float
    product: float

    @classmethod
    def between(cls, x: Tensor, y: Tensor) -> "Distortion":
        """Accumulated in float64, chunk by chunk."""
        sums = torch.zeros(4, dtype=torch.float64, device=x.device)
        whole, other = x.detach().reshape(-1), y.detach().reshape(-1)
        for at in range(0, whole.numel(), _CHUNK):
            a, b = whole[at : at + _CHUNK].double(), other[at : at + _CHUNK].double()
            sums += torch.stack([(a - b).square().sum(), a.square().sum(), b.square().sum(), (a * b).sum()])
        return cls(x.numel(), *sums.tolist())

    def __add__(self, other: "Distortion") -> "Distortion":
        return Distortion(
            self.count + other.count,
            self.error + other.error,
            self.energy + other.energy,
            self.decoded_energy + other.decoded_energy,
            self.product + other.product,
        )

    @property
    def mse(self) -> float:
        return self.error / self.count

    @property
    def sqnr_db(self) -> float:
        if self.error == 0:
            return math.inf
        return 10 * math.log10(self.energy / self.error) if self.energy else -math.inf

    @property
    def cosine(self) -> float:
        """1 for two zero tensors, 0 where only one of them is zero."""
        norms = math.sqrt(self.energy) * math.sqrt(self.decoded_energy)
        return self.product / norms if norms else float(self.energy == self.decoded_energy)


def decode(payload: bytes) -> Tensor:
    """The reconstruction that a payload stands for, on the CPU, from the bytes alone.

    Raises:
        PayloadError: bytes that were cut short, damaged or not written by qbench.
        UnknownComponentError: no installed plugin has the quantizer that the header names.
    """
    return from_payload(payload, _build)


def _twin(quantizer: Quantizer) -> Quantizer:
    return type(quantizer)(**dict(quantizer.parameters))


def _build(spec: Spec) -> Quantizer:
    quantizer: Quantizer = plugins.catalog().build("quantizer", spec)
    return quantizer
