"""Text as examples for a network that predicts each character from those before it."""

import hashlib
from abc import abstractmethod
from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ..components import Examples, Parameters, Text
from ..errors import DataError

MOST_KNOWN = 255  # with the one number for all other characters they fit uint8
MOST_CHARACTERS = (
    1 << 22
)  # 256 logits for each of a tenth of them take 0.4 GB, and scoring makes a few copies


class CharactersParameters(Parameters):
    length: int = Field(64, ge=1, le=4096, description="characters of an example")


class Characters(Text):
    """Base of texts. The first 90 % of the characters are for training, the last 10 % for testing.

    An example is ``length`` characters that no other example has as inputs; its labels are the character after each.
    A number is a place among the sorted characters of the training part, at most 255: the most frequent, of equally
    frequent ones those that sort first. Where any others occur, one more number stands for all of them.
    A text has more than 10 ``length`` characters, and at most 2^22: the logits of its test part are held in memory.
    """

    Parameters = CharactersParameters

    @abstractmethod
    def text(self, root: Path) -> str:
        """The whole text.

        Raises:
            DataError: it is not there or damaged; says what is wrong and what to do.
        """

    def missing(self, root: Path) -> str | None:
        try:
            self._fitting(root)
        except DataError as error:
            return str(error)
        return None

    def load(self, root: Path) -> Examples:
        return examples(self._fitting(root), self.parameters.length)

    def _fitting(self, root: Path) -> str:
        text, length = self.text(root), self.parameters.length
        if len(text) <= 10 * length:
            raise DataError(
                f"{self.name}: the text has {len(text)} characters, at least {10 * length + 1} are needed for "
                f"length={length}; take a longer text, or a smaller length"
            )
        if len(text) > MOST_CHARACTERS:
            raise DataError(
                f"{self.name}: the text has {len(text)} characters, at most {MOST_CHARACTERS} are allowed; take a part"
            )
        return text


def content_of(text: str) -> str:
    """sha256 of the text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def examples(text: str, length: int) -> Examples:
    """What :class:`Characters` says, of a text of more than 10 ``length`` characters."""
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    cut = len(points) * 9 // 10
    known = alphabet(points[:cut])
    places = np.searchsorted(known, points).clip(max=len(known) - 1)
    unknown = known[places] != points
    numbers = torch.from_numpy(np.where(unknown, len(known), places))
    train, test = windows(numbers[:cut], length), windows(numbers[cut:], length)
    return Examples(*train, *test, classes=len(known) + int(unknown.any()))


def alphabet(points: np.ndarray) -> np.ndarray:
    """The code points that have numbers of their own, sorted."""
    found, counts = np.unique(points, return_counts=True)
    frequent = np.argsort(-counts, kind="stable")[:MOST_KNOWN]
    return np.sort(found[frequent])


def windows(numbers: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Inputs, uint8, and labels, int64, [n, length] each; what is left over at the end is in none."""
    count = (len(numbers) - 1) // length
    inputs, labels = (numbers[at : at + count * length].view(count, length) for at in (0, 1))
    return inputs.to(torch.uint8), labels.clone()
