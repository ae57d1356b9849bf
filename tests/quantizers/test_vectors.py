import torch

from qbench.quantizers.vectors import blocks, strided, unblocked


def test_blocks_run_along_the_flattened_tensor():
    x = torch.arange(1.0, 8.0).reshape(1, 7)
    assert blocks(x, 3).tolist() == [[1, 2, 3], [4, 5, 6], [7, 0, 0]]
    assert torch.equal(unblocked(blocks(x, 3), x.shape), x)


def test_strided_rows_are_equally_spaced_and_at_most_so_many():
    rows = torch.arange(10)[:, None]
    assert strided(rows, 5)[:, 0].tolist() == [0, 2, 4, 6, 8]
    assert strided(rows, 3)[:, 0].tolist() == [0, 3, 6]
    assert torch.equal(strided(rows, 10), rows)
