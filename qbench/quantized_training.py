"""A network that computes with quantized weights and inputs of layers while the optimizer moves the real weights."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .activation_codes import observe
from .capture import activations
from .components import Quantizer
from .layers import LAYERS, Weight, swapped_weights, weight_tensors
from .message import Message
from .sample_codes import ActivationCode, reads_text, together
from .staged_code import StagedCode
from .training import Updated

Hook = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Any]


@dataclass(frozen=True)
class Inputs:
    """The layers whose inputs are quantized, and with what.

    Attributes:
        names: those of the layers' weights, of :func:`qbench.activation_codes.activation_names`.
        quantizers: one after the other, each for an equal share of the steps.
        calibration: inputs of the network, none of them a test example. Codebooks that are not learned are fitted to
            what they cause when the network is evaluated.
    """

    names: Sequence[str]
    quantizers: Sequence[Quantizer]
    calibration: Tensor


@final
class QuantizedNetwork(nn.Module, Updated):
    """The network ``module`` with quantized values in the place of some of its weights and of some layers' inputs.

    The parameters stay where they are, under their names, float32: the forward pass alone sees quantized values, and
    gradients come back through :meth:`qbench.codec.Code.surrogate`. Every weight, and the inputs of all layers that
    use a weight, have one codebook. Those of a :class:`Trainable` quantizer are parameters beside the network's; every
    other one is fitted to the weight, or to the batch at hand, every ``refit`` steps.

    Several quantizers take turns: each has an equal share of the steps, and learned codebooks are fitted when it
    begins. What is evaluated is the last one, on the weights as they are.

    In training mode each call is one step, and a layer's inputs of a whole batch are one message: ``context.progress``
    is the share of ``steps`` done, ``context.public`` holds their number ``step`` and, for inputs, how many ``samples``
    there are; encoders draw from a generator for each codebook. In evaluation mode the weights are what
    :func:`qbench.measuring.code` makes of them, with a generator seeded by ``seed`` and the name, and the inputs what
    :func:`qbench.activation_codes.coded_activations` does.

    Args:
        module: from pictures or text to logits.
        weights: those of ``module`` to quantize, of :func:`qbench.layers.weight_tensors`.
        quantizers: of the weights, one after the other.
        inputs: layers whose inputs are quantized too.
        steps: how many will be taken.
        refit: steps from one fit of a codebook to the next, for quantizers that are not Trainable.

    Raises:
        FloatingPointError: when called, after a weight or an input became NaN or infinite.
    """

    def __init__(
        self,
        module: nn.Module,
        weights: Sequence[Weight],
        quantizers: Sequence[Quantizer],
        *,
        inputs: Inputs | None = None,
        seed: int,
        steps: int,
        refit: int = 10,
    ) -> None:
        super().__init__()
        self.module, self.steps, self.refit, self.step = module, steps, refit, 0
        self._inputs, self._seed = inputs, seed
        self._weights = {weight.name: weight.parameter for weight in weights}
        self._codes = {
            w.name: StagedCode(w.name, quantizers, w.parameter, seed=seed, begun=True) for w in weights
        }
        self._input_codes = {} if inputs is None else _input_codes(module, inputs, seed)
        self.codes = nn.ModuleList([*self._codes.values(), *self._input_codes.values()])
        self._values: dict[str, Tensor] | None = None
        self._hooks: dict[str, Hook] | None = None
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training:
            return self._called(inputs, self.values(), self._evaluated_inputs(inputs.device))
        _forget(self)
        step, self.step = self.step, self.step + 1
        weights = {
            name: _like(x, self._surrogate(code, x, name, step)) for name, x, code in self._coded_weights()
        }
        return self._called(inputs, weights, self._trained_inputs(step))

    def updated(self) -> None:
        """Real weights go back to where their quantizers allow them, after every update."""
        with torch.no_grad():
            for _, parameter, code in self._coded_weights():
                if code.constrained:
                    parameter.copy_(code.project(parameter))

    def values(self) -> dict[str, Tensor]:
        """The quantized weights by name, as they are stored."""
        if self._values is None:
            with torch.no_grad():
                self._values = {name: _like(x, code.stored(x)) for name, x, code in self._coded_weights()}
        return self._values

    def codebooks(self) -> dict[str, Message]:
        """The learned codebooks by name of the weight; none where they are fitted to the weights they code."""
        self.values()
        return _learned(self._codes)

    def input_codebooks(self) -> dict[str, Message]:
        """The codebooks of the inputs by name of the weight: learned, or fitted to the calibration examples."""
        if self._inputs is None:
            return {}
        if all(code.ready for code in self._input_codes.values()):
            return _learned(self._input_codes)
        names, quantizer = self._inputs.names, self._inputs.quantizers[-1]
        with swapped_weights(self.module, self.values()):
            observed = observe(
                self.module, self._inputs.calibration, quantizer, names, "min-max", seed=self._seed
            )
        for name, codebook in observed.items():
            self._input_codes[name].assign(codebook)
        return observed

    def _coded_weights(self) -> list[tuple[str, nn.Parameter, StagedCode]]:
        return [(name, self._weights[name], code) for name, code in self._codes.items()]

    def _called(self, inputs: Tensor, weights: dict[str, Tensor], hooks: Mapping[str, Hook]) -> Tensor:
        with _hooked(self.module, hooks):
            logits: Tensor = functional_call(self.module, weights, (inputs,))
            return logits

    def _evaluated_inputs(self, device: torch.device) -> Mapping[str, Hook]:
        """Every sample is a message; the codes are the same ones until the weights change."""
        if self._inputs is not None and self._hooks is None:
            quantizer = self._inputs.quantizers[-1]
            tokens = reads_text(self.module)
            self._hooks = {
                name: ActivationCode(name, quantizer, codebook, self._seed, device, tokens)
                for name, codebook in self.input_codebooks().items()
            }
        return self._hooks or {}

    def _trained_inputs(self, step: int) -> Mapping[str, Hook]:
        def hook(name: str, code: StagedCode) -> Hook:
            def replaced(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
                given = args[0] if args else kwargs["input"]
                x = self._surrogate(code, together(given), f"the input of {name}", step, len(given))
                coded = _like(given, _apart(x, given.shape))
                return ((coded, *args[1:]), kwargs) if args else (args, {**kwargs, "input": coded})

            return replaced

        return {name: hook(name, code) for name, code in self._input_codes.items()}

    def _surrogate(
        self, code: StagedCode, x: Tensor, what: str, step: int, samples: int | None = None
    ) -> Tensor:
        public = {"step": step} if samples is None else {"step": step, "samples": samples}
        try:
            # codes decide on exact values: no autocast around them
            with torch.autocast(x.device.type, enabled=False):
                return code.surrogate(
                    x.float().contiguous(), step=step, steps=self.steps, refit=self.refit, public=public
                )
        except Exception:
            if bool(torch.isfinite(x).all()):
                raise
            # the quantizer is not to blame
            raise FloatingPointError(
                f"{what} became NaN or infinite in step {step} of {self.steps}; lower the learning rate"
            ) from None


def _learned(codes: Mapping[str, StagedCode]) -> dict[str, Message]:
    found = {name: code.learned for name, code in codes.items()}
    return {name: _detached(codebook) for name, codebook in found.items() if codebook is not None}


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


def _forget(network: nn.Module, keys: object = None) -> None:
    """Weights are about to change, or others were loaded."""
    assert isinstance(network, QuantizedNetwork)
    network._values = network._hooks = None


def _input_codes(module: nn.Module, inputs: Inputs, seed: int) -> dict[str, StagedCode]:
    first = activations(module, inputs.calibration)
    return {
        name: StagedCode(name, inputs.quantizers, together(first[name]), seed=seed, begun=False)
        for name in inputs.names
    }


@contextmanager
def _hooked(module: nn.Module, hooks: Mapping[str, Hook]) -> Iterator[None]:
    """Within the block the layers of the weights named call these before they compute."""
    names = {id(weight.parameter): weight.name for weight in weight_tensors(module)} if hooks else {}
    handles = [
        layer.register_forward_pre_hook(hooks[name], with_kwargs=True)
        for layer in (module.modules() if hooks else ())
        if isinstance(layer, LAYERS) and (name := names.get(id(layer._parameters.get("weight")), "")) in hooks
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _like(given: Tensor, value: Tensor) -> Tensor:
    """In the dtype and the strides of ``given``, which kernels are chosen by."""
    return torch.empty_like(given).copy_(value)


def _apart(rows: Tensor, shape: torch.Size) -> Tensor:
    """The samples that :func:`qbench.sample_codes.together` put together."""
    return rows.movedim(0, 1) if len(shape) > 3 else rows.reshape(shape)
