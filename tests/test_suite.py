"""Suites, what they expand to, and what their digests stand for."""

from pathlib import Path

import pytest

from qbench import plugins, suite
from qbench.errors import SuiteError

GRID = """
name = "mine"
version = 1
[[grid]]
track = "rate-distortion"
target = "source"
quantizer = {quantizer}
dataset = {dataset}
seed = {seed}
[grid.budget]
elements = {elements}
"""


@pytest.fixture(scope="module")
def catalog() -> plugins.Catalog:
    return plugins.load(["all"])


def write(path: Path, **changes: str) -> suite.Suite:
    values = {
        "quantizer": '["uniform"]',
        "dataset": '["gaussian"]',
        "seed": "[0]",
        "elements": "128",
        **changes,
    }
    file = path / "mine.toml"
    file.write_text(GRID.format(**values))
    return suite.parse(file)


def test_a_grid_is_a_product(tmp_path: Path, catalog: plugins.Catalog) -> None:
    mine = write(
        tmp_path,
        quantizer='["uniform:bits=2", "uniform:bits=3"]',
        dataset='["gaussian", "uniform"]',
        seed="[0, 1, 2]",
    )
    cells = suite.expand(mine, catalog)
    assert len({planned.cell.cell_id for planned in cells}) == len(cells) == 12


def test_a_star_is_every_quantizer_of_that_target_at_its_sweep(
    tmp_path: Path, catalog: plugins.Catalog
) -> None:
    cells = suite.expand(write(tmp_path, quantizer='"*"'), catalog)
    expected = [
        component(**point).spec
        for component in (catalog.entry("quantizer", name).component for name in catalog.names("quantizer"))
        if "source" in component.targets and not component.needs
        for point in component.sweep
    ]
    assert [planned.cell.quantizer for planned in cells] == expected


def test_a_point_can_be_added_by_hand(tmp_path: Path, catalog: plugins.Catalog) -> None:
    cells = suite.expand(write(tmp_path), catalog, ["kmeans:levels=5"])
    assert [planned.cell.quantizer.name for planned in cells if planned.cell.quantizer] == [
        "uniform",
        "kmeans",
    ]


def test_the_digest_covers_the_protocol_with_its_defaults(tmp_path: Path, catalog: plugins.Catalog) -> None:
    plain = write(tmp_path).digests(catalog)["rate-distortion"]
    spelled = write(tmp_path, dataset='["gaussian()"]').digests(catalog)["rate-distortion"]
    changed = [
        write(tmp_path, elements="256"),
        write(tmp_path, seed="[1]"),
        write(tmp_path, dataset='["uniform"]'),
        write(tmp_path, quantizer='"*"'),
    ]
    assert plain == spelled
    assert len({s.digests(catalog)["rate-distortion"] for s in changed} | {plain}) == 5


@pytest.mark.parametrize("name", ["smoke", "standard"])
def test_installed_suites_expand(name: str, catalog: plugins.Catalog) -> None:
    cells = suite.expand(suite.load(name, catalog), catalog)
    assert {planned.cell.track for planned in cells} == {"rate-distortion", "ptq"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"quantizer": '["nothing"]'}, "grid 1 .*no quantizer is called 'nothing'"),
        ({"quantizer": '["uniform:bits=99"]'}, "bits=99"),
        ({"dataset": '["nowhere"]'}, "no dataset is called 'nowhere'"),
        ({"elements": "1"}, "elements=1"),
    ],
)
def test_a_suite_with_unknown_parts_names_the_grid(
    tmp_path: Path, catalog: plugins.Catalog, change: dict[str, str], words: str
) -> None:
    with pytest.raises(SuiteError, match=words):
        suite.expand(write(tmp_path, **change), catalog)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = ", "not valid TOML"),
        ("name = 'x'\nversion = 1", "grid"),
        ("name = 'x'\nversion = 1\ncolour = 2\ngrid = []", "unknown key 'colour'; allowed: name, version"),
        (
            "name = 'x'\nversion = 1\n[[grid]]\ntrack = 'ptq'\ntarget = 'weight'\nmodels = 'mlp'",
            "unknown key 'grid.0.models'",
        ),
        ("name = 'x'\nversion = 1\n[[grid]]\ntrack = 'ptq'\ntarget = 'everything'", "grid.0.target"),
    ],
)
def test_a_bad_file_says_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(SuiteError, match=words):
        suite.parse(tmp_path / "bad.toml")


def test_a_file_that_is_not_there(tmp_path: Path, catalog: plugins.Catalog) -> None:
    with pytest.raises(SuiteError, match="No such file"):
        suite.load(str(tmp_path / "none.toml"), catalog)
    with pytest.raises(SuiteError, match="no suite is called 'smok'; installed: smoke, standard"):
        suite.load("smok", catalog)
