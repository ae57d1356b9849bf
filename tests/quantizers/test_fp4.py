import pytest
import torch

from qbench.quantizers.fp4 import Fp4

# By code. bitsandbytes documents its FP4 in units of a twelfth: three bits below the sign.
BNB = [0, 1 / 16, 8, 12, 4, 6, 2, 3]
E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
tables = pytest.mark.parametrize(("table", "magnitudes"), [("bnb", BNB), ("e2m1", E2M1)])


@tables
def test_the_sixteen_codes(code, table, magnitudes):
    """0.75 is the largest magnitude; a negative zero has its own code."""
    x = torch.tensor(magnitudes) * (0.75 / max(magnitudes))
    x = torch.cat([x, -x])
    coded = code(Fp4(table=table), x)
    assert coded.codes["codes"].values.tolist() == list(range(16))
    assert torch.allclose(coded.reconstruction, x, rtol=1e-6, atol=0)


@tables
@pytest.mark.parametrize("scale_dtype", ["float16", "float32"])
def test_every_value_goes_to_the_nearest(code, gaussian, table, magnitudes, scale_dtype):
    """Compared with a search among all sixteen, to 1e-6 of the group's largest magnitude."""
    x = gaussian(30, 64)
    coded = code(Fp4(table=table, scale_dtype=scale_dtype), x)
    absmax = x.abs().amax(1, keepdim=True)
    if scale_dtype == "float16":
        stored = coded.codes["absmax"]
        assert stored.dtype == torch.float16
        exponent = 2.0**-10 * 2.0 ** float(torch.frexp(x.abs().max())[1])
        assert bool((stored.float()[:, None] * exponent >= absmax).all())
        absmax = stored.float()[:, None] * exponent
    levels = torch.tensor([*magnitudes, *(-m for m in magnitudes)]) / max(magnitudes) * absmax
    error = (x[..., None] - levels[:, None]).abs().amin(-1)
    assert torch.allclose((coded.reconstruction - x).abs(), error, rtol=0, atol=1e-6 * float(absmax.max()))


def test_groups_have_scales_of_their_own(code):
    x = torch.cat([torch.full((32,), 1e-6), torch.full((32,), -1.0), torch.full((5,), 1e3)])
    coded = code(Fp4(group_size=32), x)
    assert coded.codes["absmax"].shape == (3,)
    assert torch.allclose(coded.reconstruction, x, rtol=1e-6)
