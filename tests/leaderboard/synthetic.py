"""Registries of any number of valid results with known gains, made inside DuckDB in seconds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qbench.environment import environment_id
from qbench.registry_file import RegistryFile
from qbench.registry_rows import insert_environments
from qbench.schema import canonical_json

ANCHOR = {
    "granularity": "channel",
    "group_size": 64,
    "percentile": 99.9,
    "range": "mse",
    "scale_dtype": "float16",
    "scheme": "midrise",
}
# Of two of the quantizers; the others are unknown to a page that is built with it.
CATALOG = {
    "uniform": {
        "family": "scalar",
        "reference": "Max 1960",
        "distribution": "qbench-suite",
        "kind": "quantizer",
    },
    "method-1": {"family": "lattice", "reference": "", "distribution": "stranger", "kind": "quantizer"},
}
ENVIRONMENT = {"packages": {"qbench-suite": "0.1"}, "hardware": "synthetic"}
_SECONDS = 1.75e9

_NEW = """
    CREATE TEMP TABLE new AS
    WITH spec AS (
        SELECT unnest($quantizers) AS quantizer, unnest($parameters) AS parameters,
               unnest($bits)::DOUBLE AS bits, unnest($gains)::DOUBLE AS gain, unnest($classes) AS rate_class
    ), unit AS (
        SELECT unnest($models) AS model, unnest($model_parameters) AS model_parameters,
               unnest($datasets) AS dataset, unnest($dataset_parameters) AS dataset_parameters,
               unnest(range(len($datasets))) AS place
    ), cells AS (
        SELECT *, CASE WHEN model IS NULL THEN 'null'
                  ELSE concat('{"name":"', model, '","parameters":', model_parameters, '}') END AS model_json,
               CASE WHEN model IS NULL THEN NULL ELSE 'adam' END AS optimizer
        FROM spec CROSS JOIN unit CROSS JOIN (SELECT unnest(range($seeds)) AS seed)
    ), named AS (
        SELECT *, concat(
            '{"budget":', $budget::VARCHAR, ',"dataset":{"name":"', dataset, '","parameters":', dataset_parameters,
            '},"model":', model_json, ',"optimizer":',
            CASE WHEN optimizer IS NULL THEN 'null' ELSE '{"name":"adam","parameters":{"lr":0.003}}' END,
            ',"quantizer":{"name":"', quantizer, '","parameters":', parameters, '},"seed":', seed,
            ',"target":"', $target::VARCHAR, '","track":"', $track::VARCHAR, '","track_version":1}') AS cell
        FROM cells
    )
    SELECT *, sha256(cell) AS cell_id,
           substr(sha256(concat('["', sha256(cell), '","', $fingerprint::VARCHAR, '","', $device_kind::VARCHAR,
                                '",', $attempt::BIGINT, ']')), 1, 16) AS result_id,
           row_number() OVER () - 1 AS position,
           hash(cell) / 18446744073709551616.0 - 0.5 AS noise
    FROM named
"""
_RESULTS = """
    INSERT INTO results
    SELECT result_id, cell_id, $run_id, $track, 1, $target, quantizer, parameters, model,
           coalesce(model_parameters, '{}'), dataset, dataset_parameters, optimizer,
           CASE WHEN optimizer IS NULL THEN '{}' ELSE '{"lr":0.003}' END, seed, $budget,
           $status, $error, $attempt, $fingerprint, $device_kind, $device, $environment_id,
           concat('{"execution":"simulated","rate_class":"', rate_class, '"}'), NULL, NULL,
           make_timestamp(($started * 1000000)::BIGINT + position), 0.5, cell
    FROM new
"""
# At R bits a code that saves g bits has the KL divergence and the error of the anchor at R + g.
_MEASUREMENTS = """
    INSERT INTO measurements
    SELECT result_id, name, value, unit, 1, false, []
    FROM (
        SELECT result_id, position, bits, unnest([
            {'name': 'rate', 'value': bits, 'unit': 'bit/element'},
            {'name': 'entropy_rate', 'value': bits - 0.1, 'unit': 'bit/element'},
            {'name': 'sqnr_db', 'value': 20 * log10(2) * (bits + gain + $noise * noise) - 1, 'unit': 'dB'},
            {'name': 'kl', 'value': (1 + place) * 0.1 * pow(4, -(bits + gain + $noise * noise)), 'unit': 'nat'},
            {'name': 'relative_mse', 'value': pow(4, -(bits + gain + $noise * noise)), 'unit': '1'},
            {'name': 'accuracy', 'value': 90 - 20 * pow(4, -(bits + gain)), 'unit': '%'},
            {'name': 'baseline_accuracy', 'value': 90.0, 'unit': '%'},
            {'name': 'accuracy_drop', 'value': 20 * pow(4, -(bits + gain)), 'unit': '%'},
            {'name': 'gap_db', 'value': 1.5 - 6 * gain, 'unit': 'dB'},
            {'name': 'coverage', 'value': 1.0, 'unit': '1'},
            {'name': 'stored_bytes', 'value': bits * 1000, 'unit': 'B'}
        ], recursive := true) FROM new
    )
