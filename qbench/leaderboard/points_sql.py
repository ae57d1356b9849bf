"""What the leaderboard reads of a registry: the attempts that count, and their measurements as a matrix.

A registry may hold a million results. Texts that many of them share (budgets, parameters, names) are read once
each and numbered; rows carry the numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..attempts import counting
from ..registry import Registry

QUANTITIES = (
    *("rate", "entropy_rate", "weight_rate", "accuracy", "baseline_accuracy", "finetuned_accuracy"),
    *("accuracy_drop", "kl", "sqnr_db", "gap_db", "relative_mse", "cosine", "coverage", "encode_throughput"),
    *("up_bits", "down_bits", "bits_to_target", "copy_bandwidth"),
)
# Results whose measurements are read at once: what keeps a million of them in a few hundred megabytes.
CHUNK = 250_000

_TABLES = {
    "runs": ("run_cells", ("suite", "digest", "track")),
    "kinds": ("results", ("track", "target", "budget")),
    "codes": ("results", ("quantizer", "parameters")),
    "sites": (
        "results",
        ("model", "model_parameters", "dataset", "dataset_parameters", "optimizer", "optimizer_parameters"),
    ),
    "ways": ("results", ("device_kind", "rate_class", "execution")),
}
_FACTS = "coalesce(facts->>'$.{0}', '') AS {0}"

# Only of cells with several attempts does the one that counts need to be looked for. It stands in every suite that
# has the cell under the same digest.
_PLACED = f"""
    WITH {{runs}}, chosen AS (
        {counting("cell_id IN (SELECT cell_id FROM results GROUP BY cell_id HAVING count(*) > 1)")}
    )
    SELECT DISTINCT try_cast('0x' || coalesce(chosen.result_id, c.result_id) AS UBIGINT) AS id, runs.number AS run
    FROM run_cells AS c JOIN runs ON {{c_runs}}
    LEFT JOIN chosen ON chosen.cell_id = c.cell_id AND chosen.digest = c.digest
    WHERE c.result_id IS NOT NULL
"""
_ATTEMPTS = """
    WITH {tables}, r AS (SELECT *, {facts} FROM results)
    SELECT try_cast('0x' || r.result_id AS UBIGINT) AS id, kinds.number AS kind, codes.number AS code,
           sites.number AS site, ways.number AS way, r.seed, r.status = 'ok' AS ok, epoch_us(r.started) AS started
    FROM r JOIN kinds ON {r_kinds} JOIN codes ON {r_codes} JOIN sites ON {r_sites} JOIN ways ON {r_ways}
"""
_MEASURED = """
    WITH names AS (SELECT unnest($names::VARCHAR[]) AS name, unnest(range(len($names)))::UTINYINT AS quantity),
    part AS (
        SELECT result_id, try_cast('0x' || result_id AS UBIGINT) AS id FROM results
        WHERE status = 'ok' AND hash(result_id) % $chunks = $chunk
    )
    SELECT id, quantity, value FROM measurements JOIN names USING (name) JOIN part USING (result_id)
    WHERE value IS NOT NULL
"""

# Of a result that came from elsewhere and the one here that agrees with it both are reproduced.
_REPRODUCED = """
    SELECT try_cast('0x' || result_id AS UBIGINT) AS id FROM trust WHERE reproductions > 0
