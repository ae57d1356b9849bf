"""The limit gate and what a cell of a source says."""

import math

import pytest
import torch
from torch import Tensor

from qbench import plugins
from qbench.measuring import decode
from qbench.schema import Cell, Spec
from qbench.tracks import rate_distortion
from qbench.tracks.rate_distortion import RateDistortion, limit_violation


def around(mean: float, relative_error: float) -> list[float]:
    """Eight values whose mean has that relative standard error: mean (1 +- d), d = relative_error sqrt(7)."""
    d = relative_error * math.sqrt(7)
    return [mean * (1 + d), mean * (1 - d)] * 4


@pytest.mark.parametrize(
    ("below", "relative_error", "impossible"),
    [
        (0.0049, 0.0, False),  # the floor of half a percent
        (0.0051, 0.0, True),
        # t(7, .999) = 4.785, as tables have it: 1 % of standard error allows 4.785 %
        (0.0478, 0.01, False),
        (0.0479, 0.01, True),
    ],
)
def test_the_gate_is_half_a_percent_or_t_standard_errors(
    below: float, relative_error: float, impossible: bool
) -> None:
    errors = around(0.25 * (1 - below), relative_error)
    assert (limit_violation(errors, 0.25) is not None) == impossible


def test_a_code_that_loses_nothing_of_float32_is_possible() -> None:
    """32 bits of a Gaussian: D(R) = 4^-32 is far below the rounding of the draws themselves."""
    assert limit_violation([0.0] * 8, 4.0**-32) is None
    assert limit_violation([0.0] * 8, 4.0**-20) is not None


class Bench:
    """What the track asks of its surroundings, in this process."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.catalog = plugins.load(["all"])

    def build(self, kind, spec):
        return self.catalog.build(kind, spec)

    def quantizer(self, spec):
        return self.catalog.build("quantizer", spec)

    def decode(self, payloads) -> list[Tensor]:
        return [decode(payload) for payload in payloads]

    def loaded(self) -> None:
        pass


def outcome(quantizer: str, dataset: str = "gaussian", **budget: int):
    track = RateDistortion(**{"elements": 4096, "draws": 8, "fit_elements": 8192, **budget})
    spec = plugins.load(["all"]).quantizer(quantizer).spec
    cell = Cell(
        track="rate-distortion",
        track_version=1,
        target="source",
        quantizer=spec,
        dataset=Spec(name=dataset),
        budget=track.spec.parameters,
    )
    return track.run(cell, Bench())


def test_gap_and_limit_follow_from_rate_and_error() -> None:
    found = outcome("lloyd-max(bits=2)").measurements
    rate, mse = found["rate"].value, found["mse"].value
    assert found["distortion_limit"].value == pytest.approx(4.0**-rate)
    assert found["gap_db"].value == pytest.approx(10 * math.log10(mse * 4.0**rate))
    # Lloyd-Max at 2 bits: .117482 (REFERENCE: Max 1960, solved exactly); squared errors have a standard deviation < .18
    assert mse == pytest.approx(0.117482, abs=4 * 0.18 / math.sqrt(8 * 4096))
    assert len(found["mse"].samples) == found["mse"].n == 8


def test_a_codebook_from_another_sample_is_reported_and_not_amortized() -> None:
    found = outcome("kmeans(bits=8)").measurements
    assert found["static_bytes"].value > 256 * 4
    assert found["rate"].value == pytest.approx(8, abs=8 * 32 / 4096)


def test_classes_of_rate() -> None:
    assert outcome("uniform(bits=4)").facts["rate_class"] == "fixed"
    assert outcome("ecsq(rate=2.0)").facts["rate_class"] == "coded"


def test_lossless_coding_is_ok() -> None:
    found = outcome("topk(fraction=1.0)")
    assert found.status == "ok"
    assert found.measurements["sqnr_db"].value is None


def test_what_the_device_copies_stands_beside_the_throughput(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(rate_distortion, "copy_bandwidth", lambda device: asked.append(device) or 12.5e9)
    found = outcome("uniform(bits=4)").measurements
    copying = found["copy_bandwidth"]
    assert (copying.value, copying.unit, copying.timing, copying.n) == (12.5e9, "B/s", True, 1)
    assert found["encode_throughput"].timing
    assert asked == [Bench.device]


def test_copying_is_measured_before_the_clock_of_the_cell_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(rate_distortion, "copy_bandwidth", lambda device: order.append("copied") or 1.0)
    monkeypatch.setattr(Bench, "loaded", lambda self: order.append("loaded"))
    outcome("uniform(bits=4)")
    assert order == ["copied", "loaded"]
