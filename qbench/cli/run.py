"""``qbench run`` and ``qbench plan``."""

import shlex
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from .. import api, runner
from .. import plan as planning
from ..components import Kind
from ..headlines import Measured
from ..plan import Plan, PlannedCell
from ..quantities import duration_text, size_text
from ..registry import Registry
from ..reporting import cut
from ..runner import Summary, UnwrittenError
from ..schema import Result, Spec, Status
from ..tracks.lattice_verdict import FEWEST_CELLS, decide_l1
from . import INTERRUPTED, interrupts, recipes, reference, rendering, summary
from .labels import Labels
from .options import json_option, run_options
from .rendering import BAD, DOUBTFUL, GOOD, QUIET, Screen

STATES = {"run": "to run", "reused": "reused", "failed": "failed before", "unavailable": "without data"}
SHOWN_FAILURES = 10


@click.command("run")
@run_options
@json_option("at the end a line per result of the run, new and reused")
def run_command(json_output: bool, **given: Any) -> int:
    """Run a suite and write its results.

    What the registry holds already is reused. Interrupt it at any time: the same command goes on from there.
    Exit codes: 0 done, 1 a cell failed or was impossible or known values are off as a whole, 2 bad input, 130
    interrupted.
    """
    screen = Screen(json_output=json_output)
    plan = planning.make(api.options(**given))
    show_plan(screen, plan)
    try:
        with interrupts.orderly(), rendering.progress() as report:
            done = runner.execute(plan, report)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        screen.say()
        screen.say(f"Interrupted. What was finished is kept in {plan.options.registry}.", DOUBTFUL)
        screen.say("The same command goes on from there.")
        return INTERRUPTED
    except UnwrittenError as error:
        show_unwritten(screen, plan, error.results)
        raise
    registry = Registry(plan.options.registry)
    rows = registry.results(f"run_id={done.run_id}").rows()
    if json_output:
        rendering.json_lines(rows)
    show_tables(screen, plan, rows, _rate_classes(registry, done.run_id))
    likely = reference.show(screen, registry, rows, [planned.cell.cell_id for planned in plan.cells])
    show_outcome(screen, plan, done, rows)
    return done.exit_code if likely else 1


@click.command("plan")
@run_options
@json_option("a line per cell")
def plan_command(json_output: bool, **given: Any) -> None:
    """Say what a run would do; change nothing."""
    plan = planning.make(api.options(**given))
    if json_output:
        rendering.json_lines(_plan_row(plan, planned) for planned in plan.cells)
    else:
        show_plan(Screen(), plan)


def _plan_row(plan: Plan, planned: PlannedCell) -> dict[str, Any]:
    cell = planned.cell
    specs = {kind: getattr(cell, kind) for kind in ("quantizer", "model", "dataset", "optimizer")}
    return {
        "cell_id": cell.cell_id,
        "suite": plan.suite.name,
        "digest": planned.digest,
        "track": cell.track,
        "target": cell.target,
        **{kind: None if spec is None else str(spec) for kind, spec in specs.items()},
        "seed": cell.seed,
        "budget": cell.budget,
        "device": plan.device_kind,
        "state": planned.state,
        "reason": planned.reason or None,
        "seconds": planned.estimate,
        "result_id": planned.result_id,
    }


def show_plan(screen: Screen, plan: Plan) -> None:
    """Cells by track and state, what is to be fetched, what is missing, how long it may take."""
    options = plan.options
    processes = f"{plan.workers} worker{'s' * (plan.workers > 1)}"
    screen.heading(f"suite {plan.suite.name} {plan.suite.version}", f"on {plan.device_kind}, {processes}")
    states = [state for state in STATES if state in ("run", "reused") or plan.count(state)]  # type: ignore[arg-type]
    columns = [("cells", "left"), ("total", "right"), *((STATES[state], "right") for state in states)]
    by_track = plan.by_track()
    rows = [_counts(track, counts, states) for track, counts in sorted(by_track.items())]
    if len(rows) > 1:
        rows.append(_counts("all", sum(by_track.values(), Counter()), states))
    screen.show(rendering.table(columns, rows))
    screen.say()
    for name, size in sorted(plan.downloads.items()):
        screen.entry("to fetch", f"{name}, {size_text(size)}; --offline leaves it")
    if not plan.downloads:
        show_unavailable(screen, plan.unavailable)
    if plan.count("failed"):
        screen.entry("failed", f"{plan.count('failed')} before; --retry-failed runs them again", DOUBTFUL)
    if plan.catalog.broken:
        screen.entry("plugins", f"{len(plan.catalog.broken)} broken; see `qbench plugins`", DOUBTFUL)
    for text in _idle_quantizers(plan):
        screen.entry("note", f"--quantizer {text} fits no chosen grid of this suite", DOUBTFUL)
    if plan.count("run"):
        besides = ", besides what is to be fetched" if plan.downloads else ""
        screen.entry(
            "expected", f"about {duration_text(plan.seconds)}{besides}{_budget(options.time_budget)}"
        )
    screen.entry("registry", str(options.registry))


def _counts(name: str, counts: Counter[str], states: Sequence[str]) -> list[str]:
    return [name, f"{sum(counts.values()):,}", *(f"{counts[state]:,}" for state in states)]


def _budget(seconds: float | None) -> str:
    return "" if seconds is None else f", stopping after {duration_text(seconds)}"


def _idle_quantizers(plan: Plan) -> list[str]:
    """Points given by hand that are in no cell."""
    present = {planned.cell.quantizer for planned in plan.cells}
    return [t for t in plan.options.quantizers if plan.catalog.build("quantizer", t).spec not in present]


