"""The contract kit: what is built in passes it, and each kind of fault is caught by the check that is meant for it."""

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

import qbench
from qbench import Stream, codec, plugins
from qbench.autograd import straight_through
from qbench.components import Trainable
from qbench.errors import QBenchError
from qbench.testing import (
    ContractError,
    NotApplicable,
    check_quantizer,
    checks,
    elsewhere,
    inputs,
    parametrize_checks,
)


def built_in() -> list[qbench.Quantizer]:
    """Every built-in quantizer at the first and the last point of its sweep."""
    found = plugins.load(["all"])
    kinds = [found.entry("quantizer", name).component for name in found.names("quantizer")]
    points = {
        str(kind(**point)): kind(**point) for kind in kinds for point in (kind.sweep[0], kind.sweep[-1])
    }
    return list(points.values())


@pytest.mark.parametrize("quantizer", built_in(), ids=str)
def test_what_is_built_in_holds_to_the_contract(quantizer: qbench.Quantizer) -> None:
    report = check_quantizer(quantizer)
    assert report.ok, str(report)


class Sound(qbench.Quantizer):
    """16 levels of one scale. Every toy below differs from it in one fault."""

    name = "toy"
    reference = "none"

    def fit(self, x, *, context):
        return {"scale": x.abs().max().clamp(min=2.0**-20) / 7}

    def encode(self, x, codebook, *, context):
        return {"codes": Stream((x / codebook["scale"]).round().clamp(-8, 7) + 8, 16)}

    def decode(self, codes, codebook, shape):
        return (codes["codes"].values.float().reshape(shape) - 8) * codebook["scale"]


class AimsNowhere(Sound):
    targets = ("weights",)


class RepeatsItself(Sound):
    sweep = ({}, {})


class ClaimsForAParameterItLacks(Sound):
    unbiased = {"dither": True}


class GivesScalarsAnAxis(Sound):
    def decode(self, codes, codebook, shape):
        return super().decode(codes, codebook, shape if len(shape) else (1,))


class DividesByCountLessOne(Sound):
    def fit(self, x, *, context):
        variance = x.square().sum() / (x.numel() - 1 if x.dim() else 1)
        return {"scale": variance.sqrt().clamp(2.0**-20, 1) / 4}


class DividesByTheSpread(Sound):
    def fit(self, x, *, context):
        spread = x.max() - x.min() if x.numel() > 1 else x.new_ones(())
        return {"scale": spread / 15, "low": x.min()}

    def encode(self, x, codebook, *, context):
        return {"codes": Stream(((x - codebook["low"]) / codebook["scale"]).round().clamp(0, 15), 16)}

    def decode(self, codes, codebook, shape):
        return codes["codes"].values.float().reshape(shape) * codebook["scale"] + codebook["low"]


class WeighsByExponentials(Sound):
    def fit(self, x, *, context):
        weight = (x.abs().max() / x.abs().mean().clamp(min=2.0**-20)).exp()
        return {"scale": super().fit(x, context=context)["scale"] * weight / weight}


class CodesInPairs(Sound):
    def encode(self, x, codebook, *, context):
        pairs = x.reshape(-1, 2) if x.numel() > 100 else x
        return super().encode(pairs, codebook, context=context)


class TurnsRoomsRound(Sound):
    def decode(self, codes, codebook, shape):
        y = super().decode(codes, codebook, shape)
        return y.flip(0) if y.dim() == 3 else y


class KeepsTheMessageInItsCodebook(Sound):
    def fit(self, x, *, context):
        return {"x": x.reshape(-1)}

    def encode(self, x, codebook, *, context):
        return {}

    def decode(self, codes, codebook, shape):
        return codebook["x"][: shape.numel()].reshape(shape)


class RollsItsOwnDice(Sound):
    def encode(self, x, codebook, *, context):
        dice = torch.Generator().manual_seed(random.SystemRandom().getrandbits(32))
        moved = x + codebook["scale"] * (torch.rand(x.shape, generator=dice) - 0.5)
        return super().encode(moved, codebook, context=context)


class RemembersOnSelf(Sound):
    calls = 0

    def encode(self, x, codebook, *, context):
        self.calls += 1
        return super().encode(x if self.calls == 1 else x + codebook["scale"], codebook, context=context)


class SeedsTorch(Sound):
    def encode(self, x, codebook, *, context):
        torch.manual_seed(0)
        return super().encode(x, codebook, context=context)


class SetsTheDefaultDtype(Sound):
    def encode(self, x, codebook, *, context):
        torch.set_default_dtype(torch.float64)
        return super().encode(x, codebook, context=context)


