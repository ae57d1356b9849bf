"""The sender's side of repeated messages, as data-parallel training has them: memory, error feedback, bytes.

Nothing is serialized to be counted; what is counted is what :meth:`Sent.to_bytes` makes and :class:`Receiver` reads.
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

import torch
from torch import Tensor

from .codec import Code, prepare
from .components import Collective, Context, Differential, Quantizer
from .errors import InputError, InvalidReconstructionError, PayloadError, PluginError
from .measuring import clock
from .message import Message, nbytes, pack, schema, to_device, unpack
from .schema import derived_seed

_MARK = 1
_EXPONENT = 2

Gather: TypeAlias = Callable[[Sequence[Message]], Sequence[Message]]


@final
@dataclass(frozen=True)
class Sent:
    """A message of a stream and what its receiver makes of it.

    Attributes:
        reconstruction: shape, dtype and device of what was sent.
        codebook: fitted on this message; its exponent and the quantizer's own.
        codes: as the quantizer encoded them.
        new_schema: whether codebook and codes differ in schema from the message before, and so bring theirs.
        encode_seconds: time for codebook and codes; decode_seconds: for the reconstruction.
    """

    reconstruction: Tensor
    codebook: Message
    codes: Message
    new_schema: tuple[bool, bool]
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0

    @property
    def nbytes(self) -> int:
        """``len(to_bytes())`` without packing."""
        parts = zip((self.codebook, self.codes), self.new_schema, strict=True)
        return _MARK + sum(_nbytes(message, new) for message, new in parts)

    def to_bytes(self) -> bytes:
        """A byte that says which schemas are new, then codebook and codes, packed, without the known ones."""
        parts = zip((self.codebook, self.codes), self.new_schema, strict=True)
        mark = bytes([self.new_schema[0] + 2 * self.new_schema[1]])
        return mark + b"".join(pack(m) if new else pack(m)[len(schema(m)) :] for m, new in parts)


@final
@dataclass(frozen=True)
class Reduced:
    """What workers agreed on. Bytes are those of all workers here together, messages up and their means down."""

    mean: Tensor
    up_nbytes: int
    down_nbytes: int


@final
class _Loop:
    """What both ends of a stream compute alike: a prediction, and the code of what differs from it.

    Of a quantizer that is not :class:`Differential` it passes everything through.
    """

    def __init__(self, quantizer: Quantizer) -> None:
        self._rule = quantizer if isinstance(quantizer, Differential) else None
        self.prediction: Tensor | None = None

    def difference(self, p: Tensor) -> Tensor:
        return p if self.prediction is None else prepare(p - self.prediction.to(p.device))

    def close(self, decoded: Tensor) -> Tensor:
        """The reconstruction that a decoded difference stands for; the next prediction follows from it."""
        if self._rule is None:
            return decoded
        before = torch.zeros_like(decoded) if self.prediction is None else self.prediction.to(decoded.device)
        limit = torch.finfo(torch.float32).max
        y = (before + decoded).clamp(-limit, limit)
        self.prediction = self._rule.predict(before, y)
        return y


@final
@dataclass
class _Stream:
    """What the sender keeps for one site and worker."""

    generator: torch.Generator
    loop: _Loop
    state: dict[str, Any] = field(default_factory=dict)
    schemas: dict[str, bytes] = field(default_factory=dict)
    memory: Tensor | None = None
    messages: int = 0

    def is_new(self, slot: str, message: Message) -> bool:
        """Whether a schema is not that of the last message in this slot; it is remembered."""
        block = schema(message)
        new = self.schemas.get(slot) != block
        self.schemas[slot] = block
        return new


@final
class Channel:
    """Sends tensors, one stream for every site (a parameter, a bucket) and worker.

    The codebook is fitted on each message and charged with it; names, kinds and levels are charged when they change in
    their stream, and a byte says whether they do. ``context.state`` lives as long as the channel,
    ``context.public`` holds site, worker and step (the number of messages before), and ``context.generator`` goes
    on from message to message.

    With ``error_feedback``, what a message lost is added to the next of its stream, outside the core's power of two:
    ``p = x + e``, ``p^ = decode(encode(p))``, ``e = p - p^``, so that all reconstructions add up to all inputs less
    :meth:`memory`. It stays bounded where ``|p^ - p| < |p|``; an unbiased code of larger variance diverges.

    Of a :class:`Differential` quantizer what is coded is ``p`` less the stream's prediction, 0 for the first message,
    and ``p^`` is the prediction plus what was decoded; :class:`Receiver` predicts the same from the bytes before.

    Reference: Seide et al. 2014, "1-Bit Stochastic Gradient Descent"; Karimireddy et al. 2019, "Error Feedback
    Fixes SignSGD and other Gradient Compression Schemes", algorithm 1.

    Args:
        quantizer: codes every message.
        error_feedback: whether there is a memory.
        seed: of what stochastic encoders draw, in every stream other numbers.

    Raises:
        InputError: a differential quantizer inside another, where no channel sees it.
    """

    def __init__(self, quantizer: Quantizer, *, error_feedback: bool = False, seed: int = 0) -> None:
        _refuse_inner_loops(quantizer)
        self.quantizer = quantizer
        self.error_feedback = error_feedback
        self.seed = seed
        self._code = Code(quantizer)
        self._streams: dict[tuple[str, int], _Stream] = {}

    def memory(self, site: str, worker: int = 0) -> Tensor | None:
        """What that stream still owes, float32, no copy; None before its first message or without error feedback."""
        stream = self._streams.get((site, worker))
        return None if stream is None else stream.memory

    def send(self, x: Tensor, *, site: str, worker: int = 0, public: Mapping[str, Any] | None = None) -> Sent:
        """Code one tensor, channel axis first, and note what was lost.

        Args:
            public: what sender and receiver know beside site, worker and step.

        Raises:
            InputError: not a finite float tensor with elements, or not of the stream's shape.
            FloatingPointError: what is owed is no longer finite.
        """
        p = self._owed(x, site, worker)
        stream, context = self._open(p, site, worker, public)
        began = clock(p)
        difference = stream.loop.difference(p)
        codebook = self._code.fit(difference, context)
        codes = self._code.encode(difference, codebook, context)
        encoded = clock(p)
        y = _like(stream.loop.close(self._code.decode(codes, codebook, p.shape)), x)
        decoded = clock(p)
        new = stream.is_new("codebook", codebook), stream.is_new("codes", codes)
        self._close(stream, p, y)
        return Sent(y, codebook, codes, new, encoded - began, decoded - encoded)

    def all_reduce(
        self,
        xs: Sequence[Tensor],
        *,
        site: str,
        public: Mapping[str, Any] | None = None,
        first_worker: int = 0,
        gather: Gather = lambda messages: messages,
    ) -> Reduced:
        """The mean that all workers reach by a :class:`Collective` quantizer's exchange.

        They first agree on a power of two, 2 bytes up and 2 down. With error feedback every worker keeps
        ``p - mean^``: the mean of these memories is what the mean lost.

        Args:
            xs: ``xs[i]`` is that of worker ``first_worker + i``.
            gather: makes of the messages of these workers those of all workers, in their order, where others compute
                elsewhere.

        Raises:
            InputError: as :meth:`send`; no tensors, different shapes, or a quantizer that is no collective.
            PluginError: the workers' messages do not match.
        """
        ps = [self._owed(x, site, worker) for worker, x in enumerate(xs, first_worker)]
        if not isinstance(self.quantizer, Collective):
            raise InputError(f"{self.quantizer} is no collective; send each tensor and take the mean")
        if len({p.shape for p in ps}) != 1:
            raise InputError(f"workers reduce tensors of one shape, not of {[tuple(p.shape) for p in ps]}")
        opened = [self._open(p, site, worker, public) for worker, p in enumerate(ps, first_worker)]
        down, up = _powers_of_two(_largest_exponent(ps, gather))
        exchanges = [self.quantizer.exchange(p * down, context=c) for p, (_, c) in zip(ps, opened)]
        streams = [stream for stream, _ in opened]
        means, up_nbytes, down_nbytes = _exchange(str(self.quantizer), exchanges, streams, gather)
        ys = [_like(_checked(str(self.quantizer), mean, ps[0].shape) * up, xs[0]) for mean in means]
        for stream, p, y in zip(streams, ps, ys):
            self._close(stream, p, y)
        return Reduced(ys[0], up_nbytes + _EXPONENT * len(ps), down_nbytes + _EXPONENT * len(ps))

    def _owed(self, x: Tensor, site: str, worker: int) -> Tensor:
        """x as quantizers see it, with what its stream still owes."""
        if not isinstance(x, Tensor) or x.numel() == 0:
            raise InputError(
                f"nothing to send at site {site!r}: x must be a tensor with at least one element"
            )
        prepared, stream = prepare(x), self._streams.get((site, worker))
        for known in () if stream is None else (stream.memory, stream.loop.prediction):
            if known is not None and known.shape != prepared.shape:
                raise InputError(
                    f"site {site!r} of worker {worker} has sent tensors of shape {tuple(known.shape)}, this one is "
                    f"{tuple(prepared.shape)}; give it a site of its own"
                )
        memory = None if stream is None else stream.memory
        if memory is None:
            return prepared
        owed = prepared + memory.to(prepared.device)
        if not bool(torch.isfinite(owed).all()):
            raise FloatingPointError(
                f"error feedback diverges at site {site!r} of worker {worker}: {self.quantizer} loses more than it is "
                "given; use it without"
            )
        return owed

    def _open(
        self, p: Tensor, site: str, worker: int, public: Mapping[str, Any] | None
    ) -> tuple[_Stream, Context]:
        stream = self._streams.get((site, worker))
        if stream is None or stream.generator.device != p.device:
            seed = derived_seed("channel", self.seed, site, worker)
            generator = torch.Generator(p.device).manual_seed(seed)
            stream = stream or self._streams.setdefault(
                (site, worker), _Stream(generator, _Loop(self.quantizer))
            )
            stream.generator = generator
        known = {"site": site, "worker": worker, "step": stream.messages, **(public or {})}
        return stream, Context(stream.generator, state=stream.state, public=known)

    def _close(self, stream: _Stream, p: Tensor, y: Tensor) -> None:
        stream.messages += 1
        if self.error_feedback:
            stream.memory = p - y.to(torch.float32)


@final
class Receiver:
    """Reads the messages of one site and worker from their bytes, in the order in which they were sent."""

    def __init__(self, quantizer: Quantizer) -> None:
        self._code = Code(quantizer)
        self._loop = _Loop(quantizer)
        self._schemas = [b"", b""]

    def receive(self, data: bytes, shape: torch.Size, device: torch.device | str = "cpu") -> Tensor:
        """The reconstruction, float32, channel axis first, on ``device``.

        Raises:
            PayloadError: bytes that were damaged, cut short, or belong elsewhere in the stream.
        """
        if not data or data[0] > 3:
            raise PayloadError(f"a message of a stream starts with a byte of 0 to 3, not {data[:1]!r}")
        messages, at = [], _MARK
        for i in range(2):
            known = b"" if data[0] >> i & 1 else self._schemas[i]
            message, used = unpack(known + data[at:])
            self._schemas[i] = schema(message)
            messages.append(to_device(message, device))
            at += used - len(known)
        if at != len(data):
            raise PayloadError(f"{len(data) - at} bytes follow the message's end")
        return self._loop.close(self._code.decode(messages[1], messages[0], shape))


def _refuse_inner_loops(quantizer: Quantizer) -> None:
    for part in quantizer.parts()[1:]:
        if isinstance(part, Differential):
            raise InputError(
                f"{quantizer} holds {part.name!r} inside, where nothing is predicted; put {part.name} around the rest"
            )


def _nbytes(message: Message, with_schema: bool) -> int:
    return nbytes(message) - (0 if with_schema else len(schema(message)))


def _like(y: Tensor, x: Tensor) -> Tensor:
    """A reconstruction in the dtype of what was sent."""
    limit = min(torch.finfo(x.dtype).max, torch.finfo(torch.float32).max)
    return y.clamp(-limit, limit).to(x.dtype)


def _powers_of_two(exponent: int) -> tuple[float, float]:
    """2^-e and 2^e, both normal float32."""
    bounded = max(-126, min(126, exponent))
    return math.ldexp(1.0, -bounded), math.ldexp(1.0, bounded)


def _largest_exponent(ps: Sequence[Tensor], gather: Gather) -> int:
    """Of all workers' tensors."""
    exponents: list[Message] = [{"e": torch.tensor(math.frexp(float(p.abs().max()))[1])} for p in ps]
    return max(int(e) for message in gather(exponents) for e in message.values() if isinstance(e, Tensor))


