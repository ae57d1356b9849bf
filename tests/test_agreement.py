"""Two sets of results: what agrees, what is noise, what moved."""

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from scipy import stats

from qbench.agreement import Comparison, Difference, compare
from qbench.records import Record
from qbench.schema import Cell, Spec, Status

UNIFORM = Spec(name="uniform", parameters={"bits": 4})
MLP, DIGITS, ADAM = Spec(name="mlp"), Spec(name="digits"), Spec(name="adam")
DRAWS = [0.010, 0.011, 0.012, 0.013]


def record(
    metrics: Mapping[str, Any],
    track: str = "ptq",
    *,
    seed: int = 0,
    weights: str | None = "w",
    quantizer: Spec = UNIFORM,
    environment: str = "e",
    device: str = "cpu",
    rate_class: str = "fixed",
    status: Status = Status.OK,
) -> Record:
    """A result; metrics are values, or measurements in part."""
    target = "source" if track == "rate-distortion" else "weight"
    network = (
        {"model": MLP, "dataset": DIGITS, "optimizer": ADAM} if target == "weight" else {"dataset": DIGITS}
    )
    cell = Cell(track=track, track_version=1, target=target, quantizer=quantizer, seed=seed, **network)
    blank = {"unit": "", "n": 1, "timing": False, "samples": []}
    whole = {
        name: blank | (given if isinstance(given, dict) else {"value": given})
        for name, given in metrics.items()
    }
    return Record(
        result_id=f"{cell.cell_id[:12]}{device}",
        cell=cell,
        status=status,
        error=None if status is Status.OK else "boom",
        fingerprint="f",
        device_kind=device,
        device=device,
        environment_id=environment,
        baseline_sha256=weights,
        started=datetime(2026, 1, 1, tzinfo=UTC),
        rate_class=rate_class,
        metrics=whole,
    )


def network(right: int, lost: int, gained: int, count: int = 100, **others: Any) -> Record:
    """A quantized network with so many right predictions, and lost and gained against float."""
    percent = {"unit": "%", "n": count}
    accuracies = {"accuracy": right, "accuracy_drop": lost - gained}
    metrics: dict[str, Any] = {name: {"value": 100 * k / count, **percent} for name, k in accuracies.items()}
    metrics |= {"lost": {"value": lost, "n": count}, "gained": {"value": gained, "n": count}}
    return record({"rate": 4.0} | metrics, **others)


def source(errors: list[float], sqnr: float | None = None, rate: float = 4.0, **others: Any) -> Record:
    """A source that was drawn and coded several times."""
    count, mean = len(errors), math.fsum(errors) / len(errors)
    value = -10 * math.log10(mean) if sqnr is None else sqnr
    metrics = {
        "mse": {"value": mean, "n": count, "samples": errors},
        "sqnr_db": {"value": value, "n": count},
        "rate": {"value": rate, "n": count, "samples": [rate] * count},
    }
    return record(metrics, "rate-distortion", weights=None, **others)


def held(first: Iterable[Record], second: Iterable[Record], **others: Any) -> Comparison:
    return compare({r.key: r for r in first}, {r.key: r for r in second}, **others)


def only(found: Comparison, quantity: str) -> Difference:
    (one,) = [one for one in found.differences if one.quantity == quantity]
    return one


def test_a_set_agrees_with_itself() -> None:
    records = [network(98, 1, 0), network(97, 2, 0, seed=1), source(DRAWS)]
    found = held(records, records, timing=True)
    assert found.counts == {"exactly": 3}
    assert (found.differences, found.trends, found.tests, found.exit_code) == ([], [], 0, 0)


def test_cells_are_paired_on_their_kind_of_device() -> None:
    first = [network(98, 1, 0), network(98, 1, 0, seed=1), network(98, 1, 0, seed=2)]
    second = [network(98, 1, 0), network(98, 1, 0, seed=1, device="cuda"), network(98, 1, 0, seed=3)]
    found = held(first, second)
    assert [len(part) for part in (found.pairs, found.only_first, found.only_second)] == [1, 2, 2]
    assert found.exit_code == 0


def test_bits_and_bytes_are_exact() -> None:
    before, after = ({"rate": 4.0, "stored_bytes": count, "kl": 0.1} for count in (5000, 5001))
    found = held([record(before)], [record(after)])
    assert (only(found, "stored_bytes").verdict, only(found, "stored_bytes").method) == ("moved", "exact")
    assert found.counts == {"moved": 1}
    assert found.exit_code == 1


def test_coded_bits_of_other_weights_are_not_exact() -> None:
    before = [record({"rate": 4.0, "kl": 0.1}, weights="a", rate_class="coded")]
    after = [record({"rate": 4.1, "kl": 0.1}, weights="b", rate_class="coded")]
    assert only(held(before, after), "rate").verdict == "untested"
    assert held(before, after).exit_code == 0


