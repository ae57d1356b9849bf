import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from qbench.augmentation import augmented


def shifted(picture: Tensor, crop: int, down: int, right: int, mirrored: bool) -> Tensor:
    """One of the (2 crop + 1)^2 pieces of a padded picture [channels, height, width], by slices."""
    _, height, width = picture.shape
    padded = functional.pad(picture, [crop] * 4)
    piece = padded[:, down : down + height, right : right + width]
    return piece.flip(2) if mirrored else piece


def all_shifted(picture: Tensor, crop: int, flip: bool) -> list[bytes]:
    places = range(2 * crop + 1)
    sides = (False, True) if flip else (False,)
    return [
        shifted(picture, crop, down, right, mirrored).contiguous().numpy().tobytes()
        for down in places
        for right in places
        for mirrored in sides
    ]


@pytest.mark.parametrize(("crop", "flip"), [(0, True), (1, False), (1, True), (2, True)])
def test_every_piece_is_equally_likely(crop: int, flip: bool) -> None:
    """200 draws for each of k pieces: chi-square of k - 1 degrees within 5 standard deviations, sqrt(2 (k - 1))."""
    picture = torch.arange(1, 41, dtype=torch.uint8).reshape(2, 5, 4)
    possible = all_shifted(picture, crop, flip)
    assert len(set(possible)) == len(possible) == (2 * crop + 1) ** 2 * (2 if flip else 1)
    count = 200 * len(possible)
    generator = torch.Generator().manual_seed(1)
    found = augmented(picture.expand(count, -1, -1, -1), generator, crop=crop, flip=flip)
    counts = dict.fromkeys(possible, 0)
    for piece in found:
        counts[piece.contiguous().numpy().tobytes()] += 1
    chi_square = sum((n - 200) ** 2 / 200 for n in counts.values())
    freedom = len(possible) - 1
    assert abs(chi_square - freedom) < 5 * math.sqrt(2 * freedom)


def test_pictures_of_a_batch_move_independently() -> None:
    """Of 2000 pairs of neighbours 1/18 moves alike, within 5 standard errors."""
    picture = torch.arange(1, 26, dtype=torch.uint8).reshape(1, 5, 5)
    generator = torch.Generator().manual_seed(2)
    found = augmented(picture.expand(4000, -1, -1, -1), generator, crop=1, flip=True)
    alike = (found[::2] == found[1::2]).flatten(1).all(1).double().mean().item()
    assert alike == pytest.approx(1 / 18, abs=5 * math.sqrt(17 / 18**2 / 2000))


def test_a_picture_keeps_its_place_in_the_batch() -> None:
    values = torch.arange(1, 9, dtype=torch.uint8)
    pictures = values.view(-1, 1, 1, 1).expand(-1, 3, 6, 6)
    found = augmented(pictures, torch.Generator().manual_seed(0), crop=2, flip=True)
    assert torch.equal(found.amax((1, 2, 3)), values)


def test_no_padding_and_no_mirror_is_the_picture_itself() -> None:
    pictures = torch.randint(0, 256, (7, 3, 4, 5), dtype=torch.uint8)
    assert torch.equal(augmented(pictures, torch.Generator()), pictures)


def test_type_and_memory() -> None:
    pictures = torch.randint(0, 256, (7, 3, 4, 5), dtype=torch.uint8)
    found = augmented(pictures, torch.Generator(), crop=1, flip=True)
    assert found.dtype == torch.uint8
    assert found.shape == pictures.shape
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_one_seed_draws_the_same() -> None:
    pictures = torch.randint(0, 256, (50, 1, 8, 8), dtype=torch.uint8)
    first, second, other = (
        augmented(pictures, torch.Generator().manual_seed(seed), crop=4, flip=True) for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
