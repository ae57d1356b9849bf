"""The quantizers of a cell by what they code: weights, the inputs of layers, or both."""

from typing import Literal

from ..components import Quantizer, Track
from ..errors import SuiteError
from ..schema import Cell, Spec
from ..workbench import Workbench


def cell_quantizers(
    track: Track, cell: Cell, weights: str | None, bench: Workbench
) -> dict[Literal["weight", "activation"], Quantizer]:
    """The cell's own for its target and, where that is activations, the one that the budget's ``weights`` names.

    Raises:
        SuiteError: none is named, or one that does not suit what it is to code.
    """
    if cell.quantizer is None:
        raise SuiteError(f"a cell of track {track.name!r} lacks a quantizer; name one in its grid")
    own = bench.quantizer(cell.quantizer)
    if cell.target == "weight":
        if weights is not None:
            raise SuiteError(
                f"{track.name}: weights={weights!r} beside target 'weight', whose quantizer {own} codes the weights; "
                "leave weights out, or name target 'activation'"
            )
        return {"weight": own}
    if not own.suits("activation", frozenset()):
        raise SuiteError(
            f"{track.name}: {own} is not meant for activations, or needs what they do not come with; name another"
        )
    if weights is None:
        return {"activation": own}
    coder = bench.quantizer(Spec.parse(weights))
    if not coder.suits("weight", track.provides):
        raise SuiteError(
            f"{track.name}: weights={weights!r} is not meant for weights, or needs what this track does not give; name "
            "another"
        )
    return {"activation": own, "weight": coder}
