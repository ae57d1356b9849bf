import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from qbench import baselines
from qbench.baselines import Baseline, BaselineStore, make_baseline, weights_sha256
from qbench.classifier import evaluate
from qbench.components import Examples, UserData
from qbench.models.cnn import Cnn
from qbench.optimizers.adam import Adam
from qbench.schema import Recipe, Spec
from qbench.training import Trained, Training, train

RECIPE = Recipe(
    model=Spec.parse("cnn(width=2)"),
    dataset=Spec(name="noise"),
    optimizer=Spec(name="adam"),
    seed=0,
    training=Training(epochs=1, batch_size=16).model_dump(mode="json"),
)


class Trainer:
    """Trains nothing, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Trained:
        self.calls += 1
        module = nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
        module.register_parameter("twin", module.bias)
        return Trained(module, {"seconds": 1.5, "validation_accuracy": [0.5, 1.0]})


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return dict(module.state_dict())


def test_a_hash_over_content_not_layout_or_order() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2, 3, 4, 5), torch.tensor(7)
    expected = weights_sha256({"x": x, "y": y})
    assert weights_sha256({"y": y, "x": x.to(memory_format=torch.channels_last)}) == expected
    changed = x.clone()
    changed[0, 0, 0, 0] = torch.nextafter(x[0, 0, 0, 0], torch.tensor(9.0))
    others: list[dict[str, torch.Tensor]] = [
        {"x": changed, "y": y},
        {"x": x.reshape(6, 20), "y": y},
        {"x": x.view(torch.int32), "y": y},
        {"x": x, "z": y},
        {"x": x},
        {"x": x, "y": y, "w": torch.empty(0)},
    ]
    assert len({expected, *map(weights_sha256, others)}) == 7


def test_trained_once_then_read(tmp_path: Path) -> None:
    trainer = Trainer()
    first = BaselineStore(tmp_path).get_or_train(RECIPE, trainer)
    second = BaselineStore(tmp_path).get_or_train(RECIPE, trainer)
    assert trainer.calls == 1
    assert first.sha256 == second.sha256 == weights_sha256(second.tensors)
    assert second.metrics == {"seconds": 1.5, "validation_accuracy": [0.5, 1.0]}
    assert sorted(second.tensors) == ["bias", "twin", "weight"]
    sidecar = json.loads(BaselineStore(tmp_path).path(RECIPE.baseline_id).with_suffix(".json").read_text())
    assert Recipe(**sidecar["recipe"]) == RECIPE
    assert sidecar["versions"]["torch"] == str(torch.__version__)


def test_every_part_of_the_name_counts(tmp_path: Path) -> None:
    trainer = Trainer()
    other_seed = RECIPE.model_copy(update={"seed": 1})
    BaselineStore(tmp_path).get_or_train(RECIPE, trainer)
    BaselineStore(tmp_path).get_or_train(other_seed, trainer)
    BaselineStore(tmp_path, "cuda").get_or_train(RECIPE, trainer)
    BaselineStore(tmp_path).get_or_train(RECIPE, trainer, code="1234")
    assert trainer.calls == 4


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        *((".safetensors", damage) for damage in (flip_a_byte, cut_short, empty, Path.unlink)),
        *((".json", damage) for damage in (cut_short, empty, Path.unlink)),
        (".json", lambda path: path.write_text("[]")),
        (".json", lambda path: path.write_text("{}")),
    ],
)
def test_damage_is_noticed_and_trained_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, damage: Callable[[Path], Any]
) -> None:
    store, trainer = BaselineStore(tmp_path), Trainer()
    store.get_or_train(RECIPE, trainer)
    damage(store.path(RECIPE.baseline_id).with_suffix(suffix))
    with caplog.at_level(logging.WARNING):
        again = store.get_or_train(RECIPE, trainer)
    assert trainer.calls == 2
    assert "is trained again: its" in caplog.text
    assert again.sha256 == weights_sha256(again.tensors) == store.get_or_train(RECIPE, trainer).sha256
    assert trainer.calls == 2
    assert json.loads(store.path(RECIPE.baseline_id).with_suffix(".json").read_text())["replaces"]


def test_a_failed_training_stores_nothing(tmp_path: Path) -> None:
    def fail() -> Trained:
        raise FloatingPointError("diverged")

    store, trainer = BaselineStore(tmp_path), Trainer()
    with pytest.raises(FloatingPointError, match="diverged"):
        store.get_or_train(RECIPE, fail)
    assert [path.suffix for path in store.folder.iterdir()] in ([], [".lock"])
    store.get_or_train(RECIPE, trainer)
    assert trainer.calls == 1


def test_a_disk_that_refuses_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, target: Path) -> None:
        raise OSError(28, "No space left on device")

    store = BaselineStore(tmp_path)
    monkeypatch.setattr(baselines.os, "replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        store.get_or_train(RECIPE, Trainer())
    assert {path.suffix for path in store.folder.iterdir()} <= {".lock"}


RACER = """
import os, sys, time
from pathlib import Path
import torch
from qbench.baselines import BaselineStore
from qbench.schema import Recipe
from qbench.training import Trained

