"""How to cite: the software, the very results that a paper speaks of, and the paper behind a quantizer. No torch here.

Which results: their number, their dates, the digests of what was asked of them, and the sha256 of their identifiers,
sorted, one a line. A result's identifier names its cell, the code that ran, the kind of device and the attempt.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any, final

from . import __version__
from .attempts import counting
from .errors import RegistryError
from .registry import Registry
from .selection import Selection
from .typesetting import latex, plain, quoted
from .unmet import reason, require

NAME = "qbench"
TITLE = "qbench: every way of quantizing a neural network, measured by the same honest rules"
AUTHOR = "The qbench developers"
LICENSE = "Apache-2.0"
RELEASED = date(2026, 11, 23)  # of this version
DIGITS = 12

Row = dict[str, Any]

_OF_RUNS = ("run_id", "suite", "digest")
_COLUMNS = ("result_id", "cell_id", "run_id", "suite", "digest", "track", "target", "status", "started")
_YEAR = re.compile(r"(?P<author>.*?),? (?P<year>1[89]\d\d|20\d\d)\b")
_ARXIV = re.compile(r"\barXiv:(\d{4}\.\d{4,5})")


def selected(registry: Registry, where: Iterable[str], more: Sequence[str] = ()) -> list[Row]:
    """The attempt that counts per cell, digest and kind of device (:mod:`qbench.attempts`), in the order of the suites.

    Args:
        where: terms as of ``qbench results``; suite, digest and run are looked at before which attempt counts.
        more: further columns of the registry's view ``history``.

    Raises:
        RegistryError: the registry cannot be read, or no result meets the terms.
        SuiteError: an unknown key, a term that cannot be read, or a value that no result has.
    """
    where = [where] if isinstance(where, str) else list(where)
    require(registry, where)
    query = "SELECT DISTINCT unnest(json_keys(parameters)) FROM results"
    parameters = {name for (name,) in registry.sql(query).fetchall()}
    selection = Selection.parse(where, parameters or None)
    runs, first = selection.only(_OF_RUNS).sql()
    rest, second = selection.without(_OF_RUNS).sql()
    columns = (*_COLUMNS, *more)
    chosen = f"SELECT {', '.join(columns)} FROM ({counting(runs)}) WHERE {rest}"
    asked = f"{chosen} ORDER BY position, started, result_id, digest"
    found = registry.sql(asked, [*first, *second]).fetchall()
    if not found:
        raise RegistryError(reason(registry, where))
    return [dict(zip(columns, row, strict=True)) for row in found]


def succeeded(rows: Sequence[Row]) -> list[Row]:
    """Those that ended well.

    Raises:
        RegistryError: there is none; says how those that were selected ended.
    """
    good = [row for row in rows if row["status"] == "ok"]
    if not good:
        ends = ", ".join(sorted({row["status"] for row in rows}))
        raise RegistryError(
            f"none of the {len(rows):,} results of this selection ended well ({ends}); `qbench show RESULT` says why"
        )
    return good


@final
@dataclass(frozen=True)
class Numbers:
    """Which results. ``digests`` by track; versions are those of qbench that measured."""

    ids: tuple[str, ...]
    suites: tuple[str, ...]
    digests: tuple[tuple[str, str], ...]
    versions: tuple[str, ...]
    first: date
    last: date

    @cached_property
    def sha256(self) -> str:
        """Of the sorted identifiers, each followed by a line feed."""
        return hashlib.sha256("".join(f"{one}\n" for one in self.ids).encode()).hexdigest()

    @property
    def title(self) -> str:
        """Such as: Results of suite standard, measured with qbench 0.1.0."""
        suites = (
            f"suite{'s' * (len(self.suites) > 1)} {' and '.join(self.suites)}" if self.suites else "no suite"
        )
        return f"Results of {suites}, measured with {NAME} {' and '.join(self.versions)}"

    @property
    def which(self) -> str:
        """One sentence that tells them from all others."""
        days = f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"
        digests = ", ".join(f"{track} {digest[:DIGITS]}" for track, digest in self.digests)
        named = f"{len(self.ids):,} results of {days}; digests: {digests}"
        return f"{named}; sha256 of their sorted identifiers: {self.sha256}"


def numbers(registry: Registry, where: Iterable[str] = ()) -> Numbers:
    """Which results of a registry meet a selection and ended well.

    Raises:
        RegistryError: there is none, or the registry cannot be read.
        SuiteError: an unknown key, or a term that cannot be read.
    """
    rows = succeeded(selected(registry, where))
    versions = dict(registry.sql("SELECT run_id, version FROM runs").fetchall())
    days = [row["started"].date() for row in rows]
    return Numbers(
        ids=tuple(sorted({row["result_id"] for row in rows})),
        suites=tuple(sorted({row["suite"] for row in rows if row["suite"]})),
        digests=tuple(sorted({(row["track"], row["digest"]) for row in rows if row["digest"]})),
        versions=tuple(sorted({versions.get(row["run_id"], "of unknown version") for row in rows})),
        first=min(days),
        last=max(days),
    )


@final
@dataclass(frozen=True)
class Work:
    """What a quantizer names as where it comes from; author and year as far as its text says them."""

    text: str

    @property
    def author(self) -> str:
        found = _YEAR.match(self.text)
        return found["author"] if found else self.text.partition(",")[0]

    @property
    def year(self) -> str | None:
        found = _YEAR.match(self.text)
        return found["year"] if found else None

    @property
    def arxiv(self) -> str | None:
        found = _ARXIV.search(self.text)
        return found[1] if found else None


@final
@dataclass(frozen=True)
class Method:
    """A quantizer, the distribution that provides it, and its reference as the component names it."""

    name: str
    distribution: str
    version: str
    reference: str

    @property
    def works(self) -> list[Work]:
        """Several are parted by semicolons.

        >>> [work.year for work in Method("ecsq", "", "", "Gish & Pierce 1968; Sullivan 1996").works]
        ['1968', '1996']
        """
        return [Work(part.strip()) for part in self.reference.split(";") if part.strip()]

    @property
    def text(self) -> str:
        origin = f"quantizer {self.name} of {self.distribution} {self.version}"
        return f"{origin}: {self.reference or 'it names no paper'}"


def text(found: Numbers | None, method: Method | None) -> str:
    """For people."""
    lines = [f"{AUTHOR} ({RELEASED.year}). {TITLE}. Version {__version__}. License {LICENSE}."]
    if found is not None:
        lines.append(f"{found.title} ({found.last.year}): {found.which}.")
    if method is not None:
        lines.append(f"{method.text[0].upper()}{method.text[1:]}.")
    return "".join(f"{plain(line)}\n" for line in lines)


def apa(found: Numbers | None, method: Method | None) -> str:
    """In the style of the American Psychological Association, 7th edition."""
    lines = [f"{AUTHOR}. ({RELEASED.year}). {TITLE} (Version {__version__}) [Computer software]."]
    if found is not None:
        lines.append(f"{found.title} [Data set]. ({found.last.year}). {found.which}.")
    lines += [f"{work.text}." for work in method.works] if method is not None else []
    return "".join(f"{plain(line)}\n" for line in lines)


def bibtex(found: Numbers | None, method: Method | None) -> str:
    """Entries of BibTeX. What a quantizer's reference does not say, such as a title, is left for whoever cites it."""
    about = {"title": latex(TITLE), "author": f"{{{latex(AUTHOR)}}}", "year": str(RELEASED.year)}
    entries = [_entry("software", NAME, about | {"version": latex(__version__), "license": latex(LICENSE)})]
    if found is not None:
        fields = {"title": latex(found.title), "year": str(found.last.year), "note": latex(found.which)}
        entries.append(_entry("misc", f"{NAME}-results-{found.sha256[:8]}", fields))
    for number, work in enumerate(method.works if method is not None else (), 1):
        entries.append(_entry("misc", f"{method.name if method else ''}-{number}", _fields(work)))
    return "\n".join(entries)


