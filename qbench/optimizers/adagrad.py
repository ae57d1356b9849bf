"""Adagrad."""

from typing import Any, final

import torch
from pydantic import Field

from ..components import Optimizer, Parameters


class AdagradParameters(Parameters):
    lr: float = Field(0.01, gt=0, description="learning rate")
    eps: float = Field(1e-10, gt=0, description="added to the root")
    initial: float = Field(0.0, ge=0, description="sum of squares before the first gradient")
    weight_decay: float = Field(0.0, ge=0, description="times w, added to the gradient")


@final
class Adagrad(Optimizer):
    """s <- s + g^2, w <- w - lr g / (sqrt(s) + eps): of each weight's squared gradients the sum, not a mean."""

    name = "adagrad"
    reference = "Duchi, Hazan, Singer, Adaptive subgradient methods, 2011, equation 1, diagonal form"

    Parameters = AdagradParameters

    def build(self, parameters: Any) -> torch.optim.Optimizer:
        values = self.parameters.model_dump()
        initial = values.pop("initial")
        # torch 2.11 has no fused form on CUDA
        return torch.optim.Adagrad(parameters, initial_accumulator_value=initial, foreach=True, **values)
