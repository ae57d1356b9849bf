"""``qbench check``: what it finds in a plugin, and how it ends."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import qbench
from qbench import plugins
from qbench.quantizers.topk import TopK
from qbench.testing import checks

LEAKY = """
import qbench
from qbench import Stream

LAST = []

class Leaky(qbench.Quantizer):
    name = "leaky"
    sweep = ({}, )

    def fit(self, x, *, context):
        return {}

    def encode(self, x, codebook, *, context):
        LAST[:] = [x.abs().max().clamp(min=2.0**-20) / 7]
        return {"codes": Stream((x / LAST[0]).round() + 8, 16)}

    def decode(self, codes, codebook, shape):
        return (codes["codes"].values.float().reshape(shape) - 8) * LAST[0]

@qbench.hookimpl
def qbench_quantizers():
    return [Leaky]
"""


@pytest.fixture
def fresh_catalog() -> Iterator[None]:
    plugins.catalog.cache_clear()
    yield
    plugins.catalog.cache_clear()


def test_a_scale_left_in_a_global_is_caught_by_another_process(
    qb: Callable[..., Any], distribution: Callable[..., Path], fresh_catalog: None
) -> None:
    module = distribution(LEAKY)
    ended = qb("check", "leaky", "--json")
    assert ended.code == 1
    rows = ended.json
    assert [row["check"] for row in rows] == [check.name for check in checks()]
    assert {row["quantizer"] for row in rows} == {"leaky"}
    (failed,) = [row for row in rows if row["status"] == "failed"]
    assert failed["check"] == "decodes-elsewhere"
    assert "cannot decode" in failed["detail"]
    assert "list index out of range" in failed["detail"]
    # an edited plugin is read anew by the process that decodes
    module.write_text(LEAKY.replace("LAST = []", "LAST = [0.125]"))
    (finding,) = [
        check.finding(qbench.quantizer("leaky")) for check in checks() if str(check) == failed["check"]
    ]
    assert "differently" in finding.detail


def test_the_command_says_what_failed_and_what_was_skipped(
    qb: Callable[..., Any], distribution: Callable[..., Path], fresh_catalog: None
) -> None:
    distribution(LEAKY)
    ended = qb("check", "leaky")
    assert ended.code == 1
    assert re.search(r"decodes-elsewhere +failed", ended.out)
    assert "1 failed" in ended.out
    assert "does not claim to be unbiased" in ended.out


def test_a_name_alone_is_checked_at_every_point_of_its_sweep(qb: Callable[..., Any]) -> None:
    ended = qb("check", "lloyd-max:bits=2", "topk", "--json")
    assert ended.code == 0
    points = [str(qbench.quantizer("lloyd-max", bits=2)), *(str(TopK(**point)) for point in TopK.sweep)]
    assert list(dict.fromkeys(row["quantizer"] for row in ended.json)) == points


@pytest.mark.parametrize("name", ["nothing", "uniform:bits=99", "uniform(", "uniform:colour=red"])
def test_bad_names_end_with_two(qb: Callable[..., Any], refused: Callable[..., None], name: str) -> None:
    refused(qb("check", name))


def test_a_misspelt_name_is_answered(qb: Callable[..., Any], refused: Callable[..., None]) -> None:
    refused(qb("check", "unifrom"), "did you mean 'uniform'?")


def test_a_broken_quantizer_ends_with_two_and_its_error(
    qb: Callable[..., Any],
    refused: Callable[..., None],
    distribution: Callable[..., Path],
    fresh_catalog: None,
) -> None:
    distribution(LEAKY.replace("({}, )", "({'bits': 4},)"))
    refused(qb("check", "leaky"), "has no parameter 'bits'")
