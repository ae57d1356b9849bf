"""Choosing learning rates: what is the best of given accuracies, what is left out, and how sure it is."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats

from qbench.cli.choosing import Search, Trial, choose, searches, seeds_interval, wilson
from qbench.cli.recipes import to_choose, trials
from qbench.registry import Registry
from qbench.schema import Cell, Measurement, Spec

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parents[1]))
    from sample_results import result_of, write_run

HELD = 200


def cell(lr: float, seed: int = 0, optimizer: str = "adam", model: str = "mlp", **training: Any) -> Cell:
    return Cell(
        track="float",
        track_version=1,
        target="weight",
        model=Spec(name=model),
        dataset=Spec(name="digits"),
        optimizer=Spec(name=optimizer, parameters={"lr": lr}),
        seed=seed,
        budget={"training": {"epochs": 3, "batch_size": 64, "schedule": "cosine", **training}},
    )


def metrics(right: int, loss: float = 1.0, accuracy: float = 90.0) -> dict[str, dict[str, Any]]:
    """``right`` of 200 validation predictions."""
    return {
        "validation_accuracy": {"value": 100 * right / HELD, "unit": "%", "n": HELD},
        "validation_loss": {"value": loss, "unit": "nat", "n": HELD},
        "accuracy": {"value": accuracy, "unit": "%", "n": 360},
    }


def search(points: Mapping[float, Sequence[dict[str, Any] | None]]) -> Search:
    """One search: per learning rate the metrics of seeds 0, 1, ...; None is a training that failed."""
    given = [
        Trial(cell(lr, seed), found or {})
        for lr, of_seeds in points.items()
        for seed, found in enumerate(of_seeds)
    ]
    (only,) = searches(given)
    return only


def test_the_best_mean_validation_accuracy_wins_whatever_the_test_says() -> None:
    best = choose(
        search(
            {
                0.01: [metrics(150, accuracy=99.0), metrics(170, accuracy=99.0)],
                0.03: [metrics(161, accuracy=50.0), metrics(160, accuracy=50.0)],
                0.1: [metrics(199, accuracy=99.0), metrics(121, accuracy=99.0)],
            }
        )
    )
    assert best is not None
    assert best.point.rate == 0.03
    assert (best.decided_by, best.edge) == ("accuracy", None)
    assert best.point.mean("accuracy") == 50


def test_equal_accuracies_are_decided_by_loss_then_by_the_smaller_rate() -> None:
    """150 + 151 of 400 equals 149 + 152, though the means of their percentages may differ in the last bit."""
    equal = {0.1: [metrics(150, 0.5), metrics(151, 0.7)], 0.3: [metrics(149, 0.4), metrics(152, 0.6)]}
    by_loss = choose(search(equal))
    assert by_loss is not None
    assert (by_loss.point.rate, by_loss.decided_by) == (0.3, "loss")
    by_rate = choose(search({0.3: [metrics(150)], 0.1: [metrics(150)], 0.03: [metrics(10)]}))
    assert by_rate is not None
    assert (by_rate.point.rate, by_rate.decided_by, by_rate.edge) == (0.1, "learning rate", None)


@pytest.mark.parametrize(
    ("right", "edge"), [([9, 5, 1], "lower"), ([5, 9, 1], None), ([1, 5, 9], "upper"), ([5], "only point")]
)
def test_edges(right: list[int], edge: str | None) -> None:
    best = choose(search({lr: [metrics(count)] for lr, count in zip([0.1, 0.3, 1.0], right, strict=False)}))
    assert best is not None
    assert best.edge == edge


def test_points_that_failed_are_never_chosen_and_still_bound_the_grid() -> None:
    """At 1.0 one of two trainings diverged, however good the other was: 0.3 wins, and the grid goes on above it."""
    found = search(
        {
            0.1: [metrics(100), metrics(100)],
            0.3: [metrics(120), metrics(120)],
            1.0: [metrics(200), None],
        }
    )
    best = choose(found)
    assert best is not None
    assert (best.point.rate, best.edge) == (0.3, None)
    assert [point.rate for point in found.left_out] == [1.0]
    assert len(found.points) == 3


def test_points_with_fewer_seeds_wait() -> None:
    found = search({0.1: [metrics(100), metrics(100)], 0.3: [metrics(200)]})
    best = choose(found)
    assert best is not None
    assert (best.point.rate, found.seeds) == (0.1, 2)


def test_nothing_to_choose_from() -> None:
    assert choose(search({0.1: [None], 0.3: [None]})) is None


def test_loss_that_is_no_number_loses_a_tie() -> None:
    without = metrics(100)
    without["validation_loss"]["value"] = None
    best = choose(search({0.1: [without], 0.3: [metrics(100, 5.0)]}))
    assert best is not None
    assert (best.point.rate, best.decided_by) == (0.3, "loss")


def test_what_differs_is_searched_apart() -> None:
    given = [
        Trial(cell(lr, optimizer=optimizer, model=model, epochs=epochs), metrics(100))
        for lr, optimizer, model, epochs in itertools.product(
            (0.1, 0.3), ("adam", "sgd"), ("mlp", "cnn"), (3, 5)
        )
    ]
    found = searches(given)
    assert len(found) == 8
    assert all(len(one.points) == 2 for one in found)
    assert {(one.optimizer, one.model.name, one.budget["training"]["epochs"]) for one in found} == set(
        itertools.product(("adam", "sgd"), ("mlp", "cnn"), (3, 5))
    )


def test_interval_over_seeds() -> None:
    """Student's t as scipy has it; 12.706 times the standard error for two values."""
    values = [90.0, 91.0, 93.0]
    expected = stats.t.interval(0.95, 2, loc=stats.tmean(values), scale=stats.sem(values))
    assert seeds_interval(values) == pytest.approx(expected)
    assert seeds_interval([1.0, 3.0]) == pytest.approx((2 - 12.7062, 2 + 12.7062), abs=1e-4)
    assert seeds_interval([1.0]) is None