root = Path(sys.argv[1])

def train():
    (root / f"trained-{os.getpid()}").touch()
    time.sleep(1)
    return Trained(torch.nn.Linear(2, 2), {})

(root / f"ready-{os.getpid()}").touch()
while len(list(root.glob("ready-*"))) < 3:
    time.sleep(0.01)
print(BaselineStore(root).get_or_train(Recipe.model_validate_json(sys.argv[2]), train).sha256)
"""


def test_processes_that_want_the_same_train_it_once(tmp_path: Path) -> None:
    """The others arrive while the first trains: they wait for each other, and training takes a second."""
    command = [sys.executable, "-c", RACER, str(tmp_path), RECIPE.model_dump_json()]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = [racer.communicate(timeout=120)[0] for racer in racers]
    assert len(set(answers)) == 1
    assert len(answers[0].strip()) == 64
    assert len(list(tmp_path.glob("trained-*"))) == 1


class Noise:
    """The surroundings of a baseline: a data set of random pictures, on the CPU."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8, generator=generator)
        labels = torch.randint(0, 3, (60,), generator=generator)
        self.examples = Examples(images[:40], labels[:40], images[40:], labels[40:], classes=3)

    def build(self, kind: str, spec: Spec) -> Any:
        return {"model": Cnn, "optimizer": Adam, "dataset": Noise}[kind](**spec.parameters)

    def data(self, spec: Spec) -> Examples:
        return self.examples

    def baseline(self, recipe: Recipe) -> Baseline:
        raise AssertionError("nothing here is trained on")


def test_a_baseline_read_equals_the_one_trained(tmp_path: Path) -> None:
    epochs: list[int] = []
    torch.manual_seed(5)
    before = torch.get_rng_state()
    made, read = (
        make_baseline(RECIPE, Noise(), tmp_path, lambda epoch, *rest: epochs.append(epoch)) for _ in range(2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert epochs == [1]
    assert made.baseline_id == RECIPE.baseline_id
    assert made.sha256 == read.sha256 == weights_sha256(state(read.module))
    assert torch.equal(made.test_logits, read.test_logits)
    assert torch.equal(read.test_logits, evaluate(read.module, Noise().examples.test_inputs))
    assert not read.module.training


def test_changed_code_trains_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_baseline(RECIPE, Noise(), tmp_path)
    monkeypatch.setattr(baselines, "fingerprint", lambda module: f"another {module}")
    make_baseline(RECIPE, Noise(), tmp_path)
    assert len(list(tmp_path.glob("cpu/*.safetensors"))) == 2


class Own(Noise, UserData):
    """The same pictures as somebody's own files, which are whatever ``saved`` says."""

    data_root = Path()
    saved = "first"

    def build(self, kind: str, spec: Spec) -> Any:
        return self if kind == "dataset" else super().build(kind, spec)

    def content(self, root: Path) -> str:
        return self.saved


def test_changed_files_train_anew(tmp_path: Path) -> None:
    bench = Own()
    for bench.saved in ("first", "first", "second"):
        make_baseline(RECIPE, bench, tmp_path)
    assert len(list(tmp_path.glob("cpu/*.safetensors"))) == 2


class Store(Noise):
    """Baselines under a folder."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.data_root = root

    def baseline(self, recipe: Recipe) -> Baseline:
        return make_baseline(recipe, self, self.data_root)


def test_further_training_starts_from_the_first_one(tmp_path: Path) -> None:
    bench, further = Store(tmp_path), RECIPE.model_copy(update={"further": {"epochs": 2, "lr_factor": 0.5}})
    made = bench.baseline(further)
    first = bench.baseline(RECIPE)
    expected = train(
        Cnn(width=2),
        Adam(),
        bench.examples,
        Training(epochs=2, batch_size=16),
        RECIPE.seed,
        start=first.module.state_dict(),
        lr_factor=0.5,
    )
    assert made.sha256 == weights_sha256(state(expected.module)) != first.sha256
    assert made.baseline_id == further.baseline_id != RECIPE.baseline_id == first.baseline_id
    assert further.start == RECIPE
    assert RECIPE.start is None
    assert len(list(tmp_path.glob("cpu/*.safetensors"))) == 2
