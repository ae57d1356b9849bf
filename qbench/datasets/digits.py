"""The handwritten digits that scikit-learn ships: nothing to download."""

from pathlib import Path

import torch

from ..components import Examples, Images

TEST_EVERY = 5


class Digits(Images):
    """1797 pictures of 8x8 pixels in ten classes: 1437 for training, 360 for testing.

    The split is fixed and stratified: of the pictures sorted by label, in the order of the file within a
    label, the first and every fifth after it are for testing. Gray values 0 to 16 become 0 to 240 (times 15).

    Reference: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998.
    """

    name = "digits"
    reference = "Alpaydin & Kaynak 1998, UCI repository"

    def missing(self, root: Path) -> str | None:
        return None

    def fetch(self, root: Path) -> None:
        return None

    def load(self, root: Path) -> Examples:
        from sklearn.datasets import load_digits  # costs a second to import, and only this data set needs it

        digits = load_digits()
        images = torch.from_numpy(digits.images * 15).to(torch.uint8).unsqueeze(1)
        labels = torch.from_numpy(digits.target).long()
        order = labels.argsort(stable=True)
        test = torch.arange(len(order)) % TEST_EVERY == 0
        return Examples(
            images[order[~test]], labels[order[~test]], images[order[test]], labels[order[test]], classes=10
        )
