"""Discovery with distributions made for the test."""

from collections.abc import Callable
from pathlib import Path

import pytest

from qbench import fingerprint, plugins
from qbench.errors import ParameterError, PluginError, UnknownComponentError
from qbench.schema import Spec

QUANTIZER = '''
import torch
import qbench
from pydantic import Field

class Parameters(qbench.Parameters):
    bits: int = Field(2, ge=1, le=4)

class Halves(qbench.Quantizer):
    """Multiples of one half."""

    name = "{name}"
    Parameters = Parameters
    sweep = ({sweep},)

    def fit(self, x, *, context):
        return {{}}

    def encode(self, x, codebook, *, context):
        return {{"codes": qbench.Stream((x * 2).round().clamp(-2, 1) + 2, 4)}}

    def decode(self, codes, codebook, shape):
        return (codes["codes"].values.float().reshape(shape) - 2) / 2

@qbench.hookimpl
def qbench_quantizers():
    return [Halves]
'''

Make = Callable[..., Path]


def source(name: str = "halves", sweep: str = "{'bits': 2}") -> str:
    return QUANTIZER.format(name=name, sweep=sweep)


def test_built_in_components_come_through_an_entry_point() -> None:
    entry = plugins.load(["all"]).entry("quantizer", "uniform")
    assert (entry.origin.distribution, entry.origin.entry_point) == ("qbench-suite", "builtin")
    assert len(entry.fingerprint) == 16


def test_a_stranger_is_found_with_its_origin(distribution: Make) -> None:
    distribution(source(), version="2.5")
    entry = plugins.load().entry("quantizer", "halves")
    assert (entry.origin.distribution, entry.origin.version) == ("stranger", "2.5")


@pytest.mark.parametrize("disabled", ["stranger", "all", "1"])
def test_strangers_can_be_left_out(distribution: Make, disabled: str) -> None:
    distribution(source())
    found = plugins.load([disabled])
    assert "halves" not in found.names("quantizer")
    assert "uniform" in found.names("quantizer")


def test_a_plugin_that_does_not_import_is_a_row(distribution: Make) -> None:
    distribution("import nothing_of_that_name")
    found = plugins.load()
    (broken,) = found.broken
    assert "nothing_of_that_name" in broken.error
    with pytest.raises(UnknownComponentError, match="stranger failed to load"):
        found.build("quantizer", "halves")
    row = [row for row in plugins.rows(found) if row["error"]]
    assert [(r["distribution"], r["kind"]) for r in row] == [("stranger", None)]


def test_a_hook_that_raises_is_a_row(distribution: Make) -> None:
    distribution(
        "import qbench\n@qbench.hookimpl\ndef qbench_models():\n    raise RuntimeError('no models today')\n"
    )
    (broken,) = plugins.load().broken
    assert "no models today" in broken.error


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (source("Not A Name"), "must match"),
        (source(sweep="{'bits': 9}"), "bits=9"),
        (source(sweep="{'colour': 9}"), "has no parameter 'colour'"),
        (source().replace("def decode", "def undo"), "lacks decode"),
        (source().replace("Field(2, ge=1, le=4)", "Field(ge=1)"), "has no default"),
        (source().replace("[Halves]", "[3]"), "a subclass of Quantizer is needed"),
    ],
)
def test_a_component_that_contradicts_itself_is_a_row(distribution: Make, text: str, words: str) -> None:
    distribution(text)
    found = plugins.load()
    assert words in found.broken[0].error
    assert "uniform" in found.names("quantizer")


def test_two_components_of_one_name_are_an_error_that_names_both(distribution: Make) -> None:
    distribution(source("uniform"))
    with pytest.raises(
        PluginError, match=r"quantizer 'uniform' .* qbench-suite .* stranger 1.0.*--no-plugin stranger"
    ):
        plugins.load()
    assert any("provided by both" in broken.error for broken in plugins.load(strict=False).broken)


def test_one_entry_point_name_in_two_distributions_is_an_error(distribution: Make) -> None:
    distribution(source("halves"), name="first", entry_point="same")
    distribution(source("thirds"), name="second", entry_point="same")
    with pytest.raises(PluginError, match="entry point 'same' is provided by both first 1.0 and second 1.0"):
        plugins.load()


def test_unknown_names_and_parameters_say_what_is_allowed() -> None:
    found = plugins.load(["all"])
    with pytest.raises(UnknownComponentError, match="no quantizer is called 'unifrom'; installed: .*uniform"):
        found.quantizer("unifrom")
    with pytest.raises(ParameterError, match="quantizer 'uniform' has no parameter 'bit'; it has: bits, "):
        found.quantizer("uniform", bit=4)
    with pytest.raises(ParameterError, match="bits=99.*less than or equal to 16"):
        found.quantizer("uniform", bits=99)


def test_a_quantizer_nests_in_a_wrapper() -> None:
    quantizer = plugins.load(["all"]).quantizer("entropy-coded(inner=uniform(bits=3))")
    assert quantizer.spec.parameters["inner"].parameters["bits"] == 3
    assert plugins.load(["all"]).build("quantizer", Spec.parse(str(quantizer.spec))).spec == quantizer.spec


def test_a_fingerprint_follows_the_source(distribution: Make) -> None:
    path = distribution(source(), name="follows")
    before = plugins.load().entry("quantizer", "halves").fingerprint
    path.write_text(path.read_text() + "\n# another thought\n")
    fingerprint.fingerprint.cache_clear()
    assert plugins.load().entry("quantizer", "halves").fingerprint != before


def test_an_observer_that_raises_is_left_out(distribution: Make) -> None:
    distribution(
        "import qbench\n@qbench.hookimpl\ndef qbench_result(result):\n    raise RuntimeError('tired')\n"
    )
    found = plugins.load()
    found.observe(None)  # type: ignore[arg-type]
    assert found.observers == []
    assert "tired" in found.broken[0].error
