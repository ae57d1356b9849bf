"""Results for tables, and tables of Markdown read back."""

import itertools
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from markdown_it import MarkdownIt
from sample_results import STARTED, result_of, write_run

from qbench.headlines import Headline
from qbench.registry import Registry
from qbench.schema import Cell, Measurement, Spec

SHOWN = {"strong_open": "**", "strong_close": "**", "em_open": "", "em_close": ""}
KNOWN = {"text", "text_special", *SHOWN}
HEADLINE = Headline("accuracy", None, "accuracy in %")


def cell(quantizer: str, model: str = "mlp", dataset: str = "digits", seed: int = 0, **budget: Any) -> Cell:
    return Cell(
        track="ptq",
        track_version=1,
        target="weight",
        quantizer=Spec.parse(quantizer),
        model=Spec.parse(model),
        dataset=Spec.parse(dataset),
        optimizer=Spec.parse("adam"),
        seed=seed,
        budget=budget,
    )


def add(
    held: Registry,
    found: Sequence[tuple[Cell, dict[str, float]]],
    digest: str = "d" * 64,
    status: str = "ok",
    attempt: int = 1,
    device: str = "cpu",
    rate_class: str = "fixed",
) -> None:
    results = [
        result_of(
            one,
            attempt=attempt,
            device_kind="cuda" if "GPU" in device else "cpu",
            device=device,
            status=status,
            measurements={name: Measurement(value=value, unit="%") for name, value in values.items()},
            facts={"rate_class": rate_class},
            started=STARTED + timedelta(hours=attempt),
        )
        for one, values in found
    ]
    write_run(held, results, itertools.repeat(digest), "standard")


def accuracy(value: float, rate: float = 4.0, kl: float = 0.5) -> dict[str, float]:
    return {"accuracy": value, "baseline_accuracy": 99.0, "accuracy_drop": 99 - value, "rate": rate, "kl": kl}


def tables(text: str) -> list[list[list[str]]]:
    """Of every table of Markdown the rows, as a library reads them: what is shown, bold in asterisks."""
    found: list[list[list[str]]] = []
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and token.level >= 3:
            assert {child.type for child in token.children} <= KNOWN
            found[-1][-1].append("".join(SHOWN.get(c.type, c.content) for c in token.children))
    return found
