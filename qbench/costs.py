"""What one example costs in a network: multiplications, elements moved, bit operations, an estimate of energy."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .classifier import evaluate, exact_kernels
from .layers import LAYERS, weight_tensors
from .models.attention import Attention

Operands = Literal["weight x activation", "activation x activation"]
FLOAT_BITS: Final = 32
_COUNTED: tuple[type[nn.Module], ...] = (*LAYERS, Attention)

# picojoule: a chip of 45 nm at 0.9 V
_INT8_MULTIPLY, _INT32_MULTIPLY, _INT32_ADD = 0.2, 3.1, 0.1
_FLOAT_MULTIPLY_ADD = {16: 1.1 + 0.4, 32: 3.7 + 0.9}
_DRAM_BIT, _SRAM_BIT = 640 / 32, 5 / 32


@dataclass(frozen=True)
class LayerCost:
    """One example in one layer, biases and what is no product left out.

    Attributes:
        operands: what is multiplied with what.
        macs: multiplications, each with an addition.
        weight_elements: of the weight, however often it is used; 0 where activations meet activations.
        input_elements: activations read.
        output_elements: activations written.
    """

    operands: Operands
    macs: int
    weight_elements: int
    input_elements: int
    output_elements: int

    def __add__(self, other: "LayerCost") -> "LayerCost":
        """Of two uses of the same layer."""
        return replace(
            self,
            macs=self.macs + other.macs,
            input_elements=self.input_elements + other.input_elements,
            output_elements=self.output_elements + other.output_elements,
        )


def layer_costs(module: nn.Module, inputs: Tensor) -> dict[str, LayerCost]:
    """The cost of an example by name of the weight it meets, or of the attention whose products it enters.

    A linear layer multiplies ``outputs * in``, a convolution ``outputs * in / groups * kernel``, outputs being all
    elements of its output; attention ``2 * queries * keys * width``, masked or not. Uses of one weight add up. What
    other modules multiply is not counted: :func:`flops` shows it.

    Args:
        inputs: as the network takes them, [n, ...]; the first is counted.
    """
    costs: dict[str, LayerCost] = {}

    def note(name: str, cost: LayerCost) -> None:
        costs[name] = costs[name] + cost if name in costs else cost

    with _watched(module, note):
        evaluate(module, inputs[:1])
    return costs


@contextmanager
def _watched(module: nn.Module, note: Callable[[str, LayerCost], None]) -> Iterator[None]:
    names = {id(weight.parameter): weight.name for weight in weight_tensors(module)}
    handles = []
    for path, part in module.named_modules():
        name = names.get(id(part._parameters.get("weight"))) if isinstance(part, LAYERS) else path
        if name is not None and isinstance(part, _COUNTED):
            handles.append(part.register_forward_hook(partial(_count, name, note), with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _count(
    name: str,
    note: Callable[[str, LayerCost], None],
    part: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    output: Any,
) -> None:
    if isinstance(part, Attention):
        query, key = (kwargs[word] if word in kwargs else args[i] for i, word in enumerate(("query", "key")))
        note(name, _attention_cost(part.heads, query, key))
    else:
        note(name, _layer_cost(part, args[0] if args else kwargs["input"], output))


def _layer_cost(layer: nn.Module, x: Tensor, output: Tensor) -> LayerCost:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    macs = output.numel() * weight[0].numel()
    return LayerCost("weight x activation", macs, weight.numel(), x.numel(), output.numel())


def _attention_cost(heads: int, query: Tensor, key: Tensor) -> LayerCost:
    """Of Q K^T and P V; queries and values have the width of the keys, P is heads * queries * keys."""
    examples, queries, width = query.shape
    keys = key.shape[1]
    scores = examples * heads * queries * keys
    read = examples * width * (queries + 2 * keys) + scores
    written = scores + examples * queries * width
    return LayerCost("activation x activation", 2 * examples * queries * keys * width, 0, read, written)


def flops(module: nn.Module, inputs: Tensor) -> int:
    """Floating-point operations of matrix products and convolutions for one example: 2 each multiplication.

    Counted by torch where they are executed, whatever module does it.
    """
    with FlopCounterMode(display=False) as counter:
        evaluate(module, inputs[:1])
    return int(counter.get_total_flops())


def training_flops(module: nn.Module, inputs: Tensor) -> int:
    """Those of one example forward and back: gradients of all parameters, none of the input."""
    copy = deepcopy(module).eval().requires_grad_()
    device = next(copy.parameters()).device
    with (
        FlopCounterMode(display=False) as counter,
        exact_kernels(),
        torch.autocast(device.type, enabled=False),
        torch.enable_grad(),
    ):
        total = copy(inputs[:1].to(device)).sum()
        torch.autograd.grad(total, list(copy.parameters()), allow_unused=True)
    return int(counter.get_total_flops())


def bops(
    costs: Mapping[str, LayerCost], weight_bits: Mapping[str, float], activation_bits: Mapping[str, float]
) -> float:
    """Bit operations of an example: the sum over layers of ``macs * b_w * b_a``, 32 bits where none are given.

    Where activations meet activations both have the activation bits of that name. Accumulation is not counted.

    Reference: van Baalen et al. 2020, "Bayesian Bits: Unifying Quantization and Pruning"; Baskin et al. 2018, "UNIQ",
    which adds the accumulator's bits.
    """
    total = 0.0
    for name, cost in costs.items():
        first, second = _operand_bits(name, cost, weight_bits, activation_bits, FLOAT_BITS)
        total += cost.macs * first * second
    return total


@dataclass(frozen=True)
class Energy:
    """Joule for one example: in multipliers and adders, for weights from DRAM, for activations in SRAM."""

    arithmetic: float
    weights: float
    activations: float

    @property
    def total(self) -> float:
        return self.arithmetic + self.weights + self.activations


def energy(
    costs: Mapping[str, LayerCost],
    weight_bits: Mapping[str, float],
    activation_bits: Mapping[str, float],
    stored_bits: Mapping[str, float] | None = None,
    moved_bits: Mapping[str, float] | None = None,
    float_bits: Literal[16, 32] = FLOAT_BITS,
) -> Energy:
    """An estimate from counted operations and bits moved; no measurement.

    - Arithmetic: ``macs * (multiply + add)``. Where both operands have bits given they are integers, accumulated in
      int32 (0.1 pJ); a multiplication costs 0.2 pJ for 8 x 8 bits and 3.1 pJ for 32 x 32, linear in ``b_w * b_a``
      between, in proportion to it below. Else both are floats: 1.1 + 0.4 pJ at 16 bits, 3.7 + 0.9 pJ at 32.
    - Weights: each read once an example from DRAM, 640 pJ for 32 bits.
    - Activations: each layer reads its input and writes its output once, in an SRAM of 8 KB, 5 pJ for 32 bits, at
      the bits that its input is moved with.

    Costs of a chip of 45 nm; biases, normalization, nonlinearities, scales and control are left out.

    Args:
        weight_bits: of integer weights, by name of the weight. activation_bits: of integer inputs, by the same name.
        stored_bits: of a weight's element in memory, scales and codebooks included; weight_bits where not given.
        moved_bits: of an input's element in memory, scales that come with it included; activation_bits where not given.
        float_bits: of every operand that has no bits given.

    Reference: Horowitz 2014, "Computing's energy problem (and what we can do about it)", figure 1.1.9;
    its memories by 32 bits in Han et al. 2015, "Learning both Weights and Connections", table 1.
    """
    arithmetic = weights = activations = 0.0
    stored = {**weight_bits, **(stored_bits or {})}
    moved = {**activation_bits, **(moved_bits or {})}
    for name, cost in costs.items():
        first, second = _operand_bits(name, cost, weight_bits, activation_bits, float_bits)
        integers = name in activation_bits and (name in weight_bits or not cost.weight_elements)
        each = _integer_mac(first * second) if integers else _FLOAT_MULTIPLY_ADD[float_bits]
        arithmetic += cost.macs * each
        weights += cost.weight_elements * stored.get(name, float_bits) * _DRAM_BIT
        activations += (cost.input_elements + cost.output_elements) * moved.get(name, float_bits) * _SRAM_BIT
    return Energy(1e-12 * arithmetic, 1e-12 * weights, 1e-12 * activations)


def _operand_bits(
    name: str,
    cost: LayerCost,
    weight_bits: Mapping[str, float],
    activation_bits: Mapping[str, float],
    missing: float,
) -> tuple[float, float]:
    activation = activation_bits.get(name, missing)
    by_activation = cost.operands == "activation x activation"
    return activation if by_activation else weight_bits.get(name, missing), activation


def _integer_mac(product: float) -> float:
    """Picojoule of a multiplication of operands whose bits have this product, and an int32 addition."""
    if product <= 64:
        return _INT8_MULTIPLY * product / 64 + _INT32_ADD
    slope = (_INT32_MULTIPLY - _INT8_MULTIPLY) / (1024 - 64)
    return _INT8_MULTIPLY + slope * (product - 64) + _INT32_ADD
