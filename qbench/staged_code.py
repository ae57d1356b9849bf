"""The codes of one tensor while a network is trained: quantizers in turn, codebooks that are learned or fitted."""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from .codec import Code, prepare
from .components import Constrained, Context, Quantizer, Trainable
from .errors import ParameterError
from .message import Message
from .quantizers.surrogates import LearnedCodebook
from .schema import derived_seed


@final
class StagedCode(nn.Module):
    """Quantizers that code a tensor in turn, each for an equal share of training; equal neighbours are one.

    A :class:`Trainable` quantizer's codebook is held as parameters, fitted to the tensor at hand when its turn begins;
    every other one's is fitted again and again.

    Args:
        quantizers: at least one; the last is the one whose codes are stored.
        first: the tensor, channel axis first, as it is before training.
        seed: of the generators that encoders draw from, with ``name``.
        begun: whether learned codebooks start from ``first``, not from the tensor of the first step.
    """

    def __init__(
        self, name: str, quantizers: Sequence[Quantizer], first: Tensor, *, seed: int, begun: bool
    ) -> None:
        super().__init__()
        self.name, self._seed, self._device = name, seed, first.device
        self._generator = self.generator("training")
        self._turns: list[_Stage] = []
        for quantizer in quantizers:
            if not self._turns or self._turns[-1].code.quantizer.spec != quantizer.spec:
                self._turns.append(_Stage(quantizer, prepare(first), Context(self.generator())))
            else:
                self._turns.append(self._turns[-1])
        self.stages = nn.ModuleList(dict.fromkeys(self._turns))
        self._turn, self._turns[0].begun = 0, begun

    def surrogate(self, x: Tensor, *, step: int, steps: int, refit: int, public: dict[str, Any]) -> Tensor:
        """The value of the code of ``x`` in this step, with gradients.

        Args:
            x: the tensor, channel axis first.
            refit: steps from one fit to the next, where the codebook is not learned.
            public: what context.public holds.
        """
        self._turn = min(step * len(self._turns) // steps, len(self._turns) - 1)
        stage = self._turns[self._turn]
        context = Context(self._generator, state=stage.state, public=public, progress=min(1.0, step / steps))
        if stage.learned is None and (step % refit == 0 or not stage.begun):
            stage.fitted = stage.code.fit(prepare(x), context)
        elif stage.learned is not None and not stage.begun:
            stage.learned.assign(stage.code.fit(prepare(x), Context(self.generator())))
        stage.begun = True
        return stage.code.surrogate(x, stage.codebook, context)

    @property
    def constrained(self) -> bool:
        """Whether the quantizer whose turn it is keeps the tensor in bounds."""
        return isinstance(self._turns[self._turn].code.quantizer, Constrained)

    def project(self, x: Tensor) -> Tensor:
        """What the quantizer whose turn it is allows in the place of ``x``."""
        stage = self._turns[self._turn]
        return stage.code.project(x, stage.codebook)

    @property
    def learned(self) -> Message | None:
        """The last quantizer's codebook, None where it is not learned; before its turn, what was assigned."""
        last = self._turns[-1].learned
        return None if last is None else last.message()

    @property
    def ready(self) -> bool:
        """Whether the last quantizer has begun to learn its codebook."""
        return self._turns[-1].learned is not None and self._turns[-1].begun

    def assign(self, codebook: Message) -> None:
        """What the last quantizer's codebook is until its turn comes; of no effect where it is not learned."""
        if (last := self._turns[-1].learned) is not None:
            last.assign(codebook)

    def stored(self, x: Tensor) -> Tensor:
        """What comes back from the bytes of ``x``, by the last quantizer, fitted to ``x`` where it is not ready."""
        x, code, context = prepare(x), self._turns[-1].code, Context(self.generator())
        if self.learned is None:
            codebook = code.fit(x, context)
        else:
            if not self.ready:
                self.assign(code.fit(x, Context(self.generator())))
            codebook = self.learned
        return code.decode(code.encode(x, codebook, context), codebook, x.shape)

    def generator(self, *purpose: str) -> torch.Generator:
        """A new one; the same draws for the same seed, name and purpose."""
        seed = derived_seed(self._seed, self.name, *purpose)
        return torch.Generator(self._device).manual_seed(seed)


class _Stage(nn.Module):
    """One quantizer's turn. ``learned``: its codebook, None where it is fitted again and again."""

    def __init__(self, quantizer: Quantizer, first: Tensor, context: Context) -> None:
        super().__init__()
        self.code, self.begun = Code(quantizer), False
        self.state: dict[str, Any] = {}
        self.fitted: Message = {}
        self.learned: LearnedCodebook | None = None
        if isinstance(quantizer, Trainable):
            self.learned = LearnedCodebook(self.code.fit(first, context))

    @property
    def codebook(self) -> Message:
        return self.fitted if self.learned is None else self.learned.message()


def annealed(quantizer: Quantizer, bits: Sequence[int]) -> list[Quantizer]:
    """The quantizer with each of these bits in turn, and at last as it is.

    Raises:
        ParameterError: it has no ``bits``, nor has the one inside it, or does not take that many.
    """
    return [*(_with_bits(quantizer, width) for width in bits), quantizer]


def _with_bits(quantizer: Quantizer, bits: int) -> Quantizer:
    parameters = dict(quantizer.parameters)
    if "bits" in parameters:
        return type(quantizer)(**{**parameters, "bits": bits})
    inner = {name: value for name, value in parameters.items() if isinstance(value, Quantizer)}
    if len(inner) != 1:
        raise ParameterError(
            f"{quantizer} cannot be annealed to {bits} bits: it has no parameter 'bits'; leave anneal empty, or name "
            "a quantizer that has, such as lsq"
        )
    ((name, inside),) = inner.items()
    return type(quantizer)(**{**parameters, name: _with_bits(inside, bits)})
