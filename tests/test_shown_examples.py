"""What a network is shown while it is trained, as a network around it sees it."""

import torch
from torch import nn

from qbench.augmentation import augmented
from qbench.components import Examples
from qbench.models.mlp import Mlp
from qbench.optimizers.sgd import Sgd
from qbench.schema import derived_seed
from qbench.training import Training, train, training_examples


class Gained(nn.Module):
    """A network whose logits are multiplied by a number that is learned; notes the pictures it is trained on."""

    def __init__(self, module: nn.Module, steps: int) -> None:
        super().__init__()
        self.module, self.steps = module, steps
        self.gain = nn.Parameter(torch.ones(()))
        self.seen: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen.append(images)
        return self.module(images) * self.gain


def test_the_network_around_is_trained_and_what_it_adds_does_not_decay(digits: Examples) -> None:
    """A decay of 1000 times the rate of 1e-3 takes all of a weight away in every step, but for the last gradient."""
    training = Training(epochs=2, batch_size=129, schedule="constant", warmup=0)
    optimizer = Sgd(lr=1e-3, weight_decay=1000.0)
    trained = train(Mlp(width=8, depth=1), optimizer, digits, training, seed=0, around=Gained).module
    assert isinstance(trained, Gained)
    assert trained.steps == len(trained.seen) == 20
    assert abs(float(trained.gain.detach()) - 1) < 0.1
    assert float(trained.module.get_parameter("network.1.weight").detach().abs().max()) < 0.01


def test_training_examples_are_those_that_are_shown(digits: Examples) -> None:
    training = Training(epochs=3, batch_size=1, validation=0.5)
    few = Examples(digits.train_inputs[:12], digits.train_labels[:12], *torch.empty(2, 0), classes=10)
    trained = train(Mlp(width=8, depth=0), Sgd(), few, training, seed=4, around=Gained).module
    assert isinstance(trained, Gained)
    images, labels = training_examples(few, training, seed=4)
    assert {x.numpy().tobytes() for x in trained.seen} == {x.numpy().tobytes() for x in images.unsqueeze(1)}
    assert len(images) == len(labels) == 6


def test_pictures_are_cropped_and_flipped_in_every_step(digits: Examples) -> None:
    """Every other step of an epoch shows other pieces; the order of the pictures is that of plain training."""
    few = Examples(digits.train_inputs[:64], digits.train_labels[:64], *torch.empty(2, 0), classes=10)
    shown = []
    for crop, flip in ((0, False), (2, True)):
        training = Training(epochs=2, batch_size=32, validation=0.5, crop=crop, flip=flip)
        trained = train(Mlp(width=8, depth=0), Sgd(), few, training, seed=4, around=Gained).module
        assert isinstance(trained, Gained)
        shown.append(trained.seen)
    plain, moved = shown
    own = torch.Generator().manual_seed(derived_seed(4, "augmentation"))
    for before, after in zip(plain, moved, strict=True):
        assert torch.equal(after, augmented(before, own, crop=2, flip=True))
    assert not torch.equal(plain[0], moved[0])
