"""Trained float models on disk, named by what made them: trained once, shared by every process.

A baseline is two files: weights (safetensors), then a JSON sidecar with their hash. What does not match its
hash is trained again, never used.
"""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import filelock
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from . import __version__
from .classifier import classifier, evaluate
from .components import Component, Examples, Kind, Model, UserData
from .fingerprint import fingerprint
from .schema import Recipe, Spec, canonical_json, digest
from .training import Progress, Trained, Training, train

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredWeights:
    """A state dictionary on the CPU, the hash of its content, and how training went."""

    tensors: dict[str, Tensor]
    sha256: str
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Baseline:
    """A trained float model with its data, both on the device."""

    module: nn.Module
    data: Examples
    sha256: str
    metrics: dict[str, Any]
    baseline_id: str

    @cached_property
    def test_logits(self) -> Tensor:
        """Logits of the unchanged model for the test pictures, float32 [n, classes]; computed once."""
        return evaluate(self.module, self.data.test_inputs)


class Bench(Protocol):
    """What :func:`make_baseline` needs of its surroundings."""

    @property
    def device(self) -> torch.device: ...

    @property
    def data_root(self) -> Path: ...

    def build(self, kind: Kind, spec: Spec) -> Any: ...

    def data(self, spec: Spec) -> Examples: ...

    def baseline(self, recipe: Recipe) -> Baseline: ...


def make_baseline(recipe: Recipe, bench: Bench, root: Path, progress: Progress | None = None) -> Baseline:
    """The baseline of ``recipe``: from the store under ``root``, else trained now.

    Its code counts as part of the name, and so do the content of a user's own files and the weights that it starts
    from: a changed model, trainer or picture trains anew.
    """
    model, optimizer = bench.build("model", recipe.model), bench.build("optimizer", recipe.optimizer)
    dataset = bench.build("dataset", recipe.dataset)
    start = None if recipe.start is None else bench.baseline(recipe.start)
    data, training, lr_factor = bench.data(recipe.dataset), *trainings(recipe)[-1]
    store = BaselineStore(root, bench.device.type)
    code = _code_of(model, optimizer, dataset)
    if isinstance(dataset, UserData):
        code = digest([code, dataset.content(bench.data_root)])[:16]
    if start is not None:
        code = digest([code, start.sha256])[:16]
    stored = store.get_or_train(
        recipe,
        lambda: train(
            model,
            optimizer,
            data,
            training,
            recipe.seed,
            bench.device,
            progress,
            start=None if start is None else start.module.state_dict(),
            lr_factor=lr_factor,
        ),
        code,
    )
    module = network_of(model, data, stored.tensors).to(bench.device)
    return Baseline(module, data, stored.sha256, stored.metrics, recipe.baseline_id)


def trainings(recipe: Recipe) -> list[tuple[Training, float]]:
    """The first training and the further one, if any, each with the factor of the optimizer's learning rate."""
    first = [(Training(**recipe.training), 1.0)]
    if recipe.further is None:
        return first
    changed = dict(recipe.further)
    lr_factor = float(changed.pop("lr_factor", 1.0))
    return [*first, (Training(**{**recipe.training, **changed}), lr_factor)]


def network_of(model: Model, data: Examples, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The network with those weights, on the CPU, in evaluation mode."""
    with torch.random.fork_rng([]):
        module = classifier(model, data.shape, data.classes)
    module.load_state_dict(tensors)
    return module.eval()


def _code_of(*components: Component) -> str:
    modules = {type(component).__module__ for component in components} | {train.__module__}
    return digest(sorted(fingerprint(module) for module in modules))[:16]


def weights_sha256(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over name, dtype, shape and bytes of each tensor in the order of names, whatever its strides."""
    state = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        state.update(canonical_json([name, str(tensor.dtype), list(tensor.shape)]).encode())
        state.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return state.hexdigest()


class BaselineStore:
    """Baselines under ``root``, apart by device kind: a GPU's weights are not a CPU's."""

    def __init__(self, root: Path, device_kind: str = "cpu") -> None:
        self.folder = Path(root) / device_kind

    def path(self, baseline_id: str, code: str = "") -> Path:
        """The weights' file; the sidecar and the lock lie beside it."""
        return self.folder / f"{baseline_id}{code and '-'}{code}.safetensors"

    def get_or_train(self, recipe: Recipe, train_fn: Callable[[], Trained], code: str = "") -> StoredWeights:
        """What is stored for ``recipe`` and ``code``, else what ``train_fn`` returns, stored.

        One process trains while others that want the same wait for it. An exception of ``train_fn`` passes
        through; nothing is stored then.
        """
        path = self.path(recipe.baseline_id, code)
        self.folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(path.with_suffix(".lock")):
            stored, note = _read(path)
            if stored is None:
                if note:
                    log.warning("baseline %s (%s) is trained again: %s", recipe, path.name, note)
                _write(path, recipe, train_fn(), note)
                stored, note = _read(path)
            if stored is None:
                raise OSError(f"the baseline just written to {path} is damaged: {note}; check the disk")
        return stored


def _read(path: Path) -> tuple[StoredWeights | None, str | None]:
    """The stored weights, or None and what is wrong with them (nothing, where there are none)."""
    if not path.exists() and not path.with_suffix(".json").exists():
        return None, None
    try:
        sidecar = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        tensors = load(path.read_bytes())
        found, wanted = weights_sha256(tensors), sidecar["sha256"]
        if found != wanted:
            return None, f"its weights hash to {found[:12]}, not {str(wanted)[:12]}"
        return StoredWeights(tensors, found, dict(sidecar["metrics"])), None
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        return None, f"its files are damaged ({type(error).__name__}: {error})"


def _write(path: Path, recipe: Recipe, trained: Trained, note: str | None) -> None:
    tensors = {name: _copy(tensor) for name, tensor in trained.module.state_dict().items()}
    sidecar = {
        "recipe": recipe.model_dump(mode="json"),
        "baseline_id": recipe.baseline_id,
        "sha256": weights_sha256(tensors),
        "metrics": trained.metrics,
        "versions": {"qbench": __version__, "torch": str(torch.__version__)},
        "replaces": note,
    }
    # the sidecar comes last: only with it do the weights count
    _replace(path, save(tensors))
    _replace(path.with_suffix(".json"), (json.dumps(sidecar, indent=1) + "\n").encode())


def _copy(tensor: Tensor) -> Tensor:
    """On the CPU, contiguous, sharing memory with nothing: what safetensors takes."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _replace(path: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
