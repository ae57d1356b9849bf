"""What is checked: a quantizer with the data, contexts and seeds of the contract kit."""

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn, final
from unittest import SkipTest

import torch
from torch import Tensor

from ..codec import Code, Header, from_payload, inner_versions, prepare
from ..components import Context, Quantizer
from ..errors import QBenchError
from ..message import Message, pack
from ..schema import derived_seed

_FINITE = "every finite tensor must come back finite, in its shape: treat this case in fit or encode"


class ContractError(QBenchError):
    """A quantizer breaks the contract: what it did, what is required, what to do next."""


@final
class NotApplicable(SkipTest):
    """The check has nothing to say about this quantizer or on this machine; pytest shows it as skipped."""


@final
@dataclass(frozen=True)
class Sent:
    """A payload and the messages it was made of."""

    payload: bytes
    codebook: Message
    codes: Message

    @property
    def header(self) -> bytes:
        return self.payload[: 7 + int.from_bytes(self.payload[5:7], "little")]


@final
@dataclass(frozen=True)
class Subject:
    """A quantizer under check."""

    quantizer: Quantizer
    seed: int

    def gaussian(self, *shape: int, draw: int = 0) -> Tensor:
        """Independent N(0, 1) values; another tensor for every ``draw``."""
        generator = torch.Generator().manual_seed(1000 * self.seed + draw)
        return torch.randn(shape, generator=generator, dtype=torch.float32)

    def values(self, count: int, *, draw: int = 0) -> Tensor:
        """So many Gaussian values in a row, or in rows of 64 where a gram would have their square."""
        x = self.gaussian(count, draw=draw)
        return x.reshape(-1, 64) if any("gram" in part.needs for part in self.quantizer.parts()) else x

    def fail(self, what: str, required: str) -> NoReturn:
        raise ContractError(f"{self.quantizer}: {' '.join(what.split())}; {required}")

    def context(self, x: Tensor) -> Context:
        """Everything that a quantizer may find around ``x``, made up: a positive importance, a gram, a loss."""
        needs = frozenset().union(*(part.needs for part in self.quantizer.parts()))
        importance = 1.5 ** self.gaussian(*x.shape, draw=999).to(x.device)
        features = x[0].numel() if x.dim() > 1 else x.numel()
        return Context(
            torch.Generator(x.device).manual_seed(derived_seed("encoder", self.seed)),
            importance=importance if "importance" in needs else None,
            gram=_gram(features).to(x.device) if "gram" in needs else None,
            loss=(lambda y: _angle_loss(x, y)) if "loss" in needs else None,
        )

    def fit(self, x: Tensor) -> Message:
        prepared = prepare(x)
        return Code(self.quantizer).fit(prepared, self.context(prepared))

    def send(
        self,
        x: Tensor,
        *,
        codebook: Message | None = None,
        channel_axis: int = 0,
        quantizer: Quantizer | None = None,
    ) -> Sent:
        """Code ``x`` with a fresh generator of the same seed."""
        prepared = prepare(x, channel_axis)
        coder, context = Code(quantizer or self.quantizer), self.context(prepared)
        book = codebook if codebook is not None else coder.fit(prepared, context)
        codes = coder.encode(prepared, book, context)
        spec, inner = coder.quantizer.spec, inner_versions(coder.quantizer)
        header = Header(spec, coder.quantizer.version, x.shape, x.dtype, channel_axis, inner)
        return Sent(header.to_bytes() + pack(book) + pack(codes), book, codes)

    def require_repeatable(self, x: Tensor) -> None:
        """Skip a comparison of two messages where even those of one tensor differ."""
        if self.send(x).payload != self.send(x).payload:
            raise NotApplicable("one tensor has two codes under one seed; see the check deterministic")

    def receive(self, payload: bytes) -> Tensor:
        """Decode in this process, by a new quantizer of the same class and parameters."""
        return from_payload(payload, lambda spec: twin(self.quantizer))

    def through(
        self, x: Tensor, what: str, *, codebook: Message | None = None, channel_axis: int = 0
    ) -> Tensor:
        """The reconstruction of ``x``: finite, of its shape and dtype, or the check has failed."""
        with self.trying(what):
            sent = self.send(x, codebook=codebook, channel_axis=channel_axis)
            y = self.receive(sent.payload)
        if y.shape != x.shape or y.dtype != x.dtype:
            self.fail(f"{what} came back as {y.dtype} {tuple(y.shape)}", "shape and dtype must be kept")
        return y

    @contextmanager
    def trying(self, what: str, required: str = _FINITE) -> Iterator[None]:
        """Say what was tried when the quantizer raises."""
        try:
            yield
        except (ContractError, SkipTest):
            raise
        except Exception as error:
            text = str(error) if isinstance(error, QBenchError) else f"{type(error).__name__}: {error}"
            raise ContractError(f"{self.quantizer}: {what}: {' '.join(text.split())}; {required}") from error


def twin(quantizer: Quantizer) -> Quantizer:
    """A new quantizer of the same class and parameters, that remembers nothing."""
    return type(quantizer)(**dict(quantizer.parameters))


def nested(quantizer: Quantizer) -> list[Quantizer]:
    """The quantizers among its parameters."""
    return [value for value in dict(quantizer.parameters).values() if isinstance(value, Quantizer)]


def leaves(message: Message) -> Mapping[str, object]:
    """What a message holds besides values: kinds and levels by dotted name."""
    found: dict[str, object] = {}
    for name, value in message.items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": kind for inner, kind in leaves(value).items()}
        else:
            found[name] = value.dtype if isinstance(value, Tensor) else (value.coder, value.levels)
    return found


def _angle_loss(x: Tensor, y: Tensor) -> Tensor:
    """1 - cos(x, y): the same for a reconstruction before and after the core's power of two."""
    return 1 - torch.cosine_similarity(x.double().reshape(-1), y.double().reshape(-1), dim=0, eps=1e-300)


@functools.cache
def _gram(features: int) -> Tensor:
    """Second moments of twice as many Gaussian inputs as there are features, [features, features]."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2 * features, features, generator=generator, dtype=torch.float32)
    return inputs.T @ inputs / (2 * features)
