"""Repeated messages: bytes as they would be sent, error feedback, and exchanges among workers."""

import math

import pytest
import torch
from torch import Tensor

import qbench
from qbench import Stream
from qbench.channel import Channel, Receiver
from qbench.components import Collective
from qbench.errors import InputError, InvalidReconstructionError, PayloadError, PluginError
from qbench.message import nbytes, pack, schema
from qbench.quantizers.binary import Binary
from qbench.quantizers.drive import Drive
from qbench.quantizers.lattice_quantizer import LatticeQuantizer
from qbench.quantizers.lloyd_max import LloydMax
from qbench.quantizers.powersgd import PowerSgd
from qbench.quantizers.stochastic_rounding import StochasticRounding
from qbench.quantizers.topk import TopK
from qbench.quantizers.uniform import Uniform

QUANTIZERS = [
    Uniform(bits=4, scheme="asymmetric"),
    LloydMax(bits=2),
    Binary(),
    StochasticRounding(bits=3),
    TopK(fraction=0.1),
    Drive(bits=2),
    PowerSgd(rank=2),
]


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def norm(x: Tensor) -> float:
    return float(torch.linalg.vector_norm(x, dtype=torch.float64))


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
@pytest.mark.parametrize("error_feedback", [False, True])
def test_bytes_counted_are_bytes_that_a_receiver_reads(
    quantizer: qbench.Quantizer, error_feedback: bool
) -> None:
    channel, receiver = Channel(quantizer, error_feedback=error_feedback), Receiver(quantizer)
    for step in range(5):
        x = gaussian(24, 6, 5, seed=step) * 10.0 ** (3 * step - 6)
        sent = channel.send(x, site="conv")
        data = sent.to_bytes()
        assert sent.nbytes == len(data)
        assert torch.equal(receiver.receive(data, x.shape), sent.reconstruction)


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_the_schema_is_charged_once(quantizer: qbench.Quantizer) -> None:
    """One byte of mark, then what two packed messages take, less both schemas from the second message on."""
    channel = Channel(quantizer)
    for step in range(3):
        sent = channel.send(gaussian(24, 30, seed=step), site="a")
        whole = len(pack(sent.codebook)) + len(pack(sent.codes))
        assert whole == nbytes(sent.codebook) + nbytes(sent.codes)
        schemas = len(schema(sent.codebook)) + len(schema(sent.codes))
        assert sent.nbytes == 1 + whole - (schemas if step else 0)
    for other in (
        channel.send(gaussian(24, 30), site="b"),
        channel.send(gaussian(24, 30), site="a", worker=1),
    ):
        assert other.new_schema == (True, True)


class Leaky(qbench.Quantizer):
    """Sends the sign of the sum as a number of levels."""

    name = "leaky"

    def fit(self, x, *, context):
        return {}

    def encode(self, x, codebook, *, context):
        return {"none": Stream(torch.zeros(1), 2 if float(x.sum()) > 0 else 200)}

    def decode(self, codes, codebook, shape):
        return torch.full(shape, 0.5 if codes["none"].levels == 2 else -0.5)


def test_a_schema_that_changes_is_charged_again() -> None:
    channel, receiver = Channel(Leaky()), Receiver(Leaky())
    expected = [(1, True), (1, False), (-1, True), (-1, False), (1, True)]
    for sign, new in expected:
        x = torch.full((8,), 0.7 * sign)
        sent = channel.send(x, site="a")
        assert sent.new_schema[1] is new
        assert torch.equal(receiver.receive(sent.to_bytes(), x.shape), torch.full((8,), 0.5 * sign))


@pytest.mark.parametrize("data", [b"", b"\x04", b"\x00", b"\x03\x01"])
def test_damaged_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(PayloadError):
        Receiver(Binary()).receive(data, torch.Size([4]))