def show_unavailable(screen: Screen, unavailable: dict[str, tuple[int, str]]) -> None:
    """Each data set that is missing, how many cells it holds up, why, and what to do."""
    for name, (count, reason) in sorted(unavailable.items()):
        prefix = "" if reason.startswith(name) else f"{name}: "
        screen.entry("unavailable", f"{count} cell{'s' * (count > 1)}: {prefix}{reason}", DOUBTFUL)


def _rate_classes(registry: Registry, run_id: str) -> dict[str, str]:
    query = "SELECT result_id, facts->>'$.rate_class' FROM history WHERE run_id = ?"
    return {
        result_id: rate_class or "fixed" for result_id, rate_class in registry.sql(query, [run_id]).fetchall()
    }


def show_tables(
    screen: Screen, plan: Plan, rows: Sequence[dict[str, Any]], rate_classes: dict[str, str]
) -> None:
    """What came out, for the cells that ended well."""
    cells = {planned.cell.cell_id: planned.cell for planned in plan.cells}
    found = [
        Measured(cells[row["cell_id"]], row["metrics"], rate_classes[row["result_id"]])
        for row in rows
        if row["status"] == "ok" and row["cell_id"] in cells
    ]
    order = {cell_id: number for number, cell_id in enumerate(cells)}
    found.sort(key=lambda one: order[one.cell.cell_id])
    kinds: tuple[Kind, ...] = ("quantizer", "model", "dataset", "optimizer")
    labels = {
        kind: Labels(plan.catalog, kind, [spec for cell in cells.values() if (spec := getattr(cell, kind))])
        for kind in kinds
    }

    def label(kind: Kind, spec: Spec) -> str:
        return labels[kind](spec)

    summary.show(screen, found, label, _place(plan))
    verdict = decide_l1(found)
    if verdict.cells >= FEWEST_CELLS:
        screen.say()
        screen.say(verdict.text)


def show_unwritten(screen: Screen, plan: Plan, results: Sequence[Result]) -> None:
    """What was measured and is in no registry: the tables of what ended well, and what failed."""
    rows = [
        {
            "result_id": one.result_id,
            "cell_id": one.cell_id,
            "status": str(one.status),
            "metrics": {name: vars(measured) for name, measured in one.measurements.items()},
        }
        for one in results
    ]
    screen.heading("not written", f"{len(results):,} of the finished results are not in the registry")
    show_tables(screen, plan, rows, {one.result_id: _rate_class(one) for one in results})
    for one in results:
        if one.status is not Status.OK:
            screen.bullet(f"{one.status}: {one.cell}: {first_line(one.error)}", BAD)
    screen.say()


def _rate_class(result: Result) -> str:
    return str(result.facts.get("rate_class", "fixed"))


def show_outcome(screen: Screen, plan: Plan, done: Summary, rows: Sequence[dict[str, Any]]) -> None:
    """Counts by status, failures, what is missing, and where to go from here."""
    screen.heading("outcome", f"in {duration_text(done.seconds)}")
    counts = [(str(status), count) for status, count in sorted(done.statuses.items())]
    counts += [("reused", done.reused), ("failed before", done.failed_before), ("pending", done.pending)]
    for name, count in counts:
        if count:
            style = {"ok": GOOD, "reused": "", "pending": DOUBTFUL}.get(name, BAD)
            screen.entry(name, f"{count:,}", style)
    show_unavailable(screen, done.unavailable)
    failed = [row for row in rows if row["status"] != "ok"]
    for row in failed[:SHOWN_FAILURES]:
        screen.bullet(f"{row['result_id']} {row['status']}: {_what(row)}: {first_line(row['error'])}", BAD)
    if failed:
        if len(failed) > SHOWN_FAILURES:
            screen.bullet(f"and {len(failed) - SHOWN_FAILURES} more", QUIET)
        screen.verbatim(
            f"see one       {shlex.join(['qbench', 'show', failed[0]['result_id'], *_place(plan)])}"
        )
    screen.entry("registry", str(plan.options.registry))
    for number, step in enumerate(_next(done, plan)):
        screen.verbatim(f"{'' if number else 'next':<12}  {step}")


def _what(row: dict[str, Any]) -> str:
    spec = Spec(name=row["quantizer"], parameters=row["parameters"]) if row["quantizer"] else ""
    return " ".join(str(part) for part in (row["track"], spec, row["model"], row["dataset"]) if part)


def first_line(error: str | None, width: int = 160) -> str:
    """What an error comes to: of a traceback its last line, after what stands before it, else its first."""
    lines = [line for line in (error or "").splitlines() if line.strip()]
    for line in lines:
        before, traceback, _ = line.partition("Traceback (most recent call last)")
        if traceback:
            return cut(before + lines[-1], width)
    return cut(lines[0], width) if lines else ""


def _place(plan: Plan) -> list[str]:
    """The options that name the registry in a command, where it is not the default."""
    registry = plan.options.registry
    return [] if registry == Path("qbench.duckdb") else ["--registry", str(registry)]


def _next(done: Summary, plan: Plan) -> list[str]:
    choosing = [["recipes"]] if recipes.to_choose(planned.cell for planned in plan.cells) else []
    words = (*choosing, ["results"], ["export", "results.parquet"])
    steps = [shlex.join(["qbench", *command, *_place(plan)]) for command in words]
    return ["the same command, for what is pending", *steps] if done.pending else steps
