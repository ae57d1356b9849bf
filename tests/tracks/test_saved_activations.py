import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from qbench.baselines import weights_sha256
from qbench.classifier import autocast_dtype
from qbench.components import Examples, Quantizer
from qbench.errors import InputError, ParameterError, SuiteError
from qbench.models.cnn import Cnn
from qbench.models.gpt import Gpt
from qbench.models.mlp import Mlp
from qbench.optimizers.adam import Adam
from qbench.quantizers.entropy_coded import EntropyCoded
from qbench.quantizers.gptq import Gptq
from qbench.quantizers.stochastic_rounding import StochasticRounding
from qbench.quantizers.uniform import Uniform
from qbench.schema import Outcome
from qbench.tracks.saved_activations import SavedActivations


def alphabet() -> Examples:
    """Texts in which the next character follows from the last one."""
    text = ((torch.arange(144 * 9) * 5) % 12).reshape(144, 9)
    inputs, labels = text[:, :-1].to(torch.uint8), text[:, 1:].contiguous()
    return Examples(inputs[:128], labels[:128], inputs[128:], labels[128:], classes=12)


BUDGET = {"training": {"epochs": 8, "batch_size": 32}}
SHORT = {"training": {"epochs": 1, "batch_size": 32}}
MODEL = "mlp(width=32,depth=2)"
FLOAT = (autocast_dtype(torch.device("cpu")) or torch.float32).itemsize


@pytest.fixture(scope="module")
def bench(
    tmp_path_factory: pytest.TempPathFactory,
    digits: Examples,
    kept: type[Quantizer],
    make_bench: Callable[..., Any],
) -> Any:
    sets = {"digits": digits, "alphabet": alphabet()}
    components = (Mlp, Cnn, Gpt, Adam, kept, Uniform, StochasticRounding, EntropyCoded)
    return make_bench(tmp_path_factory.mktemp("cache"), components, sets)


def run(
    bench: Any,
    quantizer: str | None,
    budget: dict[str, Any] = BUDGET,
    model: str = MODEL,
    dataset: str = "digits",
    seed: int = 0,
) -> Outcome:
    return bench.run(SavedActivations, "activation", quantizer, model, budget, dataset, seed=seed)


def values(outcome: Outcome) -> dict[str, Any]:
    return {name: m.value for name, m in outcome.measurements.items() if not m.timing}


@pytest.mark.parametrize(
    ("model", "dataset"),
    [(MODEL, "digits"), ("cnn(width=4)", "digits"), ("gpt(width=16,depth=1,heads=2)", "alphabet")],
)
def test_a_code_that_keeps_everything_trains_exactly_as_float(bench: Any, model: str, dataset: str) -> None:
    outcome = run(bench, "kept", SHORT, model, dataset)
    found = values(outcome)
    assert found["accuracy"] == found["baseline_accuracy"]
    assert [found[name] for name in ("accuracy_drop", "flips", "kl", "lost", "gained")] == [0] * 5
    predictions = 360 if dataset == "digits" else 16 * 8
    assert outcome.measurements["accuracy"].n == predictions
    assert found.get("bits_per_character") == found.get("baseline_bits_per_character")
    assert ("bits_per_character" in found) == (dataset == "alphabet")


def test_eight_bits_lose_nothing_beyond_noise(bench: Any) -> None:
    """Of three seeds: the deviation of lost - gained is sqrt(lost + gained), three of them are allowed.

    A bit more than 8.25 of stochastic rounding: one for what a ReLU made zero, and 60 to 120 bytes of names, counts and
    exponents for 1024 elements or more.
    """
    found = [values(run(bench, "stochastic-rounding(bits=8)", seed=seed)) for seed in range(3)]
    lost, gained = sum(one["lost"] for one in found), sum(one["gained"] for one in found)
    assert lost - gained <= 3 * math.sqrt(lost + gained)
    assert all(one["baseline_accuracy"] > 90 for one in found)
    assert all(8.25 + 0.5 < one["rate"] < 8.25 + 0.5 + 8 * 120 / 1024 for one in found)


def test_two_bits_still_learn(bench: Any) -> None:
    """The forward pass is exact: 80 % are twenty standard errors above what guessing gives 360 pictures."""
    found = values(run(bench, "stochastic-rounding(bits=2)"))
    assert found["accuracy"] > 80
    assert found["rate"] < 4


def test_a_backward_pass_that_sees_nothing_learns_nothing(bench: Any) -> None:
    """Gradients of weights are zero, and those of biases behind a ReLU that sees nothing: only the last bias moves."""
    found = values(run(bench, "kept(times=0)", {**BUDGET, "rectified": "coded"}))
    assert found["accuracy"] < found["baseline_accuracy"] - 50


def test_bytes_of_a_step(bench: Any) -> None:
    """32 pictures of 64 pixels and two layers of 32 units; below 2048 elements the latter are left as they are."""
    outcome = run(bench, "kept", {**SHORT, "least": 2048})
    found = values(outcome)
    elements, left = 32 * 64, FLOAT * 32 * (32 + 32)
    assert found["float_saved_bytes"] == FLOAT * elements + left
    assert found["saved_bytes"] == pytest.approx(found["rate"] * elements / 8 + left, abs=1e-6)
    assert found["coverage"] == pytest.approx(0.5)
    steps = outcome.measurements["saved_bytes"].n
    assert (steps, outcome.measurements["rate"].n) == (1294 // 32, 1294 // 32)
    assert 32 < found["rate"] < 32 + 8 * 60 / elements
    assert outcome.facts["tensors"] == 1


def test_the_same_seed_gives_the_same_numbers_and_leaves_everything_as_it_was(bench: Any) -> None:
    torch.manual_seed(1)
    first = run(bench, "stochastic-rounding(bits=2)", SHORT)
    torch.manual_seed(2)
    before = torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()
    second = run(bench, "stochastic-rounding(bits=2)", SHORT)
    assert before == (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist())
    assert (values(first), first.facts) == (values(second), second.facts)
    assert values(run(bench, "stochastic-rounding(bits=2)", SHORT, seed=1)) != values(first)
    for baseline in bench.cached.values():
        assert weights_sha256(baseline.module.state_dict()) == baseline.sha256


def test_the_float_model_is_there_before_the_clock_starts(bench: Any) -> None:
    bench.events.clear()
    outcome = run(bench, "uniform(bits=4)", SHORT)
    assert bench.events == ["baseline", "loaded", f"{Uniform(bits=4)}: epoch 1 of 1"]
    assert outcome.baseline_sha256 in {baseline.sha256 for baseline in bench.cached.values()}


def test_facts(bench: Any) -> None:
    facts = run(bench, "entropy-coded(uniform(bits=4))", SHORT).facts
    assert (facts["rate_class"], facts["execution"], facts["tensors"]) == ("coded", "simulated", 3)
    plain = run(bench, "uniform(bits=4)", {**SHORT, "rectified": "coded"}).facts
    assert (plain["rate_class"], plain["rectified"], plain["epochs"]) == ("fixed", "coded", 1)


def test_nothing_to_code(bench: Any) -> None:
    with pytest.raises(InputError, match="least=4096 elements; lower least or raise batch_size"):
        run(bench, "kept", {**SHORT, "least": 4096})


def test_what_a_cell_needs(bench: Any) -> None:
    with pytest.raises(SuiteError, match="name one in its grid"):
        run(bench, None, SHORT)
    with pytest.raises(ParameterError, match="least=0"):
        SavedActivations(least=0)
    assert Uniform().suits("activation", SavedActivations.provides)
    assert not Gptq().suits("activation", SavedActivations.provides)