class WorksInPlace(Sound):
    def fit(self, x, *, context):
        return {"scale": x.abs_().max().clamp(min=2.0**-20) / 7}


class ChangesTheCodebook(Sound):
    def decode(self, codes, codebook, shape):
        codebook["seen"] = torch.ones(1)
        return super().decode(codes, codebook, shape)


class Weightless(Tensor):
    def element_size(self) -> int:
        return 0


class CountsNothing(Sound):
    def fit(self, x, *, context):
        return {"scale": super().fit(x, context=context)["scale"].as_subclass(Weightless)}


class OneNumber(qbench.Parameters):
    number: float = 0.0


class HidesInTheHeader(Sound):
    Parameters = OneNumber

    def encode(self, x, codebook, *, context):
        self.parameters = OneNumber(number=float(x.max()))
        return super().encode(x, codebook, context=context)


class KnowsTheTensor(Sound):
    seen: ClassVar[list[Tensor]] = []

    def encode(self, x, codebook, *, context):
        self.seen[:] = [x]
        return super().encode(x, codebook, context=context)

    def decode(self, codes, codebook, shape):
        return self.seen[0].clone()


class ClaimsToBeUnbiased(Sound):
    unbiased = True


class ShrinksOnAverage(Sound):
    """Stochastic rounding of 0.97 x."""

    unbiased = True

    def encode(self, x, codebook, *, context):
        dither = torch.rand(x.shape, generator=context.generator) - 0.5
        return super().encode(0.97 * x + dither * codebook["scale"], codebook, context=context)


class Learned(Sound, Trainable):
    """What the toys of training differ from: the gradient of clipping, and of the levels as they stand."""

    def surrogate(self, x, codebook, *, context):
        scale = codebook["scale"]
        hard = self.decode(self.encode(x.detach(), codebook, context=context), codebook, x.shape)
        return straight_through(self.smooth(x, scale), hard.detach())

    def smooth(self, x, scale):
        return torch.minimum(torch.maximum(x, -8 * scale), 7 * scale)


class TrainsOnTheSmoothValue(Learned):
    def surrogate(self, x, codebook, *, context):
        return self.smooth(x, codebook["scale"])


class TrainsNothing(Learned):
    def surrogate(self, x, codebook, *, context):
        return super().surrogate(x, codebook, context=context).detach()


class TrainsTheScaleAlone(Learned):
    def smooth(self, x, scale):
        return super().smooth(x.detach(), scale)


class HasASteepSpot(Learned):
    def smooth(self, x, scale):
        return x.sign() * x.abs().sqrt()


class TeachesItself(Learned):
    def surrogate(self, x, codebook, *, context):
        y = super().surrogate(x, codebook, context=context)
        codebook["scale"].data.mul_(0.99)
        return y


FAULTS = {
    AimsNowhere: "description",
    RepeatsItself: "description",
    ClaimsForAParameterItLacks: "description",
    GivesScalarsAnAxis: "shapes-and-dtypes",
    DividesByCountLessOne: "one-element",
    DividesByTheSpread: "constants",
    WeighsByExponentials: "extreme-values",
    CodesInPairs: "odd-sizes",
    TurnsRoomsRound: "resembles",
    KeepsTheMessageInItsCodebook: "static-codebook",
    RollsItsOwnDice: "deterministic",
    RemembersOnSelf: "deterministic",
    SeedsTorch: "process-untouched",
    SetsTheDefaultDtype: "process-untouched",
    WorksInPlace: "arguments-untouched",
    ChangesTheCodebook: "arguments-untouched",
    CountsNothing: "bytes-counted",
    HidesInTheHeader: "header-says-nothing",
    KnowsTheTensor: "not-below-the-limit",
    ClaimsToBeUnbiased: "unbiased",
    ShrinksOnAverage: "unbiased",
    TrainsOnTheSmoothValue: "surrogate",
    TrainsNothing: "surrogate",
    TrainsTheScaleAlone: "surrogate",
    HasASteepSpot: "surrogate",
    TeachesItself: "surrogate",
}


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
def test_a_fault_is_caught_by_the_check_that_is_meant_for_it(kind: type[qbench.Quantizer]) -> None:
    report = check_quantizer(kind())
    assert report.failed == [FAULTS[kind]], str(report)
    (detail,) = [finding.detail for finding in report.findings if finding.status == "failed"]
    assert detail.startswith("toy: ") or kind is HidesInTheHeader
    assert "\n" not in detail
    assert "; " in detail


