"""Data-parallel training in processes: the same bits as in one process, the bytes counted, and an end in every case."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from qbench import plugins
from qbench.components import Examples
from qbench.data_parallel import Scheme, Simulated, Traffic
from qbench.data_parallel_worker import Job, Processes, _leave_word, all_gather
from qbench.errors import InvalidReconstructionError
from qbench.message import Message
from qbench.quantizers.predictive import Predictive
from qbench.quantizers.signsgd import SignSGD
from qbench.schema import Spec
from qbench.training import Trained, Training, train
from qbench.worker_group import WorkerGoneError, _folder, _Group, train_in_processes

TRAINING = Training(epochs=2, batch_size=320)


def job(quantizer: str | None, model: str, **changed: Any) -> Job:
    catalog = plugins.catalog()
    given = {
        "model": catalog.build("model", Spec.parse(model)).spec,
        "optimizer": catalog.build("optimizer", Spec.parse("adam(lr=0.003)")).spec,
        "quantizer": None if quantizer is None else catalog.quantizer(quantizer).spec,
        "training": TRAINING.model_dump(mode="json"),
        "seed": 3,
        "lr_factor": 1.0,
        "workers": 2,
        "error_feedback": True,
        "granularity": "layer",
        "backend": "gloo",
        "device": "cpu",
        **changed,
    }
    return Job(**given)


def scheme_of(told: Job) -> Scheme:
    quantizer = None if told.quantizer is None else plugins.catalog().build("quantizer", told.quantizer)
    return Scheme(quantizer, told.workers, told.error_feedback, told.granularity, told.seed)


def trained(told: Job, data: Examples, backward: Any) -> Trained:
    catalog, traffic = plugins.catalog(), backward.traffic
    every = traffic if isinstance(traffic, list) else [traffic]
    return train(
        catalog.build("model", told.model),
        catalog.build("optimizer", told.optimizer),
        data,
        Training(**told.training),
        told.seed,
        "cpu",
        lambda *_: [one.end_epoch() for one in every],
        backward=backward,
    )


def counted(traffic: Traffic) -> dict[str, Any]:
    """All but the seconds."""
    found = {name: value for name, value in vars(traffic).items() if "seconds" not in name}
    return {**found, "epochs": [list(epoch) for epoch in traffic.epochs]}


def assert_same(one: Trained, other: Trained) -> None:
    here, there = one.module.state_dict(), other.module.state_dict()
    assert list(here) == list(there)
    assert all(torch.equal(here[name], there[name]) for name in here)
    for name in ("training_loss", "validation_accuracy", "validation_loss", "selected_epoch"):
        assert one.metrics[name] == other.metrics[name]


@pytest.mark.parametrize(
    "told",
    [
        job("qsgd(levels=3,bucket_size=128)", "cnn(width=4)", error_feedback=False),
        # 1.7 million bytes: two buckets of other parameters in the first step than in the second
        job("signsgd", "mlp(width=600,depth=2)", granularity="model"),
    ],
    ids=["cnn, by layer", "several buckets, as a whole"],
)
@pytest.mark.usefixtures("no_process_left")
def test_processes_and_turns_agree_bit_for_bit(told: Job, digits: Examples) -> None:
    """Weights and buffers, losses, and bytes: those on the wire are those that channels count."""
    turns = Simulated(scheme_of(told))
    model = plugins.catalog().build("model", told.model)
    epochs: list[tuple[int, int]] = []
    found, traffic = train_in_processes(told, model, digits, lambda *at: epochs.append(at))
    assert_same(trained(told, digits, turns), found)
    assert [counted(one) for one in traffic] == [counted(one) for one in turns.traffic]
    assert turns.traffic[0].up_nbytes > 0
    assert epochs[-1][1] == 2


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """This process is a group of one."""
    store = dist.FileStore(str(tmp_path / "meeting"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("granularity", ["layer", "model"])
@pytest.mark.parametrize(
    "quantizer", [None, "powersgd(rank=1)", "topk(fraction=0.1)", "lattice(beta=4.0,dither=subtractive)"]
)
@pytest.mark.usefixtures("alone")
def test_the_hook_does_what_a_turn_does(quantizer: str | None, granularity: str, digits: Examples) -> None:
    told = job(quantizer, "cnn(width=4)", workers=1, granularity=granularity)
    hook, turns = Processes(scheme_of(told), 0, torch.device("cpu")), Simulated(scheme_of(told))
    assert_same(trained(told, digits, turns), trained(told, digits, hook))
    assert counted(hook.traffic) == counted(turns.traffic[0])


@pytest.mark.usefixtures("alone")
def test_the_hook_predicts_from_the_bytes_it_received(digits: Examples) -> None:
    told = job(None, "mlp(width=8,depth=1)", workers=1)
    scheme = Scheme(Predictive(inner=SignSGD()), 1, False, "layer", 0)
    hook, turns = Processes(scheme, 0, torch.device("cpu")), Simulated(scheme)
    assert_same(trained(told, digits, turns), trained(told, digits, hook))


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("parts", [[b"abc", b"", b"d" * 1000], [b""], []])
def test_bytes_are_gathered_as_they_are(parts: list[bytes]) -> None:
    assert all_gather(parts, torch.device("cpu")) == [parts]


@pytest.mark.usefixtures("no_process_left")
def test_a_worker_that_fails_is_named_with_what_it_said(digits: Examples) -> None:
    told = job("signsgd", "mlp(width=8)").model_copy(update={"model": Spec(name="nobody")})
    model = plugins.catalog().build("model", Spec(name="mlp"))
    with pytest.raises(WorkerGoneError, match=r"(?s)worker \d of 2 ended with exit code 1 before.*nobody"):
        train_in_processes(told, model, digits)


def test_folders_of_killed_processes_are_removed_and_locked_ones_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed process leaves its folder without a lock; a fresh one may be about to be locked."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left, fresh = tmp_path / "qbench-workers-left", tmp_path / "qbench-workers-fresh"
    for folder in (left, fresh):
        folder.mkdir()
        (folder / "examples.safetensors").write_bytes(b"large")
    os.utime(left, (0, 0))
    with _folder() as one:
        os.utime(one, (0, 0))
        with _folder() as other:
            assert sorted(tmp_path.iterdir()) == sorted([fresh, one, other])
    assert list(tmp_path.iterdir()) == [fresh]


def failed(tmp_path: Path, how: list[str]) -> _Group:
    """A group of processes that are told what to do instead of training."""
    group = _Group(tmp_path, job(None, "mlp(width=8)", workers=len(how)))
    for rank, code in enumerate(how):
        (tmp_path / f"log-{rank}").write_text(f"said by {rank}")
        group.processes.append(subprocess.Popen([sys.executable, "-c", code]))
    for process in group.processes:
        process.wait()
    return group


def test_of_two_that_failed_the_first_is_named(tmp_path: Path) -> None:
    """The other one's line was cut by that; both may have ended when they are looked at."""
    group = failed(tmp_path, ["raise SystemExit(1)"] * 2)
    _leave_word(tmp_path, 1, ValueError("mine"))
    _leave_word(tmp_path, 0, RuntimeError("Connection closed by peer"))
    with pytest.raises(WorkerGoneError, match=r"(?s)worker 1 of 2 ended with exit code 1 .*said by 1"):
        group.wait(lambda *_: None)


