import math

import pytest
import torch

from qbench.errors import InputError
from qbench.quantizers.scaling import (
    Layout,
    divide,
    least_squares,
    load_scale,
    minmax,
    percentile,
    require_rows,
    store_scale,
)


def test_last_group_repeats_its_own_elements_and_join_drops_them():
    x = torch.arange(10.0).reshape(2, 5)
    layout = Layout("group", 4)
    rows = layout.split(x)
    assert rows.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 8, 9]]
    assert torch.equal(layout.join(rows, x.shape), x)
    assert layout.means(x).tolist() == [1.5, 5.5, 8.5]
    three = torch.tensor([1.0, 2.0, 6.0])
    assert layout.split(three).tolist() == [[1, 2, 6, 1]]
    assert layout.means(three).tolist() == [3.0]


@pytest.mark.parametrize(
    ("granularity", "shape", "rows"),
    [
        ("tensor", (3, 4), (1, 12)),
        ("channel", (3, 4), (3, 4)),
        ("channel", (3, 4, 5), (3, 20)),
        ("channel", (12,), (1, 12)),
        ("channel", (), (1, 1)),
        ("group", (2, 64), (2, 64)),
        ("group", (65,), (2, 64)),
        ("group", (), (1, 64)),
        ("tensor", (0,), (1, 1)),
        ("channel", (5, 0), (5, 1)),
        ("channel", (0, 5), (0, 1)),
        ("group", (0, 5), (1, 1)),
    ],
)
def test_rows_of_any_shape_join_to_the_tensor(granularity, shape, rows):
    layout, x = Layout(granularity), torch.rand(shape, generator=torch.Generator().manual_seed(0))
    assert layout.split(x).shape == rows
    assert torch.equal(layout.join(layout.split(x), x.shape), x)


def test_float16_scale_is_the_next_one_up():
    octaves = 2.0 ** -torch.arange(10000).remainder(24)
    scale = octaves * torch.rand(10000, generator=torch.Generator().manual_seed(0))
    stored = store_scale(scale, "float16")
    assert stored.dtype == torch.float16
    loaded = load_scale(stored)
    below = load_scale((stored.view(torch.int16) - 1).view(torch.float16))
    assert bool((loaded >= scale).all())
    assert bool((below < scale).all())


def test_float16_scale_at_its_ends():
    ends = torch.tensor([0.0, 1e-30, 2.0**-34, 1000.0])
    assert load_scale(store_scale(ends, "float16")).tolist() == [0.0, 2.0**-34, 2.0**-34, 65504 / 1024]
    assert torch.equal(load_scale(store_scale(ends, "float32")), ends)


def test_dividing_by_a_zero_scale_gives_zero():
    assert divide(torch.ones(2, 3), torch.tensor([0.0, 0.5])).tolist() == [[0.0] * 3, [2.0] * 3]


def test_range_always_holds_zero():
    rows = torch.tensor([[0.5, 0.75], [-0.75, -0.5], [-0.25, 0.5]])
    assert [ends.tolist() for ends in minmax(rows, symmetric=False)] == [[0, -0.75, -0.25], [0.75, 0, 0.5]]
    assert [ends.tolist() for ends in minmax(rows, symmetric=True)] == [
        [-0.75, -0.75, -0.5],
        [0.75, 0.75, 0.5],
    ]


@pytest.mark.parametrize(("percent", "rank"), [(100, 1000), (99.9, 999), (99, 990), (51, 510)])
def test_percentile_is_the_nearest_rank(percent, rank):
    row = torch.arange(1.0, 1001.0)[torch.randperm(1000, generator=torch.Generator().manual_seed(0))]
    rows = torch.stack([row, -row])
    low, high = percentile(rows, True, percent)
    assert high.tolist() == [rank, rank]
    assert torch.equal(low, -high)
    low, high = percentile(rows, False, percent)
    assert high.tolist() == [rank, 0]
    assert low.tolist() == [0, -rank]


def test_percentile_of_zero_keeps_the_extreme():
    rows = torch.zeros(1, 1000)
    rows[0, 3] = 0.5
    assert float(percentile(rows, True, 99.0)[1]) == 0.5


def test_least_squares_finds_the_global_minimum_of_each_row():
    """Two valleys in log(range); the local one lies where a descent from the extreme would end."""
    deep = torch.tensor([0.004, 0.03, 0.2])

    def squared_error(low, high):
        near, far = (high.log() - math.log(0.9)).square() + 0.1, (high / deep).log().square()
        return torch.minimum(near, far)

    low, high = least_squares(torch.ones(3, 4), True, squared_error)
    # The last grid has a spacing of 0.6 %.
    assert torch.allclose(high, deep, rtol=0.006)
    assert torch.equal(low, -high)


def test_least_squares_moves_the_ends_apart():
    low, high = least_squares(
        torch.tensor([[-1.0, 1.0]]), False, lambda low, high: (low + 0.8).square() + (high - 0.7).square()
    )
    assert float(low) == pytest.approx(-0.8, rel=0.01)
    assert float(high) == pytest.approx(0.7, rel=0.01)


def test_codebook_of_other_channels_is_refused():
    with pytest.raises(InputError, match=r"uniform: .* 4 channels, the tensor has 3"):
        require_rows(torch.zeros(3, 5), torch.zeros(4), "uniform")
