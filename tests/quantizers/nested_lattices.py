"""What tests of nested lattice codes share: data, what comes back of it, and all codewords."""

import itertools
import struct
from typing import Any

import torch
from torch import Tensor

from qbench.components import Context
from qbench.message import Message, Stream, pack, unpack
from qbench.quantizers.lattices import lattice
from qbench.quantizers.nested_lattice import GENERIC_OFFSET, NestedLattice

POLICIES = ("nearest", "wrap", "shrink", "expand")
GENERIC = struct.unpack("8b", GENERIC_OFFSET[:8])
UNIT_SCALE: Message = {"scale": torch.tensor(1.0)}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def context() -> Context:
    return Context(generator())


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=generator(seed))


def reconstruct(quantizer: NestedLattice, x: Tensor, codebook: Message | None = None) -> Tensor:
    """What a decoder makes of the bytes, with a codebook given or fitted on x."""
    book = quantizer.fit(x, context=context()) if codebook is None else codebook
    codes, _ = unpack(pack(quantizer.encode(x, book, context=context())))
    kept, _ = unpack(pack(book))
    return quantizer.decode(codes, kept, x.shape)


def mse_with_error(quantizer: NestedLattice, x: Tensor, codebook: Message) -> tuple[float, float]:
    """The mean squared error per element over vectors of 8, and its standard error."""
    per_vector = (x - reconstruct(quantizer, x, codebook)).double().square().reshape(-1, 8).mean(1)
    return float(per_vector.mean()), standard_error(per_vector)


def standard_error(samples: Tensor) -> float:
    return float(samples.std()) / len(samples) ** 0.5


def all_codewords(name: str, m: int, offset: Any) -> Tensor:
    """Every codeword in units of the fine lattice: beta = m and scale 1 make the step 1."""
    n = lattice(name).dimension
    index = torch.tensor(list(itertools.product(range(m), repeat=n)))
    quantizer = NestedLattice(lattice=name, m=m, beta=float(m), offset=offset)
    return quantizer.decode({"index": Stream(index, m)}, UNIT_SCALE, index.shape)