def test_what_a_surrogate_learns_is_said() -> None:
    report = check_quantizer(Learned())
    assert report.ok
    assert report.findings[-1].detail == "learns scale beside x"
    assert check_quantizer(Sound()).findings[-1].status == "skipped"


def test_every_check_has_a_toy_that_fails_it() -> None:
    # these four are in the tests below
    apart = {"scale-free", "refused-inputs", "decodes-elsewhere", "device"}
    assert {check.name for check in checks()} == {*FAULTS.values(), *apart}


def test_a_fixed_step_needs_the_cores_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    class FixedStep(Sound):
        def fit(self, x, *, context):
            return {"scale": x.new_full((), 0.25)}

    assert check_quantizer(FixedStep()).ok
    monkeypatch.setattr(codec, "_scaled", lambda x, exponent: x)
    assert check_quantizer(FixedStep()).failed == ["scale-free"]


def test_a_core_that_refuses_nothing_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_quantizer(Sound()).ok
    monkeypatch.setattr(inputs, "measure", lambda quantizer, x: None)
    assert check_quantizer(Sound()).failed == ["refused-inputs"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_decoder_that_leaves_the_device_is_caught() -> None:
    class ComesHome(Sound):
        def decode(self, codes, codebook, shape):
            return super().decode(codes, codebook, shape).cpu()

    assert check_quantizer(Sound()).ok
    assert check_quantizer(ComesHome()).failed == ["device"]


@parametrize_checks([Sound()])
def test_a_plugin_parametrizes_its_own_test(quantizer: qbench.Quantizer, check: Callable[..., str]) -> None:
    check(quantizer)


def test_a_check_called_by_itself_raises() -> None:
    by_name = {check.name: check for check in checks()}
    with pytest.raises(ContractError, match="one or more of source, weight, activation, gradient"):
        by_name["description"](AimsNowhere())
    with pytest.raises(NotApplicable, match="no plugin offers it"):
        by_name["decodes-elsewhere"](Sound())
    assert issubclass(ContractError, QBenchError)


def test_a_report_reads_line_by_line() -> None:
    report = check_quantizer(AimsNowhere(), seed=3)
    assert not report.ok
    assert str(report).splitlines()[0].startswith("description: failed toy: targets are ('weights',)")
    assert len(str(report).splitlines()) == len(checks())


def test_the_kit_leaves_the_process_as_it_was() -> None:
    torch.manual_seed(4)
    expected = torch.rand(1)
    torch.manual_seed(4)
    check_quantizer(SetsTheDefaultDtype())
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_default_dtype() == torch.float32


class Needy(Sound):
    """Finds what it asks for, in shapes that fit."""

    needs = frozenset({"importance", "gram", "loss"})

    def encode(self, x, codebook, *, context):
        assert context.importance.shape == x.shape
        assert bool((context.importance > 0).all())
        assert context.gram.shape[0] == (x.numel() // x.shape[0] if x.dim() > 1 else x.numel())
        assert abs(float(context.loss(x))) < 1e-6 or not bool(x.any())
        return super().encode(x, codebook, context=context)


def test_what_a_quantizer_needs_is_made_up() -> None:
    small = [check for check in checks() if check.name in ("shapes-and-dtypes", "odd-sizes", "deterministic")]
    assert [check.finding(Needy()).detail for check in small] == ["", "", ""]


def test_the_documentation_names_every_check_and_its_example_works() -> None:
    page = (
        (Path(__file__).parents[1] / "docs" / "contract.md").read_text().split("## Checking a quantizer")[1]
    )
    section = page.split("\n## ")[0]
    first_cells = "".join(line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))
    assert re.findall(r"`([^`]+)`", first_cells) == sorted(
        (check.name for check in checks()), key=first_cells.index
    )
    namespace = {"ThreeLevels": Sound}
    exec("\n".join(line[4:] for line in section.splitlines() if line.startswith("    ")), namespace)
    assert namespace["report"].ok
    assert namespace["test_contract"].pytestmark[0].name == "parametrize"


def test_the_decoding_process_is_started_again_when_it_is_gone() -> None:
    payload = qbench.measure(qbench.quantizer("binary"), torch.ones(8)).payload
    first = elsewhere._process()
    first.kill()
    first.wait()
    assert torch.equal(elsewhere.decode_elsewhere([payload])[0], torch.ones(8))
    assert elsewhere._process() is not first
    with pytest.raises(elsewhere.DecodingElsewhereError, match="PayloadError: not a qbench payload"):
        elsewhere.decode_elsewhere([b"hello"])
