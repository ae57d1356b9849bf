"""What is written comes back, the newest attempt counts, and results are found by name."""

import json
from datetime import timedelta, timezone
from pathlib import Path

import pytest

import qbench
from qbench.errors import RegistryError
from qbench.registry import Key, Known, Merged, Registry
from qbench.schema import MAX_SAMPLES, Cell, Measurement, Spec, Status

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from sample_registry import begin, make_cell, make_result
    from sample_results import ENVIRONMENT, STARTED

HARD_MEASUREMENTS = {
    "extremes": Measurement(
        value=1.7976931348623157e308, unit="x", samples=[5e-324, -0.0, 0.1, 1e308], n=2**62
    ),
    "nothing": Measurement(value=None, unit=""),
    "full": Measurement.mean([i / 3 for i in range(MAX_SAMPLES)], "é𝄞", timing=True),
    "name with 'quotes' \x00 and ünïcode": Measurement(value=-1.0, unit="\x00"),
}
HARD_RESULTS = [
    make_result(),
    make_result(make_cell(1, "entropy-coded(inner=uniform(bits=4),levels=[1,2.5,a],x=none)")),
    make_result(make_cell(-(2**62), dataset=None, model=Spec.parse("mlp(width=3)"))),
    make_result(
        Cell(track="t", track_version=7, target="gradient", budget={"lr": 1e-05, "deep": [1, {"a": "\x00"}]})
    ),
    make_result(
        make_cell(4), status="error", error="\x00 'é' \"𝄞\"", device_kind="cuda", device="GPU; DROP TABLE"
    ),
    make_result(make_cell(5), measurements=HARD_MEASUREMENTS),
    make_result(make_cell(6), facts={"a": None, "b": True, "c": 0.1, "d": "x\x00y", "e": 3}),
    make_result(attempt=3, baseline_id="b" * 64, baseline_sha256="c" * 64, seconds=1e-9),
    make_result(make_cell(8), started=STARTED.astimezone(timezone(timedelta(hours=5, minutes=30)))),
]


def test_what_is_written_comes_back(registry: Registry, tmp_path: Path) -> None:
    assert registry.write(HARD_RESULTS)
    registry.export(tmp_path / "out.parquet")
    other = Registry(tmp_path / "other.duckdb")
    assert other.merge(tmp_path / "out.parquet") == Merged(added=len(HARD_RESULTS))
    for result in HARD_RESULTS:
        assert registry.result(result.result_id) == result
        assert other.result(result.result_id) == result


def test_a_long_batch_keeps_every_sample(registry: Registry) -> None:
    """Samples that only the last of thousands of rows has: their type is not guessed from the first rows."""
    bare = {f"m{i}": Measurement(value=float(i), unit="x") for i in range(100)}
    results = [make_result(make_cell(seed), measurements=bare) for seed in range(50)]
    last = {"late": Measurement(value=None, unit="y", samples=[0.5, 1.0])}
    results.append(make_result(make_cell(50), measurements=last))
    registry.write(results)
    ((count, total),) = registry.sql("SELECT count(*), sum(value) FROM measurements").fetchall()
    assert (count, total) == (5001, 50 * sum(range(100)))
    assert registry.result(results[-1].result_id).measurements == last


def test_flat_records_have_the_documented_keys(registry: Registry) -> None:
    cell = make_cell(seed=7, quantizer="uniform(bits=4,inner=kmeans(bits=2))")
    run_id = begin(registry, [cell])
    result = make_result(cell, run_id)
    registry.write([result])
    (row,) = registry.results().rows()
    assert row == {
        "result_id": result.result_id,
        "cell_id": cell.cell_id,
        "run_id": run_id,
        "suite": "smoke",
        "digest": "d" * 64,
        "track": "rate-distortion",
        "quantizer": "uniform",
        "parameters": {"bits": 4, "inner": {"name": "kmeans", "parameters": {"bits": 2}}},
        "model": None,
        "dataset": "gaussian",
        "optimizer": None,
        "seed": 7,
        "target": "source",
        "device": "cpu",
        "status": "ok",
        "error": None,
        "metrics": {"mse": {"value": 0.5, "unit": "mse", "n": 2}},
    }
    json.dumps(row, allow_nan=False)


def test_the_data_frame_has_a_column_per_parameter_and_metric(registry: Registry) -> None:
    measurements = {"rate": Measurement(value=4.5, unit="bit"), "seed": Measurement(value=9.0, unit="1")}
    registry.write(
        [make_result(make_cell(quantizer="uniform(bits=4,status=odd)"), measurements=measurements)]
    )
    registry.write([make_result(make_cell(1, quantizer="topk(share=0.5,rate=2)"), measurements=measurements)])
    frame = registry.results().df().set_index("quantizer")
    assert frame.loc["uniform", ["bits", "parameter_status", "status", "metric_seed", "seed"]].tolist() == [
        *(4.0, "odd", "ok", 9.0, 0)
    ]
    assert frame.loc["topk", ["share", "rate", "metric_rate"]].tolist() == [0.5, 2.0, 4.5]
    assert len(registry.results("track=ptq").df()) == 0


