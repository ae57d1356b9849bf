"""Real low-precision execution: a trained network in a scheme of torchao, against itself in float32."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, final

import torch
from pydantic import Field
from torch import Tensor, nn

from qbench import Measurement, Outcome, Parameters, Recipe, Track
from qbench.classifier import evaluate, exact_kernels
from qbench.errors import SuiteError
from qbench.schema import Cell, Fact
from qbench.tracks.scores import quality
from qbench.training import Training
from qbench.workbench import Workbench

from .latency import in_turns, latency, measured_energy, quantile, working_bytes
from .schemes import Scheme, held_bytes, native_weights, quantized


class NativeParameters(Parameters):
    """The budget: how the float model is trained, how torchao runs it, and how it is timed."""

    training: Training = Field(Training(), description="recipe of the float model")
    scheme: Scheme = Field("int8-dynamic", description="what torchao does to the linear layers")
    batch: int = Field(1, ge=1, le=65_536, description="inputs a call, for scores and timings")
    compiled: bool = Field(
        False, description="torch.compile for both networks; needs a C++ compiler or Triton"
    )
    warmup: int = Field(10, ge=1, le=10_000, description="calls before the clock runs")
    repetitions: int = Field(100, ge=2, le=4096, description="calls that are timed")


@final
class Native(Track):
    """torchao's kernels run what other tracks simulate: ``execution`` is ``native``.

    Scores are those of the network that is timed, against the same float model as in ``ptq``. ``latency`` is of a
    call with ``batch`` test inputs on the device, ``float_latency`` that of the float network, called in turns
    with it; ``speedup`` is the ratio of their 10th percentiles, which other programs disturb least. Float32 is exact,
    TF32 off. ``stored_bytes`` is the storage behind all parameters and buffers, ``rate`` that of the weights torchao
    took over, ``coverage`` their share of all parameters: torchao acts on linear layers alone. ``working_bytes`` is
    what a call takes beside that, ``measured_energy`` and ``float_measured_energy`` joules for one input, from calls
    that take a second together; null where the device does not count. ``scheme = "float32"`` times the float network
    against itself: how far its ``speedup`` is from 1 is what a speedup can be trusted to.
    """

    name = "native"
    reference = "torchao, github.com/pytorch/ao"
    targets = ("weight",)
    extensible = False
    Parameters = NativeParameters

    def baseline(self, cell: Cell) -> Recipe:
        return Recipe.of(cell, self.parameters.training.model_dump(mode="json"))

    def estimate(self, cell: Cell) -> float:
        return 60.0 if self.parameters.compiled else 5.0

    def run(self, cell: Cell, bench: Workbench) -> Outcome:
        if cell.quantizer is not None:
            raise SuiteError(
                f"track 'native' takes no quantizer, and this cell has {cell.quantizer}; the budget's 'scheme' says "
                "what torchao does"
            )
        recipe = self.baseline(cell)
        baseline = bench.baseline(recipe)
        float_logits = baseline.test_logits
        bench.loaded()
        network = quantized(baseline.module, self.parameters.scheme)
        with self._executable(network) as native, self._executable(baseline.module) as plain:
            logits = evaluate(native, baseline.data.test_inputs, self.parameters.batch)
            timings = self._timings(native, plain, baseline.data.test_inputs)
        return Outcome(
            measurements={
                **quality(float_logits, logits, baseline.data.test_labels),
                **_size(baseline.module, network),
                **timings,
            },
            facts=self._facts(network),
            baseline_id=recipe.baseline_id,
            baseline_sha256=baseline.sha256,
        )

    @contextmanager
    def _executable(self, network: nn.Module) -> Iterator[nn.Module]:
        """The network as it is called; what torch.compile keeps goes with the cell."""
        if not self.parameters.compiled:
            yield network
            return
        compiled: Any = torch.compile(network)
        try:
            with _no_threads():
                yield compiled
        finally:
            torch.compiler.reset()

    def _timings(self, native: nn.Module, plain: nn.Module, inputs: Tensor) -> dict[str, Measurement]:
        batch = inputs[torch.arange(self.parameters.batch, device=inputs.device) % len(inputs)]
        with torch.no_grad(), exact_kernels():
            found = in_turns([native, plain], batch, self.parameters.warmup, self.parameters.repetitions)
            working = working_bytes(native, batch)
            energies = [measured_energy(network, batch) for network in (native, plain)]
        ours, floats = (quantile(samples, 0.1) for samples in found)
        return {
            **latency("latency", found[0]),
            **latency("float_latency", found[1]),
            "speedup": Measurement(value=floats / ours, unit="1", n=len(found[0]), timing=True),
            "working_bytes": Measurement(value=working, unit="B"),
            "measured_energy": energies[0],
            "float_measured_energy": energies[1],
        }

    def _facts(self, network: nn.Module) -> dict[str, Fact]:
        return {
            "execution": "native",
            "scheme": self.parameters.scheme,
            "compiled": self.parameters.compiled,
            "torchao": version("torchao"),
            "threads": torch.get_num_threads(),
            "tensors": len(native_weights(network)),
            "selection": self.parameters.training.selection,
        }


@contextmanager
def _no_threads() -> Iterator[None]:
    """torch.compile starts none that would outlive the cell: neither its workers nor the watcher of progress bars."""
    from torch._inductor import config
    from tqdm import tqdm

    interval = tqdm.monitor_interval
    tqdm.monitor_interval = 0
    try:
        with config.patch(compile_threads=1):
            yield
    finally:
        tqdm.monitor_interval = interval


def _size(original: nn.Module, network: nn.Module) -> dict[str, Measurement]:
    """Bytes of both networks, and bits per element of what torchao took over: null where that is nothing."""
    stored = held_bytes([*network.parameters(), *network.buffers()])
    chosen = [weight.parameter for weight in native_weights(network)]
    elements, parameters = sum(map(Tensor.numel, chosen)), sum(map(Tensor.numel, network.parameters()))
    rate = 8 * held_bytes(chosen) / elements if chosen else None
    return {
        "rate": Measurement(value=rate, unit="bit/element", n=max(1, len(chosen))),
        "model_rate": Measurement(value=8 * stored / parameters, unit="bit/element"),
        "stored_bytes": Measurement(value=stored, unit="B"),
        "float_bytes": Measurement(value=held_bytes([*original.parameters(), *original.buffers()]), unit="B"),
        "coverage": Measurement(value=elements / parameters, unit="1"),
    }
