"""What trained weights are like: near zero, and well described by their signs?"""

import torch
from torch import Tensor, nn

from ..capture import activations
from ..classifier import evaluate
from ..components import Examples
from ..layers import Weight, swapped_weights, weight_tensors
from ..metrics import mcnemar
from ..schema import Measurement
from .fidelity import correlation, layer_products
from .gradient_summary import weighted_median
from .gradient_windows import FEWEST_COORDINATES

_SCALE = 127
_NORMAL = 1.959964


def weight_figures(module: nn.Module, data: Examples, pictures: int) -> dict[str, Measurement]:
    """Of all weights of a trained classifier; samples are the layers' values.

    - ``weights.share_within_one``: share of |w| <= 1, the least of all layers.
    - ``weights.int8_loss``: percentage points of test accuracy that rounding to multiples of 1/127 in [-1, 1] costs.
    - ``weights.sign_cosine``: cos(w, sign w), parameter-weighted median over layers of at least 4096 weights, all if
      none has as many. Gaussian: sqrt(2/pi) = .798.
    - ``weights.sign_correlation``: of x.w with x.sign w over the layers' inputs of ``pictures`` test pictures, median
      likewise. Gaussian x and w: .798.

    Where nothing was sampled the ends ``.low`` and ``.high`` of the interval are the value itself; that of the loss is
    of 95 %, from the predictions that change, half a one added in each direction: few pictures of which none changes do
    not prove that none would.

    Reference of the interval: Agresti & Min 2005, "Simple improved confidence intervals for comparing matched
    proportions".
    """
    weights = weight_tensors(module)
    sizes = torch.tensor([weight.parameter.numel() for weight in weights], dtype=torch.float64)
    if bool((sizes >= FEWEST_COORDINATES).any()):
        sizes *= sizes >= FEWEST_COORDINATES
    inside = torch.stack([(w.parameter.detach().abs() <= 1).double().mean() for w in weights]).cpu()
    cosines = torch.stack([_sign_cosine(weight.parameter.detach()) for weight in weights]).cpu()
    products = _sign_correlations(module, weights, data.test_inputs[:pictures])
    return {
        **_exact("weights.share_within_one", float(inside.min()), inside),
        **_exact("weights.sign_cosine", float(weighted_median(cosines[:, None], sizes)), cosines),
        **_exact("weights.sign_correlation", float(weighted_median(products[:, None], sizes)), products),
        **_int8_loss(module, weights, data),
    }


def fixed_int8(w: Tensor) -> Tensor:
    """The nearest multiple of 1/127 in [-1, 1]."""
    return (w * _SCALE).round().clamp(-_SCALE, _SCALE) / _SCALE


def _int8_loss(module: nn.Module, weights: list[Weight], data: Examples) -> dict[str, Measurement]:
    labels = data.test_labels.flatten()
    before = evaluate(module, data.test_inputs)
    with swapped_weights(module, {w.name: fixed_int8(w.parameter.detach()) for w in weights}):
        after = evaluate(module, data.test_inputs)
    test, n = mcnemar(before, after, labels.to(before.device)), len(labels)
    more = n + 2  # 1/2 in each of the four counts of pairs
    changed, moved = (
        (test.only_first + test.only_second + 1) / more,
        (test.only_first - test.only_second) / more,
    )
    reach = _NORMAL * ((changed - moved**2) / more) ** 0.5
    ends = {"": (test.only_first - test.only_second) / n, ".low": moved - reach, ".high": moved + reach}
    return {f"weights.int8_loss{end}": Measurement(value=100 * x, unit="%", n=n) for end, x in ends.items()}


def _sign_cosine(w: Tensor) -> Tensor:
    w = w.double()
    cosine: Tensor = w.abs().sum() / (w.count_nonzero().double().sqrt() * torch.linalg.vector_norm(w))
    return cosine


def _sign_correlations(module: nn.Module, weights: list[Weight], pictures: Tensor) -> Tensor:
    """NaN for a layer that the pictures do not reach."""
    inputs = activations(module, pictures)
    found = []
    for weight in weights:
        layer, w = module.get_submodule(weight.name.rpartition(".")[0]), weight.parameter.detach()
        x = inputs.get(weight.name)
        both = None if x is None else [layer_products(layer, v, x) for v in (w, w.sign())]
        dot = None if both is None else correlation(*both)
        found.append(torch.nan if dot is None else dot)
    return torch.tensor(found, dtype=torch.float64)


def _exact(name: str, value: float, layers: Tensor) -> dict[str, Measurement]:
    samples = layers[layers.isfinite()].tolist()
    if not samples:
        return {}
    whole = Measurement(value=value, unit="1", samples=samples, n=len(samples))
    return {name: whole, **{f"{name}.{end}": Measurement(value=value, unit="1") for end in ("low", "high")}}
