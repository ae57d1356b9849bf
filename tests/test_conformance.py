"""Today's decoder reads yesterday's bytes: payloads that were written once and are kept.

Where a file is missing, or a quantizer's version was raised with the meaning of its bytes,
``python tests/conformance/write.py NAME`` writes it.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from qbench import plugins
from qbench.codec import Header
from qbench.errors import PayloadError
from qbench.measuring import decode

FOLDER = Path(__file__).parent / "conformance"
CATALOG = plugins.load(["all"])
QUANTIZERS = CATALOG.names("quantizer")
TOLERANCE = 1e-6  # what float arithmetic may differ by between machines, relative to the largest value


def stored(name: str) -> list[tuple[bytes, Tensor]]:
    tensors = load_file(FOLDER / f"{name}.safetensors")
    count = len(tensors) // 2
    return [(bytes(tensors[f"payload.{i}"].tolist()), tensors[f"reconstruction.{i}"]) for i in range(count)]


@pytest.mark.parametrize("name", QUANTIZERS)
def test_bytes_of_the_past_decode_to_what_they_did(name: str) -> None:
    assert (FOLDER / f"{name}.safetensors").exists(), f"run python tests/conformance/write.py {name}"
    for payload, expected in stored(name):
        limit = TOLERANCE * float(expected.abs().max())
        torch.testing.assert_close(decode(payload), expected, rtol=TOLERANCE, atol=limit)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_the_ends_of_the_sweep_are_kept(name: str) -> None:
    kind = CATALOG.entry("quantizer", name).component
    headers = [Header.read(payload)[0] for payload, _ in stored(name)]
    ends = dict.fromkeys(kind(**point).spec for point in (kind.sweep[0], kind.sweep[-1]))
    assert [header.quantizer for header in headers] == list(ends)
    assert {header.quantizer_version for header in headers} == {kind.version}


def test_files_without_a_quantizer_are_left_over() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.safetensors")) == QUANTIZERS


def test_bytes_of_another_version_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    payload, _ = stored("uniform")[0]
    monkeypatch.setattr(CATALOG.entry("quantizer", "uniform").component, "version", 2)
    with pytest.raises(PayloadError, match=r"uniform wrote these bytes in version 1; .*version 2"):
        decode(payload)
