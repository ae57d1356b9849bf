"""Adam."""

from typing import Any, final

import torch
from pydantic import Field

from ..components import Optimizer, Parameters


class AdamParameters(Parameters):
    lr: float = Field(1e-3, gt=0, description="learning rate")
    beta1: float = Field(0.9, ge=0, lt=1, description="memory of the mean gradient")
    beta2: float = Field(0.999, ge=0, lt=1, description="memory of the mean squared gradient")
    eps: float = Field(1e-8, gt=0, description="added to the root")
    weight_decay: float = Field(0.0, ge=0, description="times w, added to the gradient")


@final
class Adam(Optimizer):
    """w <- w - lr m / (sqrt(v) + eps), m and v the bias-corrected running means of g and g^2.

    ``weight_decay`` is added to the gradient (L2); the decoupled form, AdamW, is another optimizer.
    """

    name = "adam"
    reference = "Kingma, Ba, Adam: a method for stochastic optimization, 2015, algorithm 1"

    Parameters = AdamParameters

    def build(self, parameters: Any) -> torch.optim.Optimizer:
        values = self.parameters.model_dump()
        betas = (values.pop("beta1"), values.pop("beta2"))
        return torch.optim.Adam(parameters, betas=betas, fused=True, **values)
