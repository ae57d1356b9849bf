"""What a method is, its label, its family; boards' keys and settings; texts of units."""

import pytest

from qbench.leaderboard.boards import Kind, key_of, quality_of, setting_words, tab_of
from qbench.leaderboard.methods import Labels, core, family_of, identity, settings_spoken, spec_of
from qbench.leaderboard.units import Site, Units
from qbench.schema import Spec


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("uniform(bits=4,range=mse)", "uniform(range=mse)"),
        ("nested-lattice(m=4,beta=auto,k=4,lattice=E8)", "nested-lattice(beta=auto,k=4,lattice=E8)"),
        ("lattice(beta=2.0,lattice=E8)", "lattice(lattice=E8)"),
        ("hqq(bits=4,beta=10.0)", "hqq(beta=10.0)"),
        ("topk(fraction=0.1,value_dtype=float16)", "topk(value_dtype=float16)"),
        ("kmeans(bits=2,levels=5)", "kmeans"),
        ("residual-vq(stages=2,bits=8,dimension=8)", "residual-vq(dimension=8)"),
        (
            "hadamard(inner=uniform(bits=2,range=mse),sides=both)",
            "hadamard(inner=uniform(range=mse),sides=both)",
        ),
        ("mxfp4", "mxfp4"),
    ],
)
def test_a_method_is_a_quantizer_without_its_rate(spec: str, expected: str) -> None:
    assert str(core(Spec.parse(spec))) == expected


def test_settings_of_the_budget_are_part_of_a_method() -> None:
    spec = Spec.parse("uniform(bits=4,range=mse)")
    assert identity(spec, {"method": "greedy", "choices": None}) == "uniform(range=mse) [method=greedy]"
    assert identity(None, {"error_feedback": True}) == "none [error_feedback=True]"


def test_labels_tell_methods_apart_and_say_no_more() -> None:
    specs = [
        Spec.parse(text)
        for text in (
            "uniform(granularity=channel,range=mse,scheme=midrise,size=64)",
            "uniform(granularity=group,range=minmax,scheme=asymmetric,size=64)",
            "hadamard(inner=uniform(range=mse))",
            "hadamard(inner=e8p())",
            "fancy(double=true)",
            "fancy(double=false)",
            "nf4(group_size=64)",
        )
    ]
    labels = Labels(specs)
    assert [labels(spec) for spec in specs] == [
        "uniform (per channel, mse range, midrise)",
        "uniform (per group, minmax range, asymmetric)",
        "hadamard (uniform)",
        "hadamard (e8p)",
        "fancy (double)",
        "fancy (no double)",
        "nf4",
    ]
    assert labels(specs[-1], "greedy") == "nf4 (greedy)"


def test_settings_in_words() -> None:
    labels = Labels(
        [Spec.parse("nf4"), Spec.parse("uniform(range=mse)"), Spec.parse("uniform(range=minmax)")]
    )
    settings = {"weights": "uniform(range=mse)", "mode": "static", "error_feedback": True, "percentile": None}
    assert settings_spoken(settings, labels) == [
        "weights uniform (mse range)",
        "mode=static",
        "error feedback",
    ]
    assert settings_spoken({"weights": None}, labels) == ["weights float32"]


def test_a_wrapper_is_of_the_family_of_what_it_wraps() -> None:
    catalog = {"hadamard": {"family": ""}, "entropy-coded": {}, "e8p": {"family": "lattice"}}
    for text, family in (
        ("e8p(bits=2)", "lattice"),
        ("hadamard(inner=entropy-coded(inner=e8p(bits=2)))", "lattice"),
        ("hadamard(inner=stranger())", "other"),
        ("stranger", "other"),
    ):
        assert family_of(Spec.parse(text), catalog) == family
    assert family_of(None, catalog) == "other"


