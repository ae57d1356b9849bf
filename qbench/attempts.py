"""Which attempt at a cell counts: one rule for the leaderboard's page and its files, for tables and for citations.

Of the attempts at a cell under one digest on one kind of device those that were measured by this registry come before
those that were merged into it (table ``imports``), and among them the newest comes first: by start, number of the
attempt and identifier. If the first did not end ``ok``, the cell has no number: no older attempt stands in for it, nor
does one from elsewhere.
"""

_COUNTING = """
    SELECT one.* FROM (SELECT * FROM history WHERE {where}) AS one
    LEFT JOIN (SELECT result_id AS imported FROM imports) AS elsewhere ON elsewhere.imported = one.result_id
    QUALIFY row_number() OVER (
        PARTITION BY one.cell_id, one.digest, one.device_kind
        ORDER BY elsewhere.imported IS NOT NULL, one.started DESC, one.attempt DESC, one.result_id,
                 one.reused, one.run_id DESC) = 1
"""


def counting(where: str = "true") -> str:
    """A SELECT, without parameters of its own, of those rows of the registry's view ``history`` that count.

    A result that several runs list has one row for each of their digests, with the run that measured it where that is
    one of them.

    Args:
        where: a condition over ``history``; what does not meet it is looked at as if it were not there.
    """
    return _COUNTING.format(where=where)
