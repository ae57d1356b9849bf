"""Capturing against trainings that are known step by step."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qbench.components import Examples, Model
from qbench.errors import InputError
from qbench.gradient_capture import Capture, exact_loss
from qbench.gradient_dynamics import lipschitz
from qbench.models.cnn import Cnn
from qbench.models.mlp import Mlp
from qbench.optimizers.adam import Adam
from qbench.optimizers.sgd import Sgd
from qbench.training import Training, Watch, mean_loss, train

TRAINING = Training(epochs=3, batch_size=32, crop=1, flip=True)


class Noisy(Model):
    """Draws random numbers in every step and changes its buffers; convolutions lie channels last."""

    name = "noisy"

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(shape[0], 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(8 * (shape[1] - 2) * (shape[2] - 2), classes),
        )


class Witness(Watch):
    """Notes gradients and weights beside another watch."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.gradients: list[list[Tensor]] = []
        self.weights: list[list[Tensor]] = []

    def begin(self, module: nn.Module, steps: int) -> None:
        self.layers = [p for p in module.parameters() if p.dim() > 1]
        self.watch.begin(module, steps)
        self.weights.append([p.detach().clone() for p in self.layers])

    def before(self, inputs: Tensor, labels: Tensor) -> None:
        self.gradients.append([p.grad.clone() for p in self.layers])
        self.watch.before(inputs, labels)
        assert all(torch.equal(p.grad, g) for p, g in zip(self.layers, self.gradients[-1]))

    def after(self) -> None:
        self.watch.after()
        self.weights.append([p.detach().clone() for p in self.layers])


def trained(model: Model, data: Examples, watch: Watch | None, optimizer: Any = None) -> list[Tensor]:
    found = train(model, optimizer or Adam(), data, TRAINING, 5, watch=watch)
    return list(found.module.state_dict().values())


@pytest.mark.parametrize("model", [Noisy(), Cnn(width=4)], ids=["noisy", "cnn"])
@pytest.mark.parametrize(
    "given",
    [{"loss": exact_loss}, {"loss": mean_loss}, {"gradient": "outputs"}],
    ids=["exact", "mean", "outputs"],
)
def test_a_watched_training_is_the_same_bit_for_bit(
    model: Model, given: dict[str, Any], digits: Examples
) -> None:
    plain, watched = trained(model, digits, None), trained(model, digits, Capture(**given))
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))


def test_it_keeps_what_the_optimizer_got_and_did(digits: Examples) -> None:
    """With the trainer's own loss a batch evaluated again gives the very gradient that was there, masks and all."""
    capture = Capture(loss=mean_loss, coordinates=600, matrices=2000, seed=1)
    witness = Witness(capture)
    trained(Noisy(), digits, witness)
    assert len(capture.records) == 3
    for record in capture.records:
        steps = range(record.window.start, record.window.stop)
        for i, site in enumerate(capture.sites):
            gradients, updates = (capture.series(x)[i] for x in (record.gradients, record.updates))
            for row, step in enumerate(steps):
                before, after = (witness.weights[step + k][i] for k in (0, 1))
                assert torch.equal(gradients[row], site.sample(witness.gradients[step][i]))
                assert torch.equal(updates[row], site.sample(after) - site.sample(before))
            for snapshot in record.snapshots:
                assert torch.equal(snapshot.gradients[i], site.matrix(witness.gradients[snapshot.step][i]))
        for pair in record.pairs:
            energy = torch.stack([g.double().square().sum() for g in witness.gradients[pair.step]])
            torch.testing.assert_close(pair.gradient, energy, rtol=1e-5, atol=0)


