"""Samples of a layer's input on their way through a quantizer, each a message of its own."""

from contextlib import suppress
from typing import Any, Final, final

import torch
from torch import Tensor, nn

from .classifier import Reader
from .codec import Code
from .components import Context, Quantizer
from .errors import InvalidReconstructionError
from .measuring import Distortion
from .message import Message, Stream, entropy_bits, is_coded, nbytes, pack, schema, to_device, unpack
from .schema import derived_seed

_ALONE: Final = 64


@final
class ActivationCode:
    """The inputs of one layer on their way through a quantizer, sample by sample, and what they take.

    The first samples are coded one by one. A static code may then take a whole batch at once where that is the same
    thing: what the batch's message holds is, part for part, as many times as much as a sample's, in streams of fixed
    length and tensors, and the first samples decode from it bit for bit as they do alone. Nothing is shared between
    samples then, and the batch counts as their messages.

    Args:
        codebook: the static one, or None for one a sample.
        tokens: whether each position of an input [n, positions, features] is a sample, and not each input: what
            predicts the next character must not see a scale that later ones had a part in.

    Attributes:
        elements: that were coded. nbytes: that their messages take; a schema is sent where it changes.
        codebook_nbytes: of the static codebook.
        coded: whether a stream is entropy-coded.
        scaled: whether messages bring floats of their own beside the codes, such as scales.
        batched: whether whole batches were coded at once.
        distortion: of the first samples.
    """

    def __init__(
        self,
        name: str,
        quantizer: Quantizer,
        codebook: Message | None,
        seed: int,
        device: torch.device,
        tokens: bool = False,
    ) -> None:
        self.name, self.code, self.tokens = name, Code(quantizer), tokens
        self.elements = self.nbytes = self.codebook_nbytes = 0
        self.coded = self.scaled = False
        self.distortion = Distortion(0, 0.0, 0.0, 0.0, 0.0)
        self._entropy = 0.0
        self._firsts: list[tuple[Tensor, Tensor]] = []
        self._alone = self._code_bits = self._coded_elements = 0
        self._generator = torch.Generator(device).manual_seed(derived_seed(seed, name))
        self._codebook, self._decoders_codebook = None, None
        if codebook is not None:
            # encoder and decoder have copies of their own, as if it had been sent
            packed = pack(codebook)
            self.codebook_nbytes = len(packed)
            self._codebook, self._decoders_codebook = (to_device(unpack(packed)[0], device) for _ in range(2))
        self._schemas = b""
        self._schemas_nbytes = 0
        self._sizes: list[tuple[bytes, list[int], int]] = []
        self._layout: _Layout | None = None

    @property
    def batched(self) -> bool:
        return self._layout is not None

    @property
    def rate(self) -> float:
        """Bits per element."""
        return 8 * self.nbytes / max(1, self.elements)

    @property
    def code_bits(self) -> float:
        """Bits of an element's codes, as :func:`code_bits` counts them; the rate where there are none."""
        return self._code_bits / max(1, self._coded_elements) or self.rate

    @property
    def entropy_rate(self) -> float:
        """Bits per element under an adaptive coder that starts anew with each sample; of the first samples."""
        alone = self._entropy / max(1, self.distortion.count)
        return alone + 8 * self._schemas_nbytes / max(1, self.elements)

    def __call__(
        self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Forward pre-hook: the same call with what decodes in the place of the input."""
        given = args[0] if args else kwargs["input"]
        # strides decide which kernel adds in which order
        decoded = torch.empty_like(given).copy_(self.decoded(given))
        return ((decoded, *args[1:]), kwargs) if args else (args, {**kwargs, "input": decoded})

    def decoded(self, inputs: Tensor) -> Tensor:
        """What decodes from the codes of these samples, [n, ...]."""
        x = inputs.detach().float().contiguous()
        if not bool(torch.isfinite(x).all()):
            raise InvalidReconstructionError(
                f"the input of {self.name} became NaN or infinite: the layers before it are quantized too coarsely"
            )
        self.elements += x.numel()
        samples = x.reshape(-1, x.shape[-1]) if self.tokens else x
        fresh = max(0, _ALONE - self._alone)
        return torch.cat([self._first(samples[:fresh]), self._later(samples[fresh:])]).reshape(x.shape)

    def _first(self, x: Tensor) -> Tensor:
        """The samples that are coded alone whatever comes of it; once there are all of them they decide on the rest."""
        if not len(x):
            return x
        decoded = torch.stack([self._sample(one, measured=True) for one in x])
        self.distortion += Distortion.between(x, decoded)
        self._alone += len(x)
        self._firsts.append((x, decoded))
        if self._alone == _ALONE:
            self._layout = self._agreeing()
            self._firsts.clear()
        return decoded

    def _later(self, x: Tensor) -> Tensor:
        if not len(x):
            return x
        decoded = None if self._layout is None else self._batch(x, self._layout)
        if decoded is None:
            self._layout = None
            return torch.stack([self._sample(one) for one in x])
        self.nbytes += len(x) * self._sizes[0][2]
        return decoded

    def _sample(self, x: Tensor, measured: bool = False) -> Tensor:
        rows, context = alone(x), Context(self._generator)
        own = self.code.fit(rows, context) if self._codebook is None else None
        codes = self.code.encode(rows, (self._codebook or {}) if own is None else own, context)
        self._code_bits += code_bits(codes)
        self._coded_elements += x.numel()
        self._count(codes if own is None else {"codebook": own, "codes": codes}, measured)
        codebook = (self._decoders_codebook or {}) if own is None else own
        return self.code.decode(codes, codebook, rows.shape).reshape(x.shape)

    def _count(self, message: Message, measured: bool) -> None:
        named = schema(message)
        content = nbytes(message) - len(named)
        if named != self._schemas:
            self._schemas = named
            self._schemas_nbytes += len(named)
            self.nbytes += len(named)
        self.nbytes += content
        self.coded |= is_coded(message)
        self.scaled |= _has_floats(message)
        if measured:
            self._entropy += entropy_bits(message) - 8 * len(named)
            self._sizes.append((named, _counts(message), content))

    def _agreeing(self) -> "_Layout | None":
        """A way to put the first samples together in which they are coded as they are alone."""
        if self._codebook is None or self.coded or any(size != self._sizes[0] for size in self._sizes):
            return None
        if len({x.shape[1:] for x, _ in self._firsts}) > 1:
            return None
        x, decoded = (torch.cat(parts) for parts in zip(*self._firsts, strict=True))
        for layout in (_CHANNELS, _ROWS):
            # a quantizer may refuse tensors of a shape that its codebook was not fitted on
            with suppress(Exception):
                found = self._batch(x, layout)
                if found is not None and torch.equal(found, decoded):
                    return layout
        return None

    def _batch(self, x: Tensor, layout: "_Layout") -> Tensor | None:
        """What decodes from one message for all samples; None where that is not made of theirs."""
        assert self._codebook is not None
        assert self._decoders_codebook is not None
        rows = layout.together(x)
        codes = self.code.encode(rows, self._codebook, Context(self._generator))
        named, counts, _ = self._sizes[0]
        if schema(codes) != named or _counts(codes) != [len(x) * count for count in counts]:
            return None
        return layout.apart(self.code.decode(codes, self._decoders_codebook, rows.shape), x.shape)


def reads_text(module: nn.Module) -> bool:
    """Whether a network predicts characters, so that each position is a sample."""
    return any(isinstance(part, Reader) for part in module.modules())


def code_bits(message: Message) -> int:
    """Bits of codes as arithmetic meets them: whole bits for each code, entropy-coded or not, and floats whole."""
    bits = 0
    for value in message.values():
        if isinstance(value, dict):
            bits += code_bits(value)
        elif isinstance(value, Stream):
            bits += value.values.numel() * (value.levels - 1).bit_length()
        else:
            bits += 8 * value.nbytes
    return bits


def _has_floats(message: Message) -> bool:
    return any(
        _has_floats(value)
        if isinstance(value, dict)
        else isinstance(value, Tensor) and value.is_floating_point()
        for value in message.values()
    )


def _counts(message: Message) -> list[int]:
    """Entries of each part, in order."""
    found: list[int] = []
    for value in message.values():
        if isinstance(value, dict):
            found += _counts(value)
        else:
            found.append(value.values.numel() if isinstance(value, Stream) else value.numel())
    return found


class _Layout:
    """How the samples of a batch make one tensor."""

    def __init__(self, channels_first: bool) -> None:
        self.channels_first = channels_first

    def together(self, x: Tensor) -> Tensor:
        return together(x) if self.channels_first else x.reshape(1, -1)

    def apart(self, rows: Tensor, shape: torch.Size) -> Tensor:
        return (
            rows.movedim(0, 1).reshape(shape)
            if self.channels_first and len(shape) > 3
            else rows.reshape(shape)
        )


_CHANNELS, _ROWS = _Layout(channels_first=True), _Layout(channels_first=False)


def alone(x: Tensor) -> Tensor:
    """A sample as a quantizer sees it: [channels, height, width] as it is; features without place are one channel."""
    return x if x.dim() > 2 else x.reshape(1, -1)


def together(x: Tensor) -> Tensor:
    """Samples [n, channels, height, width] as [channels, n, height, width], others [n, ...] as one channel."""
    return x.movedim(1, 0).contiguous() if x.dim() > 3 else x.reshape(1, -1)
