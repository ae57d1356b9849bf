"""The plugin in plugins/qbench-torchao: torchao's own kernels, timed and scored.

Needs what `pip install .[test,libraries]` brings (`tox -e libraries`); without torchao the tests are skipped.
"""

import os
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qbench.components import Track
from qbench.errors import InputError, ParameterError
from qbench.layers import weight_tensors
from qbench.registry import open_registry
from qbench.schema import Result

pytest.importorskip("torchao")
pytestmark = pytest.mark.filterwarnings("ignore")
PLUGIN = Path(__file__).resolve().parents[2] / "plugins" / "qbench-torchao"
GRID = """
[[grid]]
track = "native"
target = "weight"
model = "{model}"
dataset = "digits"
optimizer = "adam(lr=0.003)"
[grid.budget]
scheme = "{scheme}"
batch = {batch}
repetitions = 20
training = {{ epochs = 8, batch_size = 32 }}
"""
# 64-64-64-10: elements and output channels of each layer
MLP = "mlp(width=64,depth=2)"
ELEMENTS, CHANNELS = (64 * 64, 64 * 64, 64 * 10), (64, 64, 10)
CELLS = {
    "float": (MLP, "float32", 64),
    "weights": (MLP, "int8-weight-only", 1),
    "dynamic": (MLP, "int8-dynamic", 64),
    "cnn": ("cnn(width=8)", "int8-dynamic", 64),
    "float8": (MLP, "float8-dynamic", 64),
}


@pytest.fixture(scope="module")
def plugin() -> Any:
    """The package, imported from its folder."""
    sys.path.insert(0, str(PLUGIN))
    try:
        import qbench_torchao

        yield qbench_torchao
    finally:
        sys.path.remove(str(PLUGIN))