def test_the_newest_attempt_counts(registry: Registry) -> None:
    cell = make_cell()
    first = make_result(cell, status="error")
    second = make_result(cell, attempt=2, started=STARTED + timedelta(hours=1))
    other_code = make_result(cell, fingerprint="0" * 16, started=STARTED + timedelta(minutes=30))
    registry.write([second, first, other_code])
    assert [row["result_id"] for row in registry.results()] == [second.result_id]
    every = [row["result_id"] for row in registry.results(all=True)]
    assert every == [first.result_id, other_code.result_id, second.result_id]
    assert len(registry.results("status=error")) == 0
    assert len(registry.results("status=error", all=True)) == 1


def test_a_reused_result_belongs_to_both_runs(registry: Registry) -> None:
    cell = make_cell()
    first = begin(registry, [cell])
    result = make_result(cell, first)
    registry.write([result])
    second = begin(registry, [cell], "standard", **{cell.cell_id: result.result_id})
    assert [(row["run_id"], row["suite"]) for row in registry.results()] == [(first, "smoke")]
    for where, run_id in ((f"run_id={second}", second), ("suite=standard", second), ("suite=smoke", first)):
        assert [(row["run_id"], row["result_id"]) for row in registry.results(where)] == [
            (run_id, result.result_id)
        ]
    assert len(registry.results(all=True)) == 1
    assert registry.sql("SELECT run_id, reused FROM history ORDER BY reused").fetchall() == [
        *((first, False), (second, True))
    ]


def test_a_run_knows_what_it_waits_for(filled: Registry) -> None:
    rows = filled.sql("SELECT position, result_id IS NULL FROM run_cells ORDER BY position").fetchall()
    assert rows == [(0, False), (1, False), (2, False), (3, True)]
    (run,) = filled.sql("SELECT suite, status, finished >= started, version FROM runs").fetchall()
    assert run == ("smoke", "finished", True, qbench.__version__)


def test_the_second_writer_of_a_result_changes_nothing(registry: Registry) -> None:
    first = make_result()
    second = make_result(run_id="other", measurements={"mse": Measurement.mean([9.0], "mse")})
    registry.write([first])
    registry.write([second, second, make_result(make_cell(1))])
    assert registry.result(first.result_id) == first
    assert registry.sql("SELECT count(*) FROM results").fetchall() == [(2,)]
    assert registry.sql("SELECT count(*) FROM measurements").fetchall() == [(2,)]


def test_what_a_resumed_run_goes_by(registry: Registry) -> None:
    ok, failed, mended, broken, unknown = (make_cell(seed) for seed in range(5))
    results = [
        make_result(ok),
        make_result(failed, status="crashed"),
        make_result(failed, status="timeout", attempt=2),
        make_result(mended, status="error"),
        make_result(mended, attempt=2),
        make_result(broken),
        make_result(broken, attempt=2, status="error"),
    ]
    keys = {cell.seed: Key(cell.cell_id, "f" * 16, "cpu") for cell in (ok, failed, mended, broken, unknown)}
    assert registry.latest(keys.values()) == {}
    registry.write(results)
    assert registry.latest(keys.values()) == {
        keys[0]: Known(results[0].result_id, Status.OK, 1),
        keys[1]: Known(results[2].result_id, Status.TIMEOUT, 2),
        keys[2]: Known(results[4].result_id, Status.OK, 2),
        keys[3]: Known(results[5].result_id, Status.OK, 2),
    }
    assert registry.latest([keys[0]._replace(device_kind="cuda"), keys[0]._replace(fingerprint="0")]) == {}
    assert registry.latest([]) == {}


def test_a_result_by_the_beginning_of_its_name(filled: Registry) -> None:
    names = sorted(name for (name,) in filled.sql("SELECT result_id FROM results").fetchall())
    assert filled.result(names[0][:12].upper()).result_id == names[0]
    with pytest.raises(RegistryError, match=r"no result 'zz'.*qbench results"):
        filled.result("zz")
    with pytest.raises(RegistryError, match="no result ''"):
        filled.result("")


def test_an_ambiguous_beginning_is_an_error(registry: Registry) -> None:
    """Of 17 hexadecimal names two begin alike."""
    registry.write([make_result(make_cell(seed)) for seed in range(17)])
    starts = [name[0] for (name,) in registry.sql("SELECT result_id FROM results").fetchall()]
    twice = next(start for start in starts if starts.count(start) > 1)
    with pytest.raises(RegistryError, match=f"'{twice}' is ambiguous: {twice}"):
        registry.result(twice)


def test_the_environment_of_a_result(filled: Registry) -> None:
    (row,) = filled.sql("SELECT DISTINCT environment_id FROM results").fetchall()
    assert filled.environment(row[0]) == ENVIRONMENT
    with pytest.raises(RegistryError, match="no environment 'x'"):
        filled.environment("x")


def test_numbers_at_the_end_of_their_range_come_back(registry: Registry) -> None:
    cell = make_cell(8).model_copy(update={"seed": -(2**63) + 1, "track_version": 2**31 - 1})
    huge = make_result(
        cell, measurements={"mse": Measurement(value=1.0, unit="x", n=2**63 - 1)}, attempt=2**31 - 1
    )
    registry.write([huge])
    assert registry.result(huge.result_id) == huge
