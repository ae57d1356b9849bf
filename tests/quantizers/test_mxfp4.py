import torch

from qbench.quantizers.mxfp4 import MxFp4


def test_the_sixteen_codes(code):
    """S EE M: the magnitudes 0, .5, 1, 1.5, 2, 3, 4, 6 with a sign, X = 1."""
    magnitudes = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    x = torch.cat([magnitudes, -magnitudes])
    coded = code(MxFp4(), x)
    assert coded.codes["codes"].values.tolist() == list(range(16))
    assert torch.equal(coded.reconstruction, x)


def test_ties_go_to_the_even_code_and_large_values_saturate(code):
    x = torch.tensor([7.9, 5.0, 3.5, 2.5, 1.75, 1.25, 0.75, 0.25, -5.0, -0.25])
    expected = [6, 4, 4, 2, 2, 1, 1, 0, -4, 0]
    assert code(MxFp4(), x).reconstruction.tolist() == expected