def test_fixed_bits_of_other_weights_are_exact() -> None:
    before, after = ([record({"rate": rate, "kl": 0.1}, weights=w)] for rate, w in ((4.0, "a"), (4.1, "b")))
    assert only(held(before, after), "rate").method == "exact"


def test_rounding_is_noise() -> None:
    found = held([record({"kl": 0.1})], [record({"kl": 0.1 * (1 + 5e-7)})])
    assert only(found, "kl").method == "rounding"
    assert found.counts == {"within noise": 1}
    assert found.exit_code == 0


def test_what_equal_inputs_decide_moves_beyond_rounding() -> None:
    here, there = record({"kl": 0.1}), record({"kl": 0.10005}, environment="other")
    assert only(held([here], [record({"kl": 0.10005})]), "kl").verdict == "moved"
    assert only(held([here], [there]), "kl").verdict == "within noise"  # another machine: 0.05 %
    assert only(held([here], [record({"kl": 0.11}, environment="other")]), "kl").verdict == "moved"


def test_equal_draws_do_not_excuse_another_value() -> None:
    found = held([source(DRAWS)], [source(DRAWS, sqnr=25.0)])
    assert (only(found, "sqnr_db").method, only(found, "sqnr_db").verdict) == ("same inputs", "moved")


def test_as_many_draws_are_paired() -> None:
    better = [error * factor for error, factor in zip(DRAWS, (0.97, 0.98, 0.96, 0.97), strict=True)]
    found = only(held([source(DRAWS)], [source(better)]), "sqnr_db")
    decibels = [[-10 * math.log10(error) for error in errors] for errors in (DRAWS, better)]
    assert found.method == "paired t"
    assert found.p == pytest.approx(stats.ttest_rel(*decibels).pvalue)
    assert found.verdict == "moved"


def test_other_draws_are_independent() -> None:
    more = [*DRAWS, 0.0125]
    found = only(held([source(DRAWS)], [source(more)]), "sqnr_db")
    decibels = [[-10 * math.log10(error) for error in errors] for errors in (DRAWS, more)]
    assert found.method == "Welch"
    assert found.p == pytest.approx(stats.ttest_ind(*decibels, equal_var=False).pvalue)
    assert found.verdict == "within noise"


def test_networks_of_equal_weights_by_mcnemar() -> None:
    # 8 fewer right; at most 1 + 9 predictions are right in one only: 9 against 1.
    found = held([network(99, 1, 0)], [network(91, 9, 0)])
    for name in ("accuracy", "accuracy_drop"):
        assert only(found, name).method == "McNemar"
        assert only(found, name).p == pytest.approx(2 * (1 + 10) / 2**10)
    assert found.tests == 1
    assert only(found, "accuracy").adjusted == only(found, "accuracy").p
    assert found.counts == {"moved": 1}


def test_one_prediction_is_noise() -> None:
    found = held([network(98, 2, 0)], [network(97, 3, 0)])
    assert only(found, "accuracy").p == 1.0
    assert found.counts == {"within noise": 1}


def test_networks_of_other_weights_are_independent() -> None:
    found = held([network(90, 5, 5, weights="a")], [network(70, 25, 5, weights="b")])
    assert only(found, "accuracy").method == "Fisher"
    assert only(found, "accuracy").p == pytest.approx(stats.fisher_exact([[90, 10], [70, 30]]).pvalue)
    # Drops 0 and 20 points: variances 10 / 100^2 and (30 - 20^2 / 100) / 100^2, in predictions.
    error = 100 * math.sqrt(10 + 30 - 4) / 100
    assert only(found, "accuracy_drop").p == pytest.approx(2 * stats.norm.sf(20 / error))
    assert only(found, "accuracy_drop").verdict == "moved"


def test_quantities_with_intervals() -> None:
    low, high = (
        {"middle.shape": s, "middle.shape.low": s - 0.196, "middle.shape.high": s + 0.196} for s in (1.0, 1.5)
    )
    blank = {"training_loss": 1.0}
    pair = [[record(shape | blank, "gradient-statistics", weights=None)] for shape in (low, high)]
    found = only(held(*pair), "middle.shape")
    assert found.method == "normal"
    assert found.p == pytest.approx(2 * stats.norm.sf(0.5 / (0.1 * math.sqrt(2))), rel=1e-3)


def divergences(values: Iterable[float], weights: str, **others: Any) -> list[Record]:
    return [
        record({"kl": value} | others, weights=f"{weights}{seed}", seed=seed)
        for seed, value in enumerate(values)
    ]


def test_other_weights_of_one_seed_are_untested() -> None:
    found = held(divergences([0.1], "a"), divergences([0.9], "b"))
    assert found.counts == {"untested": 1}
    assert found.exit_code == 0


