"""Stochastic gradient descent with momentum."""

from typing import Any, Self, final

import torch
from pydantic import Field, model_validator

from ..components import Optimizer, Parameters


class SgdParameters(Parameters):
    lr: float = Field(0.05, gt=0, description="learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="share of the last step that is kept")
    nesterov: bool = Field(True, description="gradient taken one step ahead")
    weight_decay: float = Field(5e-4, ge=0, description="times w, added to the gradient")

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=true needs momentum above 0; set nesterov=false")
        return self


@final
class Sgd(Optimizer):
    """v <- momentum v + g + weight_decay w, w <- w - lr v; ``nesterov`` takes g one step ahead."""

    name = "sgd"
    reference = "Sutskever et al., On the importance of initialization and momentum, 2013, section 2"

    Parameters = SgdParameters

    def build(self, parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, fused=True, **self.parameters.model_dump())
