"""An epoch of the trainer beside the loop that one would write with a DataLoader, one thread for both.

The same network starts from the same weights and sees the same pictures in the same order; that both learn the same is
checked before anything is timed. The ratio of the two is in brackets in each group of the table.
"""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from qbench.batches import Batches, Split
from qbench.classifier import Classifier, classifier
from qbench.components import Examples, Model
from qbench.models.cnn import Cnn
from qbench.models.mlp import Mlp
from qbench.optimizers.adam import Adam
from qbench.training import Training, train

PICTURES = 6400
SEED = 0
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]
MODELS = {"mlp": Mlp(), "cnn": Cnn(width=16)}
TRAINING = Training(epochs=1, validation=0, selection="last", schedule="constant", warmup=0)
pytestmark = pytest.mark.filterwarnings("ignore")


@cache
def examples() -> Examples:
    """Pictures of 28 x 28 that ten smooth patterns and noise make; shaped like Fashion-MNIST, a ninth of its size."""
    generator = torch.Generator().manual_seed(0)
    patterns = nn.functional.interpolate(
        torch.rand(10, 1, 7, 7, generator=generator), size=28, mode="bilinear"
    )
    labels = torch.randint(10, (PICTURES,), generator=generator)
    noisy = patterns[labels] + 0.3 * torch.randn(PICTURES, 1, 28, 28, generator=generator)
    pictures = (255 * noisy.clamp(0, 1)).to(torch.uint8)
    return Examples(pictures, labels, pictures[:0], labels[:0], classes=10)


class Pictures(Dataset[tuple[Tensor, int]]):
    """As torchvision's data sets are: a picture is made from an array and transformed whenever it is asked for."""

    def __init__(self, data: Examples, mean: float, std: float) -> None:
        self.arrays, self.labels = data.train_inputs[:, 0].numpy(), data.train_labels.tolist()
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.arrays[index])), self.labels[index]


class Order:
    """The numbers of the examples in the order in which the trainer shows them."""

    def __init__(self, data: Examples) -> None:
        numbers = torch.arange(len(data.train_labels)).view(-1, 1)
        numbered = Examples(numbers, data.train_labels, numbers[:0], data.test_labels, data.classes)
        split = Split.of(numbered, TRAINING.validation, SEED, torch.device("cpu"))
        self.numbers = [int(n) for rows, _ in Batches(split, TRAINING.batch_size, SEED) for n in rows]

    def __iter__(self):
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


def start(model: Model) -> Classifier:
    data = examples()
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        module = classifier(model, data.shape, data.classes, data.train_inputs)
    assert isinstance(module, Classifier)
    return module


def ours(model: Model, weights: dict[str, Tensor], device: str) -> float:
    trained = train(model, Adam(), examples(), TRAINING, SEED, device, start=weights)
    loss: float = trained.metrics["training_loss"][0]
    return loss


def plain(model: Model, weights: dict[str, Tensor], device: str) -> float:
    data, whole = examples(), start(model)
    whole.load_state_dict(weights)
    network = whole.network.to(memory_format=torch.contiguous_format).to(device).train()
    dataset = Pictures(data, float(whole.mean) / 255, float(whole.std) / 255)
    workers = 4 if device == "cuda" else 0
    loader = DataLoader(
        dataset, TRAINING.batch_size, sampler=Order(data), num_workers=workers, pin_memory=device == "cuda"
    )
    optimizer, loss_of, losses = torch.optim.Adam(network.parameters()), nn.CrossEntropyLoss(), []
    for pictures, labels in loader:
        optimizer.zero_grad()
        loss = loss_of(network(pictures.to(device)), labels.to(device))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return math.fsum(losses) / len(losses)


@cache
def alike(name: str, device: str) -> bool:
    """Both have the same mean loss over the epoch, within what bfloat16 makes of it."""
    weights = start(MODELS[name]).state_dict()
    found = [way(MODELS[name], dict(weights), device) for way in (ours, plain)]
    assert found[0] == pytest.approx(found[1], rel=0.03), (name, device, found)
    return True


@pytest.mark.parametrize("way", [ours, plain], ids=["trainer", "dataloader"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("device", DEVICES)
def test_epoch(benchmark: Any, way: Callable[..., float], name: str, device: str) -> None:
    assert alike(name, device)
    benchmark.group = f"an epoch of {PICTURES} pictures, {name} on {device}"
    weights = {key: tensor.clone() for key, tensor in start(MODELS[name]).state_dict().items()}
    benchmark.pedantic(partial(way, MODELS[name], weights, device), rounds=3, warmup_rounds=1)
    benchmark.extra_info["pictures/s"] = round(PICTURES / benchmark.stats.stats.median)