def test_other_weights_are_judged_over_seeds() -> None:
    first, second = [0.10, 0.11, 0.12], [0.31, 0.30, 0.33]
    found = held(divergences(first, "a"), divergences(second, "b"))
    expected = stats.ttest_ind(first, second, equal_var=False).pvalue
    assert {one.method for one in found.differences} == {"Welch, 3 seeds"}
    assert [one.p for one in found.differences] == pytest.approx([expected] * 3)
    assert [one.adjusted for one in found.differences] == pytest.approx([expected] * 3)  # one test
    assert found.counts == {"moved": 3}


def test_trainings_from_equal_weights_are_paired_over_seeds() -> None:
    first, second = [0.10, 0.20, 0.30], [0.12, 0.23, 0.31]
    timed = {"training_seconds": {"value": 1.0, "timing": True}}
    found = held(divergences(first, "a", **timed), divergences(second, "a", **timed))
    assert {one.method for one in found.differences} == {"paired t, 3 seeds"}
    assert found.differences[0].p == pytest.approx(stats.ttest_rel(first, second).pvalue)


def test_holm_over_all_tests() -> None:
    others = {"quantizer": Spec(name="nf4")}
    found = held(
        [network(99, 1, 0), network(99, 1, 0, **others)], [network(91, 9, 0), network(98, 2, 0, **others)]
    )
    assert found.tests == 2
    # p-values .0215 and 1: the lesser counts twice and still suffices, as it does not among three.
    assert sorted({round(one.adjusted or 0, 6) for one in found.differences}) == [
        round(2 * 22 / 2**10, 6),
        1.0,
    ]
    assert found.counts == {"moved": 1, "within noise": 1}
    third = {"quantizer": Spec(name="nf4", parameters={"group_size": 32})}
    first = [network(99, 1, 0), network(99, 1, 0, **others), network(99, 1, 0, **third)]
    second = [network(91, 9, 0), network(98, 2, 0, **others), network(98, 2, 0, **third)]
    assert held(first, second).counts == {"within noise": 3}


def test_a_trend_that_no_cell_shows_alone() -> None:
    timed = {"training_seconds": {"value": 1.0, "timing": True}}
    specs = [Spec(name="uniform", parameters={"bits": bits}) for bits in range(1, 13)]
    first, second = (
        [record({"kl": kl} | timed, "qat", quantizer=spec) for spec in specs] for kl in (0.1, 0.2)
    )
    found = held(first, second)
    assert found.counts == {"untested": 12}
    (trend,) = found.trends
    assert (trend.lines, trend.up, trend.down) == (12, 12, 0)
    assert trend.mean == pytest.approx(0.1)
    assert trend.adjusted == 2 / 2**12
    assert found.exit_code == 1
    assert held(first[:5], second[:5]).trends == []


def test_another_ending_counts() -> None:
    found = held([network(98, 1, 0)], [record({}, status=Status.TIMEOUT)])
    assert len(found.status_changes) == 1
    assert found.counts == {}
    assert found.exit_code == 1


def test_a_quantity_that_is_gone_moved() -> None:
    found = held([record({"kl": 0.1, "rate": 4.0})], [record({"rate": 4.0})])
    assert only(found, "kl").method == "in one only"
    assert found.exit_code == 1


def test_timings_are_left_out_unless_asked_for() -> None:
    first, second = (
        [record({"kl": 0.1, "quantize_seconds": {"value": s, "timing": True}})] for s in (1.0, 9.0)
    )
    assert held(first, second).counts == {"exactly": 1}
    assert held(first, second, timing=True).counts == {"untested": 1}


def test_the_largest_comes_first() -> None:
    specs = [Spec(name="uniform", parameters={"bits": bits}) for bits in (1, 2, 3)]
    first, second = (
        [record({"kl": kl}, quantizer=spec) for spec, kl in zip(specs, values, strict=True)]
        for values in ((1.0, 1.0, 1.0), (1.1, 3.0, 0.5))
    )
    assert [one.change for one in held(first, second).differences] == pytest.approx([2.0, -0.5, 0.1])


def test_numbers_that_nobody_measures_harm_nothing() -> None:
    wild = {"kl": 1e308, "accuracy": {"value": 1e300, "unit": "%", "n": 2**62}, "lost": 1e300, "gained": -5.0}
    found = held([network(98, 1, 0)], [record({"rate": 4.0} | wild)])
    assert only(found, "accuracy").method == "in one only"
    assert held([source([1e200, 1e300])], [source([1e-300, 1.0])]).counts == {"moved": 1}
    huge = {"accuracy": {"value": 97.0, "unit": "%", "n": 2**62}}
    assert (
        only(held([network(98, 1, 0, weights="a")], [record(huge, weights="b")]), "accuracy").method
        == "Fisher"
    )
