"""Selections that nothing meets: the value at fault, what there is, and what was perhaps meant."""

from datetime import timedelta
from pathlib import Path

import pytest

from qbench.errors import SuiteError
from qbench.records import gather
from qbench.registry import Registry
from qbench.schema import Cell, Spec
from qbench.selection import Selection
from qbench.spelling import near
from qbench.unmet import reason, require, slips

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from sample_results import STARTED, result_of, write_run


def cell(quantizer: str, track: str = "ptq") -> Cell:
    return Cell(
        track=track,
        track_version=1,
        target="weight",
        quantizer=Spec.parse(quantizer),
        model=Spec.parse("mlp(width=8)"),
        dataset=Spec(name="digits"),
    )


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    registry = Registry(tmp_path_factory.mktemp("unmet") / "r.duckdb")
    cells = [cell("uniform(bits=4)"), cell("uniform(bits=10)"), cell("entropy-coded(inner=nf4())", "qat")]
    write_run(registry, [result_of(one) for one in cells], ["d" * 64] * 3, "standard")
    return registry


@pytest.mark.parametrize(
    ("term", "says"),
    [
        (
            "track=ptqq",
            "track=ptqq: no result of registry .* has it; there are: ptq, qat; did you mean 'ptq'?",
        ),
        ("quantizer=unifrom", "there are: entropy-coded, uniform; did you mean 'uniform'?"),
        ("quantizer=uniform,unifrom", "quantizer=unifrom: no result"),
        ("quantizer=uniform(bits=8)", r"quantizer=uniform\(bits=8\): .* bits is one of: 4, 10$"),
        ("quantizer=uniform(bist=4)", "the parameters are: bits; did you mean 'bits'?"),
        ("model=mlp(width=9)", "width is one of: 8$"),
        ("bits=8", "bits=8: .* bits is one of: 4, 10$"),
        ("inner=nf3", r"inner is one of: nf4"),
        ("seed=7", "seed=7: .* there are: 0$"),
        ("suite=standart", "there are: standard; did you mean 'standard'?"),
        (
            "status=okay",
            "there are: blocked, crashed, error, impossible, invalid, ok, out_of_memory, timeout",
        ),
        ("digest=zz", "the beginning of none; `qbench results --json` lists them"),
        ("tarck=ptq", "unknown key 'tarck' .*; did you mean 'track'?"),
    ],
)
def test_a_value_that_nothing_has_is_named(held: Registry, term: str, says: str) -> None:
    with pytest.raises(SuiteError, match=says):
        require(held, [term])


@pytest.mark.parametrize(
    "terms", [[], ["quantizer=uniform bits=4"], ["status=timeout"], ["device=cuda"], ["track=qat bits=4"]]
)
def test_values_that_are_or_could_be_there_are_no_slips(held: Registry, terms: list[str]) -> None:
    """Whether they are there together is another question."""
    assert slips(held, terms) == []


def test_a_selection_within_another_knows_its_values_alone(held: Registry) -> None:
    (slip,) = slips(held, ["quantizer=entropy-coded"], Selection.parse("track=ptq"))
    assert (
        slip.text("run 1")
        == "selection quantizer=entropy-coded: no result of run 1 has it; there are: uniform"
    )


def test_an_empty_registry_says_how_to_fill_it(held: Registry, tmp_path: Path) -> None:
    empty = Registry(tmp_path / "empty.duckdb")
    empty.finish_run(empty.begin_run("mine", {}, []))
    require(empty, ["quantizer=anything"])
    assert f"`qbench run --suite smoke --registry {empty.path}` makes the first" in reason(empty, [])
    assert reason(held, ["track=qat", "bits=4"]).startswith(
        "no result meets 'track=qat bits=4'; leave a term out"
    )


@pytest.mark.parametrize(("name", "known", "found"), [("7", ["77"], ""), ("zebra", ["uniform"], "")])
def test_nothing_is_meant_by_numbers_and_strangers(name: str, known: list[str], found: str) -> None:
    assert near(name, known) == found


def test_what_was_measured_here_is_compared_before_what_is_newer_from_elsewhere(tmp_path: Path) -> None:
    """By cell and kind of device the attempt of :mod:`qbench.attempts`, not the newest alone."""
    here, there = Registry(tmp_path / "here.duckdb"), Registry(tmp_path / "there.duckdb")
    one = cell("uniform(bits=4)")
    write_run(there, [result_of(one, attempt=2, started=STARTED + timedelta(days=1))], ["d" * 64])
    write_run(here, [result_of(one)], ["d" * 64])
    there.export(tmp_path / "there.parquet")
    assert here.merge(tmp_path / "there.parquet").added == 1
    assert {record.result_id for record in gather(here).values()} == {result_of(one).result_id}
