"""Plain stochastic gradient descent."""

from typing import Any, final

import torch
from pydantic import Field

from ..components import Optimizer, Parameters


class SgdParameters(Parameters):
    lr: float = Field(0.1, gt=0, description="learning rate")
    weight_decay: float = Field(5e-4, ge=0, description="times w, added to the gradient")


@final
class Sgd(Optimizer):
    """w <- w - lr (g + weight_decay w). With a memory of earlier steps it is ``momentum``."""

    name = "sgd"
    reference = "Robbins, Monro, A stochastic approximation method, 1951"

    Parameters = SgdParameters

    def build(self, parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, fused=True, **self.parameters.model_dump())