def _fields(work: Work) -> dict[str, str]:
    fields = {"author": f"{{{latex(work.author)}}}", "year": work.year or "", "note": latex(work.text)}
    fields |= {"eprint": work.arxiv, "archiveprefix": "arXiv"} if work.arxiv else {}
    return {name: value for name, value in fields.items() if value}


def _entry(kind: str, key: str, fields: Mapping[str, str]) -> str:
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
    return f"@{kind}{{{key},\n{lines}}}\n"


def cff(found: Numbers | None, method: Method | None) -> str:
    """A file of the Citation File Format 1.2.0: results are among its identifiers, papers among its references."""
    lines = [
        "cff-version: 1.2.0",
        'message: "To cite this software, use these fields; qbench cite names the very results of a paper as well."',
        "type: software",
        f"title: {quoted(TITLE)}",
        "authors:",
        f"  - name: {quoted(AUTHOR)}",
        f"version: {quoted(__version__)}",
        f"date-released: {quoted(str(RELEASED))}",
        f"license: {LICENSE}",
    ]
    if found is not None:
        lines += ["identifiers:", "  - type: other", f"    value: {quoted(f'sha256:{found.sha256}')}"]
        lines += [f"    description: {quoted(f'{found.title}: {found.which}')}"]
    if method is not None and method.works:
        lines += ["references:", *(line for work in method.works for line in _cff_reference(work))]
    return "".join(f"{line}\n" for line in lines)


def _cff_reference(work: Work) -> list[str]:
    lines = [
        "  - type: generic",
        f"    title: {quoted(work.text)}",
        "    authors:",
        f"      - name: {quoted(work.author)}",
    ]
    lines += [f"    year: {work.year}"] if work.year else []
    if work.arxiv:
        lines += [
            "    identifiers:",
            "      - type: other",
            f"        value: {quoted(f'arXiv:{work.arxiv}')}",
        ]
    return lines


FORMATS: Mapping[str, Callable[[Numbers | None, Method | None], str]] = {
    "bibtex": bibtex,
    "apa": apa,
    "cff": cff,
    "text": text,
}