"""


def add(
    path: Path,
    *,
    quantizers: int = 4,
    bits: Sequence[float] = (2, 3, 4, 8),
    models: int = 2,
    datasets: int = 2,
    seeds: int = 1,
    gains: Sequence[float] | None = None,
    noise: float = 0.0,
    coded: int = 0,
    track: str = "ptq",
    target: str = "weight",
    suite: str = "synthetic",
    digest: str = "0" * 64,
    budget: dict[str, Any] | None = None,
    status: str = "ok",
    error: str | None = None,
    attempt: int = 1,
    fingerprint: str = "f" * 64,
    device_kind: str = "cpu",
    started: float = _SECONDS,
    reused: bool = False,
    hostile: Sequence[str] = (),
) -> int:
    """Append a run of quantizers x bits x models x data sets x seeds results; returns how many. See :func:`grid`.

    Quantizer 0 is the anchor, ``uniform``; number i > 0, ``method-i``, needs ``gains[i]`` bits an element less
    than it at equal quality (default 0.05 (i mod 21)), give or take ``noise``/2. The last ``coded`` are entropy-coded.
    ``models=0`` makes a track of sources; ``reused`` adds a run of results that are there. ``hostile`` texts stand
    wherever a result may hold any text; all quantizers but the anchor are then called
    ``hostile``, all data sets ``folder``.
    """
    texts = list(hostile)
    text = texts[0] if texts else ""
    specs = grid(quantizers, bits, gains, coded, texts)
    units = [_unit(d, m, bool(models), texts) for d in range(datasets) for m in range(models or 1)]
    budget = {"first_last": "quantize", "training": {"epochs": 1}} if budget is None else budget
    values = dict(zip(("quantizers", "parameters", "bits", "gains", "classes"), map(list, zip(*specs))))
    values |= dict(
        zip(("models", "model_parameters", "datasets", "dataset_parameters"), map(list, zip(*units)))
    )
    plain = {"track": track, "target": target, "budget": canonical_json(budget), "attempt": attempt}
    plain |= {"fingerprint": fingerprint, "device_kind": device_kind}
    with RegistryFile(path).transaction() as connection:
        runs = connection.execute("SELECT count(*) FROM runs").fetchone()
        run_id = f"run-{runs[0] if runs else 0:03}"
        insert_environments(connection, [ENVIRONMENT | ({"text": text} if texts else {})])
        known = environment_id(ENVIRONMENT | ({"text": text} if texts else {}))
        connection.execute(_NEW, values | {"seeds": seeds} | plain)
        row = {
            "run_id": run_id,
            "status": status,
            "error": error or (None if status == "ok" else text or "failed"),
        }
        row |= {"device": text[:256] or "cpu", "environment_id": known, "started": started}
        if not reused:
            connection.execute(_RESULTS, plain | row)
        if status == "ok" and not reused:
            connection.execute(_MEASUREMENTS, {"noise": noise})
        connection.execute(
            "INSERT INTO runs VALUES ($1, $2, '0.1', '{}', $3, make_timestamp($4), make_timestamp($4), 'finished')",
            [run_id, suite, known, int(started * 1e6)],
        )
        connection.execute(
            "INSERT INTO run_cells SELECT $1, position, cell_id, $2, $3, $4, result_id FROM new",
            [run_id, track, suite, digest],
        )
        count = connection.execute("SELECT count(*) FROM new").fetchone()
        connection.execute("DROP TABLE new")
    return int(count[0]) if count else 0


def _unit(
    dataset: int, model: int, network: bool, hostile: Sequence[str]
) -> tuple[str | None, str, str, str]:
    """Names of model and data set, each with its parameters as JSON."""
    text = {"text": hostile[0]} if hostile else {}
    held = {"number": dataset, "path": hostile[dataset % len(hostile)]} if hostile else {}
    return (
        f"model-{model}" if network else None,
        canonical_json({"width": 8, **text}),
        "folder" if hostile else f"data-{dataset}",
        canonical_json(held),
    )


def grid(
    quantizers: int, bits: Sequence[float], gains: Sequence[float] | None, coded: int, hostile: Sequence[str]
) -> list[tuple[str, str, float, float, str]]:
    """Name, parameters as JSON, bits, bits saved and rate class of every quantizer at every number of bits."""
    found = []
    for number in range(quantizers):
        gain = gains[number] if gains is not None else 0.05 * (number % 21)
        name = f"method-{number}" if number else "uniform"
        given: dict[str, Any] = {"style": "plain"} if number else ANCHOR
        if hostile and number:
            name, given = "hostile", given | {"number": number, "note": hostile[number % len(hostile)]}
        rate_class = "coded" if number >= quantizers - coded else "fixed"
        found += [(name, canonical_json(given | {"bits": b}), float(b), gain, rate_class) for b in bits]
    return found


def million(path: Path) -> int:
    """1,000,000 results: 250 quantizers, 8 numbers of bits, 10 models on 5 data sets, 10 seeds."""
    return add(path, quantizers=250, bits=range(1, 9), models=10, datasets=5, seeds=10, noise=0.1, coded=50)
