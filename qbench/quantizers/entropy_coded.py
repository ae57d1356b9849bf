"""A wrapper that entropy-codes what another quantizer sends."""

from dataclasses import replace
from typing import final

import torch
from pydantic import Field
from torch import Tensor

from ..components import Context, Parameters, Quantizer, Wrapper
from ..message import Message, Stream, map_streams
from .uniform import Uniform


class EntropyCodedParameters(Parameters):
    inner: Quantizer = Field(
        default_factory=lambda: Uniform(bits=4, scheme="midrise", granularity="channel", range="mse"),
        description="whose codes are coded",
    )


@final
class EntropyCoded(Wrapper):
    """The codes of ``inner`` with every fixed-length stream coded by a range asymmetric numeral system.

    The reconstruction is that of ``inner``, value for value; only the bytes change. The codebook stays as is.

    Reference: Duda 2013, "Asymmetric numeral systems", section 4.
    """

    name = "entropy-coded"
    reference = "Duda 2013 (arXiv:1311.2540)"
    targets = ("source", "weight", "activation", "gradient")
    Parameters = EntropyCodedParameters
    sweep = ({}, *({"inner": Uniform(bits=b, granularity="tensor")} for b in (3, 4, 5, 8)))

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return self.inner.fit(x, context=context)

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        return map_streams(self.inner.encode(x, codebook, context=context), _coded)

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        return self.inner.decode(codes, codebook, shape)


def _coded(stream: Stream) -> Stream:
    return replace(stream, coder="rans") if stream.coder == "fixed" else stream
