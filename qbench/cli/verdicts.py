"""``qbench verdicts``: what a registry says of the hypotheses of a suite."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from .. import api, plugins, suite
from ..evidence import MISSING, OK, Evidence, gather
from ..verdicts import GROUPED, Verdict
from . import rendering
from .options import json_option, registry_option
from .rendering import BAD, DOUBTFUL, GOOD, QUIET, Screen
from .run import first_line
from .verdict_page import number, page

SHOWN_FAILURES = 10
_STYLES = {"holds": GOOD, "fails": BAD, "depends": DOUBTFUL, "unmeasured": QUIET}


@click.command("verdicts")
@registry_option
@click.option(
    "--suite",
    "name",
    default="gradients",
    show_default=True,
    metavar="NAME|FILE",
    help="Suite whose hypotheses are decided: an installed one, or a TOML file.",
)
@click.option(
    "--markdown", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with every figure."
)
@json_option("a line per hypothesis")
def verdicts_command(registry: Path | None, name: str, markdown: Path | None, json_output: bool) -> None:
    """Say which hypotheses of a suite hold, fail or depend.

    A hypothesis holds if at least 80 % of the cells support it, and so in at least 5/6 of the architectures and of the
    optimizers; it fails if at least 80 % contradict it; else it depends, and what its figure varies with most is named.
    """
    catalog = plugins.catalog()
    evidence = gather(suite.load(name, catalog), catalog, api.open_registry(registry))
    found = evidence.verdicts()
    if markdown is not None:
        markdown.write_text(page(evidence, found, name), encoding="utf-8")
    if json_output:
        rendering.json_lines(line(evidence, verdict) for verdict in found)
    else:
        _show(Screen(), evidence, found)
        if markdown is not None:
            Screen().entry("page", str(markdown))


def line(evidence: Evidence, verdict: Verdict) -> dict[str, Any]:
    """A verdict as a flat record."""
    hypothesis, counts = verdict.hypothesis, evidence.counts(verdict.hypothesis.track)
    figures = [*hypothesis.figures, *hypothesis.report]
    return {
        "id": hypothesis.id,
        "claim": hypothesis.claim,
        "region": hypothesis.region_text(),
        "verdict": verdict.outcome,
        "cells": verdict.tally.cells,
        **asdict(verdict.tally),
        "deciding": verdict.deciding,
        "figures": {
            name: {
                "median": verdict.median(name),
                **asdict(verdict.of_figure(name)),
                "layers_left_out": verdict.left_out(name)[0],
            }
            for name in figures
        },
        "components": dict(verdict.components),
        "by": {name: _plain(verdict, name) for name in (*GROUPED, "data set", "window")},
        "suite": evidence.suite.name,
        "track": hypothesis.track,
        "digest": evidence.digests[hypothesis.track],
        "planned": sum(counts.values()),
        "missing": counts[MISSING],
        "failed": sum(counts.values()) - counts[MISSING] - counts[OK],
    }


def _plain(verdict: Verdict, factor: str) -> Mapping[str, dict[str, Any]]:
    return {value: asdict(tally) for value, tally in verdict.by(factor).items()}


def _show(screen: Screen, evidence: Evidence, found: Sequence[Verdict]) -> None:
    screen.heading(f"suite {evidence.suite.name} {evidence.suite.version}")
    width = max(len(verdict.hypothesis.id) for verdict in found)
    for verdict in found:
        first = [(verdict.hypothesis.id, ""), (verdict.outcome, _STYLES[verdict.outcome])]
        _line(screen, width, first, (verdict.hypothesis.claim, ""))
        _line(screen, width, [("", ""), ("", "")], (_reason(verdict), QUIET))
    for track in evidence.records:
        _show_track(screen, evidence, track)


def _line(screen: Screen, width: int, first: Sequence[tuple[str, str]], last: tuple[str, str]) -> None:
    cells = [rendering.text(*one) for one in [*first, last]]
    screen.show(rendering.grid((width, len("unmeasured")), cells))


def _reason(verdict: Verdict) -> str:
    tally, component = verdict.tally, verdict.largest_component
    if not tally.cells:
        return "no cell was measured"
    shares = [percent(part, tally.cells) for part in (tally.supports, tally.contradicts)]
    counts = f"{shares[0]} of {tally.cells} cells support, {shares[1]} contradict"
    figure = f"{verdict.deciding} {number(verdict.median(verdict.deciding))}"
    varies = f", varies most with {component[0]} ({100 * component[1]:.0f} %)" if component else ""
    return f"{counts}; {figure}{varies}"


def _show_track(screen: Screen, evidence: Evidence, track: str) -> None:
    """What was measured, what failed, what is missing: a verdict is about the first alone."""
    counts, records = evidence.counts(track), evidence.records[track]
    failed = [one for one in records if one.status not in (OK, MISSING)]
    screen.heading(track, f"digest {evidence.digests[track][:12]}")
    screen.entry("measured", f"{counts[OK]:,} of {len(records):,} planned cells")
    if counts[MISSING]:
        screen.entry(
            "missing", f"{counts[MISSING]:,}: never run here; the verdicts are without them", DOUBTFUL
        )
    if failed:
        screen.entry("failed", f"{len(failed):,}: the verdicts are without them", BAD)
    for one in failed[:SHOWN_FAILURES]:
        screen.bullet(f"{one.result_id} {one.status}: {one.cell}: {first_line(one.error)}", BAD)
    others = sum(one.status == OK and not one.as_stated for one in records)
    if others:
        screen.entry("earlier", f"{others:,} measured under another protocol than this digest's", DOUBTFUL)


def percent(part: int, whole: int) -> str:
    """A share in whole percent, rounded towards 50 where it would read 0 or 100 and is not."""
    if not whole:
        return "-"
    rounded = round(100 * part / whole)
    return f"{min(max(rounded, 1 if part else 0), 100 if part == whole else 99)} %"
