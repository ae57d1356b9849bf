"""Which quantities of a track stand in the table at the end of a run."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .schema import Cell

TEXT = "bits_per_character"


@dataclass(frozen=True)
class Headline:
    """The quantities of a cell; ``aside`` and ``second`` stand in brackets. ``sign`` is -1 where less is better.

    Attributes:
        reference: the float model's value; ``float_bits`` stands for its bits.
        rates: headers and measurements of the columns of bits; none where nothing is quantized.
        in_row: fields of the budget that a row names, where rows differ in them; other ones part tables.
        always: fields of those that begin every row.
        own_bits: whether the quantizer's own ``bits`` have a meaning.
    """

    metric: str
    aside: str | None
    says: str
    sign: int = 1
    reference: str | None = None
    decimals: int = 2
    aside_decimals: int = 2
    second: str | None = None
    second_decimals: int = 0
    float_bits: str = "32"
    rates: tuple[tuple[str, str], ...] = (("bits/elem", "rate"),)
    in_row: tuple[str, ...] = ()
    always: tuple[str, ...] = ()
    own_bits: bool = True


@dataclass(frozen=True)
class Measured:
    """A cell with its row of the registry: ``metrics`` by name, as ``{value, unit, n}``.

    ``tested`` is the data set tested on, where that is another than the one trained on.
    """

    cell: Cell
    metrics: Mapping[str, Mapping[str, Any]]
    rate_class: str = "fixed"
    tested: str | None = None

    def value(self, name: str | None) -> float | None:
        if name in _DERIVED:
            return _DERIVED[name](self)
        found = self.metrics.get(name or "", {}).get("value")
        return None if found is None else float(found)


def _bits_lost(one: Measured) -> float | None:
    before, after = one.value(f"{_reference_prefix(one)}{TEXT}"), one.value(TEXT)
    return None if before is None or after is None else after - before


def _saved_share(one: Measured) -> float | None:
    few, whole = one.value("saved_bytes"), one.value("float_saved_bytes")
    return 100 * few / whole if few is not None and whole else None


def _validation_bits(one: Measured) -> float | None:
    nats = one.value("validation_loss")
    return None if nats is None else nats / math.log(2)


_DERIVED: dict[str | None, Callable[[Measured], float | None]] = {
    "bits_lost": _bits_lost,
    "saved_share": _saved_share,
    "validation_bits": _validation_bits,
}


def _reference_prefix(one: Measured) -> str:
    return "finetuned_" if "finetuned_accuracy" in one.metrics else "baseline_"


def transferred(one: Measured) -> Measured | None:
    """The same network on the data set that its budget names for transfer, as accuracies; None where it names none."""
    dataset, own = one.cell.budget.get("transfer"), one.value("transfer_accuracy")
    if dataset is None or own is None or TEXT in one.metrics:
        return None
    prefix = _reference_prefix(one)
    before = one.value(f"{prefix}transfer_accuracy")
    found = {"accuracy": own, "rate": one.value("rate"), "weight_rate": one.value("weight_rate")}
    found |= {} if before is None else {f"{prefix}accuracy": before, "accuracy_drop": before - own}
    return replace(
        one, metrics={name: {"value": value} for name, value in found.items()}, tested=str(dataset)
    )


_POINTS = "accuracy in % (points lost)"
_AS_LONG = "accuracy in % (points lost against float trained as long)"
_BOTH = (("W bits", "weight_rate"), ("A bits", "rate"))
_PTQ = Headline("accuracy", "accuracy_drop", _POINTS, reference="baseline_accuracy")
_QAT = Headline("accuracy", "accuracy_drop", _AS_LONG, reference="finetuned_accuracy")
_HEADLINES = {
    ("rate-distortion", "source"): Headline(
        "sqnr_db", "gap_db", "SQNR in dB (dB above the limit of these bits)"
    ),
    ("rate-distortion", "weight"): Headline("sqnr_db", None, "SQNR in dB"),
    ("rate-distortion", "activation"): Headline("sqnr_db", None, "SQNR in dB"),
    ("rate-distortion", "gradient"): Headline(
        "sqnr_db", "cosine", "SQNR in dB (cosine with the gradient)", aside_decimals=3
    ),
    **{
        ("lattice-scaling", target): Headline(
            "sqnr_db", "minima", "SQNR in dB at the best beta (certified minima)", aside_decimals=0
        )
        for target in ("source", "gradient")
    },
    ("ptq", "weight"): _PTQ,
    ("ptq", "activation"): replace(_PTQ, rates=_BOTH, in_row=("weights", "mode", "observer", "percentile")),
    ("qat", "weight"): _QAT,
    ("qat", "activation"): replace(_QAT, rates=_BOTH, in_row=("weights",)),
    ("mixed-precision", "weight"): replace(
        _PTQ,
        says="accuracy in % (points lost, KL divergence in nat)",
        second="kl",
        second_decimals=4,
        in_row=("method", "rate", "choices", "weighting", "calibration"),
        always=("method",),
        own_bits=False,
    ),
    ("saved-activations", "activation"): replace(
        _PTQ,
        says="accuracy in % (points lost, bytes saved for backward in % of float)",
        second="saved_share",
        float_bits="-",
        rates=(("bits/saved", "rate"),),
        in_row=("least", "rectified"),
    ),
    ("gradient-compression", "gradient"): replace(_PTQ, in_row=("error_feedback",)),
    ("gradient-statistics", "gradient"): Headline(
        "middle.shape",
        "middle.gain_last_db",
        "shape, 2 for a Gaussian (dB that the last step predicts), mid-training",
        rates=(),
    ),
    ("float", "weight"): Headline(
        "accuracy", "validation_accuracy", "test accuracy in % (validation accuracy)", rates=()
    ),
}
_KNOWN = (
    _PTQ,
    Headline("sqnr_db", None, "SQNR in dB"),
    Headline("relative_mse", None, "mean squared error / mean square", sign=-1, decimals=5),
    Headline("mse", None, "mean squared error", sign=-1, decimals=5),
)


def headline(track: str, target: str, metrics: Iterable[str]) -> Headline | None:
    """What to show of a track: its own, else the first well-known quantity that was measured; of text its bits."""
    names = set(metrics)
    own = _HEADLINES.get((track, target))
    found = own or next((known for known in _KNOWN if known.metric in names), None)
    return _of_text(found) if found and found.metric == "accuracy" and TEXT in names else found


def _of_text(chosen: Headline) -> Headline:
    """The same in bits per character."""
    says = chosen.says.replace("accuracy in %", "bits per character").replace("points lost", "bits lost")
    return replace(
        chosen,
        metric=TEXT,
        aside="validation_bits" if chosen.aside == "validation_accuracy" else "bits_lost",
        says=says.replace("validation accuracy", "validation"),
        sign=-1,
        reference=chosen.reference and chosen.reference.replace("accuracy", TEXT),
        decimals=3,
        aside_decimals=3,
    )
