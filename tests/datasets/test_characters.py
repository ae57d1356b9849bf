"""Examples of texts whose every number is known."""

import random
from pathlib import Path

import pytest
import torch

from qbench.components import Examples
from qbench.datasets.characters import MOST_CHARACTERS, MOST_KNOWN, Characters, content_of, examples
from qbench.errors import DataError, ParameterError


class Given(Characters):
    name = "given"

    def fetch(self, root: Path) -> None:
        return None

    def text(self, root: Path) -> str:
        return root.read_text()


def decoded(data: Examples, alphabet: str) -> tuple[str, str]:
    """The texts that the windows cover: all inputs, then the last label."""
    parts = (data.train_inputs, data.train_labels), (data.test_inputs, data.test_labels)
    first, second = (
        "".join(alphabet[number] for number in [*inputs.flatten().tolist(), int(labels[-1, -1])])
        for inputs, labels in parts
    )
    return first, second


def test_windows_by_hand() -> None:
    """34 characters: 30 for training, [(30 - 1) / 3] = 9 windows of 3; 4 for testing, one window."""
    data = examples("cab" * 10 + "abca", 3)
    assert data.train_inputs.tolist() == [[2, 0, 1]] * 9
    assert data.train_labels.tolist() == [[0, 1, 2]] * 9
    assert data.test_inputs.tolist() == [[0, 1, 2]]
    assert data.test_labels.tolist() == [[1, 2, 0]]
    assert (data.classes, data.shape, data.inputs) == (3, (3,), "text")
    assert data.train_inputs.dtype == data.test_inputs.dtype == torch.uint8
    assert data.train_labels.dtype == data.test_labels.dtype == torch.int64
    assert all(t.is_contiguous() for t in (data.train_inputs, data.train_labels))


@pytest.mark.parametrize("length", [1, 2, 7, 64])
def test_every_character_comes_back_in_its_place(length: int) -> None:
    text = "".join(random.Random(length).choices("aé\n 漢😀", k=1003))
    data = examples(text, length)
    train, test = decoded(data, "".join(sorted("aé\n 漢😀")))
    assert text[:902].startswith(train)
    assert text[902:].startswith(test)
    assert len(train) == 901 // length * length + 1
    assert len(test) == 100 // length * length + 1
    labels = data.train_labels.flatten()
    assert torch.equal(labels[:-1], data.train_inputs.flatten()[1:].long())


def test_what_training_never_showed_is_one_unknown_character() -> None:
    data = examples("ab" * 45 + "aXbYaXbYab", 3)
    assert data.classes == 3
    assert data.test_inputs.flatten().tolist() == [0, 2, 1, 2, 0, 2, 1, 2, 0]
    assert data.test_labels[-1, -1] == 1
    assert data.train_inputs.max() == 1


def test_the_rarest_beyond_255_are_unknown() -> None:
    """256 characters in order, all but the first and the last twice: of those two the one that sorts later goes."""
    kinds = [chr(0x4E00 + at) for at in range(256)]
    train = "".join(kinds + kinds[1:-1])
    data = examples(train + kinds[5] * (len(train) // 9 + 1), 1)
    assert data.classes == MOST_KNOWN + 1 == 256
    assert data.train_inputs.flatten()[:256].tolist() == list(range(256))
    assert (data.train_inputs == 255).sum() == 1
    twice = train + kinds[-1]  # now the first is the rarest
    data = examples(twice + kinds[5] * (len(twice) // 9 + 1), 1)
    assert data.train_inputs.flatten()[:4].tolist() == [255, 0, 1, 2]


def test_255_kinds_need_no_unknown() -> None:
    kinds = "".join(chr(0x4E00 + at) for at in range(MOST_KNOWN))
    data = examples(kinds * 10, 2)
    assert data.classes == MOST_KNOWN
    assert data.train_inputs.max() == MOST_KNOWN - 1


@pytest.mark.parametrize(("count", "enough"), [(80, False), (81, True)])
def test_the_shortest_text(tmp_path: Path, count: int, enough: bool) -> None:
    """81 characters leave 9 for testing: 8 and the one after them."""
    path = tmp_path / "text"
    path.write_text("ab" * (count // 2) + "a" * (count % 2))
    dataset = Given(length=8)
    if enough:
        assert dataset.missing(path) is None
        assert len(dataset.load(path).test_inputs) == 1
    else:
        reason = dataset.missing(path)
        assert reason is not None
        assert "80 characters, at least 81 are needed for length=8" in reason


def test_the_longest_text(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("a" * MOST_CHARACTERS)
    assert Given().missing(path) is None
    path.write_text("a" * (MOST_CHARACTERS + 1))
    reason = Given().missing(path)
    assert reason is not None
    assert f"{MOST_CHARACTERS + 1} characters, at most {MOST_CHARACTERS} are allowed; take a part" in reason
    with pytest.raises(DataError, match="take a part"):
        Given().load(path)


@pytest.mark.parametrize("length", [0, 4097, "all"])
def test_bad_lengths_are_named(length: object) -> None:
    with pytest.raises(ParameterError, match=f"'given': length={length!r}"):
        Given(length=length)


def test_the_hash_of_a_text_is_that_of_its_utf8() -> None:
    """FIPS 180-2, appendix B.1."""
    assert content_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert content_of("é") != content_of("e")
