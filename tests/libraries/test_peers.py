"""The same trained network quantized by qbench, torchao and brevitas: 8-bit weights and activations, 4-bit weights.

Needs what `pip install .[test,libraries]` brings (`tox -e libraries`); without a library its tests are skipped.

The network is `cnn`, trained once, after batch-norm folding. The settings are the same everywhere: weights symmetric, a
scale per channel, the largest magnitude at level 127 (8 bits) or 7 (4 bits), no level -128 or -8; the inputs of all
layers but the first asymmetric, one scale from the extremes of the same 256 calibration pictures, 0 a level. Scales
are float32, biases stay float.

Where they differ all the same: the track `ptq` calibrates activations in the network whose weights are quantized
already, as it will run; both peers look at the float network, whose extremes are slightly others. Calibrated as
theirs, qbench agrees with them picture by picture. Their codes of the weights are ours, and so is every logit at 4-bit
weights, up to the order in which a convolution adds.
"""

import functools
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qbench
from qbench.activation_codes import activation_names, coded_activations, observe
from qbench.baselines import Baseline
from qbench.classifier import evaluate
from qbench.components import Examples
from qbench.datasets.fashion_mnist import FashionMnist
from qbench.layers import swapped_weights, weight_tensors
from qbench.metrics import accuracy, flips
from qbench.models.cnn import Cnn
from qbench.optimizers.adam import Adam
from qbench.plugins import catalog
from qbench.schema import Cell, Outcome, Recipe, Spec
from qbench.tracks.ptq import Ptq, calibration_pictures
from qbench.training import Training, train
from qbench.transforms.batch_norm_folding import BatchNormFolding

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]
TRAINING, CALIBRATION, BATCH = 20_000, 256, 512
POINTS = 0.3
RECIPE = Training(epochs=2, validation=0, selection="last")
WEIGHTS = "uniform(bits={bits},scheme=symmetric,granularity=channel,scale_dtype=float32)"
INPUTS = "uniform(bits={bits},scheme=asymmetric,granularity=tensor,scale_dtype=float32)"
SETTINGS = [pytest.param(8, True, id="W8A8"), pytest.param(4, False, id="W4")]


@dataclass(frozen=True)
class Trained:
    """A float network, the same after folding, and its pictures."""

    module: nn.Module
    folded: nn.Module
    data: Examples

    @property
    def calibration(self) -> Tensor:
        return calibration_pictures(self.data, CALIBRATION, 0)[0]

    @property
    def pictures(self) -> Tensor:
        return self.data.test_inputs

    def accuracy(self, logits: Tensor) -> float:
        return 100 * accuracy(logits, self.data.test_labels)


@dataclass(frozen=True)
class Found:
    """What a library made of the network: logits of the test pictures, codes of the weights by name."""

    logits: Tensor
    codes: dict[str, Tensor]


@pytest.fixture(scope="module")
def trained(fashion_mnist_root: Path) -> Trained:
    """Two epochs on a third of Fashion-MNIST: some 87 % right."""
    pytest.importorskip("torchao")
    pytest.importorskip("brevitas")
    data = FashionMnist().load(fashion_mnist_root)
    few = Examples(
        data.train_inputs[:TRAINING],
        data.train_labels[:TRAINING],
        data.test_inputs,
        data.test_labels,
        data.classes,
    )
    module = train(Cnn(width=16), Adam(), few, RECIPE, seed=0).module
    folded = BatchNormFolding().apply(module, calibration=few.train_inputs[:0], original=module)
    return Trained(module, folded, few)


class Bench:
    """The trained network for every recipe; decoding from the payload alone, in this process."""

    device = torch.device("cpu")

    def __init__(self, trained: Trained) -> None:
        self.trained = trained

    def build(self, kind: Any, spec: Spec) -> Any:
        return catalog().build(kind, spec)

    def quantizer(self, spec: Spec) -> Any:
        return self.build("quantizer", spec)

    def baseline(self, recipe: Recipe) -> Baseline:
        return Baseline(self.trained.module, self.trained.data, "", {}, recipe.baseline_id)

    def loaded(self) -> None: ...

    def decode(self, payloads: Sequence[bytes]) -> list[Tensor]:
        return [qbench.decode(payload) for payload in payloads]


