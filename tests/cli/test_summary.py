"""The table at the end of a run: its rows, its columns, and what it leaves out."""

import contextlib
import io
import math
import re
from typing import Any

from rich.text import Text

from qbench.cli import rendering, summary
from qbench.cli.comparison import Point, alike, mark_front, worth_showing
from qbench.headlines import Measured
from qbench.schema import Cell, Spec


def test_text_from_elsewhere_is_never_markup() -> None:
    assert rendering.text("[red]a[/red]\x1b[31m\u202eb").plain == "[red]a[/red]\\x1b[31m\\u202eb"
    assert isinstance(rendering.text(3), Text)


def test_the_front_is_what_nothing_beats_at_no_more_bits() -> None:
    points = [
        Point("a", "a", "fixed", {"x": 1.0}, {"x": 5.0}),
        Point("b", "b", "fixed", {"x": 2.0}, {"x": 4.0}),
        Point("c", "c", "fixed", {"x": 2.0}, {"x": 9.0}),
        Point("d", "d", "coded", {"x": 3.0}, {"x": 1.0}),
    ]
    mark_front(points, sign=1)
    assert [sorted(point.front) for point in points] == [["x"], [], ["x"], ["x"]]
    assert points[1].deficit == 5.0
    mark_front(points := [Point(p.label, p.method, p.rate_class, p.rate, p.value) for p in points], sign=-1)
    assert [sorted(point.front) for point in points] == [["x"], ["x"], [], ["x"]]


def test_no_more_bits_is_said_of_weights_and_of_activations() -> None:
    points = [
        Point("w", "w", "fixed", {"x": 8.0}, {"x": 5.0}, weight_rate={"x": 2.0}),
        Point("a", "a", "fixed", {"x": 2.0}, {"x": 4.0}, weight_rate={"x": 8.0}),
        Point("wa", "wa", "fixed", {"x": 8.0}, {"x": 4.5}, weight_rate={"x": 8.0}),
    ]
    mark_front(points, sign=1)
    assert [sorted(point.front) for point in points] == [["x"], ["x"], []]


def test_a_long_table_keeps_the_front_and_the_best_of_every_method() -> None:
    front = [Point(f"good{i}", "good", "fixed", {"x": float(i)}, {"x": float(i)}) for i in range(20)]
    poor = [Point(f"poor{i}", "poor", "fixed", {"x": float(i)}, {"x": -float(i)}) for i in range(1, 20)]
    mark_front(front + poor, sign=1)
    assert worth_showing(front + poor) == [*front, poor[0]]
    assert worth_showing(poor) == poor


def test_columns_that_few_points_have_stand_apart() -> None:
    points = [Point(str(i), "m", "fixed", {}, {"x": 1.0, "y": 1.0}) for i in range(9)]
    points.append(Point("10", "m", "fixed", {}, {"y": 1.0, "z": 1.0}))
    assert alike(points, ["x", "y", "z"]) == [["x", "y"], ["z"]]


def cell(track: str, target: str, quantizer: str | None, seed: int = 0, **budget: Any) -> Cell:
    return Cell(
        track=track,
        track_version=1,
        target=target,
        quantizer=Spec.parse(quantizer) if quantizer else None,
        model=Spec.parse("mlp"),
        dataset=Spec.parse("digits"),
        optimizer=Spec.parse("adam"),
        seed=seed,
        budget=budget,
    )


def measured(one: Cell, **values: float) -> Measured:
    return Measured(one, {name: {"value": value} for name, value in values.items()})


