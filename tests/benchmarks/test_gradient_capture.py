"""Training with and without a capture of its gradients, one thread: both give the same weights, checked first.

400 steps, of which 96 lie in windows and 15 are evaluated again in float32. Three epochs of Fashion-MNIST have 1,265
steps and pair 24 of them: there the cost is about half of what the table shows.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest
import torch

from qbench.components import Examples, Model
from qbench.gradient_capture import Capture
from qbench.models.cnn import Cnn
from qbench.models.mlp import Mlp
from qbench.optimizers.adam import Adam
from qbench.training import Training, train

STEPS, BATCH = 400, 128
MODELS = {"mlp": Mlp(), "cnn": Cnn(width=16)}
TRAINING = Training(epochs=4, batch_size=BATCH, validation=0, selection="last")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def examples() -> Examples:
    count, generator = STEPS // TRAINING.epochs * BATCH, torch.Generator().manual_seed(0)
    pictures = torch.randint(256, (count, 1, 28, 28), generator=generator).to(torch.uint8)
    labels = torch.randint(10, (count,), generator=generator)
    return Examples(pictures, labels, pictures[:0], labels[:0], classes=10)


def plain(model: Model) -> dict[str, torch.Tensor]:
    return dict(train(model, Adam(), examples(), TRAINING, 0).module.state_dict())


def watched(model: Model) -> dict[str, torch.Tensor]:
    return dict(train(model, Adam(), examples(), TRAINING, 0, watch=Capture()).module.state_dict())


@cache
def alike(name: str) -> bool:
    first, second = plain(MODELS[name]), watched(MODELS[name])
    assert all(torch.equal(first[key], second[key]) for key in first)
    return True


@pytest.mark.parametrize("way", [plain, watched])
@pytest.mark.parametrize("name", MODELS)
def test_training(benchmark: Any, way: Callable[..., Any], name: str) -> None:
    assert alike(name)
    benchmark.group = f"{STEPS} steps, {name}"
    benchmark.pedantic(partial(way, MODELS[name]), rounds=3)
