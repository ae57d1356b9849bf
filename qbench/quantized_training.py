"""A network whose weights are quantized in every step of its training, while the optimizer moves the real ones."""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .codec import Code, prepare
from .components import Context, Quantizer, Trainable
from .layers import Weight
from .message import Message
from .quantizers.surrogates import learnable
from .schema import derived_seed


@final
class QuantizedWeights(nn.Module):
    """The network ``module`` with quantized values in the place of some of its weights.

    The parameters stay where they are, under their names, float32: the forward pass alone sees quantized values, and
    gradients come back through :meth:`qbench.codec.Code.surrogate`. Beside them it has the parameters that a
    :class:`Trainable` quantizer's codebooks hold, fitted once, here; every other quantizer's codebooks are fitted
    again every ``refit`` steps.

    In training mode each call is one step: ``context.progress`` is the share of ``steps`` done,
    ``context.public["step"]`` their number, and encoders draw from a generator for each weight. In evaluation mode the
    weights are what :func:`qbench.measuring.code` makes of them, with a generator seeded by ``seed`` and the name.

    Args:
        module: from pictures to logits.
        weights: those of ``module`` to quantize, of :func:`qbench.layers.weight_tensors`.
        steps: how many will be taken.
        refit: steps from one fit of a codebook to the next, for quantizers that are not Trainable.

    Raises:
        FloatingPointError: when called, after a weight became NaN or infinite.
    """

    def __init__(
        self,
        module: nn.Module,
        weights: Sequence[Weight],
        quantizer: Quantizer,
        *,
        seed: int,
        steps: int,
        refit: int = 10,
    ) -> None:
        super().__init__()
        self.module, self.steps, self.refit, self.step = module, steps, refit, 0
        self._weights = [_QuantizedWeight(weight, quantizer, seed) for weight in weights]
        self.learned = nn.ParameterList(p for weight in self._weights for p in weight.learned)
        self._evaluated: dict[str, Tensor] | None = None
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    def forward(self, images: Tensor) -> Tensor:
        # codes decide on exact values: no autocast around them
        with torch.autocast(images.device.type, enabled=False):
            weights = self._trained() if self.training else self.values()
        logits: Tensor = functional_call(self.module, weights, (images,))
        return logits

    def values(self) -> dict[str, Tensor]:
        """The quantized weights by name, as they are stored."""
        if self._evaluated is None:
            with torch.no_grad():
                self._evaluated = {weight.name: weight.stored() for weight in self._weights}
        return self._evaluated

    def codebooks(self) -> dict[str, Message]:
        """The learned codebooks by name of the weight; none where they are fitted to the weights they code."""
        return {
            weight.name: _detached(weight.codebook) for weight in self._weights if weight.codebook is not None
        }

    def _trained(self) -> dict[str, Tensor]:
        self._evaluated = None
        step, self.step = self.step, self.step + 1
        context = {"progress": min(1.0, step / self.steps), "public": {"step": step}}
        fresh = step % self.refit == 0
        return {weight.name: self._surrogate(weight, fresh, context) for weight in self._weights}

    def _surrogate(self, weight: "_QuantizedWeight", fresh: bool, context: dict[str, Any]) -> Tensor:
        try:
            return weight.surrogate(fresh, context)
        except Exception:
            if bool(torch.isfinite(weight.parameter).all()):
                raise
            # the quantizer is not to blame
            raise FloatingPointError(
                f"{weight.name} became NaN or infinite in step {self.step} of {self.steps}; lower the learning rate"
            ) from None


def _forget(module: nn.Module, keys: object) -> None:
    """Other weights were loaded."""
    assert isinstance(module, QuantizedWeights)
    module._evaluated = None


class _QuantizedWeight:
    """One weight with its code. ``codebook`` is the learned one, None where it is fitted again and again."""

    def __init__(self, weight: Weight, quantizer: Quantizer, seed: int) -> None:
        self.name, self.parameter, self.code = weight.name, weight.parameter, Code(quantizer)
        self.seed, self.state = seed, dict[str, Any]()
        self.generator = self._generator("training")
        self.learned: list[nn.Parameter] = []
        self.codebook: Message | None = None
        self._fitted: Message = {}
        if isinstance(quantizer, Trainable):
            x = prepare(self.parameter)
            fitted = self.code.fit(x, Context(self._generator()))
            self.codebook = _with_parameters(learnable(fitted), self.learned)

    def surrogate(self, fresh: bool, around: dict[str, Any]) -> Tensor:
        """The quantized weight, with gradients. ``fresh``: whether a codebook that is not learned is fitted."""
        context = Context(self.generator, state=self.state, **around)
        if self.codebook is None and fresh:
            self._fitted = self.code.fit(prepare(self.parameter), context)
        codebook = self._fitted if self.codebook is None else self.codebook
        return self._formatted(self.code.surrogate(self.parameter.contiguous(), codebook, context))

    def stored(self) -> Tensor:
        """What comes back from the bytes."""
        x, context = prepare(self.parameter), Context(self._generator())
        codebook = self.code.fit(x, context) if self.codebook is None else self.codebook
        codes = self.code.encode(x, codebook, context)
        return self._formatted(self.code.decode(codes, codebook, x.shape))

    def _formatted(self, value: Tensor) -> Tensor:
        """In the parameter's memory format, which kernels are chosen by."""
        last = torch.channels_last
        if self.parameter.dim() == 4 and self.parameter.is_contiguous(memory_format=last):
            return value.contiguous(memory_format=last)
        return value

    def _generator(self, *purpose: str) -> torch.Generator:
        seed = derived_seed(self.seed, self.name, *purpose)
        return torch.Generator(self.parameter.device).manual_seed(seed)


def _with_parameters(codebook: Message, found: list[nn.Parameter]) -> Message:
    """The same codebook with every tensor that requires a gradient a parameter; they are added to ``found``."""
    held: Message = {}
    for name, value in codebook.items():
        if isinstance(value, dict):
            held[name] = _with_parameters(value, found)
        elif isinstance(value, Tensor) and value.requires_grad:
            held[name] = parameter = nn.Parameter(value.detach())
            found.append(parameter)
        else:
            held[name] = value
    return held


def _detached(codebook: Message) -> Message:
    """A copy that later steps do not change."""
    return {
        name: _detached(value)
        if isinstance(value, dict)
        else value.detach().clone()
        if isinstance(value, Tensor)
        else value
        for name, value in codebook.items()
    }
