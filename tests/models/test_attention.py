import pytest
import torch
from torch import nn

from qbench.models.attention import Attention


def test_it_computes_what_torch_computes() -> None:
    """The same projections in both; sums of 12 float32 products of unit size leave 1e-6."""
    torch.manual_seed(0)
    attention, theirs = Attention(12, 3), nn.MultiheadAttention(12, 3, batch_first=True)
    inputs = (attention.query, attention.key, attention.value)
    for layer in (*inputs, attention.output):
        nn.init.normal_(layer.bias)
    theirs.in_proj_weight.data = torch.cat([layer.weight.data for layer in inputs])
    theirs.in_proj_bias.data = torch.cat([layer.bias.data for layer in inputs])
    theirs.out_proj.load_state_dict(attention.output.state_dict())
    query, key, value = torch.randn(2, 5, 12), torch.randn(2, 7, 12), torch.randn(2, 7, 12)
    expected = theirs(query, key, value, need_weights=False)[0]
    torch.testing.assert_close(attention(query, key, value)[0], expected, rtol=1e-5, atol=1e-5)


def test_equal_keys_give_the_mean_of_the_values() -> None:
    attention = Attention(4, 2)
    with torch.no_grad():
        attention.value.weight.copy_(torch.eye(4))
        attention.output.weight.copy_(torch.eye(4))
    values = torch.arange(12.0).view(1, 3, 4)
    mixed = attention(torch.randn(1, 2, 4), torch.zeros(1, 3, 4), values)[0]
    torch.testing.assert_close(mixed, values.mean(1, keepdim=True).expand(1, 2, 4))


@pytest.mark.parametrize("position", range(6))
def test_a_causal_one_does_not_look_ahead(position: int) -> None:
    """Weights of later positions are 0, so what is there changes no bit, however large."""
    torch.manual_seed(0)
    attention = Attention(12, 3, causal=True)
    x = torch.randn(2, 6, 12)
    changed = x.clone()
    changed[:, position + 1 :] = 1e6
    before, after = attention(x, x, x)[0], attention(changed, changed, changed)[0]
    assert torch.equal(before[:, : position + 1], after[:, : position + 1])
    first = attention.output(attention.value(x[:, 0]))
    torch.testing.assert_close(before[:, 0], first)


def test_a_causal_one_computes_what_torch_computes() -> None:
    torch.manual_seed(0)
    attention = Attention(12, 3, causal=True)
    x = torch.randn(2, 5, 12)
    q, k, v = (
        layer(x).view(2, 5, 3, 4).transpose(1, 2)
        for layer in (attention.query, attention.key, attention.value)
    )
    mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention(x, x, x)[0], attention.output(mixed), rtol=1e-5, atol=1e-5)


def test_the_mask_is_not_stored() -> None:
    causal, other = Attention(12, 3, causal=True), Attention(12, 3)
    assert list(causal.buffers()) == []
    assert causal.state_dict().keys() == other.state_dict().keys()
