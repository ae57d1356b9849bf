import math
import sys
from pathlib import Path
from types import ModuleType

import pytest

from qbench.components import Stored, Text, UserData
from qbench.datasets.characters import content_of
from qbench.datasets.english import English
from qbench.errors import DataError

NOWHERE = Path("/nowhere")


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Topics in the place of Python's."""
    module, found = ModuleType("pydoc_data.topics"), {"b": "later", "a": "first"}
    module.topics = found
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", module)
    return found


def test_it_is_there_and_is_english() -> None:
    """Shannon's 26 letters and a space in English have 4.03 bits; with marks, capitals and figures it is more."""
    dataset = English()
    assert isinstance(dataset, Text)
    assert isinstance(dataset, UserData)
    assert isinstance(dataset, Stored)
    assert dataset.download_bytes == 0
    assert dataset.missing(NOWHERE) is None
    dataset.fetch(NOWHERE)
    text = dataset.text(NOWHERE)
    assert 300_000 < len(text) < 2_000_000
    data = dataset.load(NOWHERE)
    assert data.shape == (64,)
    assert len(data.train_inputs) == (len(text) * 9 // 10 - 1) // 64
    share = data.train_labels.flatten().bincount() / data.train_labels.numel()
    entropy = -sum(float(p) * math.log2(p) for p in share if p)
    assert 4.0 < entropy < 5.2


def test_topics_stand_in_the_order_of_their_names(topics: dict[str, str]) -> None:
    assert English().text(NOWHERE) == "first\nlater"
    assert English().content(NOWHERE) == content_of("first\nlater")
    topics["b"] = "another version of Python"
    assert English().content(NOWHERE) == content_of("first\nanother version of Python")


def test_a_python_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    dataset = English()
    reason = dataset.missing(NOWHERE)
    assert reason is not None
    assert "this Python has no pydoc_data.topics" in reason
    assert "textfile(path=...)" in reason
    for use in (dataset.fetch, dataset.content, dataset.load):
        with pytest.raises(DataError, match="no pydoc_data.topics"):
            use(NOWHERE)


def test_a_version_whose_topics_are_too_few(topics: dict[str, str]) -> None:
    reason = English().missing(NOWHERE)
    assert reason is not None
    assert reason.startswith("english: the text has 11 characters")
