"""Registries with something for every chart, of values whose answers are known; and one of hostile texts."""

import itertools
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from synthetic import add

from qbench.registry import Registry, RunCell
from qbench.registry_file import RegistryFile
from qbench.schema import Cell, Measurement, Result, Spec

CATALOG = {
    name: {"family": family, "reference": reference, "distribution": distribution, "kind": "quantizer"}
    for name, family, reference, distribution in (
        ("uniform", "scalar", "Max 1960", "qbench-suite"),
        ("method-1", "lattice", "Conway and Sloane 1982", "stranger"),
        ("method-2", "vector", "", "qbench-suite"),
        ("method-3", "float", "", "qbench-suite"),
        ("method-4", "stochastic", "", "qbench-suite"),
        ("method-5", "optimized", "", "qbench-suite"),
        ("method-6", "binary", "", "qbench-suite"),
        ("nested-lattice", "lattice", "", "qbench-suite"),
        ("ecsq", "scalar", "", "qbench-suite"),
        ("powersgd", "optimized", "", "qbench-suite"),
    )
}
ENVIRONMENT = {
    "python": "3.12.1",
    "cpu": "Abacus 9000",
    "system": "Linux",
    "packages": {"torch": "2.11.0", "qbench-suite": "0.1.0"},
}
STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
# Bits that methods 0, 1, ... need less than the anchor at equal quality; the last two are entropy-coded.
GAINS = (0.0, 0.3, 0.3, -0.2, 0.1, 0.6, 0.5)
# dB above the limit at 2 and 4 bits, and million elements encoded a second.
SOURCES = {
    "uniform(bits={},granularity=channel,range=mse,scheme=midrise)": ("fixed", (2.5, 4.5), 100.0),
    "nested-lattice(lattice=E8,m={})": ("fixed", (0.9, 0.7), 2.0),
    "ecsq(bits={})": ("coded", (1.2, 1.5), 20.0),
}
WINDOWS = ("early", "middle", "late")
AUTOCORRELATION = (1.0, 0.25, 0.12, 0.06, 0.03)
SENSITIVITY = (0.32, 0.02, 0.08)
# Of each lattice where it errs least, and the error there; the limit of its two bits is 1/16.
BETAS = {"Z": (4.0, 0.12), "E8": (2.0, 0.08)}
_REPRODUCED = """
    INSERT INTO reproductions
    SELECT result_id, concat('again-', result_id), environment_id, started, true, true, '{}'
    FROM results WHERE quantizer = 'method-2' AND track = 'ptq' AND target = 'weight' AND device_kind = 'cpu'
"""


def realistic(path: Path) -> Registry:
    """Two ranked boards of networks, sources, and a little of everything that has a chart of its own."""
    add(path, quantizers=7, coded=2, gains=GAINS, models=4, datasets=3, seeds=2, noise=0.05)
    add(path, quantizers=3, gains=GAINS, models=2, datasets=1, device_kind="cuda")
    add(path, quantizers=2, bits=(5,), models=1, datasets=1, status="timeout", error="took longer than 60 s")
    add(path, quantizers=4, gains=(0, 0.5, 0.5, -0.5), models=4, datasets=2, track="qat", digest="1" * 64)
    add(path, quantizers=3, gains=(0, 0.5, 0.2), target="activation", digest="2" * 64)
    with RegistryFile(path).transaction() as connection:
        lacking = "SELECT result_id FROM results WHERE quantizer = 'method-4' AND model = 'model-3'"
        connection.execute(f"DELETE FROM measurements WHERE result_id IN ({lacking})")
        connection.execute(f"UPDATE run_cells SET result_id = NULL WHERE result_id IN ({lacking})")
        connection.execute("DELETE FROM results WHERE quantizer = 'method-4' AND model = 'model-3'")
        connection.execute(_REPRODUCED)
    registry = Registry(path)
    for results in (sources(), layers(), scans(), gradients(), compressed()):
        write(registry, results)
    return registry


def write(registry: Registry, results: Sequence[Result], suite: str = "synthetic") -> None:
    """A run of these results; what they measured is theirs, the rest is alike."""
    cells = [RunCell(one.cell_id, one.cell.track, "3" * 64) for one in results]
    run_id = registry.begin_run(suite, ENVIRONMENT, cells)
    registry.write([one.model_copy(update={"run_id": run_id}) for one in results])
    registry.finish_run(run_id)


def result(
    track: str,
    target: str,
    measured: Mapping[str, float | Sequence[float]],
    facts: Mapping[str, Any],
    **given: Any,
) -> Result:
    """Numbers are values, sequences are samples."""
    specs = {name: Spec.parse(text) for name, text in given.items() if isinstance(text, str)}
    rest = {name: value for name, value in given.items() if not isinstance(value, str)}
    cell = Cell(track=track, track_version=1, target=target, **specs, **rest)
    return Result(
        cell=cell,
        fingerprint="f" * 64,
        device_kind="cpu",
        device="cpu",
        environment_id="0" * 16,
        run_id="",
        status="ok",
        facts=dict(facts),
        measurements={name: _measurement(value) for name, value in measured.items()},
        started=STARTED + timedelta(seconds=int(cell.cell_id[:4], 16)),
        seconds=1.0,
    )


def _measurement(value: float | Sequence[float]) -> Measurement:
    if isinstance(value, int | float):
        return Measurement(value=value, unit="1")
    return Measurement(value=None, unit="1", samples=list(value), n=max(1, len(value)))