@pytest.mark.parametrize(("right", "count"), [(0, 10), (81, 263), (360, 360), (9000, 10_000)])
def test_wilson_interval(right: int, count: int) -> None:
    """As scipy has it. Newcombe 1998, table I: 81 of 263 is 0.2553 to 0.3662."""
    expected = stats.binomtest(right, count).proportion_ci(0.95, method="wilson")
    assert wilson(right / count, count) == pytest.approx((expected.low, expected.high), abs=1e-12)
    if (right, count) == (81, 263):
        assert wilson(right / count, count) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_wilson_covers() -> None:
    """Of 4000 samples of 200 with p = 0.9 about 95 % cover p, 4 standard errors of 0.0034 and 0.01 for discreteness."""
    generator = torch.Generator().manual_seed(0)
    counts = (torch.rand(4000, 200, generator=generator, dtype=torch.float64) < 0.9).sum(1).tolist()
    covered = sum(low <= 0.9 <= high for low, high in (wilson(count / 200, 200) for count in counts))
    assert abs(covered / 4000 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 4000) + 0.01


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """adam: best at 0.003 in the middle; sgd: best at its upper edge, and one point of it diverged."""
    held = Registry(tmp_path / "recipes.duckdb")
    right = {("adam", 0.001): 150, ("adam", 0.003): 180, ("adam", 0.01): 120}
    right |= {("sgd", 0.03): None, ("sgd", 0.1): 140, ("sgd", 0.3): 160}
    results = []
    for ((name, lr), count), seed in itertools.product(right.items(), (0, 1)):
        one = cell(lr, seed, name)
        if count is None:
            results.append(result_of(one, status="blocked", error="its baseline failed"))
            continue
        found = metrics(count, accuracy=90.0 + seed)
        measured = {key: Measurement(**value) for key, value in found.items()}
        results.append(result_of(one, measurements=measured))
    write_run(held, results, itertools.repeat("d" * 64), "recipes")
    return held


def test_a_run_that_tries_several_rates_leaves_something_to_choose() -> None:
    """Of one optimizer, model, data set and training on track float; seeds are no further rates."""
    assert to_choose([cell(0.01), cell(0.03)])
    assert not to_choose([])
    assert not to_choose([cell(0.01, seed=0), cell(0.01, seed=1), cell(0.03, optimizer="sgd")])
    assert not to_choose([cell(0.01), cell(0.03, model="cnn"), cell(0.1, epochs=9)])
    assert not to_choose([cell(lr).model_copy(update={"track": "ptq"}) for lr in (0.01, 0.03)])


def test_trials_come_from_a_registry(registry: Registry) -> None:
    found = trials(registry)
    assert len(found) == 12
    assert sum(not trial.metrics for trial in found) == 2
    assert len(trials(registry, ["optimizer=sgd"])) == 6


def test_the_command_prints_a_line_per_search(qb: Callable[..., Any], registry: Registry) -> None:
    adam, sgd = qb("recipes", "--registry", registry.path, "--json").json
    assert (adam["optimizer"], adam["recipe"], adam["lr"], adam["edge"]) == (
        *("adam", "adam(lr=0.003)", 0.003),
        None,
    )
    assert (adam["points"], adam["seeds"], adam["left_out"]) == (3, 2, [])
    assert (adam["validation_accuracy"], adam["accuracy"]) == (90, 90.5)
    assert adam["t_over_seeds"] == pytest.approx([90.5 - 12.7062 / 2, 90.5 + 12.7062 / 2], abs=1e-4)
    assert adam["wilson_over_predictions"] == pytest.approx([100 * x for x in wilson(0.905, 360)])
    assert (sgd["lr"], sgd["edge"], sgd["left_out"]) == (0.3, "upper", [0.03])


def test_the_command_prints_a_table_that_warns(qb: Callable[..., Any], registry: Registry) -> None:
    printed = qb("recipes", "--registry", registry.path).out
    assert "mlp on digits  3 epochs, batches of 64, cosine" in printed
    assert "1 left out, upper edge" in printed
    assert "extend the learning rates, for every optimizer alike" in printed
    assert max(map(len, printed.split("\n"))) <= 100


def test_the_only_point_is_no_edge(qb: Callable[..., Any], tmp_path: Path) -> None:
    held = Registry(tmp_path / "one.duckdb")
    found = {name: Measurement(**one) for name, one in metrics(160).items()}
    write_run(held, [result_of(cell(0.1), measurements=found)], ["d" * 64])
    printed = qb("recipes", "--registry", held.path).out
    assert "only point: nothing was chosen from; try several learning rates" in printed
    assert "edge" not in printed


def test_without_results(qb: Callable[..., Any], tmp_path: Path) -> None:
    held = Registry(tmp_path / "empty.duckdb")
    held.finish_run(held.begin_run("recipes", {"python": "3.11"}, []))
    assert "no results of track float" in qb("recipes", "--registry", held.path).out
