import itertools
import math

import pytest
import scipy.stats
import torch

from qbench.components import Context
from qbench.quantizers.trellis import Trellis, code_table, quantiles, states, viterbi, walks
from qbench.testing import parametrize_checks


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def every_walk(state_bits, bits, length):
    """All sequences of states in which the upper bits of one are the lower bits of the one before, [walks, T]."""
    mask = 2**state_bits - 1
    found = []
    for first in range(2**state_bits):
        for symbols in itertools.product(range(2**bits), repeat=length - 1):
            walk = [first]
            for symbol in symbols:
                walk.append(walk[-1] << bits & mask | symbol)
            found.append(walk)
    return torch.tensor(found)


def squared_errors(x, c, walk):
    """Of sequences [n, T] to all walks [walks, T], [n, walks], float64."""
    return (x.double()[:, None] - c.double()[walk]).square().sum(2)


def own_errors(x, c, walk):
    """Of sequences [n, T] to a walk each [n, T], [n], float64."""
    return (x.double() - c.double()[walk]).square().sum(1)


CASES = [(4, 1, 6), (4, 2, 4), (5, 3, 3), (3, 2, 5)]


@pytest.mark.parametrize(("state_bits", "bits", "length"), CASES)
def test_viterbi_finds_the_best_of_all_walks(state_bits, bits, length):
    c = torch.randn(2**state_bits, generator=generator(1))
    x = torch.randn(40, length, generator=generator(2))
    best = squared_errors(x, c, every_walk(state_bits, bits, length)).amin(1)
    torch.testing.assert_close(own_errors(x, c, viterbi(x, c, bits)), best, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("state_bits", "bits", "length"), CASES)
def test_viterbi_finds_the_best_of_all_walks_with_an_overlap(state_bits, bits, length):
    c = torch.randn(2**state_bits, generator=generator(1))
    x = torch.randn(40, length, generator=generator(2))
    ends = 2 ** (state_bits - bits)
    overlap = torch.randint(ends, (40,), generator=generator(3))
    every = every_walk(state_bits, bits, length)
    fits = (every[:, 0] >> bits == overlap[:, None]) & (every[:, -1] % ends == overlap[:, None])
    best = squared_errors(x, c, every).masked_fill(~fits, torch.inf).amin(1)
    found = viterbi(x, c, bits, overlap)
    assert torch.equal(found[:, 0] >> bits, overlap)
    assert torch.equal(found[:, -1] % ends, overlap)
    torch.testing.assert_close(own_errors(x, c, found), best, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("state_bits", "bits", "length"), [(4, 1, 8), (4, 2, 5), (5, 2, 4)])
def test_a_tail_biting_walk_is_the_best_that_its_overlap_admits(state_bits, bits, length):
    c = torch.randn(2**state_bits, generator=generator(1))
    x = torch.randn(40, length, generator=generator(2))
    every = states(torch.tensor(list(itertools.product(range(2**bits), repeat=length))), bits, len(c))
    errors = squared_errors(x, c, every)
    found = states(walks(x, c, bits), bits, len(c))
    same_overlap = every[:, 0] >> bits == (found[:, 0] >> bits)[:, None]
    best = errors.masked_fill(~same_overlap, torch.inf).amin(1)
    torch.testing.assert_close(own_errors(x, c, found), best, rtol=1e-5, atol=1e-6)


def test_states_are_windows_over_a_ring_of_symbols():
    symbols = torch.randint(4, (3, 9), generator=generator())
    for row, found in zip(symbols.tolist(), states(symbols, 2, 2**7).tolist(), strict=True):
        ring = "".join(f"{symbol:02b}" for symbol in row)
        assert found == [int((ring * 2)[: len(ring) + 2 * t + 2][-7:], 2) for t in range(9)]


@pytest.mark.parametrize("state_bits", [6, 10, 16])
def test_quantiles_are_those_of_the_normal_distribution(state_bits):
    table, count = quantiles(state_bits), 2**state_bits
    exact = 4096 * scipy.stats.norm.ppf((torch.arange(count).double() + 0.5) / count)
    assert float((table - torch.from_numpy(exact)).abs().max()) < 0.5 + 1e-8


def test_no_quantile_is_so_near_a_half_that_machines_could_round_it_apart():
    """Libraries agree on a quantile to about 1e-15 of it: 1e-11 in units of 1/4096, with a thousandfold margin."""
    for state_bits in range(6, 17):
        count = 2**state_bits
        exact = 4096 * scipy.stats.norm.ppf((torch.arange(count).double() + 0.5) / count)
        assert abs(exact % 1 - 0.5).min() > 1e-8


@pytest.mark.parametrize("state_bits", [6, 10, 16])
def test_every_quantile_belongs_to_one_state(state_bits):
    table = code_table("quantiles", state_bits)
    assert torch.equal(table.sort().values * 4096, quantiles(state_bits).float())
    for state in (0, 1, 5, 2**state_bits - 1):
        place = state * (state + 1) // 2 % 2**state_bits
        assert float(table[state]) * 4096 == int(quantiles(state_bits)[place])


