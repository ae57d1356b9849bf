"""Write the conformance vectors of quantizers that have none: ``python tests/conformance/write.py [NAME ...]``.

A file holds, for the first and the last point of a quantizer's sweep, a payload and what it decoded to when it was
written. A file is replaced only when the quantizer's version has been raised; then the meaning of its bytes changed.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from qbench import plugins
from qbench.codec import Header
from qbench.components import Quantizer
from qbench.measuring import decode
from qbench.testing.subject import Subject

FOLDER = Path(__file__).parent
SHAPE = (6, 29)


def vectors(quantizers: list[Quantizer]) -> dict[str, torch.Tensor]:
    """``payload.i`` (uint8) and ``reconstruction.i`` (float32) of each quantizer for one Gaussian tensor."""
    tensors = {}
    for number, quantizer in enumerate(quantizers):
        subject = Subject(quantizer, 0)
        payload = subject.send(subject.gaussian(*SHAPE)).payload
        tensors[f"payload.{number}"] = torch.frombuffer(bytearray(payload), dtype=torch.uint8)
        tensors[f"reconstruction.{number}"] = decode(payload)
    return tensors


def written_version(path: Path) -> int | None:
    """The version of the quantizer that wrote a file; None where there is none."""
    if not path.exists():
        return None
    header, _ = Header.read(bytes(load_file(path)["payload.0"].tolist()))
    return header.quantizer_version


def main(names: list[str]) -> None:
    catalog = plugins.load(["all"])
    for name in names or catalog.names("quantizer"):
        kind, path = catalog.entry("quantizer", name).component, FOLDER / f"{name}.safetensors"
        if written_version(path) == kind.version:
            print(f"{name}: version {kind.version} is written already and stays")
            continue
        ends = list(dict.fromkeys((0, len(kind.sweep) - 1)))
        save_file(vectors([kind(**kind.sweep[end]) for end in ends]), path)
        print(f"{name}: wrote {path.stat().st_size} bytes for version {kind.version}")


if __name__ == "__main__":
    main(sys.argv[1:])
