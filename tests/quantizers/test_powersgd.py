from itertools import pairwise

import pytest
import torch

from qbench.codec import Code
from qbench.components import Context
from qbench.quantizers.powersgd import PowerSgd
from qbench.testing import parametrize_checks


@parametrize_checks([*(PowerSgd(**point) for point in PowerSgd.sweep), PowerSgd(rank=3, warm_start=False)])
def test_contract(quantizer, check):
    check(quantizer)


def context(state=None):
    return Context(torch.Generator().manual_seed(0), state={} if state is None else state)


def reconstruction(quantizer, x, state):
    """What comes of one message, without the core's scale."""
    codes = quantizer.encode(x, {}, context=context(state))
    return quantizer.decode(codes, {}, x.shape)


def energy(x):
    return float(x.double().square().sum())


def with_singular_values(sigma, n, m, gaussian):
    """U diag(sigma) V^T with random orthonormal factors."""
    u, v = (torch.linalg.qr(gaussian(size, len(sigma)).double()).Q for size in (n, m))
    return (u * torch.tensor(sigma, dtype=torch.float64) @ v.T).float()


@pytest.mark.parametrize("rank", [1, 2, 4])
@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (30, 10, 4)])
def test_exact_where_the_matrix_has_no_higher_rank(code, gaussian, rank, shape):
    """Up to float32: 1e-10 of the energy is 1e-5 of the norm."""
    x = (gaussian(shape[0], rank) @ gaussian(rank, 40 if shape[0] == 30 else 30)).reshape(shape)
    for quantizer in (PowerSgd(rank=rank), PowerSgd(rank=4, seed=7)):
        assert energy(code(quantizer, x).reconstruction - x) < 1e-10 * energy(x)


def test_a_row_that_is_orthogonal_to_plain_signs_is_found(code):
    x = torch.ones(20, 1) * torch.tensor([1.0, -1.0]).repeat(10)
    assert energy(code(PowerSgd(rank=1), x).reconstruction - x) < 1e-10 * energy(x)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_repeated_with_a_warm_start_it_reaches_the_best_approximation(gaussian, rank):
    """Eckart-Young: the best error is the sum of the squares of the other singular values.

    One message multiplies the angle to the best subspace by (s_(r+1) / s_r)^2 <= 1/4: below 1e-7 after 20.
    """
    sigma = [8.0, 4.0, 2.0, 1.0, 0.5]
    x = with_singular_values(sigma, 50, 40, gaussian)
    state, errors = {}, []
    for _ in range(20):
        errors.append(energy(reconstruction(PowerSgd(rank=rank), x, state) - x))
    best = sum(s * s for s in sigma[rank:])
    assert errors[0] > 1.001 * best
    assert errors[-1] == pytest.approx(best, rel=1e-5)
    assert all(later < earlier + 1e-4 * best for earlier, later in pairwise(errors))


def test_without_a_warm_start_every_message_has_another_error(gaussian):
    x, state = gaussian(50, 40), {}
    quantizer = PowerSgd(rank=1, warm_start=False)
    errors = [energy(reconstruction(quantizer, x, state) - x) for _ in range(3)]
    assert len(set(errors)) == 3
    assert errors[0] == energy(reconstruction(quantizer, x, {}) - x)


def test_the_projection_takes_energy_exactly(gaussian):
    """M^ = P P^T M with orthonormal P: |M|^2 = |M^|^2 + |M - M^|^2."""
    x = gaussian(60, 50)
    y = reconstruction(PowerSgd(rank=4), x, {})
    assert energy(y) + energy(x - y) == pytest.approx(energy(x), rel=1e-5)


def test_a_warm_start_recovers_from_zeros_and_from_lower_rank(gaussian):
    state = {}
    for x in (torch.zeros(30, 20), gaussian(30, 1) @ gaussian(1, 20), gaussian(30, 2) @ gaussian(2, 20)):
        y = reconstruction(PowerSgd(rank=2), x, state)
        assert energy(y - x) <= 1e-9 * energy(x)


def exchange(quantizer, tensors, states):
    """An all-reduce in a loop: the mean of what the workers yield is sent to all of them."""
    workers = [quantizer.exchange(x, context=context(s)) for x, s in zip(tensors, states, strict=True)]
    messages, rounds = [next(worker) for worker in workers], 0
    while True:
        rounds += 1
        mean = {name: torch.stack([message[name] for message in messages]).mean(0) for name in messages[0]}
        replies = [_send(worker, mean) for worker in workers]
        if replies[0][0] == "done":
            return [value for _, value in replies], rounds
        messages = [value for _, value in replies]


def _send(worker, mean):
    try:
        return "more", worker.send(mean)
    except StopIteration as end:
        return "done", end.value


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_workers_receive_the_code_of_their_mean(gaussian, workers):
    """Lemma 3: what W workers exchange is what one worker makes of the mean gradient, step after step."""
    states, alone = [{} for _ in range(workers)], {}
    for step in range(4):
        tensors = [gaussian(24, 6, 5, seed=10 * step + w) for w in range(workers)]
        means, rounds = exchange(PowerSgd(rank=2), tensors, states)
        expected = reconstruction(PowerSgd(rank=2), torch.stack(tensors).mean(0), alone)
        assert rounds == 2
        assert all(torch.equal(mean, means[0]) for mean in means)
        assert torch.allclose(means[0], expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_vectors_are_exchanged_as_they_are(gaussian):
    tensors = [gaussian(24, seed=w) for w in range(3)]
    means, rounds = exchange(PowerSgd(), tensors, [{} for _ in tensors])
    assert rounds == 1
    assert torch.equal(means[0], torch.stack(tensors).mean(0))


@pytest.mark.parametrize(
    ("shape", "floats"), [((100,), 100), ((64, 27), 2 * 91), ((8, 2, 4), 2 * 16), ((4, 4), 16), ((), 1)]
)
def test_floats_that_are_sent(code, gaussian, shape, floats):
    """(n + m) r, or n m where that is not more."""
    coded = code(PowerSgd(rank=2), gaussian(*shape))
    assert sum(tensor.numel() for tensor in coded.codes.values()) == floats
    assert 0 <= coded.nbytes - 4 * floats < 16


def test_values_beyond_every_range_stay_finite(gaussian):
    x = gaussian(30, 20)
    coder = Code(PowerSgd(rank=2))
    codebook = coder.fit(x, context())
    for factor in (1e38, 1e-38):
        y = coder.decode(coder.encode(x * factor, codebook, context()), codebook, x.shape)
        assert bool(torch.isfinite(y).all())
