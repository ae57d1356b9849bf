"""The page of verdicts: what was claimed, what was measured, and every figure that decides, as Markdown."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from ..evidence import MISSING, OK, Evidence, Record
from ..verdicts import OUTCOMES, Tally, Verdict
from . import printable
from .run import first_line
from .verdict_rules import limits, rules

_FACTORS = ("window", "gradient", "data set", "lattice", "overload", "m")


def page(evidence: Evidence, found: Sequence[Verdict], suite: str) -> str:
    """Everything as Markdown; ``suite`` is the name or file that the command gave."""
    parts = [
        [f"# Verdicts: suite {text(evidence.suite.name)}"],
        [text(evidence.suite.description)] if evidence.suite.description else [],
        [
            f"Written by `qbench verdicts --suite {suite} --markdown FILE`, from a registry that "
            f"`qbench run --suite {suite}` filled. Not to be edited."
        ],
        ["## Verdicts"],
        rules(evidence),
        [_verdicts(found), _summary(evidence, found)],
        [said] if (said := limits(evidence)) else [],
        ["## Cells"],
        *([*_cells(evidence, track)] for track in evidence.records),
        ["## Figures"],
        *([*_figures(verdict)] for verdict in found),
    ]
    return "\n\n".join(block for part in parts for block in part) + "\n"


def _verdicts(found: Sequence[Verdict]) -> str:
    headers = ("", "claim", "region", "verdict", "cells", "support", "contradict", "undecided")
    return table((*headers, "deciding figure, median", "largest component"), map(_verdict_row, found))


def _summary(evidence: Evidence, found: Sequence[Verdict]) -> str:
    """How many hypotheses ended how, and what part of the grid that is about."""
    counts = Counter(verdict.outcome for verdict in found)
    outcomes = ", ".join(f"{name} {counts[name]}" for name in OUTCOMES if counts[name])
    partial = [_scope(evidence, track) for track in evidence.records if evidence.counts(track)[MISSING]]
    lines = [f"Of {len(found)} claims: {outcomes}."]
    if partial:
        lines.append(
            f"**Not all of the grid was run**, and verdicts are about what was: {'; '.join(partial)}."
        )
    return " ".join(lines)


def _scope(evidence: Evidence, track: str) -> str:
    records = evidence.records[track]
    parts = [f"{evidence.counts(track)[OK]} of {len(records)} cells"]
    for kind, words in (("model", "architectures"), ("optimizer", "optimizers"), ("dataset", "data sets")):
        planned, measured = (
            {spec.name for one in some if (spec := getattr(one.cell, kind))}
            for some in (records, [one for one in records if one.status == OK])
        )
        if len(planned) > 1:
            parts.append(f"{len(measured)} of {len(planned)} {words}")
    return f"of {track} {', '.join(parts)}"


def _verdict_row(verdict: Verdict) -> list[str]:
    hypothesis, tally = verdict.hypothesis, verdict.tally
    median = verdict.median(verdict.deciding)
    return [
        hypothesis.id,
        text(hypothesis.claim),
        f"`{hypothesis.region_text()}`",
        f"**{verdict.outcome}**",
        str(tally.cells),
        *shares(tally),
        f"`{verdict.deciding}` {number(median)}" if tally.cells else "-",
        _component(verdict),
    ]


def _component(verdict: Verdict) -> str:
    largest = verdict.largest_component
    return f"{largest[0]}, {100 * largest[1]:.0f} %" if largest else "-"


def _cells(evidence: Evidence, track: str) -> Iterator[str]:
    """What was measured, what failed, what is missing."""
    records, counts = evidence.records[track], evidence.counts(track)
    failed = [one for one in records if one.status not in (OK, MISSING)]
    others = sum(one.status == OK and not one.as_stated for one in records)
    yield f"### Track {track}"
    yield (
        f"{counts[OK]} of {len(records)} planned cells were measured, {len(failed)} failed, {counts[MISSING]} are "
        f"missing: they were not run. Protocol: digest `{evidence.digests[track][:16]}`. "
        + (f"{others} cells were measured under another protocol than this one." if others else "")
    ).strip()
    if any(one.cell.model for one in records):
        yield _coverage(records)
    if failed:
        yield table(("failed cell", "status", "error"), map(_failure, failed))


def _coverage(records: Sequence[Record]) -> str:
    """Per architecture and data set how many of the planned cells were measured."""
    models, datasets = (
        sorted({str(spec.name) for one in records if (spec := getattr(one.cell, kind))})
        for kind in ("model", "dataset")
    )

    def entry(model: str, dataset: str) -> str:
        here = [one for one in records if _names(one) == (model, dataset)]
        return f"{sum(one.status == OK for one in here)} of {len(here)}" if here else "-"

    rows = ([model, *(entry(model, dataset) for dataset in datasets)] for model in models)
    return table(("measured", *datasets), rows)


def _names(record: Record) -> tuple[str, str]:
    model, dataset = record.cell.model, record.cell.dataset
    return model.name if model else "", dataset.name if dataset else ""


def _failure(record: Record) -> list[str]:
    return [text(str(record.cell)), record.status, text(first_line(record.error))]


def _figures(verdict: Verdict) -> Iterator[str]:
    """One hypothesis: its figures, then the deciding one by architecture and optimizer and by other factors."""
    hypothesis = verdict.hypothesis
    yield f"### {hypothesis.id}: {text(hypothesis.claim)}"
    if not verdict.judged:
        yield "No cell was measured."
        return
    tally = verdict.tally
    yield (
        f"**{verdict.outcome}**: {tally.supports} of {tally.cells} cells support it, {tally.contradicts} contradict "
        f"it, {tally.undecided} are undecided."
    )
    yield table(("figure", "region", "support", "contradict", "undecided", "median"), _by_figure(verdict))
    if left_out := [said for name in hypothesis.figures if (said := _left_out(verdict, name))]:
        yield f"Layers that a figure is not defined for, and that are left out of it: {'; '.join(left_out)}."
    if verdict.components:
        said = ", ".join(f"{name} {100 * share:.0f} %" for name, share in verdict.components.items())
        yield f"Variance of `{verdict.deciding}` between the values of each factor: {said}."
    if verdict.by("architecture"):
        yield _matrix(verdict)
        yield from (_medians(verdict, name) for name in hypothesis.report if verdict.median(name) is not None)
    rows = [row for factor in _FACTORS for row in _by_value(verdict, factor)]
    if rows:
        headers = ("", f"`{verdict.deciding}`, median", "cells", "support", "contradict", "undecided")
        yield table(headers, rows)


def _by_figure(verdict: Verdict) -> Iterator[list[str]]:
    for region in verdict.hypothesis.regions:
        yield [f"`{region.figure}`", f"`{region}`", *_median_and_shares(verdict, region.figure)]
    for name in verdict.hypothesis.report:
        yield [f"`{name}`", "shown only", "", "", "", number(verdict.median(name))]


def _left_out(verdict: Verdict, figure: str) -> str:
    layers, cells = verdict.left_out(figure)
    return f"`{figure}` {layers} in {cells} of {verdict.tally.cells} cells" if layers else ""


def _median_and_shares(verdict: Verdict, figure: str) -> list[str]:
    return [*shares(verdict.of_figure(figure)), number(verdict.median(figure))]


def _matrix(verdict: Verdict) -> str:
    """Medians of the deciding figure, with the cells that support the claim."""
    said = f"Median of `{verdict.deciding}`, and in brackets how many cells support the claim:"
    return _by_both(verdict, said, lambda wanted: _entry(verdict, wanted))


def _medians(verdict: Verdict, figure: str) -> str:
    """Medians of a figure that does not decide."""
    return _by_both(verdict, f"Median of `{figure}`:", lambda wanted: number(verdict.median(figure, wanted)))


def _by_both(verdict: Verdict, said: str, entry: Callable[[dict[str, str]], str]) -> str:
    """What ``entry`` says of each architecture and optimizer."""
    optimizers = list(verdict.by("optimizer"))
    rows = [
        [model, *(entry({"architecture": model, "optimizer": optimizer}) for optimizer in optimizers)]
        for model in verdict.by("architecture")
    ]
    return f"{said}\n\n" + table(("", *optimizers), rows)


def _entry(verdict: Verdict, wanted: dict[str, str]) -> str:
    here = [one.support for one in verdict.judged if wanted.items() <= one.observation.factors.items()]
    tally = Tally.of(here)
    return (
        f"{number(verdict.median(verdict.deciding, wanted))} ({tally.supports}/{tally.cells})"
        if here
        else "-"
    )


def _by_value(verdict: Verdict, factor: str) -> Iterator[list[str]]:
    tallies = verdict.by(factor)
    for value, tally in tallies.items() if len(tallies) > 1 else ():
        median = verdict.median(verdict.deciding, {factor: value})
        yield [f"{factor} {text(value)}", number(median), str(tally.cells), *shares(tally)]


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shares(tally: Tally) -> list[str]:
    """Support, contradict, undecided in percent of the cells."""
    parts = (tally.supports, tally.contradicts, tally.undecided)
    return [f"{100 * part / tally.cells:.1f} %" if tally.cells else "-" for part in parts]


def number(value: float | None) -> str:
    """Three significant digits."""
    return "-" if value is None else f"{value:.3g}"


def text(words: str) -> str:
    """Words that mean nothing to Markdown or HTML, in one line."""
    plain = " ".join(printable(words).split())
    for symbol, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        plain = plain.replace(symbol, name)
    return "".join(f"\\{symbol}" if symbol in "\\`*_[]|#!" else symbol for symbol in plain)
