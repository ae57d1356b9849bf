"""The track on small trainings, and its figures on captures whose source is known."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from qbench.components import Examples
from qbench.errors import InputError, SuiteError
from qbench.gradient_capture import Capture, Pair, Record, Snapshot
from qbench.gradient_figures import FIGURES
from qbench.gradient_sampling import Site, windows
from qbench.models.cnn import Cnn
from qbench.models.mlp import Mlp
from qbench.optimizers.adam import Adam
from qbench.optimizers.sgd import Sgd
from qbench.schema import Cell, Measurement, Outcome, Spec
from qbench.tracks.gradient_charts import coding_charts, density_charts, fit_charts, increment_charts
from qbench.tracks.gradient_statistics import GradientStatistics
from qbench.tracks.gradient_windows import Layers, pair_figures, window_figures
from qbench.training import Training, train

TRAINING = {"epochs": 4, "batch_size": 64}
PAIRED = ("drift_kept", "lipschitz_kept", "relative_drift", "lipschitz", "relative_noise", "noise_share")
MOVING = ("cosine", "autocorrelation", "relative_increment", "gain_last_db", "gain_average_db")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, digits: Examples, make_bench: Callable[..., Any]) -> Any:
    root: Path = tmp_path_factory.mktemp("cache")
    return make_bench(root, (Mlp, Cnn, Adam, Sgd), {"digits": digits})


def ran(
    bench: Any, model: str, quantizer: str | None = None, optimizer: str = "adam(lr=0.003)", **budget: Any
) -> Outcome:
    track = GradientStatistics(
        **{"training": TRAINING, "snapshots": 2, "length": 8, "codes": False, **budget}
    )
    cell = Cell(
        track="gradient-statistics",
        track_version=2,
        target="gradient",
        quantizer=Spec.parse(quantizer) if quantizer else None,
        model=Spec.parse(model),
        dataset=Spec(name="digits"),
        optimizer=Spec.parse(optimizer),
        seed=3,
        budget=track.spec.parameters,
    )
    bench.events.clear()
    return track.run(cell, bench)


@pytest.fixture(scope="module")
def outcome(bench: Any) -> Outcome:
    return ran(bench, "mlp(width=64,depth=2)")


def value(found: Outcome | dict[str, Measurement], name: str) -> float:
    measurements = found.measurements if isinstance(found, Outcome) else found
    result = measurements[name].value
    assert result is not None
    return result


def test_every_figure_of_every_window_has_an_interval(outcome: Outcome) -> None:
    names = [*FIGURES, *MOVING, *PAIRED, *(f"update.{name}" for name in (*FIGURES, *MOVING))]
    names += [f"network.{name}" for name in (*MOVING, *PAIRED)]
    for window in ("early", "middle", "late"):
        for name in names:
            low, middle, high = (value(outcome, f"{window}.{name}{end}") for end in (".low", "", ".high"))
            assert low <= high, name
            assert math.isfinite(middle)
    for name in ("ks_gaussian", "excess_kurtosis", "shape"):
        assert f"late.pooled.{name}" in outcome.measurements
    for name in ("share_within_one", "int8_loss", "sign_cosine", "sign_correlation"):
        assert {f"weights.{name}{end}" for end in ("", ".low", ".high")} <= outcome.measurements.keys()


def test_figures_are_of_layers_with_4096_coordinates(bench: Any, outcome: Outcome) -> None:
    """Of 64 x 64, 64 x 64 and 10 x 64 weights two layers are large enough; of a smaller network all count."""
    assert outcome.facts["layers"] == "network.1.weight:linear:4096 network.3.weight:linear:4096"
    assert outcome.facts["layers_of_network"] == 3
    assert outcome.facts["small_layers"] is False
    assert len(outcome.measurements["late.shape"].samples) == 2
    small = ran(bench, "mlp(width=8,depth=1)")
    assert small.facts["layers"] == "network.1.weight:linear:512 network.3.weight:linear:80"
    assert small.facts["small_layers"] is True


def test_what_is_watched_is_the_plain_training(bench: Any, outcome: Outcome, digits: Examples) -> None:
    trained = train(Mlp(width=64, depth=2), Adam(lr=0.003), digits, Training(**TRAINING), 3)
    assert outcome.measurements["training_loss"].samples == trained.metrics["training_loss"]
    assert value(outcome, "accuracy") == 100 * trained.metrics["last_test_accuracy"]
    assert outcome.facts["training_precision"] == trained.metrics["precision"]
    assert outcome.facts["steps"] == 4 * trained.metrics["epoch_examples"] // 64


def test_the_same_cell_gives_the_same_numbers(bench: Any, outcome: Outcome) -> None:
    again = ran(bench, "mlp(width=64,depth=2)")
    assert bench.events[0] == "loaded"
    for name, found in outcome.measurements.items():
        assert found.timing or found == again.measurements[name], name
    assert again.facts == outcome.facts


def test_facts_say_what_was_looked_at(bench: Any, outcome: Outcome) -> None:
    facts = outcome.facts
    assert facts["gradient"] == "weights"
    assert facts["precision"] == "float32"
    assert facts["paired_steps"] == 6
    assert facts["paired_share"] == 6 / 80
    assert facts["early.steps"] == "2-9"
    snapshots, paired = (set(str(facts[f"late.{name}"]).split()) for name in ("snapshots", "paired"))
    assert snapshots <= paired
    assert (len(snapshots), len(paired)) == (2, 2)
    other = ran(bench, "cnn(width=4)", precision="training", codes=True)
    assert "late.code.kmeans.gap_db" in other.measurements
    assert "late.code.kmeans.gap_db" not in outcome.measurements
    assert other.facts["precision"] == other.facts["training_precision"]
    assert "conv" in str(other.facts["layers"])


def test_a_training_that_ends_early_has_fewer_windows(bench: Any) -> None:
    """A learning rate of 1e-30 moves no weight: accuracy stays as it is and patience ends the training."""
    training = {"epochs": 8, "batch_size": 64, "patience": 1}
    found = ran(bench, "mlp(width=8,depth=1)", optimizer="sgd(lr=1e-30)", training=training)
    assert found.facts["epochs"] == 2
    assert "early.shape" in found.measurements
    assert not any(name.startswith(("middle", "late")) for name in found.measurements)
    assert value(found, "early.update.zero_share") == 1
    assert value(found, "run.drift_kept") == 1
    assert "run.lipschitz" not in found.measurements


def test_gradients_of_outputs(bench: Any, outcome: Outcome) -> None:
    """Figures of distribution, coding and drift as of weights; nothing that follows a coordinate or a weight."""
    found = ran(bench, "mlp(width=64,depth=2)", gradient="outputs")
    assert found.facts["gradient"] == "outputs"
    assert found.facts["layers"] == "network.1.output:linear:4096 network.3.output:linear:4096"
    assert (found.facts["coordinates"], found.facts["layers_of_network"]) == (0, 3)
    for name in (*FIGURES, "drift_kept", "relative_drift", "network.drift_kept", "pooled.shape"):
        for window in ("early", "middle", "late"):
            assert math.isfinite(value(found, f"{window}.{name}"))
    # a unit's ReLU is off for about half of the pictures, and lets nothing through
    assert 0.2 < value(found, "early.zero_share") < 0.8
    assert "late.density.network.1.output" in found.measurements
    assert len(found.measurements["increments.drift"].samples) == 6
    absent = (
        "update",
        "weights.",
        "cosine",
        "autocorrelation",
        "gain_last",
        "gain_average",
        "lipschitz",
        "noise",
    )
    assert not [name for name in found.measurements for word in absent if word in name]
    for name in ("training_loss", "accuracy"):
        assert found.measurements[name] == outcome.measurements[name]


def test_a_convolution_has_a_row_for_every_channel(bench: Any) -> None:
    found = ran(bench, "cnn(width=4)", gradient="outputs")
    assert found.facts["layers"] == (
        "network.0.output:conv:16384 network.3.output:conv:16384 network.7.output:conv:8192 network.10.output:conv:8192"
    )
    assert value(found, "late.dead_rows") == 0


def test_what_does_not_fit_is_refused(bench: Any) -> None:
    with pytest.raises(SuiteError, match="has no quantizer, and its grid names uniform"):
        ran(bench, "mlp", quantizer="uniform(bits=4)")
    with pytest.raises(InputError, match="no room for three windows"):
        ran(bench, "mlp", training={"epochs": 1, "batch_size": 512})


def test_estimates_follow_the_training(bench: Any) -> None:
    track = GradientStatistics()
    spec = {"track": "gradient-statistics", "track_version": 2, "target": "gradient"}
    small, large, deep = (
        track.estimate(Cell(**spec, model=Spec(name=model), dataset=Spec(name=dataset)))
        for model, dataset in (("mlp", "digits"), ("mlp", "fashion-mnist"), ("resnet18", "fashion-mnist"))
    )
    assert 0 < small < large < deep


def capture_of(source: Callable[[torch.Generator], Tensor], steps: int = 32) -> tuple[Capture, Record]:
    """A window in which the gradient of one layer [64, 128] is drawn anew at every step."""
    generator = torch.Generator().manual_seed(0)
    drawn = [source(generator) for _ in range(steps)]
    window = windows(1265)[1]
    site = Site.of("layer", "linear", drawn[0], drawn[0].numel(), drawn[0].numel(), seed=0)
    norms = [x.double().square().sum()[None] for x in drawn]
    record = Record(
        window,
        gradients=[site.sample(x) for x in drawn],
        updates=[site.sample(-0.1 * x) for x in drawn],
        pairs=[Pair(window.start + i, n, 0.01 * n, 0.0025 * n, n, n) for i, n in enumerate(norms[:8])],
        snapshots=[Snapshot(window.start + i, [x], [-0.1 * x]) for i, x in enumerate(drawn[:6])],
    )
    capture = Capture()
    capture.sites, capture.records = [site], [record]
    return capture, record


def gaussian(generator: torch.Generator) -> Tensor:
    return 1e-3 * torch.randn(64, 128, generator=generator)


def rows_of_unlike_scale(generator: torch.Generator) -> Tensor:
    return torch.randn(64, 128, generator=generator) * torch.logspace(-2, 2, 64)[:, None]


def test_an_independent_gaussian_gradient_is_found_to_be_one() -> None:
    """Bounds of the hypotheses: distance .02, kurtosis .5, shape 1.8 to 2.2, spread .5 dB, nothing to predict."""
    capture, record = capture_of(gaussian)
    found = window_figures(capture, record, Layers.of(capture.sites, 24), seed=0)
    assert value(found, "middle.ks_gaussian.high") <= 0.02
    assert (
        -0.5
        <= value(found, "middle.excess_kurtosis.low")
        <= value(found, "middle.excess_kurtosis.high")
        <= 0.5
    )
    assert 1.8 <= value(found, "middle.shape.low") <= value(found, "middle.shape.high") <= 2.2
    assert value(found, "middle.variance_spread_db.high") <= 0.5
    assert value(found, "middle.top4_energy_ratio.high") <= 2
    assert value(found, "middle.adapting_gain_db_2.high") <= 0.25
    # 31 products of 8,192 coordinates: a standard error of 1 / sqrt(253,952)
    for name in ("cosine", "autocorrelation", "network.cosine", "update.cosine"):
        assert value(found, f"middle.{name}") == pytest.approx(0, abs=4 / math.sqrt(31 * 8192))
    assert value(found, "middle.gain_last_db.high") <= 0.25
    assert value(found, "middle.gain_increment_db") == pytest.approx(-3.01, abs=0.05)
    assert value(found, "middle.relative_increment") == pytest.approx(math.sqrt(2), abs=0.02)
    by_lag = found["middle.autocorrelation_by_lag"].samples
    assert len(by_lag) == 17
    assert by_lag[0] == 1


def test_the_whole_layer_shares_a_codebook_of_which_a_part_is_kept() -> None:
    """To 8,192 coordinates 16 levels of 4 bytes, where one scale of 2 is, are 496 bits; to 8e9 they are nothing."""
    capture, record = capture_of(gaussian)
    whole = Layers.of(capture.sites, 24)
    part = Layers(whole.numbers, [replace(whole.sites[0], size=8 * 10**9)])
    costly, free = (
        value(window_figures(capture, record, layers, seed=0), "middle.adapting_gain_db_4")
        for layers in (whole, part)
    )
    assert free - costly == pytest.approx(6.0206 * 496 / 8192, rel=0.1)


def test_a_scale_mixture_is_gaussian_after_normalization_only() -> None:
    capture, record = capture_of(rows_of_unlike_scale)
    found = window_figures(capture, record, Layers.of(capture.sites, 24), seed=0)
    assert value(found, "middle.ks_gaussian.low") > 0.1
    assert value(found, "middle.excess_kurtosis.low") > 3
    assert value(found, "middle.variance_spread_db.low") > 3
    assert value(found, "middle.normalized_ks_gaussian.high") <= 0.02
    assert (
        1.8
        <= value(found, "middle.normalized_shape.low")
        <= value(found, "middle.normalized_shape.high")
        <= 2.2
    )


def test_pairs_give_what_their_norms_say() -> None:
    """|dg| = .05 |g|, |dw| = .1 |g|, |noise| = |g| in every step."""
    capture, record = capture_of(gaussian)
    found = pair_figures("run", record.pairs, Layers.of(capture.sites, 24), 0, half=636)
    for scope in ("run", "run.network"):
        assert value(found, f"{scope}.relative_drift") == pytest.approx(0.05)
        assert value(found, f"{scope}.lipschitz") == pytest.approx(0.5)
        assert value(found, f"{scope}.relative_noise") == pytest.approx(1)
        assert value(found, f"{scope}.noise_share") == pytest.approx(1 / 1.0025)
        assert value(found, f"{scope}.drift_kept") == 1
        assert found[f"{scope}.lipschitz_kept"].n == 4
    charts = increment_charts([*record.pairs, record.pairs[-1]._replace(noise=None, increment=None)])
    assert charts["increments.step"].samples == [632 + i for i in range(8)]
    assert charts["increments.drift"].samples == pytest.approx([0.05] * 8)
    assert charts["increments.lipschitz"].samples == pytest.approx([0.5] * 8)
    assert pair_figures("run", [], Layers.of(capture.sites, 24), 0, half=636) == {}
    assert increment_charts([]) == {}


def test_a_density_is_counted_in_tenths_of_sigma() -> None:
    """Of a Gaussian .0399 lie within .05 sigma and none of 50,000 beyond 5.05; a quarter is exactly 0."""

    def source(generator: torch.Generator) -> Tensor:
        live = torch.rand(64, 128, generator=generator) >= 0.25
        return torch.randn(64, 128, generator=generator) * live

    capture, record = capture_of(source)
    found = density_charts(record, Layers.of(capture.sites, 24))["middle.density.layer"]
    n = 6 * 64 * 128
    assert found.n == n
    assert value({"x": found}, "x") == pytest.approx(0.25, abs=4 * math.sqrt(0.1875 / n))
    counts = torch.tensor(found.samples)
    assert len(counts) == 101
    live = float(counts.sum())
    assert live == pytest.approx(n * (1 - value({"x": found}, "x")))
    assert float(counts[50]) / live == pytest.approx(0.03988, abs=4 * math.sqrt(0.04 / live))
    assert float(counts[60]) / live == pytest.approx(0.02420, abs=4 * math.sqrt(0.025 / live))


def test_the_family_that_made_the_gradient_fits_best() -> None:
    def source(generator: torch.Generator) -> Tensor:
        uniform = torch.rand(64, 128, generator=generator, dtype=torch.float64) - 0.5
        return (-uniform.sign() * (1 - 2 * uniform.abs()).log()).float()

    capture, record = capture_of(source)
    found, facts = fit_charts(record, Layers.of(capture.sites, 24), seed=0)
    assert facts["middle.best_family"] == "laplace"
    assert value(found, "middle.fit.laplace.bic_excess") == 0
    # a standardized Laplace density has scale 1 / sqrt 2 and shape 1, of relative error near 2 / sqrt(8192)
    assert value(found, "middle.fit.laplace.scale") == pytest.approx(math.sqrt(0.5), abs=0.05)
    assert value(found, "middle.fit.generalized-gaussian.shape") == pytest.approx(1, abs=0.1)
    assert value(found, "middle.fit.gaussian.ks") > 0.04 > value(found, "middle.fit.laplace.ks")
    assert not any(name.endswith((".low", ".high")) for name in found)


def test_codes_do_on_a_gaussian_what_they_do_on_a_gaussian() -> None:
    capture, record = capture_of(gaussian)
    found = coding_charts(record, Layers.of(capture.sites, 24), seed=0)
    for code in ("lloyd-max", "kmeans", "ecsq", "nested-lattice"):
        assert value(found, f"middle.code.{code}.gap_db") == pytest.approx(0, abs=0.3)
        assert len(found[f"middle.code.{code}.rate"].samples) >= 3
    assert value(found, "middle.beta_gain_db") == pytest.approx(0, abs=0.1)


def test_dead_layers_are_left_out() -> None:
    capture, record = capture_of(lambda generator: torch.zeros(64, 128))
    layers = Layers.of(capture.sites, 24)
    found = window_figures(capture, record, layers, seed=0)
    assert value(found, "middle.zero_share") == 1
    assert "middle.shape" not in found
    assert found["middle.shape.left_out"] == Measurement(value=1, unit="1", n=1)
    assert "middle.zero_share.left_out" not in found
    fits, best = fit_charts(record, layers, seed=0)
    assert ([*fits], value(fits, "middle.fit.left_out"), best) == (["middle.fit.left_out"], 1, {})
    assert coding_charts(record, layers, seed=0) == {}
    assert density_charts(record, layers)["middle.density.layer"].value == 1