def test_bytes_that_follow_are_refused() -> None:
    data = Channel(Binary()).send(torch.ones(4), site="a").to_bytes()
    with pytest.raises(PayloadError, match="1 bytes follow"):
        Receiver(Binary()).receive(data + b"!", torch.Size([4]))


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=str)
def test_with_feedback_reconstructions_add_up_to_inputs_less_the_memory(quantizer: qbench.Quantizer) -> None:
    """Telescoping. Each step rounds x + e and p - p^ once each: 2^-24 of what they add, 100 times."""
    channel = Channel(quantizer, error_feedback=True)
    total, received, rounding = torch.zeros(20, 15), torch.zeros(20, 15), 0.0
    total, received = total.double(), received.double()
    for step in range(50):
        x = gaussian(20, 15, seed=step) + 0.3
        y = channel.send(x, site="w").reconstruction
        total, received = total + x, received + y
        memory = channel.memory("w")
        assert memory is not None
        rounding += 2.0**-24 * float((2 * memory.abs() + x.abs() + y.abs()).max())
    assert float((total - received - memory).abs().max()) <= 2 * rounding


def test_half_precision_owes_what_its_dtype_lost() -> None:
    channel = Channel(LloydMax(bits=8), error_feedback=True)
    x = (gaussian(300) * 100).half()
    sent = channel.send(x, site="w")
    assert sent.reconstruction.dtype == torch.float16
    assert torch.equal(channel.memory("w"), x.float() - sent.reconstruction.float())


def test_streams_do_not_share_memory_or_randomness() -> None:
    channel = Channel(StochasticRounding(bits=2), error_feedback=True)
    x = gaussian(200)
    first = channel.send(x, site="a")
    others = [channel.send(x, site="b"), channel.send(x, site="a", worker=1)]
    assert all(not torch.equal(first.reconstruction, other.reconstruction) for other in others)
    assert torch.equal(channel.memory("a"), x - first.reconstruction)
    assert torch.equal(channel.memory("a", 1), x - others[1].reconstruction)
    assert channel.memory("c") is None
    again = Channel(StochasticRounding(bits=2), error_feedback=True)
    assert torch.equal(again.send(x, site="a").reconstruction, first.reconstruction)
    other_seed = Channel(StochasticRounding(bits=2), seed=1)
    assert not torch.equal(other_seed.send(x, site="a").reconstruction, first.reconstruction)


def test_without_feedback_nothing_is_kept() -> None:
    channel = Channel(Binary())
    x = gaussian(100)
    first, second = (channel.send(x, site="a").reconstruction for _ in range(2))
    assert torch.equal(first, second)
    assert channel.memory("a") is None


def least_squares_by_signs(error_feedback: bool) -> Tensor:
    """500 steps of f(x) = (<a_1, x>^2 + <a_2, x>^2) / 2 from (1, 1), one row at a time, a = (2, -1) and (1, -2)."""
    channel = Channel(Binary(granularity="tensor"), error_feedback=error_feedback)
    rows, x = torch.tensor([[2.0, -1.0], [1.0, -2.0]]), torch.ones(2)
    for step in range(500):
        a = rows[step % 2]
        x = x - channel.send(0.05 * (a @ x) * a, site="x").reconstruction
    return 0.5 * (rows @ x).square().sum()


def test_feedback_makes_signs_converge_where_alone_they_cannot() -> None:
    """Every gradient has signs (1, -1) or (-1, 1), so plain signs leave x_1 + x_2 = 2, where f >= 1; the minimum is 0.

    Reference: Karimireddy et al. 2019, "Error Feedback Fixes SignSGD", the least-squares counterexample of section 3.
    """
    assert float(least_squares_by_signs(error_feedback=False)) >= 1 - 1e-5
    assert float(least_squares_by_signs(error_feedback=True)) < 1e-6


