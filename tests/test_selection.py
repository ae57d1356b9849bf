"""Terms of ``--select`` and ``--where``: on cells and in the registry they mean the same."""

from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pytest

from qbench.errors import SuiteError
from qbench.registry import Registry, RunCell
from qbench.schema import Cell, Result, Spec
from qbench.selection import KEYS, Selection

Filled = tuple[Path, list[dict[str, Any]]]

QUANTIZERS = (
    "uniform(bits=4,range=mse)",
    'uniform(bits=4.0,range="4")',
    "uniform(bits=8,range=percentile,inner=none)",
    "kmeans(bits=2,levels=[1,2.5,a],fast=true)",
    "entropy-coded(inner=uniform(bits=4,range=mse),fast=false)",
    "entropy-coded(inner=kmeans(bits=2))",
    'topk(share=1e-05,note="a b,c=(")',
    "binary",
)


def make_results() -> list[Result]:
    results = []
    for number, text in enumerate(QUANTIZERS * 2):
        cell = Cell(
            track="ptq" if number % 3 else "rate-distortion",
            track_version=1,
            target="weight" if number % 3 else "source",
            quantizer=Spec.parse(text) if number != 9 else None,
            model=Spec.parse(f"mlp(width={number % 2 + 1})") if number % 3 else None,
            dataset=Spec.parse("digits" if number % 2 else "gaussian"),
            optimizer=Spec.parse("sgd") if number % 5 else None,
            seed=number % 4 - 1,
        )
        result = Result(
            cell=cell,
            fingerprint="f",
            device_kind="cuda" if number % 2 else "cpu",
            device="NVIDIA H100 80GB HBM3" if number % 2 else "cpu",
            environment_id="e",
            run_id="r",
            status="ok" if number % 4 else "error",
            error=None if number % 4 else "boom",
            started=datetime(2026, 1, 1, tzinfo=UTC),
            seconds=1,
        )
        results.append(result)
    return results


def row(result: Result, digest: str) -> dict[str, Any]:
    cell = result.cell
    specs = {kind: getattr(cell, kind) for kind in ("quantizer", "model", "dataset", "optimizer")}
    return {
        **{kind: None if spec is None else str(spec) for kind, spec in specs.items()},
        **{name: getattr(cell, name) for name in ("track", "target", "seed", "cell_id")},
        **{
            name: getattr(result, name) for name in ("result_id", "run_id", "status", "device", "device_kind")
        },
        "suite": "mine",
        "digest": digest,
    }


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    registry = Registry(tmp_path_factory.mktemp("selection") / "r.duckdb")
    results = make_results()
    cells = [
        RunCell(result.cell_id, result.cell.track, str(number % 2)) for number, result in enumerate(results)
    ]
    run_id = registry.begin_run("mine", {}, cells)
    results = [result.model_copy(update={"run_id": run_id}) for result in results]
    assert registry.write(results)
    return registry.path, [row(result, str(number % 2)) for number, result in enumerate(results)]


def values_of_parameters() -> list[str]:
    return [
        *(
            "4",
            "4.0",
            "8",
            '"4"',
            "mse",
            '"mse"',
            "none",
            "true",
            "false",
            "TRUE",
            "1e-5",
            "0.00001",
            "[1,2.5,a]",
        ),
        *("[1,2.5]", "[1.0,2.5,a]", "uniform", "uniform(bits=4)", "uniform(bits=5)", "uniform()", "kmeans"),
        *("kmeans(levels=[1,2.5,a])", '"a b,c=("', "uniform(range=percentile)", "uniform(inner=none)"),
    ]


TERMS = {
    **dict.fromkeys(
        ("bits", "range", "inner", "levels", "fast", "share", "note", "nothing"), values_of_parameters()
    ),
    "quantizer": [
        *QUANTIZERS,
        "uniform",
        "uniform(bits=4)",
        "uniform:bits=4",
        "kmeans(fast=true)",
        "topk",
        "nope",
    ],
    "model": ["mlp", "mlp(width=1)", "mlp(width=2.0)", "mlp(depth=1)", "cnn"],
    "dataset": ["digits", "gaussian"],
    "optimizer": ["sgd", "adam"],
    "track": ["ptq", "rate-distortion", "qat"],
    "target": ["weight", "source"],
    "seed": ["0", "1", "-1", "00", "1.0"],
    "status": ["ok", "error"],
    "device": ["cpu", "cuda", '"NVIDIA H100 80GB HBM3"', "NVIDIA"],
    "suite": ["mine", "m"],
    "digest": ["0", "1"],
    "run_id": ["2", "20"],
    "cell_id": ["0", "1", "a", "b"],
    "result_id": ["0", "1", "a", "b"],
}


def random_selection(random: Random) -> list[str]:
    keys = [random.choice(sorted(TERMS)) for _ in range(random.randint(1, 3))]
    return [f"{key}={','.join(random.choices(TERMS[key], k=random.randint(1, 3)))}" for key in keys]


