"""Training examples on the device: those held back for validation, and batches of the others."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from .augmentation import augmented
from .components import Examples
from .schema import derived_seed


@final
@dataclass(frozen=True)
class Split:
    """Training examples in a random order, and those held back for validation."""

    inputs: Tensor
    labels: Tensor
    validation_inputs: Tensor
    validation_labels: Tensor

    @classmethod
    def of(cls, data: Examples, share: float, seed: int, device: torch.device) -> "Split":
        """A random share of the training examples held back; the same ones on every device.

        Raises:
            ValueError: none would be held back, or all.
        """
        count = len(data.train_labels)
        held = round(share * count)
        if held >= count or (share and not held):
            raise ValueError(f"validation={share} of {count} training examples holds {held} back; change it")
        generator = torch.Generator().manual_seed(derived_seed(seed, "split"))
        order = torch.randperm(count, generator=generator).to(data.train_labels.device)
        inputs, labels = data.train_inputs[order].to(device), data.train_labels[order].to(device)
        return cls(inputs[held:], labels[held:], inputs[:held], labels[:held])


@final
class Batches:
    """Epochs of full batches: each iteration is a pass in a new order, with pictures cropped and flipped anew.

    Args:
        size: of a batch; where there are fewer examples, all of them.
        crop: as :func:`qbench.augmentation.augmented` has it; flip: likewise.
    """

    def __init__(self, split: Split, size: int, seed: int, *, crop: int = 0, flip: bool = False) -> None:
        device = split.inputs.device
        self.split, self.size, self.crop, self.flip = split, min(size, len(split.labels)), crop, flip
        self._order = torch.Generator(device).manual_seed(derived_seed(seed, "order"))
        self._augmentation = torch.Generator(device).manual_seed(derived_seed(seed, "augmentation"))

    def __len__(self) -> int:
        """Batches of an epoch; what is left over is shown in another one."""
        return len(self.split.labels) // self.size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and labels."""
        labels = self.split.labels
        order = torch.randperm(len(labels), generator=self._order, device=labels.device)
        for rows in order[: len(self) * self.size].view(-1, self.size):
            yield self._inputs(rows), labels[rows]

    def _inputs(self, rows: Tensor) -> Tensor:
        inputs = self.split.inputs[rows]
        if not (self.crop or self.flip):
            return inputs
        return augmented(inputs, self._augmentation, crop=self.crop, flip=self.flip)
