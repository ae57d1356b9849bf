"""The command line. A command's module is imported when it is invoked, so ``qbench --help`` is instant."""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any, final

import click

from .. import __version__
from ..errors import QBenchError
from ..spelling import near

INTERRUPTED = 130

COMMANDS = {
    "run": ("run", "Run a suite and write its results."),
    "plan": ("run", "Say what a run would do; change nothing."),
    "fetch": ("fetch", "Fetch and verify data sets."),
    "results": ("results", "List the results in a registry."),
    "show": ("show", "Show everything about one result."),
    "verdicts": ("verdicts", "Say which hypotheses of a suite hold, fail or depend."),
    "compare": ("compare", "Hold two sets of results against each other."),
    "reproduce": ("reproduce", "Run a result again and say whether it holds."),
    "recipes": ("recipes", "Choose the learning rate of every optimizer by validation accuracy."),
    "export": ("exchange", "Write a registry's results to a Parquet file."),
    "merge": ("exchange", "Take results over from other files."),
    "table": ("table", "Write a selection as a LaTeX, Markdown or CSV table."),
    "cite": ("cite", "Say how to cite the software and results."),
    "leaderboard": ("leaderboard", "Build, show, publish and fetch the leaderboard."),
    "measure": ("measure", "Quantize the tensors of a safetensors file."),
    "check": ("check", "Check quantizers against the contract."),
    "plugins": ("plugins", "List what is installed and what is broken."),
    "doctor": ("doctor", "Check versions, devices, data and registry."),
}


@final
class CommandLine(click.Group):
    """Commands by name from a table; errors of the input in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f".{COMMANDS[cmd_name][0]}", __name__)
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A name that is none is answered with the one that was perhaps meant."""
        if args[0] not in COMMANDS and not ctx.resilient_parsing:
            ctx.fail(f"No such command {args[0]!r}{near(args[0], COMMANDS) or '.'}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, short_help) for name, (_, short_help) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
            return code
        except BrokenPipeError:
            return _reader_left()

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run and exit: 0 done, 1 a cell failed, 2 bad input, 130 interrupted."""
        extra["standalone_mode"] = False
        try:
            with _one_line_errors():
                code = super().main(*args, **extra)
        except (KeyboardInterrupt, click.Abort):
            complain("interrupted")
            code = INTERRUPTED
        sys.exit(code if isinstance(code, int) else 0)


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except QBenchError as error:
        refuse(str(error))
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "qbench"
        refuse(f"{error.format_message()} See `{where} --help`.")
    except click.ClickException as error:
        refuse(error.format_message())
    except OSError as error:
        refuse(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def refuse(message: str) -> None:
    """End with exit code 2 and one line."""
    complain(message)
    sys.exit(2)


def complain(message: str) -> None:
    """One line on stderr, whatever the message holds."""
    line = " ".join(message.split())
    sys.stderr.write(f"qbench: {printable(line)}\n")


def printable(text: str) -> str:
    """``text`` with what could steer a terminal (escapes, direction marks) spelled out; line ends stay.

    >>> printable("\x1b[31mred")
    '\\\\x1b[31mred'
    """
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def _reader_left() -> int:
    """Nobody reads stdout any more (``| head``): no fault; nothing may be left for Python to flush."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


@click.group(
    cls=CommandLine,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def command_line(ctx: click.Context) -> None:
    """Every way of quantizing a neural network, measured by the same honest rules.

    \b
    qbench run --suite smoke            a first look, in a minute
    qbench run                          the standard suite
    qbench measure model.safetensors --quantizer uniform:bits=4
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    command_line(prog_name="qbench")
