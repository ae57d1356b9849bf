"""Whether a result holds, quantity by quantity."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from qbench.pairs import Pair
from qbench.records import Record
from qbench.schema import Cell, Spec, Status
from qbench.tolerances import Check, Held, held_against


def record(
    metrics: Mapping[str, Any],
    weights: str | None = "w",
    environment: str = "here",
    *,
    track: str = "ptq",
    rate_class: str = "fixed",
    status: Status = Status.OK,
) -> Record:
    blank = {"unit": "%" if "accuracy" in metrics else "", "n": 1, "timing": False, "samples": []}
    cell = Cell(track=track, track_version=1, target="weight", quantizer=Spec(name="uniform"))
    return Record(
        result_id="0",
        cell=cell,
        status=status,
        error=None,
        fingerprint="f",
        device_kind="cpu",
        device="cpu",
        environment_id=environment,
        baseline_sha256=weights,
        started=datetime(2026, 1, 1, tzinfo=UTC),
        rate_class=rate_class,
        metrics={name: blank | (m if isinstance(m, dict) else {"value": m}) for name, m in metrics.items()},
    )


def network(right: int, count: int, lost: int, gained: int, **others: Any) -> dict[str, Any]:
    """Measurements of a network with so many right predictions, and lost and gained against float."""
    counts = {"accuracy": right, "accuracy_drop": lost - gained}
    metrics: dict[str, Any] = {k: {"value": 100 * v / count, "n": count} for k, v in counts.items()}
    return metrics | {"lost": {"value": lost, "n": count}, "gained": {"value": gained, "n": count}} | others


def held(first: Record, second: Record, *seeds: Record) -> Held:
    return held_against(Pair(first, second), seeds)


def check(found: Held, quantity: str) -> Check:
    return next(one for one in found.checks if one.quantity == quantity)


def test_equal_results_hold() -> None:
    one = record({"kl": 0.1, "rate": 4.0})
    assert held(one, one) == Held("holds", "every quantity is equal", held(one, one).checks)
    assert [c.quantity for c in held(one, one).checks] == ["rate", "kl"]


@pytest.mark.parametrize("environment", ["here", "there"])
def test_bits_of_fixed_length_hold_only_exactly(environment: str) -> None:
    first, second = record({"kl": 0.1, "rate": 4.0}), record({"kl": 0.1, "rate": 4.0001}, None, environment)
    assert held(first, second).outcome == "does not hold"
    assert check(held(first, second), "rate").tolerance == 0


def test_coded_bits_may_round_elsewhere() -> None:
    first, here, there = (
        record({"kl": 0.1, "rate": rate}, "w", place, rate_class="coded")
        for rate, place in ((4.0, "here"), (4.001, "here"), (4.001, "there"))
    )
    assert held(first, here).outcome == "does not hold"
    assert held(first, there).outcome == "holds"


def test_accuracies_of_equal_weights() -> None:
    first = record(network(950, 1000, 20, 5))
    assert held(first, record(network(949, 1000, 21, 5))).outcome == "does not hold"
    assert held(first, record(network(949, 1000, 21, 5), "w", "there")).outcome == "holds"
    assert held(first, record(network(948, 1000, 22, 5), "w", "there")).outcome == "does not hold"


def test_accuracies_of_other_weights_by_their_standard_error() -> None:
    second = record(network(900, 1000, 30, 10, kl=0.1), "other")
    found = held(record(network(950, 1000, 20, 5, kl=0.1)), second)
    share = 901 / 1002
    error = math.sqrt(2) * 100 * math.sqrt(share * (1 - share) / 1000)
    assert check(found, "accuracy").tolerance == pytest.approx(4 * error)
    assert check(found, "accuracy").holds
    # Of the difference to float: 40 predictions in one only, 20 of them in balance: 40 - 20^2 / 1000.
    drop = math.sqrt(2) * 100 * math.sqrt(40 - 0.4) / 1000
    assert check(found, "accuracy_drop").tolerance == pytest.approx(4 * drop)
    assert found.outcome == "holds"
    assert not check(held(record(network(980, 1000, 20, 5, kl=0.1)), second), "accuracy").holds


def test_draws_give_four_standard_errors_of_the_newer() -> None:
    def source(errors: list[float]) -> Record:
        count, mean = len(errors), math.fsum(errors) / len(errors)
        draws = {"mse": {"value": mean, "n": count, "samples": errors}}
        return record(
            draws | {"sqnr_db": {"value": -10 * math.log10(mean), "n": count}}, None, "there", track="rd"
        )

    wild, calm = source([0.001, 0.2]), source([0.0100, 0.0102])
    decibels = [-10 * math.log10(error) for error in (0.0100, 0.0102)]
    error = abs(decibels[0] - decibels[1]) / 2  # of the mean of two
    assert check(held(wild, calm), "sqnr_db").tolerance == pytest.approx(4 * math.sqrt(2) * error)
    assert held(wild, calm).outcome == "does not hold"


def test_what_equal_inputs_decide_may_round() -> None:
    first = record({"kl": 0.1})
    assert held(first, record({"kl": 0.10009})).outcome == "holds"
    assert held(first, record({"kl": 0.1002})).outcome == "does not hold"


def test_other_weights_need_three_seeds() -> None:
    first, second = record({"kl": 0.10}), record({"kl": 0.12}, "other")
    found = held(first, second, second, record({"kl": 0.11}))
    assert (found.outcome, check(found, "kl").holds) == ("cannot be compared", None)
    assert "3 seeds" in found.why
    seeds = [second, record({"kl": 0.11}), record({"kl": 0.13})]
    assert check(held(first, second, *seeds), "kl").tolerance == pytest.approx(4 * math.sqrt(2) * 0.01)
    assert held(first, second, *seeds).outcome == "holds"
    assert held(record({"kl": 0.2}), second, *seeds).outcome == "does not hold"


def test_another_ending_or_rate_class() -> None:
    first = record({"kl": 0.1})
    assert held(first, record({}, status=Status.IMPOSSIBLE)).outcome == "does not hold"
    assert held(first, record({}, status=Status.TIMEOUT)).outcome == "cannot be compared"
    assert held(first, record({"kl": 0.1}, rate_class="coded")).outcome == "does not hold"


def test_what_is_not_measured_any_more_does_not_hold() -> None:
    assert held(record({"kl": 0.1, "rate": 4.0}), record({"kl": 0.1})).outcome == "does not hold"


def test_a_result_that_states_nothing_cannot_be_compared() -> None:
    assert held(record({}), record({"kl": 0.1})).outcome == "cannot be compared"
