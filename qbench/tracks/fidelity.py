"""What quantization does to angles and dot products, beside the squared error."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

DOT_LENGTH = 64


def correlation(first: Tensor, second: Tensor) -> float | None:
    """Pearson's correlation of two tensors of one shape, in float64; None where one of them does not vary.

    Reference: K. Pearson, Regression, heredity, and panmixia, 1896.
    """
    a, b = (x.detach().double().reshape(-1) for x in (first, second))
    a, b = a - a.mean(), b - b.mean()
    norms = float(torch.linalg.vector_norm(a) * torch.linalg.vector_norm(b))
    return float(a @ b) / norms if norms > 0 else None


def dot_correlations(draws: Sequence[Tensor], decoded: Sequence[Tensor]) -> tuple[float | None, float | None]:
    """How dot products of independent vectors of 64 values survive, with one factor quantized and with both.

    ``corr(a.b, a.b^)`` and ``corr(a.b, a^.b^)`` over all pairs of vectors at one place of two successive draws. For
    signs of a Gaussian they are sqrt(2/pi) = .798 and 2/pi = .637, whatever their scale.

    Args:
        draws: two or more tensors of as many elements each, independent of each other.
        decoded: their reconstructions.

    Reference: Anderson, Berg, The high-dimensional geometry of binary neural networks, 2017, section 3.
    """
    vectors, coded = (torch.stack([_vectors(x) for x in each]) for each in (draws, decoded))
    first, second = vectors, vectors.roll(-1, 0)
    exact = (first * second).sum(-1)
    return (
        correlation(exact, (first * coded.roll(-1, 0)).sum(-1)),
        correlation(exact, (coded * coded.roll(-1, 0)).sum(-1)),
    )


def _vectors(x: Tensor) -> Tensor:
    flat = x.double().reshape(-1)
    return flat[: flat.numel() // DOT_LENGTH * DOT_LENGTH].reshape(-1, DOT_LENGTH)


def layer_products(layer: nn.Module, weight: Tensor, inputs: Tensor) -> Tensor:
    """The dot products a layer makes of its inputs with ``weight``, without the bias."""
    parameters = {"weight": weight.to(inputs.dtype)}
    if getattr(layer, "bias", None) is not None:
        parameters["bias"] = inputs.new_zeros(layer.get_parameter("bias").shape)
    with torch.no_grad():
        products: Tensor = torch.func.functional_call(layer, parameters, (inputs,))
    return products
