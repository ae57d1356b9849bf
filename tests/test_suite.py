"""Suites, what they expand to, and what their digests stand for."""

from dataclasses import replace
from pathlib import Path

import pytest

from qbench import plan, plugins, suite
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


GRADIENTS = ("gradient-compression", "gradient-statistics")
TRAINED = ("float", "mixed-precision", "ptq", "qat", "saved-activations", *GRADIENTS)


@pytest.mark.parametrize(
    ("name", "tracks"),
    [
        ("smoke", {*TRAINED, "rate-distortion", "lattice-scaling", "reference"}),
        ("standard", {*TRAINED, "rate-distortion", "lattice-scaling"}),
        ("networks", {"float", "ptq", "qat"}),
        ("recipes", {"float"}),
        ("gradients", {*GRADIENTS, "lattice-scaling"}),
        ("reference", {"reference"}),
        ("lattice-scaling", {"lattice-scaling"}),
    ],
)
def test_installed_suites_expand(name: str, tracks: set[str], catalog: plugins.Catalog) -> None:
    cells = suite.expand(suite.load(name, catalog), catalog)
    assert {planned.cell.track for planned in cells} == tracks


def test_smoke_holds_every_track(catalog: plugins.Catalog) -> None:
    cells = suite.expand(suite.load("smoke", catalog), catalog)
    assert {planned.cell.track for planned in cells} == set(catalog.names("track"))


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
            "unknown key 'models' in grid 1; allowed: .*; did you mean 'model'?",
        ),
        (
            "name = 'x'\nversion = 1\n[[grid]]\ntrack = 'ptq'\ntarget = 'everything'",
            "grid 1, target: input should be",
        ),
    ],
)
def test_a_bad_file_says_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(SuiteError, match=words):
        suite.parse(tmp_path / "bad.toml")


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        (
            "track = 'rate-distortion'\ntarget = 'source'\nquantizer = 'uniform'",
            r"grid 1 \(rate-distortion\): no dataset",
        ),
        (
            "track = 'ptq'\ntarget = 'weight'\nquantizer = 'uniform'\nmodel = 'mlp'\noptimizer = 'adam'",
            r"grid 1 \(ptq\): no dataset; a cell of ptq needs model, dataset and optimizer",
        ),
    ],
)
def test_a_grid_without_data_is_named(
    tmp_path: Path, catalog: plugins.Catalog, grid: str, words: str
) -> None:
    (tmp_path / "bare.toml").write_text(f"name = 'x'\nversion = 1\n[[grid]]\n{grid}")
    with pytest.raises(SuiteError, match=words):
        suite.expand(suite.parse(tmp_path / "bare.toml"), catalog)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("uniform:bits=99", "^--quantizer uniform:bits=99: .*; allowed: 1 <= bits <= 16$"),
        ("unifrom", "^--quantizer unifrom: no quantizer is called 'unifrom'"),
        ("uniform:bit=4", "^--quantizer uniform:bit=4: quantizer 'uniform' has no parameter 'bit'"),
    ],
)
def test_no_suite_is_blamed_for_what_was_added(
    tmp_path: Path, catalog: plugins.Catalog, text: str, words: str
) -> None:
    with pytest.raises(SuiteError, match=words):
        suite.expand(write(tmp_path), catalog, [text])


def test_a_file_that_is_not_there(tmp_path: Path, catalog: plugins.Catalog) -> None:
    with pytest.raises(SuiteError, match="No such file"):
        suite.load(str(tmp_path / "none.toml"), catalog)
    with pytest.raises(
        SuiteError, match="no suite is called 'smok'; installed: .*smoke, standard.*did you mean 'smoke'?"
    ):
        suite.load("smok", catalog)


CALIBRATED = """
name = "mine"
version = 1
[[grid]]
track = "ptq"
target = "weight"
quantizer = {quantizer}
model = "mlp(width=8)"
dataset = "digits"
optimizer = "adam"
[grid.budget]
transforms = {transforms}
"""


def calibrated(path: Path, transforms: str = "[]", quantizer: str = '"kmeans-hessian"') -> suite.Suite:
    file = path / "calibrated.toml"
    file.write_text(CALIBRATED.format(transforms=transforms, quantizer=quantizer))
    return suite.parse(file)


def test_ptq_gives_what_quantizers_need(tmp_path: Path, catalog: plugins.Catalog) -> None:
    found = suite.expand(calibrated(tmp_path, quantizer='"*"'), catalog)
    names = {planned.cell.quantizer.name for planned in found if planned.cell.quantizer}
    assert {"uniform", "kmeans-hessian"} <= names


def test_transforms_are_written_out(tmp_path: Path, catalog: plugins.Catalog) -> None:
    """Two ways to write one specification are one cell and one protocol; another order is another one."""
    first, second, third = (
        calibrated(tmp_path, text)
        for text in (
            '["batch-norm-folding", "bias-correction"]',
            '["batch-norm-folding()", "bias-correction"]',
            '["bias-correction", "batch-norm-folding"]',
        )
    )
    (one,), (same,), (other,) = (suite.expand(s, catalog) for s in (first, second, third))
    assert one.cell.budget["transforms"] == ["batch-norm-folding", "bias-correction"]
    assert one == same
    assert one.cell.cell_id != other.cell.cell_id
    assert one.digest != other.digest


