"""Adam with decoupled weight decay."""

from typing import Any, final

import torch
from pydantic import Field

from ..components import Optimizer, Parameters


class AdamWParameters(Parameters):
    lr: float = Field(1e-3, gt=0, description="learning rate")
    beta1: float = Field(0.9, ge=0, lt=1, description="memory of the mean gradient")
    beta2: float = Field(0.999, ge=0, lt=1, description="memory of the mean squared gradient")
    eps: float = Field(1e-8, gt=0, description="added to the root")
    weight_decay: float = Field(0.01, ge=0, description="times lr w, taken from the weight")


@final
class AdamW(Optimizer):
    """w <- w - lr (m / (sqrt(v) + eps) + weight_decay w), m and v as Adam's, from the gradient without decay.

    The paper's schedule multiplier and learning rate are one factor here: the decay follows the schedule too, and
    its lambda is ``lr weight_decay``.
    """

    name = "adamw"
    reference = "Loshchilov, Hutter, Decoupled weight decay regularization, 2019, algorithm 2"

    Parameters = AdamWParameters

    def build(self, parameters: Any) -> torch.optim.Optimizer:
        values = self.parameters.model_dump()
        betas = (values.pop("beta1"), values.pop("beta2"))
        return torch.optim.AdamW(parameters, betas=betas, fused=True, **values)
