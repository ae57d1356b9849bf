import itertools
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

from qbench.baselines import weights_sha256
from qbench.calibration import Calibration
from qbench.classifier import evaluate
from qbench.components import Examples
from qbench.errors import InputError, ParameterError, SuiteError
from qbench.layers import swapped_weights, weight_tensors
from qbench.metrics import kl
from qbench.quantizers.gptq import Gptq
from qbench.schema import Cell, Outcome, Spec
from qbench.tracks.calibrated import calibration_pictures
from qbench.tracks.mixed_precision import MixedPrecision, with_bits
from qbench.tracks.ptq import Ptq
from qbench.tracks.weights import code_weights

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from odd_networks import COMPONENTS, Swelling, text

TRAINING = {"epochs": 8, "batch_size": 32}
MODEL = "mlp(width=32,depth=2)"
WEIGHTS = (64 * 32, 32 * 32, 32 * 10)
PER_TENSOR = "uniform(range=mse)"
METHODS = ("greedy", "optimal", "water-filling", "uniform")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, make_bench: Callable[..., Any], digits: Examples) -> Any:
    sets = {"digits": digits, "letters": text()}
    return make_bench(tmp_path_factory.mktemp("baselines"), COMPONENTS, sets)


def run(
    bench: Any,
    quantizer: str | None = PER_TENSOR,
    model: str = MODEL,
    dataset: str = "digits",
    seed: int = 0,
    **budget: Any,
) -> Outcome:
    whole = {"training": TRAINING, **budget}
    return bench.run(MixedPrecision, "weight", quantizer, model, whole, dataset, seed=seed)


def values(outcome: Outcome) -> dict[str, Any]:
    return {name: found.value for name, found in outcome.measurements.items() if not found.timing}


def bits(outcome: Outcome) -> list[int]:
    return [int(word) for word in str(outcome.facts["bits"]).split()]


def body_nbytes(payload: bytes) -> int:
    """Without magic, version, the header's length and the header."""
    return len(payload) - 7 - int.from_bytes(payload[5:7], "little")


@pytest.mark.parametrize("method", ["greedy", "optimal", "water-filling"])
def test_a_layer_that_nothing_depends_on_gets_the_fewest_bits(bench: Any, method: str) -> None:
    outcome = run(bench, model="deaf", rate=5.0, method=method)
    assert outcome.facts["layers"] == "network.first network.second network.last"
    assert outcome.measurements["sensitivity"].samples[1] == 0
    first, second, last = bits(outcome)
    assert second == 2
    assert min(first, last) > 2


def test_equal_weights_look_at_variances_alone(bench: Any) -> None:
    """What nothing depends on is stored as finely as its variance says: R - R' = log2(s / s') / 2 within a choice."""
    outcome = run(bench, model="deaf", rate=5.0, method="water-filling", weighting="equal")
    assert outcome.facts["weighting"] == "equal"
    (network,) = [b.module for b in bench.cached.values() if b.baseline_id == outcome.baseline_id]
    first, second, _ = (w.parameter.detach().var() for w in weight_tensors(network))
    real = float(second.log2() - first.log2()) / 2
    assert abs(bits(outcome)[1] - bits(outcome)[0] - real) < 2
    assert bits(outcome)[1] > 2


@pytest.mark.parametrize(
    ("quantizer", "method"),
    [
        *((PER_TENSOR, method) for method in METHODS),
        ("uniform(granularity=group,group_size=32,scheme=asymmetric)", "greedy"),
        ("gptq(scheme=asymmetric)", "water-filling"),
        ("entropy-coded(gptq(scheme=asymmetric))", "greedy"),
        ("swelling", "optimal"),
    ],
)
def test_the_bytes_of_the_payloads_are_within_the_budget(bench: Any, quantizer: str, method: str) -> None:
    for rate in (3.7, 5.3):
        Swelling.met.clear()
        outcome = run(bench, quantizer, rate=rate, method=method)
        spent = sum(map(body_nbytes, bench.payloads[-3:]))
        assert spent <= rate * sum(WEIGHTS) / 8
        assert outcome.measurements["rate"].value == 8 * spent / sum(WEIGHTS)
        assert outcome.facts["budget_rate"] == rate


def test_layers_that_take_more_bytes_behind_quantized_ones_are_chosen_anew(bench: Any) -> None:
    """Alone the 4-bit layers fill the budget to the byte; together two of them take 40 bytes more."""
    Swelling.met.clear()
    alone = run(bench, "swelling", choices=[4], rate=32.0)
    padded = round(alone.measurements["rate"].value * sum(WEIGHTS) / 8)
    Swelling.met.clear()
    outcome = run(
        bench, "swelling", choices=[3, 4], rate=8 * (padded - 79.5) / sum(WEIGHTS), method="uniform"
    )
    assert bits(outcome) == [3, 3, 3]
    # three layers at two choices, then all of them twice
    assert len(bench.payloads) == 3 * 2 + 2 * 3