@pytest.mark.parametrize(
    ("transforms", "words"),
    [
        (
            '["folding"]',
            r"grid 1 \(ptq\): no transform is called 'folding'; installed: batch-norm-folding, bias",
        ),
        ('["bias-correction(of=3)"]', "grid 1 .*transform 'bias-correction' has no parameter 'of'"),
        ('["bias correction"]', "grid 1 .*cannot read 'bias correction'"),
        ('"bias-correction"', "grid 1 .*transforms='bias-correction'"),
    ],
)
def test_unknown_transforms_name_the_grid(
    tmp_path: Path, catalog: plugins.Catalog, transforms: str, words: str
) -> None:
    with pytest.raises(SuiteError, match=words):
        suite.expand(calibrated(tmp_path, transforms), catalog)


def test_a_transforms_code_is_part_of_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrated(tmp_path, '["bias-correction"]')
    options = plan.Options(
        suite=str(tmp_path / "calibrated.toml"),
        registry=tmp_path / "none.duckdb",
        disabled=["all"],
        device="cpu",
    )
    (before,) = plan.make(options).cells
    loaded = plugins.load(["all"])
    entry = loaded.entries["transform", "bias-correction"]
    loaded.entries["transform", "bias-correction"] = replace(entry, fingerprint="another")
    monkeypatch.setattr(plugins, "load", lambda disabled: loaded)
    (after,) = plan.make(options).cells
    assert after.cell == before.cell
    assert after.fingerprint != before.fingerprint


def test_a_track_that_says_so_takes_no_other_quantizers(tmp_path: Path, catalog: plugins.Catalog) -> None:
    """A row that holds a known value is about one quantizer; another one would contradict it."""
    path = tmp_path / "known.toml"
    path.write_text(
        'name = "known"\nversion = 1\n[[grid]]\ntrack = "reference"\ntarget = "source"\ndataset = "gaussian"\n'
        'quantizer = "binary(granularity=tensor)"\n[grid.budget]\nvalue = ".363380"\n'
    )
    known = suite.load(str(path), catalog)
    assert len(suite.expand(known, catalog)) == 1
    with pytest.raises(
        SuiteError, match=r"--quantizer uniform\(bits=2\) fits no grid.*meant for source, weight"
    ):
        suite.expand(known, catalog, ["uniform(bits=2)"])


@pytest.mark.parametrize(
    "name", ["gptq(bits=4)", "hadamard(gptq(bits=4))", "entropy-coded(hadamard(gptq()))"]
)
def test_a_quantizer_that_does_not_suit_says_what_all_of_it_needs(
    name: str, tmp_path: Path, catalog: plugins.Catalog
) -> None:
    """A wrapper has the targets and the needs of what it wraps."""
    with pytest.raises(SuiteError, match="meant for weight and needs gram; the track provides nothing"):
        suite.expand(write(tmp_path, quantizer=f'"{name}"'), catalog)


def test_a_track_of_one_quantizer_takes_no_other(tmp_path: Path, catalog: plugins.Catalog) -> None:
    def scan(quantizer: str) -> suite.Suite:
        path = tmp_path / "scan.toml"
        path.write_text(
            f'name = "scan"\nversion = 1\n[[grid]]\ntrack = "lattice-scaling"\ntarget = "source"\n'
            f'dataset = "gaussian"\nquantizer = "{quantizer}"\n'
        )
        return suite.load(str(path), catalog)

    more = suite.expand(scan("*"), catalog, ["nested-lattice(lattice=D4,m=5)"])
    assert {planned.cell.quantizer.name for planned in more} == {"nested-lattice"}
    assert any(planned.cell.quantizer.parameters["m"] == 5 for planned in more)
    with pytest.raises(
        SuiteError, match="uniform.* is none of those that track 'lattice-scaling' works with"
    ):
        suite.expand(scan("uniform(bits=4)"), catalog)
    with pytest.raises(SuiteError, match=r"--quantizer uniform\(bits=4\) fits no grid"):
        suite.expand(scan("*"), catalog, ["uniform(bits=4)"])


def test_a_model_and_data_of_another_kind_are_refused(tmp_path: Path, catalog: plugins.Catalog) -> None:
    file = tmp_path / "mixed.toml"
    file.write_text(
        'name = "mixed"\nversion = 1\n[[grid]]\ntrack = "float"\ntarget = "weight"\n'
        'model = ["mlp", "gpt"]\ndataset = "digits"\noptimizer = "adam"\n'
    )
    with pytest.raises(SuiteError, match=r"grid 1 \(float\): model gpt takes text, and digits is pictures"):
        suite.expand(suite.parse(file), catalog)


def test_the_standard_optimizers_have_rates_that_were_searched(catalog: plugins.Catalog) -> None:
    """A recipe in ``standard`` is a point of ``recipes``, where every optimizer has as many."""
    searched: dict[str, set[str]] = {}
    for planned in suite.expand(suite.load("recipes", catalog), catalog):
        searched.setdefault(str(planned.cell.model), set()).add(str(planned.cell.optimizer))
    six = [
        grid
        for grid in suite.load("standard", catalog).grid
        if grid.track == "float" and len(grid.optimizer) == 6
    ]
    assert len(six) == 2
    for grid in six:
        model = str(catalog.build("model", grid.model[0]).spec)
        chosen = {str(catalog.build("optimizer", text).spec) for text in grid.optimizer}
        assert len({text.partition("(")[0] for text in chosen}) == 6
        assert chosen <= searched[model]