@pytest.mark.parametrize("fraction", [0.05, 0.2])
def test_the_memory_of_a_contraction_is_bounded(fraction: float) -> None:
    """|p - p^| <= sqrt(1 - k/d) |p|, so |e| <= G q / (1 - q), q = sqrt(1 - k/d), where |x| <= G.

    Reference: Stich, Cordonnier, Jaggi 2018, "Sparsified SGD with Memory", definition 2.1; the sum is geometric.
    """
    d, q, largest = 100, math.sqrt(1 - fraction), []
    for inputs in (lambda step: gaussian(d, seed=step), lambda step: torch.ones(d)):
        channel = Channel(TopK(fraction=fraction), error_feedback=True)
        for step in range(200):
            x = inputs(step)
            channel.send(x / norm(x), site="w")
            memory = channel.memory("w")
            assert memory is not None
            largest.append(norm(memory))
    assert max(largest) <= q / (1 - q) * (1 + 1e-5)
    assert max(largest) > 1.5  # more than one message is owed: the bound says something


def test_every_coordinate_of_a_constant_is_sent_in_its_turn() -> None:
    """Top 1 of 4 with memory: what is owed stays bounded, so the mean error falls as 1 / T."""
    channel, x = Channel(TopK(fraction=0.25), error_feedback=True), torch.tensor([1.0, 0.9, 0.8, 0.7])
    received = torch.zeros(4)
    for _ in range(100):
        received += channel.send(x, site="w").reconstruction
    assert float((received / 100 - x).abs().max()) < 4 / 100


class Witness(qbench.Quantizer):
    """Sends how often it was used and what it was told."""

    name = "witness"

    def fit(self, x, *, context):
        return {}

    def encode(self, x, codebook, *, context):
        context.state["used"] = context.state.get("used", 0) + 1
        public = context.public
        told = [context.state["used"], public["step"], public["worker"], public.get("bucket", -1)]
        return {"told": torch.tensor(told)}

    def decode(self, codes, codebook, shape):
        return torch.zeros(shape)


def test_state_and_public_knowledge_belong_to_a_stream() -> None:
    channel, x = Channel(Witness()), torch.ones(3)
    told = [channel.send(x, site="a", worker=w).codes["told"].tolist() for w in (0, 0, 1, 0)]
    assert told == [[1, 0, 0, -1], [2, 1, 0, -1], [1, 0, 1, -1], [3, 2, 0, -1]]
    assert channel.send(x, site="b", public={"bucket": 5}).codes["told"].tolist() == [1, 0, 0, 5]


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (torch.empty(0), "nothing to send at site 'w'"),
        (None, "nothing to send"),
        (torch.arange(4), "a tensor of"),
        (torch.tensor([1.0, math.nan]), "1 of 2 elements are NaN"),
        (torch.ones(3), r"has sent tensors of shape \(2,\), this one is \(3,\)"),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(x: Tensor, match: str) -> None:
    channel = Channel(TopK(fraction=0.5), error_feedback=True)
    channel.send(torch.tensor([1.0, 0.5]), site="w")
    with pytest.raises(InputError, match=match):
        channel.send(x, site="w")
    assert channel.memory("w").tolist() == [0.0, 0.5]
    assert channel.send(torch.tensor([1.0, 0.75]), site="w").reconstruction.tolist() == [0.0, 1.25]


@pytest.mark.parametrize("scale", [1e-40, 1.0, 1e37])
def test_workers_reduce_to_the_code_of_their_mean(scale: float) -> None:
    """Lemma 3 of PowerSGD, through the channel: 4 workers and one that has their mean, with a warm start."""
    together, alone = Channel(PowerSgd(rank=2)), Channel(PowerSgd(rank=2))
    for step in range(3):
        xs = [gaussian(16, 12, seed=10 * step + w) * scale for w in range(4)]
        mean = together.all_reduce(xs, site="w").mean
        expected = alone.send(torch.stack(xs).double().mean(0).float(), site="w").reconstruction
        assert mean.shape == xs[0].shape
        assert float((mean - expected).abs().max()) < 1e-4 * float(expected.abs().max())


