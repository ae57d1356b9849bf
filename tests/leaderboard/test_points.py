"""From a registry to points: what counts, what is never mixed, and gains that are known beforehand."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qbench.leaderboard.boards import Board
from qbench.leaderboard.points import MEASURED, TEXTS, points_of
from qbench.registry import Merged, Registry
from qbench.registry_file import RegistryFile
from qbench.schema import NAME_PATTERN
from qbench.selection import Selection

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from synthetic import add

CATALOG = {
    "uniform": {"family": "scalar", "reference": "Max 1960", "distribution": "qbench-suite"},
    "method-1": {"family": "lattice", "reference": "", "distribution": "stranger"},
}
HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    "\u2028\u202e right to left \U0001f4a9",
    "'; DROP TABLE results; --",
    "x" * 10_000,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.duckdb"


def points(path: Path) -> tuple[list[Board], pd.DataFrame]:
    return points_of(Registry(path), CATALOG)


def change(path: Path, query: str) -> None:
    with RegistryFile(path).transaction() as connection:
        connection.execute(query)


def of(table: pd.DataFrame, quantizer: str) -> pd.DataFrame:
    return table[table["quantizer"] == quantizer].sort_values(["unit", "rate"])


def test_synthetic_results_are_valid(path: Path, tmp_path: Path) -> None:
    """The schema takes every one of them over from the exported file."""
    assert add(path, quantizers=3, seeds=2, coded=1, hostile=HOSTILE) == 96
    assert add(path, status="timeout", error="slow", attempt=2, quantizers=1) == 16
    assert Registry(path).export(tmp_path / "all.parquet") == 112
    merged = Registry(tmp_path / "other.duckdb").merge(tmp_path / "all.parquet")
    assert merged == Merged(added=112)


def test_gains_of_codes_that_are_one_bit_better_or_worse(path: Path) -> None:
    """At 2, 3, 4 bits as good as the anchor at 3, 4, 5: log2(3/2), log2(4/3), and beyond its range; and the reverse."""
    add(path, quantizers=3, bits=(2, 3, 4), gains=(0, 1, -1))
    boards, table = points(path)
    assert [(board.quality, board.better, board.anchored) for board in boards] == [("kl", -1, True)]
    for unit in table["unit"].unique():
        mine = table[table["unit"] == unit]
        assert of(mine, "uniform")["gain"].tolist() == pytest.approx([0, 0, 0])
        better, worse = of(mine, "method-1"), of(mine, "method-2")
        assert better["gain"].tolist() == pytest.approx(
            [math.log2(1.5), math.log2(4 / 3), math.nan], nan_ok=True
        )
        assert worse["gain"].tolist() == pytest.approx(
            [math.nan, math.log2(2 / 3), math.log2(3 / 4)], nan_ok=True
        )
        assert better["censored"].tolist() == [0, 0, 1]
        assert worse["censored"].tolist() == [-1, 0, 0]


def test_sources_are_compared_by_decibels(path: Path) -> None:
    add(path, quantizers=2, bits=(2, 4), gains=(0, 1), models=0, track="rate-distortion", target="source")
    boards, table = points(path)
    assert (boards[0].quality, boards[0].tab, boards[0].better) == ("sqnr_db", "sources", 1)
    assert sorted(table["unit"].unique()) == ["data-0", "data-1"]
    assert table["model"].unique().tolist() == [""]
    # One bit more than 2 is half way to 4 in decibels, which is sqrt(2) times the bits.
    assert of(table, "method-1")["gain"].tolist() == pytest.approx([0.5, math.nan] * 2, nan_ok=True)


def test_one_rate_of_the_anchor_is_no_curve(path: Path) -> None:
    add(path, bits=(4,))
    boards, table = points(path)
    assert not boards[0].anchored
    assert table["gain"].isna().all()
    assert (table["censored"] == 0).all()
    assert table["single"].all()


def test_columns_and_texts(path: Path) -> None:
    add(path, quantizers=3, bits=(2, 3), models=1, datasets=1, coded=1)
    boards, table = points(path)
    assert [name for name in (*TEXTS, *MEASURED) if name not in table.columns] == []
    first = table[table["anchor"]].iloc[0]
    assert first["board"] == boards[0].key
    assert first["label"] == "uniform"
    assert first["spec"].startswith("uniform(bits=2")
    assert "bits" not in first["method"]
    assert first["method"] == first["core"]
    assert (first["family"], first["reference"], first["plugin"]) == ("scalar", "Max 1960", "qbench-suite")
    assert (first["unit"], first["model"], first["dataset"]) == ("model-0 on data-0", "model-0", "data-0")
    assert (first["optimizer"], first["device"], first["execution"]) == ("adam", "cpu", "simulated")
    assert (first["rate"], first["entropy_rate"], first["kl"]) == pytest.approx((2.0, 1.9, 0.1 / 16))
    assert math.isnan(first["cosine"])
    assert table.groupby("quantizer", observed=True)["rate_class"].first().to_dict() == {
        "uniform": "fixed",
        "method-1": "fixed",
        "method-2": "coded",
    }
    assert of(table, "method-2")["family"].unique().tolist() == ["other"]
    assert not table["single"].any()


def test_copy_bandwidth_is_that_of_its_own_results(path: Path) -> None:
    """Of two seeds the mean; where none recorded it there is none."""
    add(path, quantizers=2, bits=(2,), models=1, datasets=1, seeds=2)
    change(
        path,
        "INSERT INTO measurements SELECT result_id, 'copy_bandwidth', 1e9 * (1 + seed), 'B/s', 1, true, [] "
        "FROM results WHERE quantizer = 'method-1'",
    )
    table = points(path)[1]
    assert of(table, "method-1")["copy_bandwidth"].tolist() == [1.5e9]
    assert of(table, "uniform")["copy_bandwidth"].isna().all()


def test_seeds_are_averaged_with_their_standard_errors(path: Path) -> None:
    add(path, quantizers=2, bits=(2, 4), models=1, datasets=1, seeds=5, noise=0.2)
    table = points(path)[1]
    assert table["seeds"].tolist() == [5] * 4
    assert table["results"].tolist() == [5] * 4
    registry = Registry(path)
    own = of(table, "method-1").iloc[0]
    rows = registry.results("quantizer=method-1 bits=2").rows()
    kl = np.array([row["metrics"]["kl"]["value"] for row in rows])
    assert own["quality"] == pytest.approx(kl.mean())
    assert own["quality_se"] == pytest.approx(kl.std(ddof=1) / math.sqrt(5))
    assert own["result_id"] == next(row["result_id"] for row in rows if row["seed"] == 0)


def test_what_a_seed_does_to_all_is_no_error_of_a_gain(path: Path) -> None:
    """Seeds 1 and 2 of all, the anchor too, are worse by a bit: the gain without any of them is that with all."""
    add(path, quantizers=2, bits=(2, 4), gains=(0, 1), models=1, datasets=1, seeds=3)
    change(
        path,
        "UPDATE measurements SET value = value * 4 FROM results "
        "WHERE results.result_id = measurements.result_id AND name = 'kl' AND seed > 0",
    )
    own = of(points(path)[1], "method-1").iloc[0]
    assert (own["gain"], own["gain_se"]) == (pytest.approx(0.5), pytest.approx(0, abs=1e-12))
    assert own["quality_se"] > 0


def test_seeds_are_averaged_before_they_are_compared(path: Path) -> None:
    """Of seed 1 the anchor's points are as good as each other, no curve; of the means of -ln KL they are one.

    KL of the anchor at 2 and 4 bits is .1/4^2 and .1/4^4 at seed 0, .1/4^3 twice at seed 1: on the mean 2.5 and 3.5
    bits' worth. The method at 2 bits is worth 3 at both: half way, log2(2 sqrt 2 / 2) = 1/2.
    """
    add(path, quantizers=2, bits=(2, 4), gains=(0, 1), models=1, datasets=1, seeds=2)
    change(
        path,
        "UPDATE measurements SET value = 0.1 / 64 FROM results WHERE results.result_id = measurements.result_id "
        "AND name = 'kl' AND seed = 1 AND quantizer = 'uniform'",
    )
    own = of(points(path)[1], "method-1").iloc[0]
    assert (own["gain"], own["seeds"], own["censored"]) == (pytest.approx(0.5), 2, 0)
    # Without seed 0 there is no curve, without seed 1 the gain is the same: the one that exists does not deviate.
    assert own["gain_se"] == pytest.approx(0, abs=1e-12)


def test_only_seeds_that_the_anchor_has_are_compared_and_they_are_counted(path: Path) -> None:
    add(path, quantizers=2, bits=(2, 4), gains=(0, 1), models=1, datasets=1, seeds=2)
    change(path, "DELETE FROM results WHERE seed = 1 AND quantizer = 'uniform'")
    change(
        path,
        "UPDATE measurements SET value = 1 FROM results "
        "WHERE results.result_id = measurements.result_id AND name = 'kl' AND seed = 1",
    )
    own = of(points(path)[1], "method-1").iloc[0]
    assert (own["gain"], own["gain_se"], own["seeds"], own["results"]) == (pytest.approx(0.5), 0.0, 1, 2)


@pytest.mark.parametrize(("kl", "censored"), [(1.0, -1), (0.0, 1), (0.1 / 4**4, 0)])
def test_the_mean_of_the_seeds_is_inside_or_outside_the_range(path: Path, kl: float, censored: int) -> None:
    """One verdict. Worth 3 bits at seed 0 and 4 at seed 1 it is worth 3.5; no divergence at all is better than any."""
    add(path, quantizers=2, bits=(2, 4), gains=(0, 1), models=1, datasets=1, seeds=2)
    change(
        path,
        f"UPDATE measurements SET value = {kl} FROM results WHERE results.result_id = measurements.result_id "
        "AND name = 'kl' AND seed = 1 AND quantizer = 'method-1' AND parameters->>'$.bits' = '2'",
    )
    own = of(points(path)[1], "method-1").iloc[0]
    assert own["censored"] == censored
    assert own["gain"] == pytest.approx(math.nan if censored else 0.75, nan_ok=True)
    # Two seeds: half of what lies between the gains of each alone, 1/2 and 1.
    assert own["gain_se"] == pytest.approx(math.nan if censored else 0.25, nan_ok=True)


def test_digests_are_never_mixed(path: Path) -> None:
    """The anchor is in one digest only: in the other one nothing is compared with it."""
    add(path, quantizers=2, bits=(2, 4), digest="a" * 64)
    add(
        path,
        quantizers=2,
        bits=(2, 4),
        digest="b" * 64,
        budget={"first_last": "quantize", "training": {"epochs": 2}},
    )
    change(
        path,
        "DELETE FROM results WHERE quantizer = 'uniform' AND result_id IN "
        f"(SELECT result_id FROM run_cells WHERE digest = '{'b' * 64}')",
    )
    boards, table = points(path)
    assert {board.digest[0]: (board.anchored, board.results) for board in boards} == {
        "a": (True, 16),
        "b": (False, 8),
    }
    for board in boards:
        assert bool(table[table["board"] == board.key]["gain"].notna().any()) is board.anchored


def test_a_result_that_is_reused_stands_on_both_boards(path: Path) -> None:
    add(path, quantizers=2, suite="first", digest="a" * 64)
    add(path, quantizers=2, suite="second", digest="b" * 64, reused=True)
    boards, table = points(path)
    assert {board.suite: board.results for board in boards} == {"first": 32, "second": 32}
    first, second = (set(table[table["board"] == board.key]["result_id"]) for board in boards)
    assert first == second
    assert len(first) == 32


def test_runs_of_one_suite_do_not_double_a_result(path: Path) -> None:
    add(path, quantizers=2)
    add(path, quantizers=2, reused=True, started=1.76e9)
    boards, table = points(path)
    assert [board.results for board in boards] == [32]
    assert table["results"].tolist() == [1] * 32


def test_a_result_that_no_run_lists_stands_nowhere(path: Path) -> None:
    add(path)
    change(path, "DELETE FROM run_cells")
    boards, table = points(path)
    assert (boards, len(table)) == ([], 0)


def test_targets_and_settings_are_boards_of_their_own(path: Path) -> None:
    add(path, quantizers=2, budget={"first_last": "quantize"})
    add(path, quantizers=2, budget={"first_last": "keep"})
    add(path, quantizers=2, target="activation", budget={"first_last": "quantize"})
    boards, _ = points(path)
    assert sorted((board.target, board.setting) for board in boards) == [
        ("activation", ""),
        ("weight", "first_last=keep"),
        ("weight", "first_last=quantize"),
    ]
    assert len({board.key for board in boards}) == 3
    assert [board.tab for board in boards] == ["weights", "weights", "activations"]


def test_the_default_board_has_most_results(path: Path) -> None:
    add(path, quantizers=2, digest="a" * 64)
    add(path, quantizers=3, digest="b" * 64, budget={"training": {"epochs": 2}, "first_last": "keep"})
    add(path, quantizers=2, digest="c" * 64, models=0, track="rate-distortion", target="source")
    boards, _ = points(path)
    assert [(board.track, board.digest[0], board.default) for board in boards] == [
        ("rate-distortion", "c", True),
        ("ptq", "b", True),
        ("ptq", "a", False),
    ]


def test_trainings_are_units_of_their_own(path: Path) -> None:
    for epochs in (1, 2):
        add(path, quantizers=2, models=1, datasets=1, budget={"training": {"epochs": epochs}})
    boards, table = points(path)
    assert len(boards) == 1
    assert sorted(table["unit"].unique()) == [
        f"model-0 on data-0, training.epochs={epochs}" for epochs in (1, 2)
    ]


def test_what_is_tested_besides_is_no_second_point(path: Path) -> None:
    add(path, quantizers=2, budget={"transfer": None})
    add(path, quantizers=2, budget={"transfer": "emnist-digits"})
    boards, table = points(path)
    assert len(boards) == 1
    assert len(table) == 32
    assert table["results"].tolist() == [2] * 32
    assert table["seeds"].tolist() == [1] * 32


def test_rows_are_compared_at_equal_weights(path: Path) -> None:
    """Of activations: with weights of 4 bits all is a bit worse, and the anchor is the one with those weights."""
    for weights, spec in ((4, "nf4"), (8, "mxfp8")):
        add(path, quantizers=2, bits=(2, 4), gains=(0, 1), target="activation", budget={"weights": spec})
        if weights == 4:
            change(path, "UPDATE measurements SET value = 4 * value WHERE name = 'kl'")
    change(
        path,
        "UPDATE results SET parameters = replace(replace(replace(parameters::VARCHAR, 'midrise', 'asymmetric'), "
        "'channel', 'tensor'), '\"mse\"', '\"minmax\"') WHERE quantizer = 'uniform'",
    )
    boards, table = points(path)
    assert len(boards) == 1
    own = table[(table["quantizer"] == "method-1") & (table["rate"] == 2)]
    assert own["gain"].tolist() == pytest.approx([0.5] * 8)
    assert sorted(own["label"].unique()) == ["method-1 (weights mxfp8)", "method-1 (weights nf4)"]
    assert own["core"].nunique() == 1
    assert own["method"].nunique() == 2


def test_devices_are_points_of_their_own_with_their_own_anchor(path: Path) -> None:
    add(path, quantizers=2, bits=(2, 4), gains=(0, 1))
    add(path, quantizers=2, bits=(2, 4), gains=(0, 1), device_kind="cuda")
    table = points(path)[1]
    assert table["device"].value_counts().to_dict() == {"cpu": 16, "cuda": 16}
    change(path, "DELETE FROM results WHERE device_kind = 'cuda' AND quantizer = 'uniform'")
    table = points(path)[1]
    assert table[table["device"] == "cuda"]["gain"].isna().all()


def newest(path: Path, **given: object) -> tuple[int, set[int], Board]:
    """Points, the numbers failed, and the board after a second attempt at everything, a day later."""
    add(path, quantizers=2)
    add(path, quantizers=2, attempt=2, started=1.75e9 + 86400, **given)  # type: ignore[arg-type]
    boards, table = points(path)
    return len(table), set(table["failed"]), boards[0] if boards else None  # type: ignore[return-value]


def test_the_newest_attempt_counts(path: Path) -> None:
    found, failed, board = newest(path, noise=0.1)
    assert (found, failed, board.results, board.newest) == (32, {0}, 32, "2025-06-16")


@pytest.mark.parametrize("status", ["crashed", "timeout", "impossible"])
@pytest.mark.parametrize("fingerprint", ["f" * 64, "e" * 64])
def test_a_failure_hides_what_was_there_before(path: Path, status: str, fingerprint: str) -> None:
    assert newest(path, status=status, fingerprint=fingerprint) == (0, set(), None)


def test_a_success_of_other_code_replaces(path: Path) -> None:
    found, failed, board = newest(path, fingerprint="e" * 64)
    assert (found, failed, board.results) == (32, {0}, 32)


def test_a_failure_after_a_success_is_counted_with_its_method(path: Path) -> None:
    add(path, quantizers=2)
    add(path, quantizers=2, bits=(8,), attempt=2, started=1.75e9 + 86400, status="crashed")
    boards, table = points(path)
    assert sorted(table["rate"].unique()) == [2.0, 3.0, 4.0]
    assert (set(table["failed"]), boards[0].failed) == ({4}, 8)


def test_suites_with_one_digest_share_the_attempt_that_counts(path: Path) -> None:
    """The second suite measured the cells again: that counts in both, and no cell is lost to the first one."""
    add(path, quantizers=2, suite="first")
    add(path, quantizers=2, suite="second", attempt=2, started=1.75e9 + 86400)
    boards, table = points(path)
    first, second = (set(table[table["board"] == board.key]["result_id"]) for board in boards)
    assert first == second
    assert [(board.results, board.newest) for board in boards] == [(32, "2025-06-16")] * 2


def test_what_is_measured_here_comes_before_what_was_merged(path: Path) -> None:
    add(path, quantizers=2, models=1, datasets=1, bits=(2, 4))
    own = set(points(path)[1]["result_id"])
    add(path, quantizers=2, models=1, datasets=1, bits=(2, 4), attempt=2, started=1.75e9 + 86400)
    change(
        path,
        "INSERT INTO imports SELECT result_id, 'elsewhere', TIMESTAMP '2026-01-01' FROM results WHERE attempt = 2",
    )
    assert set(points(path)[1]["result_id"]) == own
    change(path, "UPDATE results SET status = 'crashed', error = 'no' WHERE attempt = 1")
    assert len(points(path)[1]) == 0


@pytest.mark.parametrize(
    "status", ["impossible", "invalid", "error", "crashed", "timeout", "out_of_memory", "blocked"]
)
def test_only_what_ended_well_is_shown_and_the_rest_is_counted(path: Path, status: str) -> None:
    add(path, quantizers=2, bits=(2, 4))
    add(path, quantizers=2, bits=(8,), status=status)
    boards, table = points(path)
    assert sorted(table["rate"].unique()) == [2.0, 4.0]
    assert (boards[0].results, boards[0].failed) == (16, 8)
    assert set(table["failed"]) == {4}


def test_a_failure_on_another_device_hides_nothing(path: Path) -> None:
    assert newest(path, status="error", device_kind="cuda")[:2] == (32, {16})


def test_a_result_and_its_rerun_are_both_reproduced(path: Path) -> None:
    """Of a merged result and the rerun of its cell here the rerun counts; nothing else of that point is marked."""
    add(path, quantizers=2, models=1, datasets=1)
    add(path, quantizers=2, models=1, datasets=1, attempt=2, started=1.75e9 + 86400)
    where = "quantizer = 'method-1' AND parameters->>'$.bits' = '2'"
    (first,), (second,) = (
        Registry(path).sql(f"SELECT result_id FROM results WHERE {where} ORDER BY attempt").fetchall()
    )
    names = "result_id, started, details, again_id, environment_id, holds, independent"
    change(path, "INSERT INTO imports SELECT result_id, 'a', started FROM results WHERE attempt = 1")
    change(
        path,
        f"INSERT INTO reproductions ({names}) VALUES ('{first}', TIMESTAMP '2026-01-01', '{{}}', '{second}', "
        "'e', true, true)",
    )
    table = points(path)[1]
    assert of(table, "method-1")["result_id"].tolist()[0] == second
    assert of(table, "method-1")["reproduced"].tolist() == [1, 0, 0, 0]
    assert table["reproduced"].sum() == 1
    change(path, "DELETE FROM results WHERE attempt = 2")
    assert of(points(path)[1], "method-1")["reproduced"].tolist() == [1, 0, 0, 0]


def test_hostile_texts_come_through_as_texts(path: Path) -> None:
    add(path, quantizers=5, models=1, datasets=4, bits=(2, 4), hostile=HOSTILE, suite=HOSTILE[0])
    boards, table = points(path)
    assert boards[0].suite == HOSTILE[0]
    assert len(table) == 40
    for text in HOSTILE:
        assert any(text in label for label in table["label"].unique())
        assert any(text in unit for unit in table["unit"].unique())
    assert pd.Series([board.key for board in boards]).str.fullmatch(NAME_PATTERN.strip("^$")).all()
    assert table["gain"].notna().any()


def test_an_empty_registry_has_no_boards(path: Path) -> None:
    with RegistryFile(path).transaction():
        pass
    boards, table = points(path)
    assert boards == []
    assert [
        name for name in (*TEXTS, *MEASURED, "gain", "label", "failed") if name not in table.columns
    ] == []


def test_rows_that_have_no_rate_are_left_out(path: Path) -> None:
    add(path, quantizers=2, bits=(2, 4))
    change(path, "DELETE FROM measurements WHERE name = 'rate' AND value = 4")
    assert points(path)[1]["rate"].unique().tolist() == [2.0]


def test_points_are_what_a_selection_of_the_registry_says(path: Path) -> None:
    """Rates and qualities beside those that the registry's own query gives."""
    add(path, quantizers=3, noise=0.1)
    table = points(path)[1]
    for row in Registry(path).results(Selection.parse("quantizer=method-2", {"bits"})).rows():
        own = table[table["result_id"] == row["result_id"]].iloc[0]
        assert own["rate"] == row["metrics"]["rate"]["value"]
        assert own["quality"] == row["metrics"]["kl"]["value"]
        assert own["dataset"] == row["dataset"]