def by_ptq(trained: Trained, bits: int, activations: bool) -> Outcome:
    """The track, with its own calibration."""
    weights, inputs = WEIGHTS.format(bits=bits), INPUTS.format(bits=bits)
    budget = {"transforms": ["batch-norm-folding"], "calibration": CALIBRATION}
    if activations:
        budget |= {"weights": weights, "observer": "min-max"}
    cell = Cell(
        track="ptq",
        track_version=Ptq.version,
        target="activation" if activations else "weight",
        quantizer=Spec.parse(inputs if activations else weights),
        model=Spec.parse("cnn(width=16)"),
        dataset=Spec.parse("fashion-mnist"),
        optimizer=Spec.parse("adam"),
        budget=budget,
    )
    return Ptq(**budget).run(cell, Bench(trained))


def by_qbench(trained: Trained, bits: int, activations: bool) -> Found:
    """Weights from their decoded payloads, activations coded on their way; calibrated on the float network."""
    network = deepcopy(trained.folded)
    quantizer, inputs = (qbench.quantizer(text.format(bits=bits)) for text in (WEIGHTS, INPUTS))
    decoded = {w.name: qbench.measure(quantizer, w.parameter).reconstruction for w in weight_tensors(network)}
    codes = {w.name: (decoded[w.name] / scales(w.parameter, bits)).round() for w in weight_tensors(network)}
    names = activation_names(network, trained.pictures) if activations else []
    codebooks = observe(network, trained.calibration, inputs, names, "min-max", seed=0) if activations else {}
    with swapped_weights(network, decoded), coded_activations(network, inputs, names, codebooks, seed=0):
        return Found(evaluate(network, trained.pictures, BATCH), codes)


def scales(weight: Tensor, bits: int) -> Tensor:
    """One per output channel, of the weight's dimensions: largest magnitude / (2^(b-1) - 1)."""
    return weight.detach().abs().amax(tuple(range(1, weight.dim())), keepdim=True) / (2 ** (bits - 1) - 1)


def by_torchao(trained: Trained, bits: int, activations: bool) -> Found:
    """Its flow for exported graphs, with a quantizer of its own kind that says the settings above."""
    pytest.importorskip("torchao")
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    network = deepcopy(trained.folded).eval()
    with torch.no_grad():
        batch = torch.export.Dim("batch", min=2, max=BATCH)
        graph = torch.export.export(network, (trained.calibration,), dynamic_shapes=({0: batch},)).module()
        prepared = prepare_pt2e(graph, annotations(bits, activations))
        prepared(trained.calibration)
        converted = convert_pt2e(prepared)
        logits = torch.cat([converted(part) for part in trained.pictures.split(BATCH)])
    held = [
        t for t in [*converted.parameters(), *converted.buffers()] if t.dtype == torch.int8 and t.dim() > 1
    ]
    names = [weight.name for weight in weight_tensors(trained.folded)]
    return Found(logits, dict(zip(names, (t.float() for t in held), strict=True)))


def annotations(bits: int, activations: bool) -> Any:
    """A torchao quantizer that asks for these weights, and for these inputs of every layer but the first."""
    from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver
    from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer

    half = 2 ** (bits - 1) - 1
    weight = QuantizationSpec(
        torch.int8, PerChannelMinMaxObserver, -half, half, torch.per_channel_symmetric, ch_axis=0
    )
    inputs = QuantizationSpec(torch.uint8, MinMaxObserver, 0, 2**bits - 1, torch.per_tensor_affine)

    class Settings(Quantizer):
        def annotate(self, model: Any) -> Any:
            layers = (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default)
            found = [node for node in model.graph.nodes if node.target in layers]
            for number, node in enumerate(found):
                wanted = {node.args[1]: weight}
                if activations and number > 0:
                    wanted[node.args[0]] = inputs
                node.meta["quantization_annotation"] = QuantizationAnnotation(wanted, _annotated=True)
            return model

        def validate(self, model: Any) -> None: ...

    return Settings()


