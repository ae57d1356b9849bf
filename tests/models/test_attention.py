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