def test_specifications_from_columns() -> None:
    assert str(spec_of("a", '{"inner":{"name":"b","parameters":{"bits":2}}}')) == "a(inner=b(bits=2))"
    assert spec_of("", "{}") is None


def test_what_a_budget_says() -> None:
    budget = '{"mode":"static","observer":"mse","weights":"nf4","first_last":"keep","training":{"epochs":3}}'
    kind = Kind.of("ptq", "activation", budget)
    assert kind.setting == {"first_last": "keep"}
    assert kind.of_unit == {"training": {"epochs": 3}}
    assert kind.in_row == {"weights": "nf4", "mode": "static", "observer": "mse", "percentile": None}


def test_bits_of_a_budget_are_a_rate() -> None:
    kind = Kind.of("mixed-precision", "weight", '{"method":"greedy","rate":4.0,"calibration":256}')
    assert (kind.rate, kind.setting, kind.of_unit) == ({"rate": 4.0}, {}, {})
    assert kind.in_row["calibration"] == 256


def test_what_is_tested_besides_parts_nothing() -> None:
    assert Kind.of("ptq", "weight", '{"transfer":"emnist-digits"}').setting == {}


def test_keys_tell_boards_apart_and_stay() -> None:
    own = key_of("standard", "d" * 64, "ptq", "weight", {"first_last": "keep"})
    assert own.startswith("ptq-weight-")
    assert len(own) == len("ptq-weight-") + 8
    others = [
        key_of("other", "d" * 64, "ptq", "weight", {"first_last": "keep"}),
        key_of("standard", "e" * 64, "ptq", "weight", {"first_last": "keep"}),
        key_of("standard", "d" * 64, "ptq", "weight", {"first_last": "quantize"}),
    ]
    assert len({own, *others}) == 4
    assert own == key_of("standard", "d" * 64, "ptq", "weight", {"first_last": "keep"})


def test_settings_are_told_where_neighbours_differ() -> None:
    place = ("standard", "d", "ptq", "weight")
    other = ("standard", "e", "ptq", "weight")
    words = setting_words([(place, {"a": 1, "b": 2}), (place, {"a": 1, "b": 3}), (other, {"a": 7, "b": 7})])
    assert words == ["b=2", "b=3", ""]


def test_tabs_and_qualities() -> None:
    assert [tab_of(*place) for place in (("qat", "weight"), ("ptq", "weight"), ("stranger", "gradient"))] == [
        "training",
        "weights",
        "gradients",
    ]
    chosen = [
        quality_of(*pair)
        for pair in (("ptq", ["kl", "sqnr_db"]), ("stranger", ["sqnr_db"]), ("ptq", ["rate"]))
    ]
    assert [one and (one.name, one.better) for one in chosen] == [("kl", -1), ("sqnr_db", 1), None]


def test_units_say_what_tells_them_apart() -> None:
    sites = [
        Site.of(("cnn", '{"width":8}', "digits", "{}", "adam", '{"lr":0.1}')),
        Site.of(("cnn", '{"width":16}', "digits", "{}", "adam", '{"lr":0.1}')),
        Site.of(("cnn", '{"width":16}', "digits", "{}", "sgd", '{"lr":0.1}')),
        Site.of(("", "{}", "gaussian", "{}", "", "{}")),
    ]
    short, long = {"training": {"epochs": 1, "lr": 2}}, {"training": {"epochs": 9, "lr": 2}}
    units = Units(sites, {0: [(0, short), (1, short)], 1: [(1, short), (1, long), (2, short)], 2: [(3, {})]})
    assert [units.text(0, number) for number in range(2)] == [
        "cnn (width 8) on digits",
        "cnn (width 16) on digits",
    ]
    assert [units.text(1, number) for number in range(3)] == [
        "cnn (width 16) on digits, adam, training.epochs=1",
        "cnn (width 16) on digits, adam, training.epochs=9",
        "cnn (width 16) on digits, sgd",
    ]
    assert units.text(2, 0) == "gaussian"
