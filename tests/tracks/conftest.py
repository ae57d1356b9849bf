"""Surroundings of a track that is tested without processes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from qbench.baselines import Baseline, make_baseline
from qbench.codec import from_payload
from qbench.components import Component, Examples, Quantizer, Track
from qbench.schema import Cell, Outcome, Recipe, Spec, Target


class Bench:
    """Baselines from a folder; decoding from the payload alone, in this process.

    ``events``: what was asked of it, in order. ``payloads``: what was decoded since the last baseline was there.
    """

    device = torch.device("cpu")
    data_root = Path("nowhere")

    def __init__(
        self, root: Path, components: Iterable[type[Component]], sets: Mapping[str, Examples]
    ) -> None:
        self.cache_root, self.sets = root, sets
        self.components = {component.name: component for component in components}
        self.events: list[str] = []
        self.payloads: list[bytes] = []
        self.cached: dict[str, Baseline] = {}

    def build(self, kind: str, spec: Spec) -> Any:
        if spec.name in self.sets:
            return None
        inner = {
            name: self.quantizer(value) for name, value in spec.parameters.items() if isinstance(value, Spec)
        }
        return self.components[spec.name](**{**spec.parameters, **inner})

    def quantizer(self, spec: Spec) -> Any:
        return self.build("quantizer", spec)

    def data(self, spec: Spec) -> Examples:
        return self.sets[spec.name]

    def baseline(self, recipe: Recipe) -> Baseline:
        self.events.append("baseline")
        if recipe.baseline_id not in self.cached:
            self.cached[recipe.baseline_id] = make_baseline(recipe, self, self.cache_root / "baselines")
        return self.cached[recipe.baseline_id]

    def loaded(self) -> None:
        self.events.append("loaded")
        self.payloads.clear()

    def note(self, text: str) -> None:
        self.events.append(text)

    def decode(self, payloads: Sequence[bytes]) -> list[Tensor]:
        self.events.append("decode")
        self.payloads += payloads
        return [from_payload(payload, self.quantizer) for payload in payloads]

    def run(
        self,
        track: type[Track],
        target: Target,
        quantizer: str | None,
        model: str,
        budget: dict[str, Any],
        dataset: str = "digits",
        optimizer: str = "adam(lr=0.003)",
        seed: int = 0,
    ) -> Outcome:
        """A cell of a track, made of what names say."""
        cell = Cell(
            track=track.name,
            track_version=track.version,
            target=target,
            quantizer=Spec.parse(quantizer) if quantizer else None,
            model=Spec.parse(model),
            dataset=Spec(name=dataset),
            optimizer=Spec.parse(optimizer),
            seed=seed,
            budget=budget,
        )
        return track(**budget).run(cell, self)

    @property
    def stored(self) -> list[Path]:
        """The files of baselines."""
        return sorted(self.cache_root.rglob("*.safetensors"))


@pytest.fixture(scope="session")
def make_bench() -> Callable[..., Bench]:
    """:class:`Bench`: of a folder, components by name, and examples by the name of their data set."""
    return Bench


@pytest.fixture(scope="session")
def digits_bench(kept: type[Quantizer], rounding: type[Quantizer], digits: Examples) -> Callable[..., Bench]:
    """:class:`Bench` of the digits: of a folder and the components that are needed besides kept and rounding."""
    return lambda root, components: Bench(root, [*components, kept, rounding], {"digits": digits})
