"""NVFP4: four-bit floats in blocks of 16, an eight-bit float scale each, and one scale per tensor."""

from typing import final

import torch
from torch import Tensor

from ..components import Context, Quantizer
from ..message import Message, Stream
from .float_codes import E2M1, E4M3
from .reading import values
from .scaling import Layout, divide

_BLOCKS = Layout("group", 16)


@final
class NvFp4(Quantizer):
    """``x^ = s S E2M1(x / (s S))``, 4 + 8/16 bits and 32 bits a tensor.

    ``s = max |x| / (448 * 6)``, float32, is fitted. ``S = E4M3(max |x in block| / (6 s))`` is decided for every 16
    consecutive elements of the flattened tensor, at least 2^-9, the smallest magnitude of E4M3, and sent in 8 bits.
    Both roundings are to nearest even and saturate.

    Reference: Alvarez et al. 2025, "Introducing NVFP4 for Efficient and Accurate Low-Precision Inference"
    (NVIDIA); NVIDIA 2025, "Pretraining Large Language Models with NVFP4", appendix B.
    """

    name = "nvfp4"
    family = "float"
    reference = "NVIDIA 2025, Pretraining Large Language Models with NVFP4, appendix B (arXiv:2509.25149)"
    targets = ("source", "weight", "activation", "gradient")

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {"scale": _BLOCKS.split(x).abs().amax() / (E4M3.largest * E2M1.largest)}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        blocks, scale = _BLOCKS.split(x), values(codebook, "scale")
        wanted = divide(blocks.abs().amax(1, keepdim=True), scale[None])[:, 0] / E2M1.largest
        block_scale = E4M3.encode(wanted).clamp(min=1)
        codes = E2M1.encode(divide(blocks, E4M3.decode(block_scale) * scale))
        return {
            "codes": Stream(_BLOCKS.join(codes, x.shape), E2M1.levels),
            "scale": Stream(block_scale, E4M3.levels),
        }

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        scale = E4M3.decode(values(codes, "scale")) * values(codebook, "scale")
        blocks = _BLOCKS.split(E2M1.decode(values(codes, "codes")).reshape(shape))
        return _BLOCKS.join(blocks * scale[:, None], shape)
