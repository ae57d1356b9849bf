"""Specifications, identities and results."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from qbench.errors import SpecError
from qbench.schema import Cell, Measurement, Recipe, Result, Spec, Status, canonical_json, digest

names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,10}", fullmatch=True)
keys = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
scalars = st.one_of(
    st.booleans(),
    st.none(),
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
)
specs = st.recursive(
    st.builds(lambda n: Spec(name=n), names),
    lambda inner: st.builds(
        lambda n, p: Spec(name=n, parameters=p),
        names,
        st.dictionaries(keys, st.one_of(scalars, st.lists(scalars, max_size=3), inner), max_size=3),
    ),
    max_leaves=4,
)


@given(specs)
def test_a_specification_reads_back_from_its_text(spec: Spec) -> None:
    assert Spec.parse(str(spec)) == spec


@given(specs)
def test_a_specification_reads_back_from_json(spec: Spec) -> None:
    assert Spec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("uniform", {}),
        ("uniform()", {}),
        ("uniform:bits=4", {"bits": 4}),
        ("uniform(bits=4, range = mse)", {"bits": 4, "range": "mse"}),
        ("x:beta=6.2,zero=-1e-3,on=true,none=null", {"beta": 6.2, "zero": -0.001, "on": True, "none": None}),
        ('x:text="a, b"', {"text": "a, b"}),
    ],
)
def test_parse(text: str, parameters: dict[str, object]) -> None:
    assert Spec.parse(text).parameters == parameters


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a component name at character 1"),
        ("Uniform", "'Uniform'"),
        ("uniform:bits", "expected '=' or '\\('"),
        ("hadamard(nf4)", "expected '=' or '\\(' at character 13"),
        ("uniform(bits=4", "expected ',' or"),
        ("uniform(bits=4)x", "expected the end at character 16"),
        ("uniform:bits=4,bits=5", "given twice"),
        ('x:a="open', "string closed"),
    ],
)
def test_parse_says_where_it_stopped(text: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        Spec.parse(text)


def cell(**changes: object) -> Cell:
    return Cell(
        **{
            "track": "ptq",
            "track_version": 1,
            "target": "weight",
            "quantizer": Spec(name="uniform"),
            **changes,
        }
    )


def test_a_cell_is_named_by_every_field() -> None:
    changed = [
        cell(),
        cell(track="other"),
        cell(track_version=2),
        cell(target="source"),
        cell(quantizer=Spec(name="uniform", parameters={"bits": 4})),
        cell(model=Spec(name="mlp")),
        cell(dataset=Spec(name="mlp")),
        cell(optimizer=Spec(name="mlp")),
        cell(seed=1),
        cell(budget={"elements": 1}),
    ]
    assert len({c.cell_id for c in changed}) == len(changed)


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    with pytest.raises(ValueError):
        canonical_json(float("nan"))


def test_a_recipe_needs_model_data_and_optimizer() -> None:
    with pytest.raises(SpecError, match="needs model, dataset and optimizer"):
        Recipe.of(cell(), {})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_measurements_are_finite(value: float) -> None:
    with pytest.raises(ValidationError):
        Measurement(value=value, unit="1")
    with pytest.raises(ValidationError):
        Measurement(value=0.0, unit="1", samples=[value])


def test_measurements_keep_their_samples() -> None:
    m = Measurement.mean([1.0, 2.0, 6.0], "s")
    assert (m.value, m.n, m.samples) == (3.0, 3, [1.0, 2.0, 6.0])
    with pytest.raises(ValidationError):
        Measurement(value=0.0, unit="1", samples=[0.0] * 4097)


def result(**changes: object) -> Result:
    fields = {
        "cell": cell(),
        "fingerprint": "f",
        "device_kind": "cpu",
        "device": "cpu",
        "environment_id": "e",
        "run_id": "r",
        "status": Status.OK,
        "started": datetime.now(UTC),
        "seconds": 0.1,
    }
    return Result(**{**fields, **changes})


def test_a_result_says_why_it_failed() -> None:
    with pytest.raises(ValidationError, match="says why"):
        result(status=Status.TIMEOUT)
    with pytest.raises(ValidationError, match="has no error"):
        result(error="x")


def test_two_writers_name_the_same_attempt_alike() -> None:
    assert result().result_id == result(run_id="other", seconds=9.0).result_id
    assert (
        len(
            {
                r.result_id
                for r in (result(), result(attempt=2), result(fingerprint="g"), result(device_kind="cuda"))
            }
        )
        == 4
    )