def test_gradients_in_float32_are_those_of_a_double_network(digits: Examples) -> None:
    """Rounding of float32, whose unit is 6e-8, leaves far less than the grid of bfloat16, 4e-3."""
    capture = Capture()
    capture.begin(module := nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), 15)
    inputs, labels = digits.train_inputs[:32].float(), digits.train_labels[:32]
    expected = torch.autograd.grad(
        nn.functional.cross_entropy(
            inputs.double().flatten(1) @ module[1].weight.double().T + module[1].bias.double(), labels
        ),
        module[1].weight,
    )[0]
    with torch.autocast("cpu", torch.bfloat16):
        capture.before(inputs, labels)
        capture.after()
    found = capture.records[0].pairs[0].gradient
    assert float(found) == pytest.approx(float(expected.double().square().sum()), rel=1e-5)


class Bowl(nn.Module):
    """A loss of half (w - c)^T H (w - c), where the batch is c."""

    def __init__(self, hessian: Tensor, start: Tensor) -> None:
        super().__init__()
        self.layer = nn.Linear(len(start), 1, bias=False)
        self.layer.weight.data = start[None].clone()
        self.hessian = hessian


def bowl_loss(module: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    assert isinstance(module, Bowl)
    distance = module.layer.weight[0] - inputs
    return distance @ module.hessian @ distance / 2


def descend(bowl: Bowl, batches: Tensor, rate: float, length: int = 32) -> tuple[Capture, list[Tensor]]:
    """Gradient descent with a capture; the weights before each step and at the end."""
    capture, weight, path = Capture(loss=bowl_loss, length=length), bowl.layer.weight, []
    capture.begin(bowl, len(batches))
    for batch in batches:
        path.append(weight.detach()[0].clone())
        weight.grad = torch.autograd.grad(bowl_loss(bowl, batch, batch), weight)[0]
        capture.before(batch, batch)
        with torch.no_grad():
            weight -= rate * weight.grad
        capture.after()
    return capture, [*path, weight.detach()[0].clone()]


def test_drift_and_noise_of_a_quadratic_are_separated() -> None:
    """Drift is H (w_t+1 - w_t), noise H (c_t - c_t+1), whatever the step; the largest eigenvalue bounds |dg|/|dw|."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(20, 20, generator=generator)
    hessian = root @ root.T / 20
    batches = torch.randn(60, 20, generator=generator)
    capture, path = descend(Bowl(hessian, torch.randn(20, generator=generator)), batches, 0.2)
    largest = float(torch.linalg.eigvalsh(hessian.double())[-1])
    for record in capture.records:
        for pair in record.pairs:
            t = pair.step
            moved = path[t + 1] - path[t]
            drift, noise = hessian @ moved, hessian @ (batches[t] - batches[t + 1])
            known = [
                hessian @ (path[t] - batches[t]),
                moved,
                drift,
                noise,
                drift + noise,
            ]
            found = [pair.gradient, pair.update, pair.drift, pair.noise, pair.increment]
            for value, vector in zip(found, known, strict=True):
                assert value is not None
                assert float(value) == pytest.approx(float(vector.square().sum()), rel=1e-4)
            assert float(lipschitz(pair.drift, pair.update, pair.gradient)) <= largest * (1 + 1e-4)


def test_along_the_top_eigenvector_the_ratio_is_the_largest_eigenvalue() -> None:
    hessian = torch.diag(torch.tensor([5.0, 1.0, 0.25]))
    capture, _ = descend(Bowl(hessian, torch.tensor([3.0, 0, 0])), torch.zeros(30, 3), 0.01)
    pairs = [pair for record in capture.records for pair in record.pairs]
    assert len(pairs) == 6
    for pair in pairs:
        assert float(lipschitz(pair.drift, pair.update, pair.gradient)) == pytest.approx(5, rel=1e-4)
        assert pair.noise is None or float(pair.noise) == 0


def test_the_last_step_has_no_batch_after_it() -> None:
    capture, _ = descend(Bowl(torch.eye(2), torch.ones(2)), torch.zeros(15, 2), 0.1, length=2)
    pairs = [pair for record in capture.records for pair in record.pairs]
    assert [pair.step for pair in pairs] == [0, 1, 8, 9, 13, 14]
    assert [pair.noise is None for pair in pairs] == [False] * 5 + [True]


def test_memory_stays_within_the_bound(digits: Examples) -> None:
    capture = Capture(coordinates=500, matrices=900, length=8, snapshots=2)
    trained(Cnn(width=16), digits, capture, Sgd())
    assert sum(len(site.coordinates) for site in capture.sites) == 500
    kept = sum(record.nbytes for record in capture.records)
    assert 0 < kept <= 3 * 4 * 2 * (8 * 500 + 2 * 900)
    assert all(len(record.gradients) == len(record.updates) == 8 for record in capture.records)


class Seen(Watch):
    """Notes batches and weights before each step beside another watch."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.steps: list[tuple[Tensor, Tensor, list[Tensor]]] = []

    def begin(self, module: nn.Module, steps: int) -> None:
        self.module = module
        self.watch.begin(module, steps)

    def before(self, inputs: Tensor, labels: Tensor) -> None:
        self.steps.append((inputs.clone(), labels, [p.detach().double() for p in self.module.parameters()]))
        self.watch.before(inputs, labels)

    def after(self) -> None:
        self.watch.after()


def gradients_by_hand(
    inputs: Tensor, labels: Tensor, weights: list[Tensor], module: nn.Module
) -> tuple[Tensor, Tensor]:
    """Of logits (softmax - one hot) / n, of what a ReLU takes W' times that where it is positive: [units, pictures]."""
    first, bias, second, other = weights
    x = ((inputs.double() - module.mean.double()) / module.std.double()).flatten(1)
    hidden = x @ first.T + bias
    logits = hidden.clamp_min(0) @ second.T + other
    delta = (logits.softmax(1) - nn.functional.one_hot(labels, 10)) / len(labels)
    return ((delta @ second) * (hidden > 0)).T, delta.T


def test_gradients_of_outputs_are_those_by_hand(digits: Examples) -> None:
    """Row after row a unit, column after column a picture; where a ReLU is off exactly 0; drift on the same batch."""
    capture = Capture(gradient="outputs", matrices=2**18)
    seen = Seen(capture)
    trained(Mlp(width=24, depth=1), digits, seen)
    assert [(s.name, s.size) for s in capture.sites] == [
        ("network.1.output", 24 * 32),
        ("network.3.output", 10 * 32),
    ]
    assert all(not r.gradients and not r.updates for r in capture.records)
    for record in capture.records:
        pairs = {pair.step: pair for pair in record.pairs}
        for snapshot in record.snapshots:
            inputs, labels, weights = seen.steps[snapshot.step]
            known = gradients_by_hand(inputs, labels, weights, seen.module)
            for found, g in zip(snapshot.gradients, known, strict=True):
                torch.testing.assert_close(found.double(), g, rtol=1e-3, atol=1e-7)
            off = known[0] == 0
            assert 0.2 < float(off.double().mean()) < 0.8
            assert torch.equal(snapshot.gradients[0] == 0, off)
            assert snapshot.updates == []
            pair = pairs[snapshot.step]
            after = gradients_by_hand(inputs, labels, seen.steps[snapshot.step + 1][2], seen.module)
            drift = [float((a - b).square().sum()) for a, b in zip(after, known, strict=True)]
            assert pair.gradient.tolist() == pytest.approx([float(g.square().sum()) for g in known], rel=1e-3)
            assert pair.drift.tolist() == pytest.approx(drift, rel=2e-2)
            assert (pair.update, pair.noise, pair.increment) == (None, None, None)


def test_memory_of_outputs_stays_within_the_bound(digits: Examples) -> None:
    capture = Capture(gradient="outputs", matrices=900, snapshots=2)
    trained(Cnn(width=16), digits, capture, Sgd())
    assert [site.kind for site in capture.sites] == ["conv"] * 4 + ["linear"]
    assert [site.size for site in capture.sites] == [16 * 32 * 64] * 2 + [32 * 32 * 16] * 2 + [10 * 32]
    kept = sum(record.nbytes for record in capture.records)
    assert 0 < kept <= 3 * 4 * 2 * 900


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(InputError, match="no linear or convolutional layer"):
        Capture().begin(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4)), 100)