def _exchange(
    name: str,
    exchanges: Sequence[Generator[Message, Message, Tensor]],
    streams: Sequence[_Stream],
    gather: Gather,
) -> tuple[list[Tensor], int, int]:
    """What every worker returns, bytes up and bytes down."""
    workers = [_to_the_end(exchange) for exchange in exchanges]
    replies, up, down, rounds = [next(worker) for worker in workers], 0, 0, 0
    while messages := [reply for reply in replies if isinstance(reply, dict)]:
        if len(messages) < len(replies):
            raise PluginError(
                f"{name}: only some workers ended after {rounds} rounds; let all yield as often"
            )
        new = [stream.is_new(f"round {rounds}", m) for stream, m in zip(streams, messages)]
        up += sum(_MARK + _nbytes(*pair) for pair in zip(messages, new))
        mean = _mean(name, gather(messages))
        down += len(messages) * _nbytes(mean, with_schema=False)
        replies, rounds = [worker.send(mean) for worker in workers], rounds + 1
    return [reply for reply in replies if isinstance(reply, Tensor)], up, down


def _to_the_end(
    exchange: Generator[Message, Message, Tensor],
) -> Generator[Message | Tensor, Message, None]:
    """Its messages, then what it returns."""
    yield (yield from exchange)


def _mean(name: str, messages: Sequence[Message]) -> Message:
    """Entry by entry, summed in float64."""
    mean: Message = {}
    for other in messages:
        if [*other] != [*messages[0]]:
            raise PluginError(
                f"{name}: workers exchange {[*messages[0]]} and {[*other]}; yield the same names"
            )
    for entry in messages[0]:
        parts = [message[entry] for message in messages]
        tensors = [part for part in parts if isinstance(part, Tensor) and part.is_floating_point()]
        if len(tensors) < len(parts) or len({(t.shape, t.dtype) for t in tensors}) > 1:
            raise PluginError(
                f"{name}: what workers exchange as {entry!r} is not a float tensor of one shape at all of them"
            )
        mean[entry] = torch.stack(tensors).double().mean(0).to(tensors[0].dtype)
    return mean


def _checked(name: str, mean: Tensor, shape: torch.Size) -> Tensor:
    if mean.shape != shape or not bool(torch.isfinite(mean).all()):
        raise InvalidReconstructionError(
            f"{name}: its exchange gave no finite values of shape {tuple(shape)}"
        )
    return mean