def test_1mad_adds_the_bytes_of_a_congruential_number():
    table = code_table("1mad", 16)
    for state in (0, 1, 77, 65535):
        word = (34038481 * state + 76625530) % 2**32
        assert float(table[state]) * 128 == sum(word.to_bytes(4, "little")) - 510
    # four uniform bytes: variance 4 (256^2 - 1) / 12 about 510; the states cover them nearly evenly
    assert float((128 * table).mean()) == pytest.approx(0, abs=1)
    assert float((128 * table).std()) == pytest.approx(math.sqrt((256**2 - 1) / 3), rel=0.01)


@pytest.mark.parametrize("name", ["quantiles", "1mad"])
def test_decodes_by_the_formula(code, gaussian, name):
    """Element by element with Python's integers: 300 is a sequence of 256 and one of 44."""
    x = gaussian(300)
    coded = code(Trellis(bits=3, state_bits=8, code=name), x)
    symbols = coded.codes["symbols"].values.tolist()
    table, expected = code_table(name, 8), []
    for ring in (symbols[:256], symbols[256:]):
        for t in range(len(ring)):
            state = ring[t - 2] << 6 | ring[t - 1] << 3 | ring[t]
            expected.append(table[state % 256])
    unit = x.abs().max().log2().floor().add(1).exp2() * coded.codebook["scale"]
    assert torch.equal(coded.reconstruction, torch.stack(expected) * unit)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_bits_per_element_are_exact(code, gaussian, bits):
    """The codes are bit planes; counts and schema are the few bytes that 512 elements more do not add to."""
    quantizer = Trellis(bits=bits, state_bits=6)
    few, many = code(quantizer, gaussian(600)), code(quantizer, gaussian(1112))
    assert 8 * (many.nbytes - few.nbytes) == bits * 512
    assert few.codes["symbols"].values.numel() == 600
    # a ring of symbols holds a state at least
    assert code(quantizer, gaussian(1)).codes["symbols"].values.numel() == math.ceil(6 / bits)


def test_more_state_bits_lose_less_and_none_less_than_the_limit(code, gaussian, z_score, gain_z):
    """Between Lloyd-Max's .1175 and D(R) = 1/16 at 2 bits, each step by more than 4 paired standard errors."""
    x, errors = gaussian(128, 256), []
    for state_bits in (6, 8, 10):
        y = code(Trellis(state_bits=state_bits), x, fitted_on=gaussian(2**15, seed=1)).reconstruction
        assert z_score(x, y, 0.117482) < -4
        assert z_score(x, y, 0.0625) > 4
        errors.append((x - y).double().square().mean(1))
    for worse, better in itertools.pairwise(errors):
        assert gain_z(worse, better) > 4


def test_biting_the_tail_costs_no_more_than_the_bits_it_saves():
    """A free walk may choose L - k bits more in T elements: at a slope of D ~ 4^-R worth 4^((L - k) / T)."""
    c, x = code_table("quantiles", 10), torch.randn(64, 256, generator=generator(4))
    free = own_errors(x, c, viterbi(x, c, 2))
    biting = own_errors(x, c, states(walks(x, c, 2), 2, len(c)))
    excess = biting - free * 4 ** (8 / 256)
    assert bool((biting >= free - 1e-4).all())
    assert float(excess.mean()) < 4 * float(excess.std()) / 8


def test_a_scale_is_found_that_no_other_beats(laplacian, gain_z):
    """Over four octaves in steps of 2^(1/4): none by 4 paired standard errors over 64 sequences.

    The trellis has more states than the search uses.
    """
    x, context = laplacian(64, 256) / 16, Context(generator())
    quantizer = Trellis(bits=2, state_bits=10)

    def errors(scale):
        book = {"scale": torch.tensor(scale)}
        y = quantizer.decode(quantizer.encode(x, book, context=context), book, x.shape)
        return (x - y).double().square().sum(1)

    fitted = float(quantizer.fit(x, context=context)["scale"])
    found = errors(fitted)
    assert all(gain_z(found, errors(fitted * 2 ** (k / 4))) < 4 for k in range(-8, 9) if k)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quantiles", "1mad"])
def test_published_error_at_sixteen_state_bits(code, gaussian, name):
    """Tseng et al. 2024: .069 at 2 bits, to the digits printed; 4 standard errors between sequences."""
    x = gaussian(96, 256, seed=6)
    y = code(Trellis(state_bits=16, code=name), x, fitted_on=gaussian(2**15, seed=7)).reconstruction
    errors = (x - y).double().square().mean(1)
    excess = abs(float(errors.mean()) - 0.069) - 0.0005
    assert excess < 4 * float(errors.std()) / len(errors) ** 0.5


@parametrize_checks([Trellis(bits=2, state_bits=6, length=32), Trellis(bits=3, state_bits=7, code="1mad")])
def test_contract(quantizer, check):
    check(quantizer)