def test_bytes_of_a_reduction() -> None:
    """Floats (n + m) r up and down for each worker; 2 bytes of exponent and a shape of 3 bytes for each factor.

    Up also go a mark for each round, and in the first step its schema: an entry, a name of one letter, a kind.
    """
    channel, workers = Channel(PowerSgd(rank=2)), 3
    xs = [gaussian(16, 12, seed=w) for w in range(workers)]
    floats = 4 * 2 * (16 + 12)
    first, second = channel.all_reduce(xs, site="w"), channel.all_reduce(xs, site="w")
    assert second.down_nbytes == first.down_nbytes == workers * (floats + 2 + 2 * 3)
    assert second.up_nbytes == second.down_nbytes + workers * 2
    assert first.up_nbytes == second.up_nbytes + workers * 2 * 4


def test_feedback_among_workers_adds_up_in_the_mean() -> None:
    """The sum of the means received is the sum of mean inputs less the mean memory, and it converges for a constant."""
    channel = Channel(PowerSgd(rank=1), error_feedback=True)
    xs = [gaussian(12, 10, seed=w) for w in range(3)]
    received = torch.zeros(12, 10)
    for _ in range(60):
        received += channel.all_reduce(xs, site="w").mean
    mean = torch.stack(xs).mean(0)
    memory = torch.stack([channel.memory("w", worker) for worker in range(3)]).mean(0)
    assert float((60 * mean - received - memory).abs().max()) < 1e-3
    plain = Channel(PowerSgd(rank=1)).all_reduce(xs, site="w").mean
    assert norm(received / 60 - mean) < 0.3 * norm(plain - mean)


def test_a_quantizer_that_is_no_collective_is_refused() -> None:
    with pytest.raises(InputError, match="no collective; send each"):
        Channel(Binary()).all_reduce([torch.ones(3)], site="w")


@pytest.mark.parametrize("xs", [[], [torch.ones(3), torch.ones(4)]])
def test_workers_need_tensors_of_one_shape(xs: list[Tensor]) -> None:
    with pytest.raises(InputError, match="of one shape"):
        Channel(PowerSgd()).all_reduce(xs, site="w")


class Disagreeing(qbench.Quantizer, Collective):
    """Breaks an exchange in the way its worker's first value says."""

    name = "disagreeing"

    def fit(self, x, *, context):
        return {}

    def encode(self, x, codebook, *, context):
        return {}

    def decode(self, codes, codebook, shape):
        return torch.zeros(shape)

    def exchange(self, x, *, context):
        fault = context.public["fault"] if context.public["worker"] else None
        further = {"y": x} if fault == "more" else {}
        yield {"other" if fault == "name" else "x": x[:2] if fault == "shape" else x, **further}
        if fault == "rounds":
            yield {"x": x}
        return x[:2] if fault == "result" else x


@pytest.mark.parametrize(
    ("fault", "error", "match"),
    [
        ("name", PluginError, r"exchange \['x'\] and \['other'\]"),
        ("more", PluginError, r"exchange \['x'\] and \['x', 'y'\]"),
        ("shape", PluginError, "of one shape at all"),
        ("rounds", PluginError, "only some workers ended after 1 rounds"),
        ("result", InvalidReconstructionError, r"finite values of shape \(4,\)"),
    ],
)
def test_an_exchange_that_does_not_match_is_named(fault: str, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=f"disagreeing.*{match}"):
        Channel(Disagreeing()).all_reduce([torch.ones(4)] * 2, site="w", public={"fault": fault})


def test_feedback_that_diverges_says_so() -> None:
    """Not a fault of x: its variance is 18 times what is sent, and so what is owed grows."""
    channel = Channel(LatticeQuantizer(beta=16.0, dither="subtractive"), error_feedback=True)
    x = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    with pytest.raises(FloatingPointError, match=r"error feedback diverges at site 'w'.*use it without"):
        send_often(channel, x)


def send_often(channel: Channel, x: Tensor) -> None:
    for _ in range(200):
        channel.send(x, site="w")