def drawn(found: list[Measured]) -> str:
    """What the table at the end of a run looks like."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        summary.show(rendering.Screen(), found, lambda kind, spec: str(spec))
    assert max(map(len, out.getvalue().splitlines())) <= 100
    return out.getvalue()


def test_seeds_are_averaged_and_budgets_are_not() -> None:
    scores = {"baseline_accuracy": 90.0, "rate": 4.0}
    short = [
        measured(cell("ptq", "weight", "nf4", seed, epochs=1), accuracy=accuracy, accuracy_drop=1.0, **scores)
        for seed, accuracy in enumerate((88.0, 89.0))
    ]
    long = measured(cell("ptq", "weight", "nf4", epochs=2), accuracy=80.0, accuracy_drop=10.0, **scores)
    out = drawn([*short, long])
    assert re.search(r"^nf4 +4\.00 +88\.50 +\(1\.00\)\*$", out, re.MULTILINE)
    assert re.search(r"^nf4 +4\.00 +80\.00 +\(10\.00\)\*$", out, re.MULTILINE)
    assert out.count("float32") == 2
    assert [note in out for note in ("adam, epochs=1\n", "adam, epochs=2\n")] == [True, True]


def test_lines_are_compared_on_the_seeds_that_all_have() -> None:
    """nf4 has seed 1 alone: the other line's 70 % of seed 0, and what float had there, are left out."""

    def one(name: str, seed: int, accuracy: float, before: float) -> Measured:
        scores = {"accuracy": accuracy, "accuracy_drop": before - accuracy, "baseline_accuracy": before}
        return measured(cell("ptq", "weight", name, seed), rate=4.0, **scores)

    both = [one("fp4", 0, 70.0, 80.0), one("fp4", 1, 88.0, 90.0)]
    out = drawn([*both, one("nf4", 1, 87.0, 90.0)])
    assert re.search(r"^float32 +32 +90\.00", out, re.MULTILINE)
    assert re.search(r"^fp4 +4\.00 +88\.00 +\(2\.00\)\*$", out, re.MULTILINE)
    assert "only seeds that all lines of a column have" in out
    # without a seed in common all is shown
    out = drawn([both[0], one("nf4", 1, 87.0, 90.0)])
    assert re.search(r"^fp4 +4\.00 +70\.00", out, re.MULTILINE)
    assert "only seeds" not in out


def test_gradient_codes_with_and_without_feedback_share_a_table() -> None:
    """The uncompressed run is the line of floats, and no line of its own."""
    scores = {"accuracy": 97.0, "accuracy_drop": 1.0, "baseline_accuracy": 98.0, "rate": 1.0}
    found = [
        measured(cell("gradient-compression", "gradient", name, error_feedback=fed), **scores)
        for name, fed in (("signsgd", True), ("signsgd", False), (None, False))
    ]
    out = drawn(found)
    for fed in ("True", "False"):
        assert re.search(rf"^signsgd, error_feedback={fed} +1\.00 +97\.00 +\(1\.00\)\*$", out, re.MULTILINE)
    assert out.count("float32") == out.count("98.00") == 1
    assert "mlp, adam" not in out


def test_statistics_of_gradients_have_no_bits() -> None:
    values = {"middle.shape": 0.51, "middle.gain_last_db": 0.04, "accuracy": 98.0}
    out = drawn([measured(cell("gradient-statistics", "gradient", None), **values)])
    assert re.search(r"^mlp, adam +0\.51 +\(0\.04\)$", out, re.MULTILINE)
    assert not any(word in out for word in ("bits/elem", "98.00", "better"))


def test_float_models_are_rows_beside_their_validation() -> None:
    out = drawn([measured(cell("float", "weight", None), accuracy=97.5, validation_accuracy=96.25)])
    assert re.search(r"^model, optimizer +digits$", out, re.MULTILINE)
    assert re.search(r"^mlp, adam +97\.50 \(96\.25\)$", out, re.MULTILINE)
    assert "bits/elem" not in out
    assert "float32" not in out


def test_text_is_scored_in_bits_per_character() -> None:
    values = {"accuracy": 40.0, "accuracy_drop": 3.0, "rate": 3.0}
    bits = {"bits_per_character": 2.5, "baseline_bits_per_character": 2.25}
    out = drawn([measured(cell("ptq", "weight", "nf4"), **values, **bits)])
    assert "bits per character (bits lost)" in out
    assert re.search(r"^nf4 +3\.00 +2\.500 \(0\.250\)\*$", out, re.MULTILINE)
    assert re.search(r"^float32 +32 +2\.250$", out, re.MULTILINE)
    further = {"bits_per_character": 2.5, "finetuned_bits_per_character": 2.0, "finetuned_accuracy": 50.0}
    out = drawn([measured(cell("qat", "weight", "nf4"), **values, **further)])
    assert re.search(r"^nf4 +3\.00 +2\.500 \(0\.500\)\*$", out, re.MULTILINE)
    # a loss of ln 4 nats is 2 bits
    out = drawn(
        [
            measured(
                cell("float", "weight", None),
                accuracy=40.0,
                bits_per_character=2.5,
                validation_loss=math.log(4),
            )
        ]
    )
    assert re.search(r"^mlp, adam +2\.500 \(2\.000\)$", out, re.MULTILINE)


