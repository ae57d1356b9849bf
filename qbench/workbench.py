"""What a track works with: a device, data, baselines, and a decoder that never saw the tensor."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .baselines import Baseline, make_baseline
from .components import Examples, Kind, Quantizer, Stored, UserData
from .errors import DataError
from .plugins import Catalog
from .schema import Recipe, Spec


@dataclass
class Workbench:
    """Kept warm between cells: the last two data sets and baselines stay loaded.

    Attributes:
        decoder: from payloads to their reconstructions, in another process.
        loaded: to be called once data and baseline are there: the cell's clock starts.
        note: says how far a long task is.
    """

    catalog: Catalog
    device: torch.device
    data_root: Path
    cache_root: Path
    decoder: Callable[[Sequence[bytes]], list[Tensor]]
    loaded: Callable[[], None]
    note: Callable[[str], None] = lambda text: None
    _data: dict[str, Examples] = field(default_factory=dict)
    _baselines: dict[str, Baseline] = field(default_factory=dict)

    def build(self, kind: Kind, spec: Spec) -> Any:
        """A component by kind and specification."""
        return self.catalog.build(kind, spec)

    def quantizer(self, spec: Spec) -> Quantizer:
        quantizer: Quantizer = self.catalog.build("quantizer", spec)
        return quantizer

    def decode(self, payloads: Sequence[bytes]) -> list[Tensor]:
        """The reconstructions, made elsewhere from the bytes alone, on this device.

        Hand over together only what one score counts together: they are decoded by one process.
        """
        return [x.to(self.device) for x in self.decoder(payloads)]

    def data(self, spec: Spec) -> Examples:
        """Examples on the device.

        Raises:
            DataError: they are not there, or damaged.
        """
        dataset = self.catalog.build("dataset", spec)
        if not isinstance(dataset, Stored):
            raise DataError(
                f"data set {spec} has no examples to learn from; choose one that has, such as digits"
            )
        key = self._content(spec)
        if key not in self._data:
            with _same_random_state():
                self._data = {**_last(self._data), key: _on(self.device, dataset.load(self.data_root))}
        return self._data[key]

    def baseline(self, recipe: Recipe) -> Baseline:
        """The trained float model of a recipe, from the cache or trained now."""
        key = f"{recipe.baseline_id} {self._content(recipe.dataset)}"
        if key not in self._baselines:
            root = self.cache_root / "baselines"
            made = make_baseline(recipe, self, root, lambda *at: self._train_note(recipe, *at))
            self._baselines = {**_last(self._baselines), key: made}
        return self._baselines[key]

    def _content(self, spec: Spec) -> str:
        """A data set by name, a user's by what its files hold now."""
        dataset = self.catalog.build("dataset", spec)
        return f"{spec} {dataset.content(self.data_root) if isinstance(dataset, UserData) else ''}"

    def _train_note(self, recipe: Recipe, epoch: int, epochs: int, accuracy: float | None) -> None:
        self.note(f"training {recipe}: epoch {epoch} of {epochs}")

    def baselines(self) -> list[Baseline]:
        """Those that are loaded."""
        return list(self._baselines.values())


def _last(kept: dict[str, Any]) -> dict[str, Any]:
    return dict(list(kept.items())[-1:])


@contextmanager
def _same_random_state() -> Iterator[None]:
    """Loading leaves the global random states alone; importing a reader (scikit-learn) moves them."""
    python, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([]):
        yield
    random.setstate(python)
    np.random.set_state(numpy_state)


def _on(device: torch.device, data: Examples) -> Examples:
    return Examples(
        data.train_inputs.to(device),
        data.train_labels.to(device),
        data.test_inputs.to(device),
        data.test_labels.to(device),
        data.classes,
    )
