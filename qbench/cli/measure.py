"""``qbench measure``: quantize the tensors of a safetensors file, one after another."""

import fnmatch
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.text import Text
from safetensors import SafetensorError, safe_open

from .. import plugins
from ..components import Quantizer
from ..errors import InputError, QBenchError
from ..measuring import Distortion, measure
from ..quantities import size_text
from ..reporting import Progress
from . import rendering
from .options import json_option
from .rendering import BAD, QUIET, Screen

_FLOATS = ("F16", "BF16", "F32", "F64")


@dataclass(frozen=True)
class Row:
    """A tensor under a quantizer. Rates in bits per element; what is measured is None unless status is ok."""

    quantizer: str
    tensor: str | None
    shape: list[int] | None
    dtype: str | None
    elements: int
    status: str
    error: str | None = None
    bytes: int | None = None
    rate: float | None = None
    entropy_rate: float | None = None
    mse: float | None = None
    sqnr_db: float | None = None
    cosine: float | None = None
    distortion: Distortion | None = None

    def flat(self) -> dict[str, Any]:
        """As ``--json`` prints it: infinity (nothing was lost) is null."""
        row = {key: value for key, value in asdict(self).items() if key != "distortion"}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


@click.command("measure")
@click.argument("path", metavar="WEIGHTS", type=click.Path(path_type=Path))
@click.option(
    "--quantizer",
    "quantizers",
    multiple=True,
    required=True,
    metavar="NAME:K=V,...",
    help="Such as uniform:bits=4.",
)
@click.option(
    "--tensor",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="Only tensors of such a name: 'layers.*.weight'.",
)
@click.option(
    "--channel-axis",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Axis of the output channels.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="For encoders that draw random numbers.")
@json_option("a line per tensor and one for the total, per quantizer")
def measure_command(
    path: Path,
    quantizers: Sequence[str],
    patterns: Sequence[str],
    channel_axis: int,
    seed: int,
    json_output: bool,
) -> int:
    """Quantize the tensors of a safetensors file.

    Each tensor is coded with a codebook of its own, which counts; integers, and tensors without the channel
    axis, are skipped. Tensors are read one at a time. Exit code 1 where a tensor could not be quantized.
    """
    built = [plugins.catalog().build("quantizer", text) for text in quantizers]
    with _opened(path) as file:
        names = _names(file, patterns, path)

        def measured(quantizer: Quantizer) -> list[Row]:
            with rendering.progress() as report:
                rows = list(_rows(file, names, quantizer, channel_axis, seed, report))
            return [*rows, _total(rows)]

        screen, failed = Screen(json_output=json_output), False
        for quantizer in built:
            rows = measured(quantizer)
            failed = failed or any(row.status == "error" for row in rows)
            if json_output:
                rendering.json_lines(row.flat() for row in rows)
            else:
                _show(screen, rendering.spec_text(quantizer), rows)
    return 1 if failed else 0


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        if not path.is_file():
            raise InputError(
                f"cannot read {path}: no such file"
                if not path.exists()
                else f"cannot read {path}: not a file"
            )
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise InputError(f"cannot read {path}: not a whole safetensors file ({error})") from None


def _names(file: Any, patterns: Sequence[str], path: Path) -> list[str]:
    names = sorted(file.keys())
    chosen = [name for name in names if not patterns or any(fnmatch.fnmatchcase(name, p) for p in patterns)]
    if not chosen:
        held = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") if names else "nothing"
        raise InputError(
            f"no tensor of {path} is called {' or '.join(patterns) or 'anything'}; it holds {held}"
        )
    return chosen


def _rows(
    file: Any,
    names: Sequence[str],
    quantizer: Quantizer,
    axis: int,
    seed: int,
    report: Callable[[Progress], None],
) -> Iterator[Row]:
    for done, name in enumerate(names):
        report(Progress(done, len(names), f"{quantizer} {name}"))
        yield _row(file, name, quantizer, axis, seed)
    report(Progress(len(names), len(names), str(quantizer)))


