"""Discrete distributions over levels, one for each weight: learned by mean and variance, stored as one level."""

from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor

from ..autograd import straight_through
from ..components import Context, Parameters, Quantizer, Trainable
from ..message import Message, Stream
from .reading import values
from .scaling import Layout, divide, least_squares, require_rows
from .surrogates import hard

_P_MIN, _P_MAX = 0.05, 0.95


class ProbabilisticWeightsParameters(Parameters):
    levels: int = Field(3, ge=2, le=16, description="equally spaced levels from -1 to 1")
    assignment: Literal["most-probable", "stochastic"] = Field(
        "most-probable", description="the level that is stored: the most probable one, or a draw"
    )
    scale: Literal["rms", "mse"] = Field(
        "rms",
        description="what +-1 stands for: the paper's root mean square, or the scale of least squared error",
    )
    granularity: Literal["tensor", "channel"] = Field("tensor", description="which elements share a scale")


@final
class ProbabilisticWeights(Quantizer, Trainable):
    """Weight x takes the level l_k, of L equally spaced ones from -1 to 1, times a scale s with probability p_k.

    :meth:`probabilities` gives those that training starts from, with u = x / s clipped to [-1, 1]:

    - 3 levels, the paper's: ``p(0) = .95 - .9 |u|``, ``p(1 | not 0) = (1 + u / (1 - p(0))) / 2`` clipped to [.05, .95];
    - 2 levels: ``p(1) = (1 + u) / 2`` clipped to [.05, .95];
    - more: shared linearly between the two levels about u, and .05 / (L - 1) for each level.

    Their mean is x where nothing is clipped (times 1 - .05 L / (L - 1) for more levels), and the most probable
    level is the nearest; of 3 levels 0 up to ``|u| = .9025 / 1.755 = .514``, since .95 is clipped. The codebook is
    ``scale``, float32, [1] or [channels].

    In training the real weight x is learned through the mean: the value is the level stored, the gradient, for x and
    s, is that of ``E[x^]``. To learn the distributions themselves, as the paper does, hold
    ``logits = probabilities(x, codebook).log()`` and give ``softmax(logits, 0)`` to :meth:`moments`: by the
    central limit theorem a layer's output is then Gaussian, of the layer's mean on the means and of variance
    ``layer(inputs^2)`` on the variances. :meth:`assign` stores a level for each distribution.

    Reference: Shayer, Levi & Fetaya 2018, "Learning Discrete Weights Using the Local Reparameterization Trick",
    section 3.
    """

    name = "probabilistic-weights"
    family = "stochastic"
    reference = "Shayer, Levi & Fetaya 2018, section 3 (arXiv:1710.07739)"
    targets = ("source", "weight")
    Parameters = ProbabilisticWeightsParameters
    sweep = (
        {"levels": 2},
        {"levels": 3},
        {"levels": 5, "scale": "mse"},
        {"levels": 3, "assignment": "stochastic"},
    )

    @property
    def layout(self) -> Layout:
        return Layout(self.parameters.granularity)

    def fit(self, x: Tensor, *, context: Context) -> Message:
        if self.parameters.scale == "rms":
            return {"scale": self.layout.means(x.square()).sqrt()}
        rows = self.layout.split(x)
        return {"scale": least_squares(rows, True, lambda _, high: self._squared_error(rows, high))[1]}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        return self.assign(self.probabilities(x, codebook), context=context)

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        rows = self.layout.split(self._relative(values(codes, "codes").float().reshape(shape)))
        return self.layout.join(rows * values(codebook, "scale")[:, None], shape)

    def surrogate(self, x: Tensor, codebook: Message, *, context: Context) -> Tensor:
        mean, _ = self.moments(self.probabilities(x, codebook), codebook)
        return straight_through(mean, hard(self, x, codebook, context))

    def probabilities(self, x: Tensor, codebook: Message) -> Tensor:
        """The probability of each level for every element of x, [levels, *x.shape]; ascending levels."""
        rows, scale = self.layout.split(x), values(codebook, "scale")
        require_rows(rows, scale, self.name)
        u = self.layout.join(divide(rows, scale).clamp(-1, 1), x.shape)
        return {2: _binary, 3: _ternary}.get(self.parameters.levels, self._interpolated)(u)

    def moments(self, probabilities: Tensor, codebook: Message) -> tuple[Tensor, Tensor]:
        """Mean and variance of each weight, of its shape, for probabilities [levels, *shape]."""
        shape = probabilities.shape[1:]
        level = self._relative(torch.arange(self.parameters.levels, device=probabilities.device).float())
        level = level.reshape(-1, *[1] * len(shape))
        mean = (probabilities * level).sum(0)
        variance = (probabilities * (level - mean).square()).sum(0)
        scale = values(codebook, "scale")[:, None]
        return (
            self.layout.join(self.layout.split(mean) * scale, shape),
            self.layout.join(self.layout.split(variance) * scale.square(), shape),
        )

    def assign(self, probabilities: Tensor, *, context: Context) -> Message:
        """The codes: one level for each of the distributions [levels, *shape]."""
        if self.parameters.assignment == "most-probable":
            return {"codes": Stream(probabilities.argmax(0), self.parameters.levels)}
        draw = torch.rand(
            probabilities.shape[1:],
            generator=context.generator,
            device=probabilities.device,
            dtype=torch.float32,
        )
        return {"codes": Stream((draw >= probabilities[:-1].cumsum(0)).sum(0), self.parameters.levels)}

    def _interpolated(self, u: Tensor) -> Tensor:
        levels = self.parameters.levels
        position = (u + 1) / 2 * (levels - 1)
        level = torch.arange(levels, device=u.device).reshape(-1, *[1] * u.dim())
        share = (1 - (position - level).abs()).clamp(min=0)
        least = _P_MIN / (levels - 1)
        mixed: Tensor = least + (1 - levels * least) * share
        return mixed

    def _relative(self, codes: Tensor) -> Tensor:
        """Levels between -1 and 1 of codes."""
        last = int(self.parameters.levels) - 1
        return (2 * codes - last) / last

    def _squared_error(self, rows: Tensor, scale: Tensor) -> Tensor:
        last = self.parameters.levels - 1
        codes = ((divide(rows, scale) + 1) / 2 * last).round().clamp(0, last)
        error = self._relative(codes) * scale[:, None] - rows
        squares: Tensor = torch.linalg.vecdot(error, error)
        return squares


def _binary(u: Tensor) -> Tensor:
    positive = ((1 + u) / 2).clamp(_P_MIN, _P_MAX)
    return torch.stack([1 - positive, positive])


def _ternary(u: Tensor) -> Tensor:
    zero = _P_MAX - (_P_MAX - _P_MIN) * u.abs()
    positive = ((1 + u / (1 - zero)) / 2).clamp(_P_MIN, _P_MAX)
    return torch.stack([(1 - zero) * (1 - positive), zero, (1 - zero) * positive])
