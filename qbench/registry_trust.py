"""What a registry knows of its results' trust: which came from elsewhere, and which of those held when run again here.

A result is ``reproduced`` once one that came from elsewhere and one that was measured here, in another environment,
agree; that is true of both.
Every other is ``self-reported``. Only :meth:`qbench.registry.Registry.add_reproduction` says so: an export carries
nothing of it, and a merge looks for nothing of it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, final, get_args

from duckdb import DuckDBPyConnection

from .registry_rows import insert, utc
from .schema import Result, canonical_json

Trust: TypeAlias = Literal["self-reported", "reproduced"]
TRUSTS: tuple[Trust, ...] = get_args(Trust)

_ENTER = """
    INSERT INTO imports SELECT new.result_id, $2, $3 FROM (SELECT unnest($1::VARCHAR[]) AS result_id) AS new
    WHERE new.result_id NOT IN (SELECT result_id FROM results) ON CONFLICT DO NOTHING
"""


@final
@dataclass(frozen=True)
class Reproduction:
    """A result and what came out when its cell was run again.

    Attributes:
        again: the newer result.
        holds: whether it agrees; None where that cannot be told.
        details: anything that JSON can hold.
    """

    result_id: str
    again: Result
    holds: bool | None
    details: Mapping[str, Any]


def enter_imports(connection: DuckDBPyConnection, result_ids: Iterable[str], source: str) -> None:
    """Note of results that are about to be appended, and are not there yet, that they come from elsewhere."""
    ids = list(dict.fromkeys(result_ids))
    connection.execute(_ENTER, [ids, source, utc(datetime.now(UTC))])


def enter_reproduction(connection: DuckDBPyConnection, found: Reproduction) -> None:
    """Write down a reproduction and whether it is independent, see :func:`is_independent`."""
    row = {
        "result_id": found.result_id,
        "again_id": found.again.result_id,
        "environment_id": found.again.environment_id,
        "started": utc(found.again.started),
        "holds": found.holds,
        "independent": is_independent(connection, found.result_id, found.again.environment_id),
        "details": canonical_json(dict(found.details)),
    }
    insert(connection, "reproductions", [row])


def is_independent(connection: DuckDBPyConnection, result_id: str, environment_id: str) -> bool:
    """Whether running a result again in an environment says more than its submitter did.

    It does where the result was not measured here, and in another environment: in the same one, hardware and
    installation, one's own result may have come back by way of a file.
    """
    query = "SELECT count(*) > 0 FROM results WHERE result_id = ? AND environment_id <> ?"
    found = connection.execute(query, [result_id, environment_id]).fetchone()
    return found == (True,) and imported_from(connection, result_id) is not None


def imported_from(connection: DuckDBPyConnection, result_id: str) -> str | None:
    """Where a result was merged from; None where it was measured here."""
    query = "SELECT source FROM imports WHERE result_id = ?"
    found = connection.execute(query, [result_id]).fetchone()
    return None if found is None else str(found[0])


def trust_of(connection: DuckDBPyConnection, result_ids: Sequence[str] | None) -> dict[str, Trust]:
    """The trust of results by identifier, of all where none are named."""
    where = "" if result_ids is None else "WHERE result_id IN (SELECT unnest($1::VARCHAR[]))"
    query = f"SELECT result_id, trust FROM trust {where}"
    return dict(connection.execute(query, [] if result_ids is None else [list(result_ids)]).fetchall())
