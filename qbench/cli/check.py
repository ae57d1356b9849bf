"""``qbench check``: the contract kit on installed quantizers."""

from collections import Counter
from collections.abc import Iterator, Sequence

import click

from .. import plugins
from ..components import Quantizer
from ..errors import PluginError, UnknownComponentError
from ..schema import Spec
from ..spelling import near
from ..testing import Finding, checks
from . import rendering
from .options import json_option
from .rendering import BAD, GOOD, QUIET, Screen

_STYLES = {"ok": GOOD, "failed": BAD, "skipped": QUIET}


@click.command("check")
@click.argument("names", metavar="NAME[:K=V,...]...", nargs=-1, required=True)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of the data and of stochastic encoders."
)
@json_option("a line per check: quantizer, check, status, detail")
def check_command(names: Sequence[str], seed: int, json_output: bool) -> int:
    """Check quantizers against the contract.

    A name alone is checked at every point of its sweep, a name with parameters at these. Exit code 1 where a check
    fails, 2 where no installed plugin has such a quantizer, else 0.
    """
    screen = Screen(json_output=json_output)
    quantizers = [quantizer for name in names for quantizer in _quantizers(name)]
    counted: Counter[str] = Counter()
    for quantizer in quantizers:
        if not json_output:
            screen.heading(rendering.spec_text(quantizer))
        for finding in (check.finding(quantizer, seed=seed) for check in checks()):
            counted[finding.status] += 1
            _show(screen, quantizer, finding, json_output)
    if not json_output:
        screen.say()
        line = ", ".join(f"{counted[status]} {status}" for status in _STYLES)
        screen.say(line, BAD if counted["failed"] else GOOD)
    return int(counted["failed"] > 0)


def _quantizers(name: str) -> Iterator[Quantizer]:
    catalog, spec = plugins.catalog(), Spec.parse(name)
    try:
        kind = catalog.entry("quantizer", spec.name).component
    except UnknownComponentError as error:
        for broken in catalog.broken:
            if broken.name == spec.name:
                where = f"{broken.origin.distribution} {broken.origin.version}"
                raise PluginError(f"quantizer {spec.name!r} of {where} is broken: {broken.error}") from None
        hint = near(spec.name, catalog.names("quantizer"))
        raise UnknownComponentError(f"{error}{hint}") from None
    points = [spec] if spec.parameters else [kind(**point).spec for point in kind.sweep]
    return (catalog.build("quantizer", point) for point in points)


def _show(screen: Screen, quantizer: Quantizer, finding: Finding, json_output: bool) -> None:
    if json_output:
        line = {"quantizer": str(quantizer), "check": finding.check}
        rendering.json_lines([{**line, "status": finding.status, "detail": finding.detail}])
        return
    detail = finding.detail.removeprefix(f"{quantizer}: ")
    cells = (rendering.text(finding.check), rendering.text(finding.status, _STYLES[finding.status]))
    screen.show(rendering.grid((20, 8), (*cells, rendering.text(detail))))
