"""Samples coded one by one or a whole batch at once, their bytes counted by hand."""

import pytest
import torch
from torch import Tensor

from qbench.components import Context, Quantizer
from qbench.errors import InvalidReconstructionError
from qbench.measuring import fit
from qbench.message import Message, Stream
from qbench.quantizers.entropy_coded import EntropyCoded
from qbench.quantizers.mxfp8 import MxFp8
from qbench.quantizers.product_vq import ProductVQ
from qbench.quantizers.uniform import Uniform
from qbench.sample_codes import ActivationCode, alone, code_bits, together

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 100, channels: int = 3, size: int = 4) -> Tensor:
    return torch.randn(n, channels, size, size, generator=generator(1))


class AboveMean(Quantizer):
    """A code for each element that depends on the whole tensor."""

    name = "above-mean"
    targets = ("activation",)

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        return {"codes": Stream((x > x.mean()).long(), 2)}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        stream = codes["codes"]
        assert isinstance(stream, Stream)
        return stream.values.float().reshape(shape) - 0.5


class WithMean(AboveMean):
    """Sends a mean beside the codes."""

    name = "with-mean"

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        return {"codes": Stream((x > 0).long(), 2), "mean": x.mean()[None]}


def static(quantizer: Quantizer, x: Tensor) -> ActivationCode:
    return ActivationCode("layer", quantizer, fit(quantizer, together(x), generator=generator()), 0, CPU)


def dynamic(quantizer: Quantizer) -> ActivationCode:
    return ActivationCode("layer", quantizer, None, 0, CPU)


def test_values_that_are_sent_come_back(kept: type[Quantizer]) -> None:
    x = images()
    code = static(kept(), x)
    assert torch.equal(code.decoded(x), x)
    assert code.batched
    assert code.distortion.error == 0


def test_bytes_of_a_static_code_by_hand(rounding: type[Quantizer]) -> None:
    """A message: a byte of count and 32 of codes. Once the schema: parts, "codes", kind, levels: 1 + 6 + 1 + 2 bytes.

    The codebook: exponent and scale, 3 + 5 bytes, in a schema of "e", "c" and, in that, "scale": 1 + 3 + 3 + 1 + 7.
    """
    x = torch.randn(100, 32, generator=generator(1))
    code = static(rounding(), x)
    code.decoded(x)
    assert code.batched
    assert code.elements == 3200
    assert code.nbytes == 100 * 33 + 10
    assert code.codebook_nbytes == 8 + 15
    assert code.rate == 8 * 3310 / 3200


def test_bytes_of_a_dynamic_code_by_hand(rounding: type[Quantizer]) -> None:
    """Each sample brings its codebook, 8 bytes; the schema of both, named and nested, comes once: 43 bytes."""
    x = torch.randn(100, 32, generator=generator(1))
    code = dynamic(rounding())
    code.decoded(x)
    assert not code.batched
    assert code.nbytes == 100 * (33 + 8) + 43
    assert code.codebook_nbytes == 0


def test_a_dynamic_scale_is_the_samples_own(rounding: type[Quantizer]) -> None:
    """Samples of very different size have the same relative error, half a step of their own range at most."""
    x = torch.randn(80, 50, generator=generator(2)) * torch.logspace(-6, 6, 80)[:, None]
    error = (dynamic(rounding()).decoded(x) - x).abs().amax(1)
    assert bool((error <= x.abs().amax(1) / 254 * 1.00001).all())


def test_batches_are_coded_as_their_samples_are() -> None:
    """100 pictures at once or one after the other, in one batch or several: the same values and bytes."""
    x = images()
    for quantizer in (
        Uniform(bits=4, granularity="channel", scheme="asymmetric"),
        Uniform(bits=3, granularity="tensor", scheme="midrise"),
        Uniform(bits=4, granularity="group", group_size=16),
        MxFp8(),
        ProductVQ(dimension=2),
    ):
        codebook = fit(quantizer, together(x), generator=generator())
        whole, single, parts = (ActivationCode("layer", quantizer, codebook, 0, CPU) for _ in range(3))
        expected = torch.cat([single.decoded(one[None]) for one in x[:64]])
        found = whole.decoded(x)
        assert torch.equal(found[:64], expected), quantizer
        assert torch.equal(found, torch.cat([parts.decoded(part) for part in x.split(30)])), quantizer
        assert whole.nbytes == parts.nbytes
    assert whole.batched


@pytest.mark.parametrize("quantizer", [AboveMean(), WithMean()], ids=lambda q: q.name)
def test_what_depends_on_other_samples_is_coded_sample_by_sample(quantizer: Quantizer) -> None:
    x = images()
    code = static(quantizer, x)
    code.decoded(x)
    assert not code.batched