@pytest.fixture(scope="module")
def results(
    tmp_path_factory: pytest.TempPathFactory, make_distribution: Callable[..., Path]
) -> dict[str, Result]:
    """Results of a run from the command line, by cell, the plugin being found by its entry point."""
    folder = tmp_path_factory.mktemp("native")
    make_distribution(folder, "from qbench_torchao import qbench_suites, qbench_tracks\n", name="native-here")
    grids = (GRID.format(model=model, scheme=scheme, batch=batch) for model, scheme, batch in CELLS.values())
    (folder / "mine.toml").write_text('name = "native-on-digits"\nversion = 1\n' + "".join(grids))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), str(PLUGIN)]),
        "QBENCH_DISABLE_PLUGINS": "qbench-torchao",
        "QBENCH_CACHE": str(folder / "cache"),
        "QBENCH_REGISTRY": str(folder / "found.duckdb"),
    }
    command = [sys.executable, "-m", "qbench.cli", "run", "--suite", "./mine.toml", "--device", "cpu"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    registry = open_registry(folder / "found.duckdb")
    found = [registry.result(row["result_id"]) for row in registry.results()]
    assert len(found) == len(CELLS), run.stderr
    return {
        key: next(
            result
            for result in found
            if result.cell.model is not None
            and (result.cell.model.name, result.cell.budget["scheme"]) == (model.partition("(")[0], scheme)
        )
        for key, (model, scheme, _) in CELLS.items()
    }


def metric(result: Result, name: str) -> Any:
    return result.measurements[name].value


@pytest.mark.parametrize("key", ["weights", "dynamic"])
def test_eight_bits_are_as_good_as_float(results: dict[str, Result], key: str) -> None:
    """360 pictures: a standard error of a picture or two that change sides, sqrt(4) / 360 = 0.6 %, three of them."""
    result = results[key]
    assert result.status == "ok"
    assert metric(result, "baseline_accuracy") > 90
    assert abs(metric(result, "accuracy_drop")) <= 3 * 0.6
    assert 0 < metric(result, "kl") < 0.01
    assert result.facts["execution"] == "native"
    assert result.facts["tensors"] == 3


@pytest.mark.parametrize("key", ["weights", "dynamic"])
def test_bytes_are_those_of_the_storage(results: dict[str, Result], key: str) -> None:
    """A byte per weight; a float32 scale and a byte of zero point per channel; the rest in float32."""
    held = sum(ELEMENTS) + 5 * sum(CHANNELS)
    assert metric(results[key], "rate") == pytest.approx(8 * held / sum(ELEMENTS))
    assert metric(results[key], "stored_bytes") == held + 4 * (sum(CHANNELS) + 2)
    assert metric(results[key], "float_bytes") == 4 * (sum(ELEMENTS) + sum(CHANNELS) + 2)
    assert metric(results[key], "coverage") == pytest.approx(sum(ELEMENTS) / (sum(ELEMENTS) + sum(CHANNELS)))


def test_joules_of_an_input(plugin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call moves the counter by 6 J and has 4 inputs; without a counter there is nothing to say."""
    from qbench_torchao.latency import measured_energy

    from qbench import energy

    spent, network = [0.0], nn.Identity()
    network.register_forward_hook(lambda *_: spent.append(spent.pop() + 6))
    monkeypatch.setattr(energy, "counters", lambda *_: [energy.Counter(lambda: spent[0])])
    found = measured_energy(network, torch.zeros(4, 2))
    assert (found.value, found.unit, found.timing) == (1.5, "J", True)
    monkeypatch.setattr(energy, "counters", lambda *_: [])
    assert measured_energy(network, torch.zeros(4, 2)).value is None


def test_the_control_changes_nothing(results: dict[str, Result]) -> None:
    result = results["float"]
    assert (metric(result, "flips"), metric(result, "kl"), metric(result, "coverage")) == (0, 0, 0)
    assert metric(result, "rate") is None
    assert metric(result, "stored_bytes") == metric(result, "float_bytes")


def test_latencies_come_with_their_samples(results: dict[str, Result]) -> None:
    for key in ("float", "weights", "dynamic", "cnn"):
        found = results[key].measurements
        for name in ("latency", "float_latency"):
            median, late = found[f"{name}_p50"], found[f"{name}_p90"]
            assert len(median.samples) == median.n == 20
            assert sorted(median.samples)[9] == median.value <= late.value
            assert sorted(median.samples)[17] == late.value
            assert median.timing
            assert late.timing
        fast = [sorted(found[f"{name}_p50"].samples)[1] for name in ("float_latency", "latency")]
        assert found["speedup"].value == pytest.approx(fast[0] / fast[1])


def test_convolutions_stay_float(results: dict[str, Result]) -> None:
    """Of a cnn of width 8 the linear layer alone, 16 channels of 2 x 2 to 10 classes."""
    convolutions = 9 * (1 * 8 + 8 * 8 + 8 * 16 + 16 * 16)
    norms, linear = 2 * (8 + 8 + 16 + 16), 16 * 2 * 2 * 10
    result = results["cnn"]
    assert metric(result, "coverage") == pytest.approx(linear / (convolutions + norms + linear + 10))
    assert result.facts["tensors"] == 1


def test_what_the_device_cannot_run_is_said(results: dict[str, Result]) -> None:
    result = results["float8"]
    assert result.status == "error"
    assert "capability 8.9" in result.error
    assert "the cpu" in result.error


def test_int8_weights_lie_on_torchaos_grid(plugin: Any) -> None:
    """Levels from -128 to 127, the largest magnitude at 127.5, a tie; qbench's symmetric grid has it at 127."""
    from qbench_torchao.schemes import quantized

    x = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
    network = nn.Sequential(nn.Linear(64, 32))
    network[0].weight.data.copy_(x)
    held = quantized(network, "int8-weight-only")[0].weight
    assert torch.allclose(held.scale, x.abs().amax(1, keepdim=True) / 127.5)
    exact = x / held.scale
    away = (exact.frac().abs() - 0.5).abs() > 1e-4
    assert torch.equal(held.qdata[away], exact.round()[away].to(torch.int8))
    assert int(held.qdata.min()) >= -128
    assert torch.equal(network[0].weight, x)


def test_settings_of_the_process_stay(plugin: Any) -> None:
    """torchao's defaults would let float32 products round to TF32 from then on."""
    from qbench_torchao.schemes import quantized

    before = torch.get_float32_matmul_precision()
    for scheme in ("int8-weight-only", "int8-dynamic"):
        quantized(nn.Sequential(nn.Linear(16, 16)), scheme)
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
def test_compiling_leaves_no_threads(plugin: Any) -> None:
    from qbench_torchao.track import Native

    network, x = nn.Sequential(nn.Linear(16, 16)).eval(), torch.ones(4, 16)
    before = set(threading.enumerate())
    with Native(compiled=True)._executable(network) as compiled, torch.no_grad():
        assert torch.allclose(compiled(x), network(x), atol=1e-6)
    assert set(threading.enumerate()) == before


def test_a_network_without_linear_layers_is_refused(plugin: Any) -> None:
    from qbench_torchao.schemes import quantized

    with pytest.raises(InputError, match="name a model with such layers"):
        quantized(nn.Sequential(nn.Conv2d(1, 4, 3)), "int8-dynamic")


def test_turns_alternate(plugin: Any) -> None:
    """Two calls of each to warm up, then first-second, second-first, first-second."""
    from qbench_torchao.latency import in_turns, quantile

    calls: list[str] = []

    class Named(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def forward(self, inputs: Tensor) -> Tensor:
            calls.append(self.name)
            return inputs

    found = in_turns([Named("a"), Named("b")], torch.zeros(1), warmup=2, repetitions=3)
    assert "".join(calls) == "aabb" + "abbaab"
    assert [len(samples) for samples in found] == [3, 3]
    assert [quantile([4.0, 1.0, 3.0, 2.0], share) for share in (0.1, 0.5, 0.9)] == [1, 2, 4]


def test_its_suites_are_sound(plugin: Any) -> None:
    """Each scheme at batch 1 and 256, compiled and not, the float control with every scheme."""
    from qbench.suite import parse

    suites = {path.stem: parse(path) for path in plugin.qbench_suites()}
    assert set(suites) == {"native", "native-float8"}
    (track,) = plugin.qbench_tracks()
    assert issubclass(track, Track)
    for suite in suites.values():
        budgets = [track(**grid.budget).parameters for grid in suite.grid]
        schemes = {budget.scheme for budget in budgets}
        assert "float32" in schemes
        found = {(budget.scheme, budget.batch, budget.compiled) for budget in budgets}
        assert found == {(s, b, c) for s in schemes for b in (1, 256) for c in (False, True)}
    with pytest.raises(ParameterError, match="scheme"):
        track(scheme="int3")


def test_its_package_offers_it() -> None:
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["qbench"] == {"torchao": "qbench_torchao"}


@pytest.mark.gpu
@pytest.mark.parametrize("scheme", ["int8-weight-only", "int8-dynamic", "float8-dynamic"])
def test_on_a_gpu(plugin: Any, scheme: Any) -> None:
    """Sides of 256: of unit rows, 8-bit steps and float8's 3 bits of mantissa leave an error of at most 5 %."""
    from qbench_torchao.latency import working_bytes
    from qbench_torchao.schemes import held_bytes, quantized

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    if scheme == "float8-dynamic" and torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("the GPU multiplies no float8")
    torch_network = nn.Sequential(nn.Linear(256, 256, bias=False)).cuda()
    network = quantized(torch_network, scheme)
    x = torch.randn(64, 256, generator=torch.Generator().manual_seed(0)).cuda()
    with torch.no_grad():
        exact, found = torch_network(x), network(x)
        assert float((exact - found).norm() / exact.norm()) < 0.05
        assert working_bytes(network, x) >= found.nbytes
    assert 2**16 < held_bytes(w.parameter for w in weight_tensors(network)) < 2**16 + 5 * 256 + 16
