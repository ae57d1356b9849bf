"""What a step of data-parallel training is, workers in turn: whose part, whose buffers, which bytes, added up how."""

import pytest
import torch
from torch import Tensor, nn

from qbench.channel import Channel
from qbench.components import Examples, Quantizer
from qbench.data_parallel import Scheme, Simulated, Traffic, mean_of
from qbench.errors import InputError
from qbench.models.mlp import Mlp
from qbench.optimizers.momentum import Momentum
from qbench.quantizers.lattice_quantizer import LatticeQuantizer
from qbench.quantizers.powersgd import PowerSgd
from qbench.quantizers.predictive import Predictive
from qbench.quantizers.qsgd import QSGD
from qbench.quantizers.signsgd import SignSGD
from qbench.training import Training, plain_backward, train


def scheme(quantizer: Quantizer | None = None, workers: int = 2, **changed: object) -> Scheme:
    given = {"error_feedback": False, "granularity": "layer", "seed": 0, **changed}
    return Scheme(quantizer, workers, **given)


def batch(count: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 6, generator=generator), torch.randint(3, (count,), generator=generator)


def network(*layers: nn.Module) -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Sequential(*layers, nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.grad.clone() for name, parameter in module.named_parameters()}


def part_gradients(module: nn.Module, workers: int) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Of each worker's part alone, by the trainer's own loss."""
    inputs, labels = batch()
    size, losses, found = len(inputs) // workers, [], []
    for at in range(0, len(inputs), size):
        losses.append(plain_backward(module, inputs[at : at + size], labels[at : at + size]))
        found.append(gradients(module))
    return losses, found


@pytest.mark.parametrize("workers", [1, 3])
def test_floats_are_the_mean_of_the_parts_gradients(workers: int) -> None:
    module = network()
    losses, parts = part_gradients(module, workers)
    loss = Simulated(scheme(None, workers))(module, *batch())
    assert torch.equal(loss, torch.stack(losses).mean())
    for name, found in gradients(module).items():
        added = sum((part[name] for part in parts[1:]), parts[0][name])
        assert torch.equal(found, added / workers)


@pytest.mark.parametrize("granularity", ["layer", "model"])
def test_one_worker_whose_code_loses_nothing_trains_as_if_alone(
    kept: type[Quantizer], digits: Examples, granularity: str
) -> None:
    training = Training(epochs=1, batch_size=128)
    given = (Mlp(width=8, depth=1), Momentum(lr=0.1), digits, training, 0)
    alone = train(*given).module.state_dict()
    coded = train(*given, backward=Simulated(scheme(kept(), 1, granularity=granularity))).module.state_dict()
    assert all(torch.equal(alone[name], coded[name]) for name in alone)


@pytest.mark.parametrize(
    "quantizer", [SignSGD(), Predictive(inner=SignSGD()), LatticeQuantizer(dither="subtractive")], ids=str
)
@pytest.mark.parametrize("granularity", ["layer", "model"])
@pytest.mark.parametrize("error_feedback", [False, True])
def test_the_gradient_is_the_mean_of_what_channels_reconstruct(
    quantizer: Quantizer, granularity: str, error_feedback: bool
) -> None:
    """Sites are parameters in their order, or all of them as one vector; memory and prediction count in later steps."""
    module, workers = network(), 3
    backward = Simulated(scheme(quantizer, workers, granularity=granularity, error_feedback=error_feedback))
    channel, sent = Channel(quantizer, error_feedback=error_feedback), [0] * workers
    for _ in range(3):
        _, parts = part_gradients(module, workers)
        backward(module, *batch())
        total: dict[str, Tensor] = {}
        for worker, part in enumerate(parts):
            flat = {"model": torch.cat([gradient.flatten() for gradient in part.values()])}
            for site, x in (part if granularity == "layer" else flat).items():
                message = channel.send(x, site=site, worker=worker)
                sent[worker] += len(message.to_bytes())
                y = message.reconstruction
                total[site] = total[site] + y if site in total else y
        found = gradients(module)
        if granularity == "model":
            found = {"model": torch.cat([gradient.flatten() for gradient in found.values()])}
        assert all(torch.equal(found[site], total[site] / workers) for site in total)
    assert [traffic.up_nbytes for traffic in backward.traffic] == sent
    assert [traffic.down_nbytes for traffic in backward.traffic] == [sum(sent) - own for own in sent]


def test_a_collective_is_reduced_and_floats_are_counted_once_each_way() -> None:
    """Rank 1 exchanges (5 + 6) + (3 + 5) floats of the weights, 5 + 3 of the biases, beside shapes and exponents."""
    module = network()
    backward = Simulated(scheme(PowerSgd(rank=1), 2, error_feedback=True))
    channel = Channel(PowerSgd(rank=1), error_feedback=True)
    for _ in range(2):
        _, parts = part_gradients(module, 2)
        backward(module, *batch())
        for site, found in gradients(module).items():
            assert torch.equal(found, channel.all_reduce([part[site] for part in parts], site=site).mean)
    floats = 4 * (5 + 6 + 3 + 5 + 5 + 3)
    for traffic in backward.traffic:
        assert 2 * floats < traffic.down_nbytes < traffic.up_nbytes < 2 * (floats + 80)
    plain = Simulated(scheme(None, 2))
    plain(module, *batch())
    count = sum(parameter.numel() for parameter in module.parameters())
    assert [(one.up_nbytes, one.down_nbytes) for one in plain.traffic] == [(4 * count, 4 * count)] * 2


def test_buffers_are_those_of_the_first_worker() -> None:
    """Running mean after one step from 0: momentum .1 times the mean of the first half; one batch is counted."""
    module, (inputs, labels) = network(nn.BatchNorm1d(6)), batch()
    Simulated(scheme(SignSGD(), 2))(module, inputs, labels)
    torch.testing.assert_close(module[0].running_mean, 0.1 * inputs[:6].mean(0))
    assert int(module[0].num_batches_tracked) == 1


def test_dropout_depends_on_seed_step_and_worker_alone() -> None:
    """Equal halves of a batch: each worker drops others, in every step others, and the same ones again."""

    def step_losses(seed: int, disturb: bool) -> list[float]:
        module, (inputs, labels) = network(nn.Dropout(0.5)), batch()
        both = torch.cat([inputs, inputs]), torch.cat([labels, labels])
        backward = Simulated(scheme(None, 2, seed=seed))
        losses = []
        for step in range(2):
            if disturb:
                torch.rand(7)
            for worker in range(2):
                loss = backward.scheme.loss(module, module, *both, step, worker)
                losses.append(float(loss.detach()))
        return losses

    with torch.random.fork_rng([]):
        plain = step_losses(0, disturb=False)
        assert plain == step_losses(0, disturb=True)
        assert len(set(plain)) == 4
        assert not set(plain) & set(step_losses(1, disturb=False))


def test_what_traffic_says_of_a_step() -> None:
    """g = (3, 4), g^ = (3, 0): error 16 / 25, projection 9 / 25; a gradient of zeros loses nothing."""
    traffic = Traffic()
    traffic.reconstructed([(torch.tensor([3.0]), torch.tensor([3.0])), (torch.tensor([4.0]), torch.zeros(1))])
    traffic.reconstructed([(torch.zeros(2), torch.zeros(2))])
    assert traffic.errors == [16 / 25, 0]
    assert traffic.projections == [9 / 25, 1]


@pytest.mark.parametrize("n", [128, 512])
def test_relative_variance_of_qsgd_on_gaussian_gradients(n: int) -> None:
    """E |g^ - g|^2 / |g|^2 as tabulated for buckets of n at s = 15; no bias: in 4 standard errors."""
    expected, error = {128: (0.09479, 0.00005), 512: (0.3792, 0.0001)}[n]
    channel, traffic = Channel(QSGD(levels=15, bucket_size=n)), Traffic()
    for row in torch.randn(400, n, generator=torch.Generator().manual_seed(n)):
        traffic.reconstructed([(row, channel.send(row, site="g").reconstruction)])
    found = torch.tensor(traffic.errors, dtype=torch.float64)
    bias = torch.tensor(traffic.projections, dtype=torch.float64) - 1
    assert abs(float(found.mean()) - expected) < 4 * (float(found.std()) / 20 + error)
    assert abs(float(bias.mean())) < 4 * float(bias.std()) / 20


def test_adding_up_has_an_order() -> None:
    ones = [torch.tensor([1e8]), torch.tensor([1.0]), torch.tensor([-1e8])]
    assert float(mean_of(ones)) == 0.0
    assert float(mean_of([ones[0], ones[2], ones[1]])) == pytest.approx(1 / 3)
    assert float(ones[0]) == 1e8


def test_a_batch_without_equal_parts_is_refused() -> None:
    with pytest.raises(InputError, match=r"batch of 12 examples has no 5 equal parts; choose a batch_size"):
        Simulated(scheme(None, 5))(network(), *batch())


def test_what_is_no_longer_finite_is_named() -> None:
    module, (inputs, labels) = network(), batch()
    inputs[7] = float("nan")
    with pytest.raises(FloatingPointError, match="loss of worker 1 in step 0 is nan; lower lr"):
        Simulated(scheme(SignSGD(), 2))(module, inputs, labels)
    with pytest.raises(FloatingPointError, match=r"gradient of a has values that are not finite"):
        scheme().sites({"a": torch.tensor([float("inf")])})


def test_parts_are_taken_in_order() -> None:
    inputs, _ = batch()
    found = [scheme(None, 3).part(inputs, worker) for worker in range(3)]
    assert torch.equal(torch.cat(found), inputs)
    assert {len(part) for part in found} == {4}
