"""The tables of a registry, as numbered steps: each is applied once, in order, and never edited afterwards.

A new step is a function with the decorator; its number is its place in the list. A registry remembers the
steps it has seen in its table ``migrations``.
"""

from collections.abc import Callable

import duckdb
from duckdb import DuckDBPyConnection

from .attempts import counting
from .errors import RegistryError

Step = Callable[[DuckDBPyConnection], object]

MIGRATIONS: list[Step] = []


def migration(step: Step) -> Step:
    """Append ``step`` to the list of migrations."""
    MIGRATIONS.append(step)
    return step


def schema_version(connection: DuckDBPyConnection) -> int:
    """Number of the last step a database has seen; 0 for an empty one.

    Raises:
        RegistryError: the database belongs to something else, or to a newer version.
    """
    try:
        found = connection.execute(
            "SELECT max(number), (SELECT count(*) FROM results) FROM migrations"
        ).fetchone()
    except (duckdb.CatalogException, duckdb.BinderException):
        if connection.execute("SELECT 1 FROM duckdb_tables() LIMIT 1").fetchone() is None:
            return 0
        raise RegistryError("is a DuckDB file but no registry; name another with --registry") from None
    version = int(found[0] or 0) if found else 0
    if version > len(MIGRATIONS):
        raise RegistryError(
            f"has schema version {version}; this qbench understands up to {len(MIGRATIONS)}: "
            "run `pip install --upgrade qbench-suite`, or name another registry"
        )
    return version


def migrate(connection: DuckDBPyConnection, version: int) -> None:
    """Apply the steps after ``version``; the caller holds the transaction."""
    for number, step in enumerate(MIGRATIONS[version:], version + 1):
        step(connection)
        connection.execute(
            "INSERT INTO migrations VALUES (?, ?, current_timestamp AT TIME ZONE 'UTC')",
            [number, getattr(step, "__name__", "")],
        )


_SHARED = """
        result_id, cell_id, run_id, suite, digest, target, quantizer,
        try_cast(parameters->>'$.bits' AS DOUBLE) AS bits, parameters, model, dataset, optimizer, seed,
        device_kind, device, started, seconds, facts->>'$.rate_class' AS rate_class"""


def _view(connection: DuckDBPyConnection, track: str, names: tuple[str, ...]) -> None:
    """Results of a track that ended well, those measurements as columns."""
    picked = ", ".join(f"metrics['{name}'] AS {name}" for name in names)
    connection.execute(
        f"CREATE VIEW {track.replace('-', '_')} AS "
        f"SELECT {_SHARED}, {picked}, metrics, facts, baseline_id, baseline_sha256 "
        f"FROM latest WHERE track = '{track}' AND status = 'ok'"
    )


@migration
def m001_tables(connection: DuckDBPyConnection) -> None:
    connection.execute("""
        CREATE TABLE migrations (
            number INTEGER PRIMARY KEY, name VARCHAR NOT NULL, applied TIMESTAMP NOT NULL
        );
        CREATE TABLE environments (environment_id VARCHAR PRIMARY KEY, content JSON NOT NULL);
        CREATE TABLE runs (
            run_id VARCHAR PRIMARY KEY, suite VARCHAR NOT NULL, version VARCHAR NOT NULL,
            arguments JSON NOT NULL, environment_id VARCHAR NOT NULL,
            started TIMESTAMP NOT NULL, finished TIMESTAMP, status VARCHAR NOT NULL
        );
        CREATE TABLE run_cells (
            run_id VARCHAR, position INTEGER NOT NULL, cell_id VARCHAR, track VARCHAR NOT NULL,
            suite VARCHAR NOT NULL, digest VARCHAR NOT NULL, result_id VARCHAR, PRIMARY KEY (run_id, cell_id)
        );
        CREATE TABLE results (
            result_id VARCHAR PRIMARY KEY, cell_id VARCHAR NOT NULL, run_id VARCHAR NOT NULL,
            track VARCHAR NOT NULL, track_version BIGINT NOT NULL, target VARCHAR NOT NULL,
            quantizer VARCHAR, parameters JSON NOT NULL, model VARCHAR, model_parameters JSON NOT NULL,
            dataset VARCHAR, dataset_parameters JSON NOT NULL,
            optimizer VARCHAR, optimizer_parameters JSON NOT NULL,
            seed BIGINT NOT NULL, budget JSON NOT NULL,
            status VARCHAR NOT NULL, error VARCHAR, attempt BIGINT NOT NULL, fingerprint VARCHAR NOT NULL,
            device_kind VARCHAR NOT NULL, device VARCHAR NOT NULL, environment_id VARCHAR NOT NULL,
            facts JSON NOT NULL, baseline_id VARCHAR, baseline_sha256 VARCHAR,
            started TIMESTAMP NOT NULL, seconds DOUBLE NOT NULL, cell JSON NOT NULL,
            UNIQUE (cell_id, fingerprint, device_kind, attempt)
        );
        CREATE TABLE measurements (
            result_id VARCHAR NOT NULL, name VARCHAR NOT NULL, value DOUBLE, unit VARCHAR NOT NULL,
            n BIGINT NOT NULL, timing BOOLEAN NOT NULL, samples DOUBLE[] NOT NULL
        );
    """)


