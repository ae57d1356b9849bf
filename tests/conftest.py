"""Fixtures that several test modules share."""

import functools
import importlib
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import psutil
import pytest
import torch
from torch import Tensor

from qbench.components import Context, Examples, Parameters, Quantizer
from qbench.message import Message, Stream

FASHION_MNIST = Path(__file__).resolve().parents[2] / "shared" / "datasets" / "fashion-mnist.tar"


@pytest.fixture(scope="session")
def fashion_mnist_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packed files of Fashion-MNIST below ``FashionMNIST/raw``. Nobody writes there."""
    if not FASHION_MNIST.is_file():
        pytest.skip("no ../shared/datasets/fashion-mnist.tar beside the repository")
    root = tmp_path_factory.mktemp("fashion-mnist")
    with tarfile.open(FASHION_MNIST) as archive:
        archive.extractall(root, filter="data")
    return root


@pytest.fixture
def no_process_left() -> Iterator[None]:
    """Whoever was started within the test has ended with it."""
    before = {child.pid for child in psutil.Process().children()}
    yield
    assert [child for child in psutil.Process().children() if child.pid not in before] == []


@pytest.fixture(scope="session")
def digits() -> Examples:
    """Scikit-learn's digits, 8 x 8; every fifth is a test picture. Nobody writes into it."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.from_numpy(found.images * 15).to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(found.target).long()
    test = torch.arange(len(labels)) % 5 == 0
    return Examples(images[~test], labels[~test], images[test], labels[test], classes=10)


@pytest.fixture(scope="session")
def few(digits: Examples) -> Examples:
    """160 of the digits to train on, none to test with."""
    return Examples(digits.train_inputs[:160], digits.train_labels[:160], *torch.empty(2, 0), classes=10)


class KeptParameters(Parameters):
    times: float = 1.0
    noise: float = 0.0


class Kept(Quantizer):
    """Stores the numbers themselves, times a number, with noise from the encoder's generator."""

    name = "kept"
    targets = ("weight", "activation")
    Parameters = KeptParameters

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        if not self.parameters.noise:
            return {"x": x * self.parameters.times}
        noise = torch.randn(x.shape, generator=context.generator) * self.parameters.noise
        return {"x": (x + noise) * self.parameters.times}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        x = codes["x"]
        assert isinstance(x, Tensor)
        return x


@pytest.fixture(scope="session")
def kept() -> type[Quantizer]:
    """The quantizer that keeps what it is given."""
    return Kept


class RoundingParameters(Parameters):
    bits: int = 8


class Rounding(Quantizer):
    """2^bits - 1 levels between the ends of what was fitted; the scale is in the codebook."""

    name = "rounding"
    targets = ("weight", "activation")
    Parameters = RoundingParameters

    @property
    def half(self) -> int:
        return 2 ** (int(self.parameters.bits) - 1) - 1

    def fit(self, x: Tensor, *, context: Context) -> Message:
        return {"scale": x.abs().max() / self.half}

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        codes = (x / codebook["scale"]).round().clamp(-self.half, self.half)
        return {"codes": Stream(codes + self.half, 2 * self.half + 1)}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        stream, scale = codes["codes"], codebook["scale"]
        assert isinstance(stream, Stream)
        assert isinstance(scale, Tensor)
        return (stream.values.float() - self.half).reshape(shape) * scale


@pytest.fixture(scope="session")
def rounding() -> type[Quantizer]:
    """The quantizer that rounds to levels at equal distances."""
    return Rounding


@pytest.fixture
def watching() -> type[Quantizer]:
    """A quantizer of a test's own: zeros, the steps of its fits (-1 outside training), the contexts of its codes."""

    class Watching(Quantizer):
        name = "watching"
        fitted: ClassVar[list[int]] = []
        contexts: ClassVar[list[Context]] = []

        def fit(self, x: Tensor, *, context: Context) -> Message:
            self.fitted.append(context.public["step"] if context.public else -1)
            return {}

        def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
            self.contexts.append(context)
            return {"codes": Stream(torch.zeros(x.shape), 2)}

        def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
            return torch.zeros(shape)

    return Watching


def write_distribution(
    folder: Path, source: str, name: str = "stranger", entry_point: str | None = None, version: str = "1.0"
) -> Path:
    """A distribution with one plugin module below ``folder``; returns the module's file."""
    module = f"{name.replace('-', '_')}_plugin"
    sys.modules.pop(module, None)
    importlib.invalidate_caches()
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[qbench]\n{entry_point or name} = {module}\n")
    return folder / f"{module}.py"


@pytest.fixture(scope="session")
def make_distribution() -> Callable[..., Path]:
    """:func:`write_distribution`, for fixtures that live longer than a test."""
    return write_distribution


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Make a distribution with one plugin importable, here and in processes started from here."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return functools.partial(write_distribution, folder)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Timings are no tests: they run with ``--benchmark-only``."""
    return (
        True
        if collection_path.name == "benchmarks" and not config.getoption("benchmark_only", False)
        else None
    )
