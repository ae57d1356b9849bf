import pytest
import torch

from qbench.augmentation import augmented
from qbench.batches import Batches, Split
from qbench.components import Examples
from qbench.schema import derived_seed

CPU = torch.device("cpu")


def numbered(count: int) -> Examples:
    """Pictures that hold their own number, which is their label as well."""
    labels = torch.arange(count)
    pictures = labels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    return Examples(pictures, labels, pictures[:0], labels[:0], classes=count)


def split(count: int = 100, share: float = 0.25, seed: int = 0) -> Split:
    return Split.of(numbered(count), share, seed, CPU)


def test_every_example_is_shown_or_held_back() -> None:
    found = split()
    assert len(found.labels) == 75
    assert sorted([*found.labels.tolist(), *found.validation_labels.tolist()]) == list(range(100))
    assert torch.equal(found.inputs[:, 0, 0, 0].long(), found.labels)
    assert torch.equal(found.validation_inputs[:, 0, 0, 0].long(), found.validation_labels)


def test_a_seed_fixes_what_is_held_back() -> None:
    first, again, other = split(seed=1), split(seed=1), split(seed=2)
    assert torch.equal(first.validation_labels, again.validation_labels)
    assert not torch.equal(first.validation_labels, other.validation_labels)
    assert len(split(share=0).validation_labels) == 0


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_a_share_must_leave_examples_on_both_sides(share: float) -> None:
    with pytest.raises(ValueError, match=f"validation={share} of 100 training examples holds"):
        split(share=share)


def test_an_epoch_shows_each_example_at_most_once_in_full_batches() -> None:
    batches = Batches(split(), 20, seed=0)
    epochs = [[labels for _, labels in batches] for _ in range(40)]
    assert len(batches) == 3
    assert all([len(labels) for labels in epoch] == [20, 20, 20] for epoch in epochs)
    shown = [torch.cat(epoch).tolist() for epoch in epochs]
    assert all(len(set(epoch)) == 60 for epoch in shown)
    assert len({tuple(epoch) for epoch in shown}) == 40
    # an example misses 40 epochs with probability 0.2^40
    assert {number for epoch in shown for number in epoch} == set(split().labels.tolist())


def test_inputs_go_with_their_labels() -> None:
    for inputs, labels in Batches(split(), 10, seed=3):
        assert torch.equal(inputs[:, 0, 0, 0].long(), labels)


def test_more_than_there_are_is_all_of_them() -> None:
    batches = Batches(split(), 1000, seed=0)
    assert (len(batches), batches.size) == (1, 75)


def test_cropped_and_flipped_batches_come_in_the_same_order() -> None:
    plain, moved = Batches(split(), 25, seed=5), Batches(split(), 25, seed=5, crop=1, flip=True)
    own = torch.Generator().manual_seed(derived_seed(5, "augmentation"))
    for _ in range(2):
        for (inputs, labels), (changed, same) in zip(plain, moved, strict=True):
            assert torch.equal(labels, same)
            assert torch.equal(changed, augmented(inputs, own, crop=1, flip=True))