def test_greedy_is_no_worse_than_one_choice_for_all_at_its_bytes(bench: Any) -> None:
    """4.5 bits hold 4 for every layer and no more. Paired over seeds: mean gain above 2 standard errors."""
    gains = []
    for seed in range(6):
        alike, chosen = (run(bench, seed=seed, rate=4.5, method=method) for method in ("uniform", "greedy"))
        assert bits(alike) == [4, 4, 4]
        assert alike.baseline_sha256 == chosen.baseline_sha256
        assert values(chosen)["predicted_kl"] <= values(alike)["predicted_kl"]
        assert values(chosen)["kl"] <= values(alike)["kl"]
        gains.append(values(alike)["kl"] - values(chosen)["kl"])
    assert mean(gains) > 2 * stdev(gains) / 6**0.5


def test_more_bytes_are_better(bench: Any) -> None:
    rows = [values(run(bench, rate=rate)) for rate in (3.0, 4.0, 5.0, 7.0)]
    for less, more in itertools.pairwise(rows):
        assert less["predicted_kl"] > more["predicted_kl"]
        assert less["kl"] > more["kl"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("quantizer", [PER_TENSOR, "gptq(scheme=asymmetric)"])
def test_one_layer_loses_what_was_predicted(bench: Any, quantizer: str, method: str) -> None:
    outcome = run(bench, quantizer, model="single", rate=4.0, method=method)
    assert bits(outcome) == [3]
    assert values(outcome)["predicted_kl"] == values(outcome)["calibration_kl"] > 0


@pytest.mark.parametrize(
    "quantizer",
    [PER_TENSOR, "gptq(scheme=asymmetric)", "adaround(iterations=20)", "kmeans-hessian", "swelling"],
)
def test_a_single_choice_is_scored_like_ptq(bench: Any, quantizer: str) -> None:
    spec = Spec.parse(quantizer)
    fixed = str(Spec(name=spec.name, parameters={**spec.parameters, "bits": 5}))
    Swelling.met.clear()
    mixed = run(bench, quantizer, choices=[5], rate=32.0, calibration=64)
    budget = {"training": TRAINING, "calibration": 64}
    plain = bench.run(Ptq, "weight", fixed, MODEL, budget)
    assert values(plain).items() <= values(mixed).items()
    assert {
        name: plain.facts[name] for name in ("calibration", "rate_class", "tensors")
    }.items() <= mixed.facts.items()
    assert mixed.baseline_sha256 == plain.baseline_sha256


def test_sensitivities_are_those_of_a_network_with_one_quantized_layer(bench: Any) -> None:
    """By hand for the second layer, with calibration from the float network alone."""
    outcome = run(bench, "gptq(scheme=asymmetric)", rate=4.3)
    found = outcome.measurements["sensitivity"]
    assert found.n == len(found.samples) == 3
    assert outcome.facts["sensitivity_bits"] == 4
    (baseline,) = [b for b in bench.cached.values() if b.baseline_id == outcome.baseline_id]
    inputs, labels = calibration_pictures(baseline.data, 256, 0)
    weight = weight_tensors(baseline.module)[1]
    needs = frozenset({"gram"})
    quantizer = Gptq(scheme="asymmetric", bits=4)
    (coded,) = code_weights(
        quantizer, [weight], 0, bench, Calibration(baseline.module, inputs, labels, needs)
    )
    before = evaluate(baseline.module, inputs)
    with swapped_weights(baseline.module, {weight.name: coded.decoded}):
        assert found.samples[1] == kl(before, evaluate(baseline.module, inputs))


def test_the_prediction_is_the_sum_over_layers(bench: Any) -> None:
    outcome = run(bench, choices=[4], rate=32.0)
    assert values(outcome)["predicted_kl"] == pytest.approx(sum(outcome.measurements["sensitivity"].samples))
    assert outcome.measurements["predicted_kl"].n == outcome.measurements["calibration_kl"].n == 256
    assert outcome.measurements["kl"].n == 360


def test_layers_of_more_bits_are_finer(bench: Any) -> None:
    outcome = run(bench, rate=6.0)
    decibels = outcome.measurements["layer_sqnr"]
    assert decibels.value == pytest.approx(mean(decibels.samples))
    assert len(decibels.samples) == 3
    order = sorted(zip(bits(outcome), decibels.samples, strict=True))
    assert [x for _, x in order] == sorted(decibels.samples)


def test_test_examples_have_no_say(
    bench: Any, make_bench: Callable[..., Any], digits: Examples, tmp_path: Path
) -> None:
    upside_down = replace(digits, test_inputs=digits.test_inputs.flip(2))
    here, there = run(bench), run(make_bench(tmp_path, COMPONENTS, {"digits": upside_down}))
    for name in ("sensitivity", "predicted_kl", "calibration_kl", "rate", "layer_sqnr"):
        assert here.measurements[name] == there.measurements[name]
    assert here.facts == there.facts
    assert here.measurements["kl"] != there.measurements["kl"]


@pytest.mark.parametrize("quantizer", [PER_TENSOR, "gptq(scheme=asymmetric)", "kmeans-hessian"])
def test_text(bench: Any, quantizer: str) -> None:
    outcome = run(bench, quantizer, model="speller", dataset="letters", rate=6.0, calibration=32)
    assert outcome.facts["layers"] == "network.1 network.3"
    assert outcome.measurements["kl"].n == 32 * 12
    assert outcome.measurements["predicted_kl"].n == 32 * 12
    # an odd choice: three characters in four can be told from the one before
    assert values(outcome)["baseline_accuracy"] > 60
    assert 0 < values(outcome)["kl"] < 0.1
    assert sum(map(body_nbytes, bench.payloads[-2:])) <= 6.0 * (16 * 24 + 24 * 8) / 8


def test_the_model_is_untouched_and_the_same_cell_gives_the_same_numbers(bench: Any) -> None:
    first, second = (run(bench, "gptq(scheme=asymmetric)", rate=4.3) for _ in range(2))
    assert values(first) == values(second)
    assert first.facts == second.facts
    (baseline,) = [b for b in bench.cached.values() if b.baseline_id == first.baseline_id]
    assert weights_sha256(baseline.module.state_dict()) == baseline.sha256 == first.baseline_sha256


def test_facts(bench: Any) -> None:
    outcome = run(bench, rate=4.5, calibration=100)
    (baseline,) = [b for b in bench.cached.values() if b.baseline_id == outcome.baseline_id]
    inputs, _ = calibration_pictures(baseline.data, 100, 0)
    assert outcome.facts == {
        "first_last": "quantize",
        "execution": "simulated",
        "energy": "estimated",
        "rate_class": "fixed",
        "selection": "validation",
        "tensors": 3,
        "method": "greedy",
        "budget_rate": 4.5,
        "layers": "network.1 network.3 network.5",
        "bits": "3 5 6",
        "sensitivity_bits": 4,
        "calibration_pictures": 100,
        "calibration_id": sha256(inputs.numpy().tobytes()).hexdigest(),
        "calibration": "none",
    }


def test_bits_of_the_specification_play_no_part(bench: Any) -> None:
    first, second = (run(bench, f"uniform(bits={bits},range=mse)") for bits in (3, 8))
    assert values(first) == values(second)


def test_bits_of_the_quantizer_inside() -> None:
    spec = Spec.parse("hadamard(inner=entropy-coded(inner=uniform(bits=4,range=mse)),block=64)")
    changed = "hadamard(block=64,inner=entropy-coded(inner=uniform(bits=7,range=mse)))"
    assert str(with_bits(spec, 7)) == changed


def test_the_estimate_grows_with_the_choices() -> None:
    whole = {"training": TRAINING}
    one = Cell(
        track="mixed-precision",
        track_version=1,
        target="weight",
        quantizer=Spec.parse(PER_TENSOR),
        model=Spec(name="vit"),
        dataset=Spec(name="fashion-mnist"),
        optimizer=Spec(name="adam"),
        budget=whole,
    )
    ptq = Ptq(**whole).estimate(one)
    assert MixedPrecision(**whole, choices=[4]).estimate(one) == 2 * ptq
    assert MixedPrecision(**whole).estimate(one) == 7 * ptq


def test_what_is_refused(bench: Any) -> None:
    with pytest.raises(SuiteError, match="'mixed-precision' lacks a quantizer"):
        run(bench, None)
    with pytest.raises(SuiteError, match="'nf4' has no parameter 'bits'; name a quantizer that has one"):
        run(bench, "nf4")
    with pytest.raises(ParameterError, match="quantizer 'kmeans-hessian': bits=12"):
        run(bench, "kmeans-hessian", choices=[2, 12])
    with pytest.raises(
        InputError, match="the cheapest options take .* bytes, the budget is 424; raise the rate"
    ):
        run(bench, rate=1.0)
    with pytest.raises(InputError, match="one option for all layers takes at least"):
        run(bench, rate=1.0, method="uniform")


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"choices": [4, 2]}, "rising order"),
        ({"choices": [2, 2]}, "rising order"),
        ({"choices": []}, "at least 1 item"),
        ({"choices": [0]}, "greater than or equal to 1"),
        ({"weighting": "equal"}, "method=greedy has no use for a weighting"),
        ({"rate": 0}, "greater than 0"),
        ({"method": "best"}, "greedy"),
    ],
)
def test_budgets_that_are_refused(budget: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        MixedPrecision(**budget)