@migration
def m002_views(connection: DuckDBPyConnection) -> None:
    connection.execute("""
        CREATE VIEW history AS
        SELECT r.* EXCLUDE (run_id), coalesce(c.run_id, r.run_id) AS run_id, c.suite, c.digest, c.position,
               coalesce(c.run_id <> r.run_id, false) AS reused
        FROM results AS r LEFT JOIN run_cells AS c ON c.result_id = r.result_id;

        CREATE VIEW latest AS
        SELECT h.*, coalesce(m.metrics, MAP {}) AS metrics
        FROM (
            SELECT * FROM history QUALIFY row_number() OVER (
                PARTITION BY cell_id ORDER BY started DESC, attempt DESC, result_id, reused, run_id DESC) = 1
        ) AS h
        LEFT JOIN (
            SELECT result_id, map(list(name), list(value)) AS metrics FROM measurements GROUP BY result_id
        ) AS m ON m.result_id = h.result_id;
    """)
    columns = {
        "rate-distortion": ("rate", "entropy_rate", "mse", "relative_mse", "sqnr_db", "cosine", "gap_db"),
        "ptq": (
            *("rate", "entropy_rate", "model_rate", "stored_bytes", "accuracy", "baseline_accuracy"),
            *("accuracy_drop", "flips", "kl", "sqnr_db"),
        ),
    }
    for track, names in columns.items():
        _view(connection, track, names)


@migration
def m003_views_of_training(connection: DuckDBPyConnection) -> None:
    accuracies = ("accuracy", "baseline_accuracy", "accuracy_drop", "flips", "kl")
    columns = {
        "float": ("accuracy", "validation_accuracy", "training_loss", "generalization_gap"),
        "qat": ("rate", "model_rate", "stored_bytes", *accuracies, "finetuned_accuracy", "ptq_accuracy"),
        "mixed-precision": ("rate", *accuracies),
        "saved-activations": ("rate", "saved_bytes", *accuracies),
        "gradient-compression": (
            *("rate", "rate_down", "up_bits", "down_bits", "bits_to_target"),
            *(*accuracies, "relative_variance", "bias"),
        ),
    }
    for track, names in columns.items():
        _view(connection, track, names)
    connection.execute("""
        CREATE VIEW gradient_statistics AS
        SELECT l.result_id, l.cell_id, l.run_id, l.suite, l.digest, l.model, l.dataset, l.optimizer, l.seed,
               split_part(f.name, '.', 1) AS part, substr(f.name, strpos(f.name, '.') + 1) AS figure,
               f.value, low.value AS low, high.value AS high, f.unit, f.samples
        FROM latest AS l
        JOIN measurements AS f ON f.result_id = l.result_id AND strpos(f.name, '.') > 0
                              AND NOT (suffix(f.name, '.low') OR suffix(f.name, '.high'))
        LEFT JOIN measurements AS low ON low.result_id = l.result_id AND low.name = f.name || '.low'
        LEFT JOIN measurements AS high ON high.result_id = l.result_id AND high.name = f.name || '.high'
        WHERE l.track = 'gradient-statistics' AND l.status = 'ok'
    """)


@migration
def m004_trust(connection: DuckDBPyConnection) -> None:
    connection.execute("""
        CREATE TABLE imports (
            result_id VARCHAR PRIMARY KEY, source VARCHAR NOT NULL, imported TIMESTAMP NOT NULL
        );
        CREATE TABLE reproductions (
            result_id VARCHAR NOT NULL, again_id VARCHAR NOT NULL, environment_id VARCHAR NOT NULL,
            started TIMESTAMP NOT NULL, holds BOOLEAN, independent BOOLEAN NOT NULL, details JSON NOT NULL,
            PRIMARY KEY (result_id, again_id)
        );
        CREATE VIEW trust AS
        SELECT r.result_id, CASE WHEN p.count > 0 THEN 'reproduced' ELSE 'self-reported' END AS trust,
               coalesce(p.count, 0) AS reproductions
        FROM results AS r LEFT JOIN (
            SELECT named.result_id, count(*) AS count
            FROM (
                SELECT result_id, again_id FROM reproductions WHERE holds AND independent
                UNION ALL
                SELECT again_id, result_id FROM reproductions WHERE holds AND independent
            ) AS named
            GROUP BY named.result_id
        ) AS p ON p.result_id = r.result_id;
    """)


@migration
def m005_what_counts(connection: DuckDBPyConnection) -> None:
    connection.execute(f"""
        CREATE OR REPLACE VIEW latest AS
        SELECT h.*, coalesce(m.metrics, MAP {{}}) AS metrics
        FROM ({counting(each=["cell_id"])}) AS h
        LEFT JOIN (
            SELECT result_id, map(list(name), list(value)) AS metrics FROM measurements GROUP BY result_id
        ) AS m ON m.result_id = h.result_id
    """)
