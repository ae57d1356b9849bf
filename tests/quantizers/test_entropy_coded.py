import pytest
import torch

from qbench.components import Context
from qbench.errors import ParameterError
from qbench.message import entropy_bits, is_coded
from qbench.quantizers.binary import Binary
from qbench.quantizers.entropy_coded import EntropyCoded
from qbench.quantizers.kmeans import KMeans
from qbench.quantizers.topk import TopK
from qbench.quantizers.uniform import Uniform
from qbench.schema import Spec


@pytest.mark.parametrize(
    "inner",
    [Uniform(bits=4), Uniform(bits=3, scheme="asymmetric"), KMeans(levels=5), Binary(), TopK(fraction=0.1)],
)
def test_value_for_value_what_the_inner_one_gives(code, gaussian, inner):
    x = gaussian(40, 100)
    assert torch.equal(code(EntropyCoded(inner=inner), x).reconstruction, code(inner, x).reconstruction)


def test_bytes_come_close_to_the_entropy(code, gaussian):
    """4-bit codes over the whole range of a Gaussian carry 2.7 bits; within 1 % of an adaptive coder."""
    x, inner = gaussian(1 << 17), Uniform(bits=4, granularity="tensor")
    fixed, coded = code(inner, x), code(EntropyCoded(inner=inner), x)
    assert 8 * fixed.nbytes > 4 * x.numel()
    assert 8 * coded.nbytes < 3 * x.numel()
    assert 8 * coded.nbytes == pytest.approx(entropy_bits(fixed.codes), rel=0.01)


def test_switches_every_fixed_stream_and_no_other(gaussian):
    context, x = Context(torch.Generator()), gaussian(1000)
    codes = EntropyCoded(inner=Uniform(scheme="asymmetric")).encode(x, {}, context=context)
    assert [codes[name].coder for name in ("codes", "zero_point")] == ["rans", "rans"]
    assert is_coded(codes)
    assert EntropyCoded(inner=TopK(positions="elias")).encode(x, {}, context=context)["gaps"].coder == "elias"


def test_nests_in_the_specification():
    spec = EntropyCoded(inner=KMeans(levels=5)).spec
    assert str(spec) == "entropy-coded(inner=kmeans(bits=4,levels=5))"
    assert Spec.parse(str(spec)) == spec
    assert EntropyCoded().spec.parameters["inner"].name == "uniform"


def test_inner_is_a_quantizer():
    with pytest.raises(ParameterError, match=r"inner='uniform'.*instance of Quantizer"):
        EntropyCoded(inner="uniform")