def test_a_killed_one_is_named_before_those_that_miss_it(tmp_path: Path) -> None:
    group = failed(tmp_path, ["raise SystemExit(1)", "import os; os.kill(os.getpid(), 9)"])
    _leave_word(tmp_path, 0, RuntimeError("Connection closed by peer"))
    with pytest.raises(WorkerGoneError, match=r"worker 1 of 2 ended with signal 9"):
        group.wait(lambda *_: None)


def test_what_is_no_reconstruction_is_called_so_as_in_one_process(tmp_path: Path) -> None:
    group = failed(tmp_path, ["raise SystemExit(1)"] * 2)
    _leave_word(tmp_path, 1, InvalidReconstructionError("broken: decode gave NaN"))
    with pytest.raises(InvalidReconstructionError, match="^broken: decode gave NaN$"):
        group.wait(lambda *_: None)


class Nan(SignSGD):
    name = "nan"

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        return super().decode(codes, codebook, shape) * float("nan")


@pytest.mark.usefixtures("alone")
def test_the_hook_keeps_what_went_wrong_in_it(digits: Examples) -> None:
    """Torch makes a RuntimeError of whatever is raised in the backward pass."""
    hook = Processes(Scheme(Nan(), 1, False, "layer", 0), 0, torch.device("cpu"))
    with pytest.raises(Exception, match="nan"):
        trained(job(None, "mlp(width=8,depth=1)", workers=1), digits, hook)
    assert isinstance(hook.failure, InvalidReconstructionError)


@pytest.mark.usefixtures("no_process_left")
@pytest.mark.slow
def test_training_that_diverges_says_so(digits: Examples) -> None:
    told = job("signsgd", "mlp(width=8)", lr_factor=1e38)
    model = plugins.catalog().build("model", told.model)
    with pytest.raises(FloatingPointError, match="no longer finite"):
        train_in_processes(told, model, digits)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("backend", ["gloo", "nccl"])
def test_on_cuda_the_same_gradients_give_the_same_bytes(backend: str, digits: Examples) -> None:
    """As many workers as devices where NCCL carries them, since two of its processes share no device."""
    workers = min(2, torch.cuda.device_count()) if backend == "nccl" else 2
    told = job("signsgd", "mlp(width=32)", backend=backend, device="cuda", workers=workers)
    model = plugins.catalog().build("model", told.model)
    found, traffic = train_in_processes(told, model, digits)
    turns = Simulated(scheme_of(told))
    catalog = plugins.catalog()
    here = train(
        model, catalog.build("optimizer", told.optimizer), digits, TRAINING, told.seed, "cuda", backward=turns
    )
    assert [one.up_nbytes for one in traffic] == [one.up_nbytes for one in turns.traffic]
    tensors: list[dict[str, Tensor]] = [one.module.state_dict() for one in (here, found)]
    for name, tensor in tensors[0].items():
        torch.testing.assert_close(tensors[1][name], tensor)