def test_activations_have_bits_of_both_kinds_and_a_row_for_every_setting() -> None:
    given = [("nf4", "static", 8.0, 89.0), ("nf4", "dynamic", 8.0, 88.0), (None, "static", 32.0, 90.0)]
    found = [
        measured(
            cell("ptq", "activation", "mxfp4", weights=weights, mode=mode),
            accuracy=accuracy,
            accuracy_drop=90.0 - accuracy,
            baseline_accuracy=90.0,
            rate=4.0,
            weight_rate=bits,
        )
        for weights, mode, bits, accuracy in given
    ]
    out = drawn(found)
    assert re.search(r"^quantizer +W bits +A bits +digits$", out, re.MULTILINE)
    assert re.search(
        r"^mxfp4, weights nf4, mode=static +8\.00 +4\.00 +89\.00 +\(1\.00\)\*$", out, re.MULTILINE
    )
    assert re.search(
        r"^mxfp4, weights nf4, mode=dynamic +8\.00 +4\.00 +88\.00 +\(2\.00\)$", out, re.MULTILINE
    )
    assert re.search(r"^mxfp4, weights float32, mode=static +32\.00 +4\.00 +90\.00 ", out, re.MULTILINE)
    assert "adam, weights nf4\n" in drawn(found[:1])


def test_mixed_precision_names_its_method_and_not_the_bits_that_play_no_part() -> None:
    found = [
        measured(
            cell("mixed-precision", "weight", "uniform(bits=4,range=mse)", method=method, rate=3.0),
            accuracy=accuracy,
            accuracy_drop=90.0 - accuracy,
            kl=kl,
            rate=bits,
        )
        for method, accuracy, kl, bits in [("greedy", 89.0, 0.0125, 2.99), ("uniform", 85.0, 0.25, 2.5)]
    ]
    out = drawn(found)
    assert re.search(
        r"^greedy, uniform\(range=mse\) +2\.99 +89\.00 +\(1\.00, 0\.0125\)\*$", out, re.MULTILINE
    )
    assert re.search(
        r"^uniform, uniform\(range=mse\) +2\.50 +85\.00 +\(5\.00, 0\.2500\)\*$", out, re.MULTILINE
    )


def test_saved_activations_show_the_share_of_bytes_that_is_left() -> None:
    values = {"accuracy": 89.0, "accuracy_drop": 1.0, "baseline_accuracy": 90.0, "rate": 4.5}
    kept = {"saved_bytes": 250.0, "float_saved_bytes": 1000.0}
    out = drawn([measured(cell("saved-activations", "activation", "nf4"), **values, **kept)])
    assert re.search(r"^nf4 +4\.50 +89\.00 +\(1\.00, 25\)\*$", out, re.MULTILINE)
    assert re.search(r"^float +- +90\.00$", out, re.MULTILINE)


def test_what_rounds_to_zero_has_no_sign() -> None:
    values = {"accuracy": 90.004, "accuracy_drop": -0.004, "baseline_accuracy": 90.0, "rate": 4.0}
    out = drawn([measured(cell("ptq", "weight", "nf4"), **values)])
    assert re.search(r"^nf4 +4\.00 +90\.00 +\(0\.00\)\*$", out, re.MULTILINE)
    bits = {"bits_per_character": 2.2498, "baseline_bits_per_character": 2.25}
    out = drawn([measured(cell("ptq", "weight", "nf4"), **values, **bits)])
    assert re.search(r"^nf4 +4\.00 +2\.250 \(0\.000\)\*$", out, re.MULTILINE)


def test_another_data_set_that_was_tested_on_is_a_column() -> None:
    found = measured(
        cell("ptq", "weight", "nf4", transfer="gaussian"),
        accuracy=89.0,
        accuracy_drop=1.0,
        baseline_accuracy=90.0,
        transfer_accuracy=70.0,
        baseline_transfer_accuracy=75.0,
        rate=4.0,
    )
    out = drawn([found])
    assert "tested on gaussian" in out
    assert re.search(r"^nf4 +4\.00 +89\.00 +\(1\.00\)\* +70\.00 +\(5\.00\)\*$", out, re.MULTILINE)
    assert re.search(r"^float32 +32 +90\.00 +75\.00$", out, re.MULTILINE)
