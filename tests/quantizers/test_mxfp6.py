import torch

from qbench.quantizers.mxfp6 import MxFp6


def test_codes_have_the_layout_of_the_specification(code):
    """S EE MMM and S EEE MM: largest, 1, smallest normal, smallest, zero; X = 1."""
    tables = {
        "e2m3": {7.5: 0b0_11_111, -1.0: 0b1_01_000, 1.125: 0b0_01_001, -0.125: 0b1_00_001, 0.0: 0},
        "e3m2": {28.0: 0b0_111_11, -1.0: 0b1_011_00, 0.25: 0b0_001_00, -0.0625: 0b1_000_01, 0.0: 0},
    }
    for element, table in tables.items():
        coded = code(MxFp6(element=element), torch.tensor(list(table)))
        assert coded.codes["codes"].values.tolist() == list(table.values())
        assert coded.codes["codes"].levels == 64
        assert coded.reconstruction.tolist() == list(table)
