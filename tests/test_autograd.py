"""Hard values, smooth gradients."""

import torch

from qbench.autograd import straight_through


def test_the_value_is_the_hard_one_bit_for_bit_and_the_gradient_the_soft_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4096, generator=generator).requires_grad_()
    hard = torch.randn(4096, generator=generator) * 1e-6
    value = straight_through(x.square(), hard)
    assert torch.equal(value, hard)
    # the usual way to write it loses the last bits of small values beside large ones
    assert not torch.equal((x.square() + (hard - x.square()).detach()), hard)
    value.sum().backward()
    assert torch.equal(x.grad, 2 * x.detach())


def test_the_hard_code_gets_no_gradient() -> None:
    soft, hard = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    straight_through(soft, hard).sum().backward()
    assert hard.grad is None
    assert torch.equal(soft.grad, torch.ones(3))