def sources() -> list[Result]:
    """Codes of a Gaussian and a uniform source at 2 and 4 bits; 20 lg 2 dB a bit is the limit of the Gaussian."""
    found = []
    for spec, (rate_class, gaps, speed) in SOURCES.items():
        for dataset in ("gaussian", "uniform"):
            for bits, gap in zip((2, 4), gaps, strict=True):
                sqnr = 20 * math.log10(2) * bits - gap
                measured = {
                    "rate": float(bits),
                    "sqnr_db": sqnr,
                    "gap_db": gap,
                    "encode_throughput": speed,
                    "relative_mse": 10 ** (-sqnr / 10),
                }
                facts = {"rate_class": rate_class, "execution": "simulated"}
                code = spec.format(bits)
                found.append(
                    result("rate-distortion", "source", measured, facts, dataset=dataset, quantizer=code)
                )
    return found


def layers() -> list[Result]:
    """Three layers, the first of them 16 times as sensitive as the second."""
    facts = {
        "layers": "first second third",
        "bits": "8 2 4",
        "method": "greedy",
        "budget_rate": 4.0,
        "rate_class": "fixed",
    }
    measured = {"rate": 4.0, "kl": 0.01, "sensitivity": SENSITIVITY, "layer_sqnr": (30.0, 12.0, 20.0)}
    return [
        result(
            "mixed-precision",
            "weight",
            measured,
            facts,
            model="mlp",
            dataset="digits",
            optimizer="adam",
            quantizer="uniform(bits=4)",
            budget={"rate": 4.0, "method": "greedy"},
        )
    ]


def scans() -> list[Result]:
    """Errors that rise fourfold for each octave away from the best scale."""
    found = []
    for lattice, (best, least) in BETAS.items():
        scale = [0.5 * 2 ** (i / 6) for i in range(40)]
        error = [least * 4 ** abs(math.log2(b / best)) for b in scale]
        measured = {
            "beta": scale,
            "mse": error,
            "rate": 2.0,
            "distortion_limit": 1 / 16,
            "sqnr_db": 9.0,
            "gap_db": 10 * math.log10(16 * least),
            "minimum_beta": [best],
            "minimum_mse": [least],
            "minimum_prominence_db": [5.0],
            "minimum_certified": [1.0],
        }
        code = f"nested-lattice(lattice={lattice},m=4,overload=nearest)"
        found.append(
            result(
                "lattice-scaling",
                "source",
                measured,
                {"rate_class": "fixed", "execution": "simulated"},
                dataset="gaussian",
                quantizer=code,
            )
        )
    return found


def gradients() -> list[Result]:
    """Two trainings that see the same: a Gaussian histogram, correlation 1/4 at lag 1, |dg| = 20 |dw|."""
    edges = [(place - 50.5) / 10 for place in range(102)]
    below = [0.5 * (1 + math.erf(edge / math.sqrt(2))) for edge in edges]
    histogram = [1e6 * (high - low) for low, high in itertools.pairwise(below)]
    measured: dict[str, float | Sequence[float]] = {
        "accuracy": 88.0,
        "increments.step": [10, 20, 30, 40],
        "increments.update": [0.1, 0.2, 0.3, 0.4],
        "increments.lipschitz": [20.0] * 4,
        "increments.drift": [0.5] * 4,
    }
    for window in WINDOWS:
        fits = {"gaussian.scale": 1.0, "laplace.scale": 0.7, "student.scale": 1.0, "student.df": 50.0}
        fits |= {"generalized-gaussian.scale": math.sqrt(2), "generalized-gaussian.shape": 2.0}
        measured |= {f"{window}.fit.{name}": value for name, value in fits.items()}
        measured |= {
            f"{window}.density.one": histogram,
            f"{window}.autocorrelation_by_lag": AUTOCORRELATION,
        }
        for code, gap in {"lloyd-max": 1.5, "kmeans": -0.5}.items():
            figures = {"rate": (1.0, 2.0), "predicted_sqnr_db": (4.0, 9.0), "gap_db": (gap, gap)}
            figures["sqnr_db"] = (4.0 - gap, 9.0 - gap)
            measured |= {f"{window}.code.{code}.{name}": value for name, value in figures.items()}
    common = {"model": "mlp", "dataset": "digits"}
    return [
        result("gradient-statistics", "gradient", measured, {"layers": "one"}, optimizer=optimizer, **common)
        for optimizer in ("sgd", "adam")
    ]


def compressed() -> list[Result]:
    """Trainings with coded gradients: 2 and 8 bits of the 32 of each number are sent."""
    found = []
    for bits, lost in ((2, 3.0), (8, 0.5)):
        measured = {
            "rate": float(bits),
            "accuracy": 97.0 - lost,
            "baseline_accuracy": 97.0,
            "accuracy_drop": lost,
            "up_bits": bits * 1e6,
            "down_bits": bits * 1e6,
            "baseline_bits": 64e6,
        }
        facts = {"rate_class": "fixed", "execution": "simulated"}
        code = f"uniform(bits={bits},granularity=channel,range=mse,scheme=midrise)"
        common = {"model": "cnn", "dataset": "digits", "optimizer": "adam"}
        found.append(result("gradient-compression", "gradient", measured, facts, quantizer=code, **common))
    return found
