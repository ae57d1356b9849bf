"""Gradient descent with momentum."""

from typing import Any, final

import torch
from pydantic import Field

from ..components import Optimizer, Parameters


class MomentumParameters(Parameters):
    lr: float = Field(0.05, gt=0, description="learning rate")
    momentum: float = Field(0.9, gt=0, lt=1, description="share of the last step that is kept")
    nesterov: bool = Field(False, description="gradient taken one step ahead")
    weight_decay: float = Field(5e-4, ge=0, description="times w, added to the gradient")


@final
class Momentum(Optimizer):
    """v <- momentum v + g + weight_decay w, w <- w - lr v: the heavy ball; ``nesterov`` takes g one step ahead.

    In Polyak's form w(t+1) = w(t) - lr g + momentum (w(t) - w(t-1)) while lr is constant.
    """

    name = "momentum"
    reference = (
        "Polyak, Some methods of speeding up the convergence of iteration methods, 1964, equation 9; "
        "Sutskever et al., On the importance of initialization and momentum, 2013, equations 1-4"
    )

    Parameters = MomentumParameters

    def build(self, parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, fused=True, **self.parameters.model_dump())
