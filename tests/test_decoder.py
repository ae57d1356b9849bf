"""The decoder is another process that forgets."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from qbench import measure, plugins
from qbench.decoder import Decoder, DecoderGoneError, DecodingError
from qbench.errors import InvalidReconstructionError
from qbench.quantizers.uniform import Uniform

STRANGERS = '''
import os
import torch
import qbench

class Base(qbench.Quantizer):
    def fit(self, x, *, context): return {}
    def encode(self, x, codebook, *, context): return {"x": x}
    def decode(self, codes, codebook, shape): return codes["x"]

class Counts(Base):
    """Decodes to how often this process has decoded before."""
    name = "counts"
    calls = 0
    def decode(self, codes, codebook, shape):
        Counts.calls += 1
        return torch.full(shape, float(Counts.calls))

class Raises(Base):
    name = "raises"
    def decode(self, codes, codebook, shape): raise OSError("no such luck")

class Exits(Base):
    name = "exits"
    def decode(self, codes, codebook, shape): os._exit(0)

class Nan(Base):
    name = "nan"
    def decode(self, codes, codebook, shape): return torch.full(shape, float("nan"))

class Pid(Base):
    name = "pid"
    def decode(self, codes, codebook, shape): return torch.full(shape, float(os.getpid()), dtype=torch.float32)

@qbench.hookimpl
def qbench_quantizers():
    return [Counts, Raises, Exits, Nan, Pid]
'''


@pytest.fixture
def decoder(distribution: Callable[..., Path]):
    distribution(STRANGERS)
    plugins.catalog.cache_clear()
    plugins.catalog()
    made = Decoder()
    yield made
    made.close()
    plugins.catalog.cache_clear()


def payload(name: str) -> bytes:
    from qbench.measuring import code

    quantizer = plugins.catalog().quantizer(name)
    return code(quantizer, torch.full((4,), 0.5), generator=torch.Generator()).payload


def test_it_gives_what_decoding_here_gives(decoder: Decoder) -> None:
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).to(torch.float16)
    r = measure(Uniform(bits=4), x)
    (y,) = decoder([r.payload])
    assert y.dtype == torch.float16
    assert torch.equal(y, r.reconstruction)


def test_it_forgets_between_questions(decoder: Decoder) -> None:
    assert [float(decoder([payload("counts")])[0][0]) for _ in range(3)] == [1.0, 1.0, 1.0]


def test_it_is_another_process(decoder: Decoder) -> None:
    assert float(decoder([payload("pid")])[0][0]) not in (os.getpid(), decoder.pid)


def test_errors_come_back_and_it_goes_on(decoder: Decoder) -> None:
    with pytest.raises(DecodingError, match="no such luck"):
        decoder([payload("raises"), payload("counts")])
    with pytest.raises(InvalidReconstructionError, match="NaN"):
        decoder([payload("counts"), payload("nan")])
    assert len(decoder([payload("counts")] * 3)) == 3


def test_its_end_is_noticed(decoder: Decoder) -> None:
    with pytest.raises(DecoderGoneError):
        decoder([payload("exits")])
