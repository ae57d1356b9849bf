"""Which attempt at a cell counts: one rule for the page and its files, tables, citations, ``qbench results`` and views.

Of the attempts at a cell under one digest on one kind of device those that were measured by this registry come before
those that were merged into it (table ``imports``), and among them the newest comes first: by start, number of the
attempt and identifier. If the first did not end ``ok``, the cell has no number: no older attempt stands in for it, nor
does one from elsewhere. Where a cell has one row whatever its digests and devices (``qbench results``, the view
``latest``), that is the first of these first ones, hence one that the page shows as well.

A run that is resumed asks something else, whether a cell ever ended ``ok`` with the same code on that kind of device,
here or elsewhere, since it measures nothing twice: see :meth:`qbench.registry.Registry.latest`.
"""

from collections.abc import Sequence

# The view ``latest`` is made of this: who changes it appends a migration that makes the view anew.
_COUNTING = """
    SELECT one.* FROM (SELECT * FROM history WHERE {where}) AS one
    LEFT JOIN (SELECT result_id AS imported FROM imports) AS elsewhere ON elsewhere.imported = one.result_id
    QUALIFY row_number() OVER (
        PARTITION BY {each}
        ORDER BY elsewhere.imported IS NOT NULL, one.started DESC, one.attempt DESC, one.result_id,
                 one.reused, one.run_id DESC) = 1
"""
GROUP = ("cell_id", "digest", "device_kind")


def counting(where: str = "true", each: Sequence[str] = GROUP) -> str:
    """A SELECT, without parameters of its own, of those rows of the registry's view ``history`` that count.

    A result that several runs list has one row for each of their digests, with the run that measured it where that is
    one of them.

    Args:
        where: a condition over ``history``; what does not meet it is looked at as if it were not there.
        each: the columns in which attempts agree of which one counts.
    """
    return _COUNTING.format(where=where, each=", ".join(f"one.{name}" for name in each))