def test_cells_and_registry_agree(filled: Filled) -> None:
    path, rows = filled
    registry, random = Registry(path), Random(20260)
    selected = 0
    for _ in range(300):
        texts = random_selection(random)
        selection = Selection.parse(texts)
        clause, parameters = selection.sql()
        found = registry.sql(f"SELECT result_id FROM history WHERE {clause}", parameters).fetchall()
        expected = {row["result_id"] for row in rows if selection.matches(row)}
        assert {name for (name,) in found} == expected, texts
        selected += 0 < len(expected) < len(rows)
    assert selected > 60


@pytest.mark.parametrize("key", sorted(TERMS))
def test_every_value_alone_agrees(filled: Filled, key: str) -> None:
    path, rows = filled
    registry = Registry(path)
    for value in TERMS[key]:
        selection = Selection.parse(f"{key}={value}")
        clause, parameters = selection.sql()
        found = registry.sql(f"SELECT result_id FROM history WHERE {clause}", parameters).fetchall()
        expected = {row["result_id"] for row in rows if selection.matches(row)}
        assert {name for (name,) in found} == expected, value


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("", True),
        ("quantizer=uniform", True),
        ("quantizer=uniform(bits=4,range=mse,inner=kmeans(bits=2))", True),
        ("quantizer=uniform:bits=4", True),
        ("quantizer=kmeans,uniform", True),
        ("quantizer=kmeans", False),
        ("bits=2,4", True),
        ("bits=4.0", True),
        ("bits=3", False),
        ('bits="4"', False),
        ("inner=kmeans", True),
        ("inner=kmeans(bits=2)", True),
        ("inner=kmeans(bits=3)", False),
        ("range=mse track=ptq", True),
        ("range=mse track=qat", False),
        ("track=ptq track=qat", False),
        ("levels=3", False),
        ("seed=0", True),
        ("cell_id=abc", True),
        ("cell_id=bc", False),
        ("status=ok", False),
    ],
)
def test_what_a_cell_meets(text: str, selected: bool) -> None:
    cell = {
        "quantizer": "uniform(bits=4,inner=kmeans(bits=2),range=mse)",
        "track": "ptq",
        "seed": 0,
        "cell_id": "abcdef",
        "model": None,
    }
    assert Selection.parse(text).matches(cell) is selected
    apart = {**cell, "quantizer": "uniform", "parameters": Spec.parse(str(cell["quantizer"])).parameters}
    assert Selection.parse(text).matches(apart) is selected


@pytest.mark.parametrize("text", ["bits", "=4", "bits=", "bits=4,", "bits=,4", "4=4", "bits = 4", "bits=4 x"])
def test_a_term_is_a_key_and_values(text: str) -> None:
    with pytest.raises(SuiteError, match="write key=value"):
        Selection.parse(text)


@pytest.mark.parametrize(
    "text", ["quantizer=Uniform(", "quantizer=uniform(bits)", "inner=uniform(bits=", 'note="a']
)
def test_a_value_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(SuiteError, match="cannot read"):
        Selection.parse(text)


def test_an_unknown_key_names_the_allowed_ones() -> None:
    with pytest.raises(SuiteError, match=r"unknown key 'trak'.*track.*beta, bits"):
        Selection.parse("trak=ptq", parameters={"bits", "beta"})
    assert Selection.parse("bits=4 track=ptq", parameters={"bits"}).terms[0].key == "bits"


@pytest.mark.parametrize("key", KEYS)
def test_values_never_become_sql(filled: Filled, key: str) -> None:
    registry = Registry(filled[0])
    hostile = '"x\' OR true; DROP TABLE results; --"'
    if key in ("quantizer", "model", "dataset", "optimizer"):
        with pytest.raises(SuiteError, match=r"not a component name|expected a component name"):
            Selection.parse(f"{key}={hostile}")
        hostile = f"mlp(width={hostile})"
    clause, parameters = Selection.parse(f"{key}={hostile}").sql()
    assert "DROP" not in clause
    assert any("DROP" in str(value) for value in parameters)
    assert registry.results(f"{key}={hostile}").rows() == []


def test_the_clause_stands_on_its_own() -> None:
    """Joined by a caller with another condition it keeps its meaning."""
    clause, parameters = Selection.parse("seed=1,2").sql()
    with duckdb.connect() as connection:
        query = f"SELECT count(*) FROM (SELECT 2 AS seed) WHERE false AND {clause}"
        assert connection.execute(query, parameters).fetchone() == (0,)


def test_parts_of_a_selection() -> None:
    selection = Selection.parse("run_id=1 bits=4 suite=mine")
    assert [term.key for term in selection.only(("run_id", "suite")).terms] == ["run_id", "suite"]
    assert [term.key for term in selection.without(("run_id", "suite")).terms] == ["bits"]
    assert Selection().sql() == ("true", [])


def test_paths_are_bound(tmp_path: Path) -> None:
    _, parameters = Selection.parse("bits=4").sql()
    assert '$."bits"' in parameters