def test_noise_of_a_samples_own_is_drawn_sample_by_sample(kept: type[Quantizer]) -> None:
    x = images()
    code = static(kept(noise=1.0), x)
    code.decoded(x)
    assert not code.batched


def test_one_code_for_each_element_is_not_enough_to_go_in_batches() -> None:
    """Codes say what lies above the sample's mean, not the batch's; 48 of them take 6 bytes, their count one."""
    x = images() + torch.linspace(-1, 1, 100)[:, None, None, None]
    code = static(AboveMean(), x)
    assert torch.equal(code.decoded(x) > 0, x > x.mean((1, 2, 3), keepdim=True))
    assert code.nbytes == 100 * (1 + 6) + (1 + 6 + 2)


def test_the_last_of_the_first_samples_does_not_decide_alone() -> None:
    """63 samples, then one by itself, for which a batch is no test: the 64 together show what they share."""
    x = images() + torch.linspace(-1, 1, 100)[:, None, None, None]
    code = static(AboveMean(), x)
    found = torch.cat([code.decoded(part) for part in (x[:63], x[63:64], x[64:])])
    assert not code.batched
    assert torch.equal(found > 0, x > x.mean((1, 2, 3), keepdim=True))


def test_bits_of_codes_are_whole_and_before_entropy_coding() -> None:
    """A code of 3 levels takes 2 bits and one of 256 takes 8; a float has its 16, one level has none."""
    codes = torch.zeros(10)
    message: Message = {
        "codes": Stream(codes, 3, "rans"),
        "more": {"index": Stream(codes[:2], 256), "none": Stream(codes, 1)},
        "scale": torch.zeros(3, dtype=torch.float16),
    }
    assert code_bits(message) == 10 * 2 + 2 * 8 + 3 * 16


def test_where_scales_are() -> None:
    x = images(size=4)
    stored, own = (static(Uniform(bits=4, granularity=g, group_size=16), x) for g in ("tensor", "group"))
    for code in (stored, own):
        code.decoded(x)
    assert (stored.scaled, own.scaled) == (False, True)
    assert (stored.code_bits, own.code_bits) == (4, 4 + 16 / 16)


def test_groups_that_fit_into_a_sample_go_in_batches_and_others_do_not() -> None:
    """48 elements a sample: three groups of 16; a group of 32 would hold elements of two samples."""
    x = images(size=4)
    fitting, crossing = (
        static(Uniform(bits=4, granularity="group", group_size=size), x) for size in (16, 32)
    )
    fitting.decoded(x)
    crossing.decoded(x)
    assert fitting.batched
    assert not crossing.batched
    assert fitting.nbytes == 100 * (1 + 24 + 2 + 2 * 3) + (1 + 6 + 2 + 6 + 1)


def test_entropy_coded_samples_go_one_by_one() -> None:
    x = images()
    quantizer = EntropyCoded(inner=Uniform(bits=5, granularity="tensor"))
    code = static(quantizer, x)
    code.decoded(x)
    assert code.coded
    assert not code.batched


def test_entropy_of_equal_likely_levels_is_their_bits_and_of_one_value_next_to_nothing() -> None:
    """4096 codes of 2 bits: 2 bits, and a Krichevsky-Trofimov code's 3/2 log2(n) + 2 for what it must learn.

    The count takes two bytes, the choice of a coder one bit.
    """
    quantizer = Uniform(bits=2, scheme="midrise", granularity="tensor")
    x = (torch.arange(4096).float() % 4 - 1.5).repeat(70, 1)
    even, flat = static(quantizer, x), static(quantizer, x)
    even.decoded(x)
    flat.decoded(torch.full_like(x, 1.5))
    schema = 8 * 9 / even.elements
    assert 2 + 17 / 4096 - 1e-9 <= even.entropy_rate - schema <= 2 + (17 + 20) / 4096
    assert 0 < flat.entropy_rate < (17 + 20) / 4096 + schema


def test_an_input_that_overflowed(kept: type[Quantizer]) -> None:
    x = images()
    x[3, 0, 0, 0] = torch.inf
    with pytest.raises(InvalidReconstructionError, match="input of layer became NaN or infinite"):
        static(kept(), images()).decoded(x)


def test_channels_come_first() -> None:
    x = images(5)
    assert torch.equal(together(x)[1, 2], x[2, 1])
    assert alone(x[0]).shape == (3, 4, 4)
    tokens = torch.randn(5, 7, 8)
    assert together(tokens).shape == (1, 5 * 7 * 8)
    assert alone(tokens[0]).shape == (1, 56)