"""

Texts = list[tuple[str, ...]]


@dataclass(frozen=True)
class Read:
    """What was read.

    Attributes:
        rows: a row for each attempt that counts in a suite: id (result_id as a number), run, kind, code, site, way
            (places in the lists of those names), seed, ok, started (microseconds since 1970), reproduced.
        texts: under "runs", "kinds", "codes", "sites" and "ways" the columns of each distinct row; "" for NULL.
        measured: a row of ``QUANTITIES`` for each of ``rows``, NaN where there is no such measurement.
    """

    rows: pd.DataFrame
    texts: Mapping[str, Texts]
    measured: NDArray[np.float64]


def read(registry: Registry) -> Read:
    """Everything that the leaderboard's points are made of.

    Raises:
        RegistryError: the registry cannot be read.
    """
    texts = {name: _distinct(registry, name) for name in _TABLES}
    rows = _rows(registry, texts)
    again = registry.sql(_REPRODUCED).df()
    rows["reproduced"] = rows["id"].isin(again["id"])
    return Read(rows, texts, _measured(registry, rows))


def _distinct(registry: Registry, name: str) -> Texts:
    table, columns = _TABLES[name]
    facts = ", ".join(_FACTS.format(one) for one in ("rate_class", "execution"))
    source = f"(SELECT *, {facts} FROM results)" if name == "ways" else table
    chosen = ", ".join(f"coalesce({column}::VARCHAR, '') AS {column}" for column in columns)
    rows = registry.sql(f"SELECT DISTINCT {chosen} FROM {source} ORDER BY ALL").fetchall()
    return [tuple(row) for row in rows]


def _rows(registry: Registry, texts: Mapping[str, Texts]) -> pd.DataFrame:
    """The attempts that count, in every suite that they belong to; by id, then run."""
    joins = {f"r_{name}": _joined("r", name) for name in texts} | {"c_runs": _joined("c", "runs")}
    runs = f"runs AS ({_numbered('runs')})"
    of_runs = _parameters({"runs": texts["runs"]})
    placed = registry.sql(_PLACED.format(runs=runs, **joins), of_runs).df()
    others = {name: rows for name, rows in texts.items() if name != "runs"}
    tables = ", ".join(f"{name} AS ({_numbered(name)})" for name in others)
    facts = ", ".join(_FACTS.format(one) for one in ("rate_class", "execution"))
    query = _ATTEMPTS.format(tables=tables, facts=facts, **joins)
    attempts = registry.sql(query, _parameters(others)).df()
    return attempts.merge(placed, on="id").sort_values(["id", "run"], ignore_index=True)


def _parameters(texts: Mapping[str, Texts]) -> dict[str, list[str]]:
    return {
        f"{name}_{column}": [row[place] for row in rows]
        for name, rows in texts.items()
        for place, column in enumerate(_TABLES[name][1])
    }


def _numbered(name: str) -> str:
    columns = _TABLES[name][1]
    listed = ", ".join(f"unnest(${name}_{column}::VARCHAR[]) AS {column}" for column in columns)
    return f"SELECT {listed}, unnest(range(len(${name}_{columns[0]})))::INTEGER AS number"


def _joined(row: str, name: str) -> str:
    return " AND ".join(
        f"coalesce({row}.{column}::VARCHAR, '') = {name}.{column}" for column in _TABLES[name][1]
    )


def _measured(registry: Registry, rows: pd.DataFrame) -> NDArray[np.float64]:
    found = np.full((len(rows), len(QUANTITIES)), np.nan)
    ids = np.asarray(rows["id"], dtype=np.uint64)
    single = bool(len(ids) < 2 or (ids[1:] != ids[:-1]).all())
    chunks = -(-len(ids) // CHUNK)
    for chunk in range(chunks):
        given: dict[str, Any] = {"names": list(QUANTITIES), "chunks": chunks, "chunk": chunk}
        part = registry.sql(_MEASURED, given).df()
        _scatter(found, ids, part, single)
    return found


def _scatter(found: NDArray[np.float64], ids: NDArray[np.uint64], part: pd.DataFrame, single: bool) -> None:
    """Enter measurements into the rows of their results; a result stands on several rows, one after the other."""
    id_, quantity, value = (np.asarray(part[name]) for name in ("id", "quantity", "value"))
    place = np.searchsorted(ids, id_)
    while len(place):
        inside = place < len(ids)
        inside[inside] = ids[place[inside]] == id_[inside]
        id_, quantity, value, place = (one[inside] for one in (id_, quantity, value, place))
        found[place, quantity] = value
        if single:
            return
        place = place + 1
