"""Views and questions in SQL: what they answer, and that they reach nothing but the registry."""

from pathlib import Path

import pytest

from qbench.errors import RegistryError, SuiteError
from qbench.registry import Registry
from qbench.schema import Measurement

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from sample_registry import make_cell, make_result


def test_views_of_the_tracks(registry: Registry) -> None:
    measurements = {"rate": Measurement(value=4.0, unit="bit"), "odd": Measurement(value=1.0, unit="x")}
    facts = {"rate_class": "fixed"}
    registry.write(
        [
            make_result(measurements=measurements, facts=facts),
            make_result(make_cell(1), status="impossible"),
            make_result(make_cell(2, track="ptq", target="weight"), measurements=measurements),
        ]
    )
    columns = "quantizer, bits, rate, mse, metrics['odd'], rate_class"
    assert registry.sql(f"SELECT {columns} FROM rate_distortion").fetchall() == [
        ("uniform", 4.0, 4.0, None, 1.0, "fixed")
    ]
    assert registry.sql("SELECT rate, accuracy FROM ptq").fetchall() == [(4.0, None)]
    assert registry.sql("SELECT count(*) FROM latest").fetchall() == [(3,)]


def test_gradient_statistics_in_rows(registry: Registry) -> None:
    """A figure of a window a row, its interval beside it; what has no dot in its name is none."""
    names = {
        "early.shape": 0.5,
        "early.shape.low": 0.4,
        "early.shape.high": 0.7,
        "late.update.shape": 1.5,
        "accuracy": 9.0,
    }
    measurements = {name: Measurement(value=value, unit="1") for name, value in names.items()}
    registry.write(
        [make_result(make_cell(1, track="gradient-statistics", target="gradient"), measurements=measurements)]
    )
    found = registry.sql(
        "SELECT part, figure, value, low, high FROM gradient_statistics ORDER BY part"
    ).fetchall()
    assert found == [("early", "shape", 0.5, 0.4, 0.7), ("late", "update.shape", 1.5, None, None)]


@pytest.mark.parametrize(
    "track", ["float", "qat", "mixed-precision", "saved-activations", "gradient-compression"]
)
def test_every_trained_track_has_a_view_of_accuracies(registry: Registry, track: str) -> None:
    accuracy = Measurement(value=97.5, unit="%")
    registry.write(
        [make_result(make_cell(2, track=track, target="weight"), measurements={"accuracy": accuracy})]
    )
    view = track.replace("-", "_")
    assert registry.sql(f"SELECT seed, accuracy, metrics['accuracy'] FROM {view}").fetchall() == [
        (2, 97.5, 97.5)
    ]


def test_sql_takes_parameters_and_gives_tables(filled: Registry) -> None:
    rows = filled.sql("SELECT seed, status FROM latest WHERE status = ? ORDER BY seed", ["ok"])
    assert rows.columns == ["seed", "status"]
    assert rows.fetchall() == [(0, "ok"), (1, "ok")]
    named = filled.sql("SELECT seed, status FROM latest WHERE seed = $seed", {"seed": 2})
    assert named.df().to_dict("records") == [{"seed": 2, "status": "timeout"}]
    assert "timeout" in repr(named)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/*')",
        "COPY results TO '/tmp/qbench-never.csv'",
        "ATTACH '/tmp/qbench-never.duckdb'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "DELETE FROM results",
        "DROP TABLE results",
        "CREATE TABLE x (a INTEGER)",
        "SELECT nonsense",
        "not sql",
        "",
    ],
)
def test_sql_reads_the_registry_and_nothing_else(filled: Registry, query: str) -> None:
    with pytest.raises(RegistryError):
        filled.sql(query).fetchall()
    assert filled.sql("SELECT count(*) FROM results").fetchall() == [(3,)]


@pytest.mark.parametrize(
    "query", ["SELECT * FROM read_text('/etc/passwd')", "SET enable_external_access = true"]
)
def test_writing_connections_are_closed_off_as_well(registry: Registry, query: str) -> None:
    with registry._file.transaction() as connection:
        for name in ("autoinstall_known_extensions", "autoload_known_extensions", "enable_external_access"):
            assert connection.execute("SELECT current_setting(?)", [name]).fetchone() == (False,)
    with pytest.raises(RegistryError), registry._file.transaction() as connection:
        connection.execute(query)


def test_an_unknown_key_of_a_selection_is_an_error(filled: Registry) -> None:
    with pytest.raises(SuiteError, match=r"unknown key 'trak'.*bits, range"):
        filled.results("trak=ptq")
    assert len(filled.results(["quantizer=uniform(bits=4)", "seed=0,1,2 status=ok"])) == 2


def test_an_answer_stays_as_it_was_and_holds_nobody_up(filled: Registry) -> None:
    before = filled.sql("SELECT count(*) FROM results")
    assert filled.write([make_result(make_cell(9))], wait=0)
    assert filled.sql("SELECT count(*) FROM results").fetchall() == [(4,)]
    assert before.fetchall() == [(3,)]
