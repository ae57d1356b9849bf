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
from .components import ImageData, Images, Kind, Quantizer
from .errors import DataError
from .plugins import Catalog
from .schema import Recipe, Spec


@dataclass
class Workbench:
    """Kept warm between cells: the last data set and the last baseline stay loaded.

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
    _images: dict[str, ImageData] = field(default_factory=dict)
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

    def images(self, spec: Spec) -> ImageData:
        """Pictures on the device.

        Raises:
            DataError: they are not there, or damaged.
        """
        key = str(spec)
        if key not in self._images:
            dataset = self.catalog.build("dataset", spec)
            if not isinstance(dataset, Images):
                raise DataError(f"data set {spec} has no pictures; choose one that has, such as digits")
            with _same_random_state():
                self._images = {key: _on(self.device, dataset.load(self.data_root))}
        return self._images[key]

    def baseline(self, recipe: Recipe) -> Baseline:
        """The trained float model of a recipe, from the cache or trained now."""
        key = recipe.baseline_id
        if key not in self._baselines:
            root = self.cache_root / "baselines"
            self._baselines = {
                key: make_baseline(recipe, self, root, lambda *at: self._train_note(recipe, *at))
            }
        return self._baselines[key]

    def _train_note(self, recipe: Recipe, epoch: int, epochs: int, accuracy: float | None) -> None:
        self.note(f"training {recipe}: epoch {epoch} of {epochs}")

    def baselines(self) -> list[Baseline]:
        """Those that are loaded."""
        return list(self._baselines.values())


@contextmanager
def _same_random_state() -> Iterator[None]:
    """Loading leaves the global random states alone; importing a reader (scikit-learn) moves them."""
    python, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([]):
        yield
    random.setstate(python)
    np.random.set_state(numpy_state)


def _on(device: torch.device, data: ImageData) -> ImageData:
    return ImageData(
        data.train_images.to(device),
        data.train_labels.to(device),
        data.test_images.to(device),
        data.test_labels.to(device),
        data.classes,
    )
