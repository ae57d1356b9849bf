"""RMSProp."""

from typing import Any, final

import torch
from pydantic import Field

from ..components import Optimizer, Parameters


class RmsPropParameters(Parameters):
    lr: float = Field(1e-3, gt=0, description="learning rate")
    alpha: float = Field(0.99, ge=0, lt=1, description="memory of the mean squared gradient")
    eps: float = Field(1e-8, gt=0, description="added to the root")
    momentum: float = Field(0.0, ge=0, lt=1, description="share of the last step that is kept")
    weight_decay: float = Field(0.0, ge=0, description="times w, added to the gradient")


@final
class RmsProp(Optimizer):
    """v <- alpha v + (1 - alpha) g^2, b <- momentum b + g / (sqrt(v) + eps), w <- w - lr b.

    v starts at 0 and is not corrected for it: the first step is 1 / sqrt(1 - alpha) times as long as Adam's.
    """

    name = "rmsprop"
    reference = (
        "Tieleman, Hinton, Neural networks for machine learning, 2012, lecture 6.5 (there alpha = 0.9)"
    )

    Parameters = RmsPropParameters

    def build(self, parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(parameters, foreach=True, **self.parameters.model_dump())