def _row(file: Any, name: str, quantizer: Quantizer, axis: int, seed: int) -> Row:
    view = file.get_slice(name)
    shape, dtype = list(view.get_shape()), str(view.get_dtype())
    elements = math.prod(shape)
    reason = _unfit(shape, dtype, axis)
    if reason:
        return Row(str(quantizer), name, shape, dtype, elements, "skipped", reason)
    x = file.get_tensor(name)
    try:
        found = measure(quantizer, x, seed=seed, channel_axis=axis)
    except Exception as error:  # a quantizer of somebody else's: its fault is a row, not the end
        why = str(error) if isinstance(error, QBenchError) else f"{type(error).__name__}: {error}"
        return Row(str(quantizer), name, shape, dtype, elements, "error", why)
    return Row(
        str(quantizer),
        name,
        shape,
        dtype,
        elements,
        "ok",
        bytes=round(found.rate * elements / 8),
        rate=found.rate,
        entropy_rate=found.entropy_rate,
        mse=found.mse,
        sqnr_db=found.sqnr_db,
        cosine=found.cosine,
        distortion=Distortion.between(x, found.reconstruction),
    )


def _unfit(shape: list[int], dtype: str, axis: int) -> str | None:
    if dtype not in _FLOATS:
        return f"{dtype} is not one of {', '.join(_FLOATS)}"
    if not math.prod(shape):
        return "it is empty"
    if axis and axis >= len(shape):
        return f"it has no axis {axis}"
    return None


def _total(rows: Sequence[Row]) -> Row:
    """Over everything that was quantized: bytes and squared errors add up."""
    done = [row for row in rows if row.distortion is not None]
    elements = sum(row.elements for row in done)
    if not done:
        return Row(rows[0].quantizer, None, None, None, 0, "skipped", "no tensor was quantized")
    parts = [row.distortion for row in done if row.distortion is not None]
    whole, size = sum(parts[1:], parts[0]), sum(row.bytes or 0 for row in done)
    return Row(
        rows[0].quantizer,
        None,
        None,
        None,
        elements,
        "ok",
        bytes=size,
        rate=8 * size / elements,
        entropy_rate=math.fsum((row.entropy_rate or 0.0) * row.elements for row in done) / elements,
        mse=whole.mse,
        sqnr_db=whole.sqnr_db,
        cosine=whole.cosine,
    )


_COLUMNS = [
    ("tensor", "left"),
    ("shape", "left"),
    ("bits/elem", "right"),
    ("entropy", "right"),
    ("SQNR dB", "right"),
    ("cosine", "right"),
    ("bytes", "right"),
]


def _show(screen: Screen, title: str, rows: Sequence[Row]) -> None:
    *tensors, total = rows
    screen.heading(title)
    lines = [_cells(row) for row in tensors if row.status == "ok"]
    screen.show(rendering.table(_COLUMNS, [*lines, *_footer(total)]))
    for row in tensors:
        if row.status != "ok":
            style = QUIET if row.status == "skipped" else BAD
            screen.bullet(f"{row.status}: {row.tensor} {_shape(row)}: {row.error}", style)


def _cells(row: Row) -> list[str]:
    return [
        row.tensor or "",
        _shape(row),
        rendering.number(row.rate, 3),
        rendering.number(row.entropy_rate, 3),
        rendering.number(row.sqnr_db),
        rendering.number(row.cosine, 5),
        f"{row.bytes:,}",
    ]


def _footer(total: Row) -> list[list[Text]]:
    if total.status != "ok":
        return []
    cells = _cells(total)
    stored = f"{total.elements:,} elements, {size_text(total.bytes or 0)}"
    return [[rendering.text(cell, "bold") for cell in ["total", stored, *cells[2:]]]]


def _shape(row: Row) -> str:
    return " x ".join(map(str, row.shape)) if row.shape else "scalar"
