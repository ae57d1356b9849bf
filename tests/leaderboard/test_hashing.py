"""The counter-based bits: what the docstring says, evenly spread, and the same in JavaScript."""

import json
import shutil
import subprocess
from importlib import resources

import numpy as np
import pytest
from scipy import stats

from qbench.leaderboard import hashing
from qbench.leaderboard.hashing import DATASET, FLIP, UNIT, hashes, indices, mixed, normals, signs, uniforms

WORD = 2**32


def by_hand(purpose: int, draw: int, slot: int) -> int:
    """The module's docstring in whole numbers of any size."""
    h = ((purpose << 28 | draw << 12 | slot) * 0x9E3779B1) % WORD
    h = ((h ^ h >> 16) * 0x85EBCA6B) % WORD
    h = ((h ^ h >> 13) * 0xC2B2AE35) % WORD
    return h ^ h >> 16


def test_hashes_are_what_the_docstring_says() -> None:
    places = [(p, d, s) for p in (1, 5, 15) for d in (0, 1, 65535) for s in (0, 1, 513, 4095)]
    assert [int(hashes(*place)) for place in places] == [by_hand(*place) for place in places]


def test_larger_draws_and_slots_begin_again() -> None:
    assert hashes(UNIT, 65536, 4097) == hashes(UNIT, 0, 1)


def test_no_two_counters_have_the_same_hash() -> None:
    counters = np.concatenate([np.arange(2**16), np.arange(WORD - 2**16, WORD)])
    assert len(np.unique(mixed(counters))) == 2**17


def test_indices_are_floors_of_scaled_hashes() -> None:
    slots = np.arange(500)
    expected = [by_hand(DATASET, 3, slot) * 7 // WORD for slot in range(500)]
    assert indices(DATASET, 3, slots, 7).tolist() == expected


def test_every_index_is_drawn_equally_often() -> None:
    """Chi-square of 6 classes: mean 5, standard deviation sqrt(10); below mean + 5 of them."""
    found = np.bincount(indices(UNIT, np.arange(1000)[:, None], np.arange(60)[None, :], 6).ravel())
    assert len(found) == 6
    assert ((found - 1e4) ** 2 / 1e4).sum() < 5 + 5 * np.sqrt(10)


def test_uniform_numbers_are_uniform() -> None:
    """The Kolmogorov-Smirnov distance of 2^16 numbers exceeds 1.95 / sqrt(n) once in 1000 times."""
    found = uniforms(UNIT, np.arange(256)[:, None], np.arange(256)[None, :]).ravel()
    assert 0 < found.min() < found.max() < 1
    assert stats.kstest(found, "uniform").statistic < 1.95 / 256


def test_normal_numbers_are_normal_and_unrelated() -> None:
    """Mean and correlations of neighbours within 4 / sqrt(n), variance within 4 sqrt(2 / n)."""
    found = normals(np.arange(256)[:, None], np.arange(256)[None, :])
    n = found.size
    assert stats.kstest(found.ravel(), "norm").statistic < 1.95 / np.sqrt(n)
    assert abs(found.mean()) < 4 / np.sqrt(n)
    assert abs(found.var() - 1) < 4 * np.sqrt(2 / n)
    for left, right in ((found[:, 1:], found[:, :-1]), (found[1:], found[:-1])):
        assert abs((left * right).mean()) < 4 / np.sqrt(left.size)


def test_signs_are_the_highest_bit() -> None:
    slots = np.arange(4096)
    found = signs(9, slots)
    assert found.tolist() == [-1.0 if by_hand(FLIP, 9, slot) >> 31 else 1.0 for slot in range(4096)]
    assert abs(found.mean()) < 4 / 64


OWN = resources.files("qbench.leaderboard").joinpath("assets/hashing.js").read_text(encoding="utf-8")
SCRIPT = """
const found = {hashes: [], indices: [], normals: []};
for (let draw = 0; draw < 65536; draw += 1009) for (let slot = 0; slot < 4096; slot += 117) {
  found.hashes.push(hash(15, draw, slot));
  found.indices.push(index(UNIT, draw, slot, 1000003));
  found.normals.push(normal(draw, slot));
}
console.log(JSON.stringify(found));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="no JavaScript engine `node` on this machine")
def test_javascript_has_the_same_bits() -> None:
    run = subprocess.run(["node", "-e", OWN + SCRIPT], capture_output=True, text=True, check=True)
    found = json.loads(run.stdout)
    draws, slots = np.arange(0, 65536, 1009)[:, None], np.arange(0, 4096, 117)[None, :]
    assert found["hashes"] == hashes(15, draws, slots).ravel().tolist()
    assert found["indices"] == indices(UNIT, draws, slots, 1000003).ravel().tolist()
    assert found["normals"] == pytest.approx(normals(draws, slots).ravel().tolist(), abs=1e-12)


def test_the_purposes_differ() -> None:
    purposes = (hashing.DATASET, hashing.UNIT, hashing.NORMAL_U, hashing.NORMAL_V, hashing.FLIP)
    assert len(set(purposes)) == 5
    assert max(purposes) < 16
