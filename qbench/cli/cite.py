"""``qbench cite``: how to cite the software, results and quantizers. torch is loaded for a quantizer's paper alone."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from .. import api, citation
from . import complain
from .options import registry_option, where_option


@click.command("cite")
@click.option(
    "--format",
    "form",
    type=click.Choice(list(citation.FORMATS)),
    default="bibtex",
    show_default=True,
    help="Of what is written.",
)
@registry_option
@click.option("--suite", help="Only results of runs of this suite.")
@where_option
@click.option("--quantizer", "name", metavar="NAME", help="The paper behind a quantizer too.")
@click.option(
    "--ids", is_flag=True, help="Only the identifiers of the results, of which the sha256 is: `| sha256sum`."
)
def cite_command(
    form: str, registry: Path | None, suite: str | None, where: Sequence[str], name: str | None, ids: bool
) -> None:
    """Say how to cite the software and results.

    The software alone, or with --registry, --suite or --where results besides: those that the leaderboard counts. Per
    cell, digest and kind of device that is the newest attempt, of those measured here if there are any, where it ended
    well. They are named by suite, digests, dates, number, and the sha256 of their identifiers, which is that of what
    --ids prints.
    """
    terms = [*where, *([f"suite={json.dumps(suite)}"] if suite else [])]
    asked = bool(terms or ids or registry is not None)
    found = citation.numbers(api.open_registry(registry), terms) if asked else None
    if ids and found is not None:
        sys.stdout.write("".join(f"{one}\n" for one in found.ids))
        return
    method = _method(name) if name else None
    sys.stdout.write(citation.FORMATS[form](found, method))
    if method is not None and not method.works:
        complain(f"{method.text}; a class names its paper in `reference`")


def _method(name: str) -> citation.Method:
    from .. import plugins

    catalog = plugins.catalog()
    quantizer = catalog.quantizer(name)
    origin = catalog.entry("quantizer", quantizer.name).origin
    return citation.Method(quantizer.name, origin.distribution, origin.version, type(quantizer).reference)
