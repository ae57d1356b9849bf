"""AdaRound: every weight is rounded down or up, whichever way the layer's loss likes better."""

from collections.abc import Callable
from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor

from ..components import Context, Quantizer
from ..errors import InputError
from ..message import Message, Stream
from .affine import AffineGrid, AffineParameters, range_of
from .reading import values
from .scaling import Layout, divide, require_rows

_ZETA, _GAMMA = 1.1, -0.1  # a stretched sigmoid reaches 0 and 1, where its gradient ends
_FIRST_BETA, _LAST_BETA = 20.0, 2.0
_WARM_UP = 0.2
_TRIED_EVERY = 10  # steps between two looks at the hard rounding


class AdaroundParameters(AffineParameters):
    range: Literal["minmax", "mse"] = Field("mse", description="how the range is chosen")
    iterations: int = Field(500, ge=0, le=100_000, description="steps of Adam")
    learning_rate: float = Field(0.05, gt=0, le=10, description="of Adam, on V")
    regularization: float = Field(
        5.0, ge=0, le=1e6, description="lambda, in units of nearest rounding's loss"
    )


@final
class Adaround(Quantizer):
    """Rounding down or up, learned on the layer's reconstruction loss L.

    ``W~ = scale (clamp(floor(W / scale + zero_point) + h(V), 0, 2^b - 1) - zero_point)``, with the rectified
    sigmoid ``h(V) = clamp(1.2 sigmoid(V) - 0.1, 0, 1)``, and V by Adam from ``W~ = W``:
    ``minimize L(W~) / L(nearest) + lambda mean(1 - |2 h(V) - 1|^beta)``; beta falls linearly from 20 to 2, and for
    the first fifth of the steps there is no second term. Every tenth step and at the end the hard rounding, up
    where h >= 1/2, is tried; the one of least loss is sent, and nearest rounding where none has a smaller one:
    the result is never worse than that. Nothing is random.

    Levels and scales are those of ``uniform``, by default with the range of least squared error.

    Raises:
        InputError: no loss in the context.

    Reference: Nagel, Amjad, van Baalen, Louizos & Blankevoort 2020, "Up or Down? Adaptive Rounding for
    Post-Training Quantization", eq. 21-25.
    """

    name = "adaround"
    family = "optimized"
    reference = "Nagel et al. 2020, eq. 21-25 (arXiv:2004.10568)"
    targets = ("weight",)
    needs = frozenset({"loss"})
    Parameters = AdaroundParameters
    sweep = tuple({"bits": b, "granularity": "channel"} for b in (2, 3, 4))

    @property
    def layout(self) -> Layout:
        layout: Layout = self.parameters.layout
        return layout

    @property
    def grid(self) -> AffineGrid:
        grid: AffineGrid = self.parameters.grid
        return grid

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {} if self.layout.per_group else self._scales(x)

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        if context.loss is None:
            raise InputError(
                "adaround: the context has no loss; tracks that calibrate (ptq) give it, and code(..., loss=) "
                "takes one: a differentiable function of the reconstruction"
            )
        own = self._scales(x) if self.layout.per_group else {}
        scale, zero_point = self.grid.read(own or codebook)
        require_rows(self.layout.split(x), scale, self.name)
        codes = self._codes(x, scale, zero_point, context.loss) if x.numel() else x
        return {"codes": Stream(codes, self.grid.levels), **own}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        scale, zero_point = self.grid.read(codes if self.layout.per_group else codebook)
        rows = self.layout.split(values(codes, "codes").float().reshape(shape))
        return self.layout.join(self.grid.points(rows, scale, zero_point), shape)

    def _scales(self, x: Tensor) -> Message:
        rows = self.layout.split(x)
        return self.grid.message(*self.grid.spanning(*range_of(rows, self.grid, self.parameters.range)))

    def _codes(
        self, x: Tensor, scale: Tensor, zero_point: Tensor, loss: Callable[[Tensor], Tensor]
    ) -> Tensor:
        rows = self.layout.split(x)

        def loss_of(codes: Tensor) -> Tensor:
            return loss(self.layout.join(self.grid.points(codes, scale, zero_point), x.shape))

        position = divide(rows, scale) + zero_point[:, None]
        nearest = self.grid.codes(rows, scale, zero_point)
        with torch.enable_grad():
            found = self._learned(position, nearest, loss_of)
        return self.layout.join(found, x.shape)

    def _learned(self, position: Tensor, nearest: Tensor, loss_of: Callable[[Tensor], Tensor]) -> Tensor:
        """The codes of least ``loss_of`` among those met, [rows, row length]."""
        best, least = nearest, (unit := loss_of(nearest).detach())
        if not unit > 0:
            return nearest
        floor = position.floor()
        v = _inverse_rectified_sigmoid(position - floor).requires_grad_()
        adam = torch.optim.Adam([v], lr=self.parameters.learning_rate)
        count = self.parameters.iterations
        for step in range(count + 1):
            h = rectified_sigmoid(v)
            if step % _TRIED_EVERY == 0 or step == count:
                hard = self._clamped(floor + (h.detach() >= 0.5))
                if (tried := loss_of(hard).detach()) < least:
                    best, least = hard, tried
            objective = loss_of(self._clamped(floor + h)) / unit + self._penalty(h, step / max(1, count))
            (v.grad,) = torch.autograd.grad(objective, [v])
            adam.step()
        return best

    def _penalty(self, h: Tensor, progress: float) -> Tensor:
        """What undecided weights cost, 0 at first."""
        if progress < _WARM_UP:
            return h.new_zeros(())
        beta = _FIRST_BETA + (_LAST_BETA - _FIRST_BETA) * (progress - _WARM_UP) / (1 - _WARM_UP)
        weight: float = self.parameters.regularization
        return weight * undecided(h, beta)

    def _clamped(self, codes: Tensor) -> Tensor:
        return codes.clamp(0, self.grid.levels - 1)


def rectified_sigmoid(v: Tensor) -> Tensor:
    """``clamp(1.2 sigmoid(v) - 0.1, 0, 1)`` (eq. 23)."""
    return (v.sigmoid() * (_ZETA - _GAMMA) + _GAMMA).clamp(0, 1)


def undecided(h: Tensor, beta: float) -> Tensor:
    """``mean(1 - |2 h - 1|^beta)``: 0 where every h is 0 or 1 (eq. 24, per element)."""
    return (1 - (2 * h - 1).abs().pow(beta)).mean()


def _inverse_rectified_sigmoid(h: Tensor) -> Tensor:
    return ((h - _GAMMA) / (_ZETA - _GAMMA)).logit()