def by_brevitas(trained: Trained, bits: int, activations: bool) -> Found:
    """Its layers in the place of ours, calibrated in one batch."""
    pytest.importorskip("brevitas")
    from brevitas.graph.calibrate import calibration_mode

    network = deepcopy(trained.folded).eval()
    names = [weight.name.rpartition(".")[0] for weight in weight_tensors(network)]
    for number, name in enumerate(names):
        layer = network.get_submodule(name)
        network.set_submodule(name, brevitas_layer(layer, bits, activations and number > 0))
    network.eval()
    with torch.no_grad():
        if activations:
            with calibration_mode(network):
                network(trained.calibration)
        codes = {f"{name}.weight": network.get_submodule(name).quant_weight().int().float() for name in names}
        return Found(evaluate(network, trained.pictures, BATCH), codes)


def brevitas_layer(layer: nn.Module, bits: int, activations: bool) -> nn.Module:
    import brevitas.nn as library
    from brevitas.core.stats import NegativeMinOrZero
    from brevitas.inject.enum import StatsOp
    from brevitas.quant import Int8WeightPerChannelFloat, ShiftedUint8ActPerTensorFloat

    class MinMax(ShiftedUint8ActPerTensorFloat):
        scaling_stats_op = StatsOp.MIN_MAX
        zero_point_stats_impl = NegativeMinOrZero

    common = {
        "bias": layer.bias is not None,
        "weight_quant": Int8WeightPerChannelFloat,
        "weight_bit_width": bits,
        "input_quant": MinMax if activations else None,
    }
    if isinstance(layer, nn.Linear):
        made = library.QuantLinear(layer.in_features, layer.out_features, **common)
    else:
        made = library.QuantConv2d(
            layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, **common
        )
    made.load_state_dict(layer.state_dict(), strict=False)
    return made


PEERS = [pytest.param(by_torchao, id="torchao"), pytest.param(by_brevitas, id="brevitas")]
Way = Callable[[Trained, int, bool], Any]


@pytest.fixture(scope="module")
def result(trained: Trained) -> Callable[[Way, int, bool], Any]:
    """What each way makes of the trained network, once."""
    return functools.cache(lambda way, bits, activations: way(trained, bits, activations))


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize(("bits", "activations"), SETTINGS)
def test_accuracies(trained: Trained, result: Any, peer: Way, bits: int, activations: bool) -> None:
    """Within 0.3 points on 10,000 test pictures; calibration is the one difference (see above)."""
    theirs = trained.accuracy(result(peer, bits, activations).logits)
    ours = result(by_ptq, bits, activations).measurements
    assert ours["accuracy"].value == pytest.approx(theirs, abs=POINTS)
    assert ours["baseline_accuracy"].value > 80


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize(("bits", "activations"), SETTINGS)
def test_picture_by_picture(trained: Trained, result: Any, peer: Way, bits: int, activations: bool) -> None:
    """Codes of weights are equal but for ties, within 1e-4 of a half; at most 1 of 1000 pictures changes its class.

    At equal weights only the order of additions differs, 1e-6 of a logit; where activations are rounded after it, a
    few codes in a million fall on the other side.
    """
    ours, theirs = result(by_qbench, bits, activations), result(peer, bits, activations)
    for weight in weight_tensors(trained.folded):
        exact = weight.parameter.detach() / scales(weight.parameter, bits)
        differ = ours.codes[weight.name] != theirs.codes[weight.name]
        assert bool(((exact[differ].frac().abs() - 0.5).abs() < 1e-4).all()), weight.name
        assert int(theirs.codes[weight.name].abs().amax()) == 2 ** (bits - 1) - 1
    assert flips(ours.logits, theirs.logits) <= 1e-3
    assert float((ours.logits - theirs.logits).abs().median()) < 1e-4
