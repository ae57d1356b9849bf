"""Files beside the page: every result as Parquet, those that count as a flat CSV, and the card of the Space."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from duckdb import DuckDBPyConnection

from ..attempts import counting
from ..errors import RegistryError
from ..registry import Registry
from ..registry_exchange import with_little_memory
from ..registry_file import RegistryFile, explained
from ..schema import Spec

METRICS = (
    *(
        "rate",
        "entropy_rate",
        "weight_rate",
        "model_rate",
        "rate_down",
        "mse",
        "relative_mse",
        "sqnr_db",
        "gap_db",
    ),
    *(
        "cosine",
        "accuracy",
        "baseline_accuracy",
        "accuracy_drop",
        "flips",
        "kl",
        "perplexity",
        "bits_per_character",
    ),
    *("stored_bytes", "saved_bytes", "up_bits", "down_bits", "bits_to_target", "encode_throughput"),
    "copy_bandwidth",
)
# Lines that are made at a time.
PART = 200_000
# A spreadsheet takes a text that begins so for a formula.
_FORMULA = r"^[\s\x00-\x1f]*[=+\-@]|^[\t\r\n]"
_COUNTED = """
    CREATE TEMP TABLE counted AS
    SELECT * EXCLUDE (place), (place - 1) // {size} AS part
    FROM (
        SELECT *, row_number() OVER (ORDER BY started, result_id, digest) AS place
        FROM (
            SELECT result_id, run_id, suite, digest, started FROM ({counting})
        )
    )
"""
_CSV = """
    WITH mine AS (
        SELECT result_id, suite, digest FROM counted WHERE part = {part}
    ), spec AS (
        SELECT unnest($quantizers::VARCHAR[]) AS quantizer, unnest($parameters::VARCHAR[]) AS parameters,
               unnest($specs::VARCHAR[]) AS spec
    ), measured AS (
        SELECT result_id, {metrics} FROM measurements
        WHERE name IN ({names}) AND result_id IN (SELECT result_id FROM mine) GROUP BY result_id
    )
    SELECT {columns}, measured.* EXCLUDE (result_id)
    FROM mine
    JOIN results AS r ON r.result_id = mine.result_id
    LEFT JOIN spec ON spec.quantizer = r.quantizer AND spec.parameters = r.parameters::VARCHAR
    LEFT JOIN measured ON measured.result_id = mine.result_id
    ORDER BY r.started, r.result_id, mine.digest
"""
_TEXTS = {
    "result_id": "r.result_id",
    "suite": "mine.suite",
    "digest": "left(mine.digest, 16)",
    "track": "r.track",
    "target": "r.target",
    "quantizer": "r.quantizer",
    "spec": "spec.spec",
    "rate_class": "r.facts->>'$.rate_class'",
    "model": "r.model",
    "dataset": "r.dataset",
    "optimizer": "r.optimizer",
    "device_kind": "r.device_kind",
    "device": "r.device",
    "status": "r.status",
    "error": "left(r.error, 300)",
    "cell_id": "left(r.cell_id, 16)",
}


def write_csv(registry: Registry, path: Path) -> int:
    """The attempt that counts at each cell of each suite, successful or not, a line each; returns how many.

    Which one counts, :mod:`qbench.attempts` says.

    Texts that a spreadsheet would take for formulas begin with an apostrophe.

    Raises:
        RegistryError: the registry cannot be read, or the folder not be written.
    """
    with _new(path) as new, explained(path):
        source = RegistryFile(registry.path)
        return with_little_memory(
            source, new.parent, lambda connection: _write_csv(connection, registry, new)
        )


def _write_csv(connection: DuckDBPyConnection, registry: Registry, new: Path) -> int:
    connection.execute(_COUNTED.format(size=PART, counting=counting()))
    ((count,),) = connection.execute("SELECT count(*) FROM counted").fetchall()
    parameters = _specs(registry)
    piece = new.with_suffix(".part")
    with new.open("wb") as whole:
        for part in range(-(-count // PART) or 1):
            query = _CSV.format(part=part, **_csv_words())
            connection.sql(query, params=parameters).write_csv(str(piece), header=part == 0)
            with piece.open("rb") as lines:
                shutil.copyfileobj(lines, whole, 1 << 20)
    piece.unlink()
    return int(count)


def _csv_words() -> dict[str, str]:
    harmless = [
        f"CASE WHEN regexp_matches({source}, '{_FORMULA}') THEN '''' || {source} ELSE {source} END AS {name}"
        for name, source in _TEXTS.items()
    ]
    numbers = ["r.seed", "r.attempt", "r.seconds", "r.started"]
    return {
        "metrics": ", ".join(f"max(value) FILTER (name = '{name}') AS {name}" for name in METRICS),
        "names": ", ".join(f"'{name}'" for name in METRICS),
        "columns": ", ".join([*harmless, *numbers]),
    }


def _specs(registry: Registry) -> dict[str, list[str]]:
    """Each quantizer with its parameters as the registry has them and as a specification is written."""
    rows = registry.sql(
        "SELECT DISTINCT quantizer, parameters::VARCHAR FROM results WHERE quantizer IS NOT NULL ORDER BY ALL"
    ).fetchall()
    return {
        "quantizers": [name for name, _ in rows],
        "parameters": [text for _, text in rows],
        "specs": [_spec_text(name, text) for name, text in rows],
    }


def _spec_text(name: str, parameters: str) -> str:
    try:
        return str(Spec(name=name, parameters=json.loads(parameters)))
    except ValueError:
        return f"{name} {parameters}"


def write_parquet(registry: Registry, path: Path) -> int:
    """Every result with samples, environments and runs, for ``qbench merge``; returns how many."""
    with _new(path) as new:
        return registry.export(new)


def write_text(path: Path, text: str) -> None:
    """The text in UTF-8, whole or not at all."""
    with _new(path) as new, explained(path):
        new.write_bytes(text.encode("utf-8"))


@contextlib.contextmanager
def _new(path: Path) -> Iterator[Path]:
    """A place to write to, which takes the name ``path`` at the end of the block; nothing changes on an exception."""
    if path.is_dir():
        raise RegistryError(f"cannot write {path}: it is a folder; name another --out")
    with explained(path), tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        new = Path(folder) / path.name
        yield new
        if not path.exists() or not _same(path, new):
            os.replace(new, path)


def _same(one: Path, other: Path) -> bool:
    """Whether two files hold the same, so that one that is right already keeps its date."""
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as a, other.open("rb") as b:
        while block := a.read(1 << 20):
            if block != b.read(1 << 20):
                return False
    return True


def card(title: str, lines: Sequence[str]) -> str:
    """README.md of a static Space: its settings, then what it is.

    Reference: Hugging Face Hub documentation, "Spaces Configuration Reference".
    """
    settings = [
        *(f"title: {json.dumps(title)}", "emoji: 📏", "colorFrom: blue", "colorTo: green"),
        *("sdk: static", "app_file: index.html", "pinned: false", "license: apache-2.0"),
        "short_description: Quantizers of neural networks, measured in bits",
        *("tags:", "  - leaderboard", "  - quantization", "  - benchmark", "  - rate-distortion"),
    ]
    return "\n".join(["---", *settings, "---", "", f"# {title}", "", *lines, ""])
