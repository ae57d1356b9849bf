"""What a plugin provides: quantizers, models, data sets, optimizers, tracks, suites.

Every component has a name, a frozen set of validated parameters, and where it comes from in the literature. The core
does the rest: axes, dtypes, scales, packing, coding, rates, training loops, decoding elsewhere.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from .errors import ParameterError
from .message import Message
from .schema import Cell, Outcome, Recipe, Spec, Target

if TYPE_CHECKING:
    from .workbench import Workbench

Kind = Literal["quantizer", "wrapper", "transform", "model", "dataset", "optimizer", "track", "suite"]
Family = Literal["scalar", "vector", "lattice", "stochastic", "optimized", "float", "binary"]


class Parameters(BaseModel):
    """Base of a component's parameters: frozen, unknown names are errors, every one has a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Component(ABC):
    """Something a plugin provides under a name.

    Class attributes: ``name`` (``a-z 0-9 . _ -``), ``reference`` (paper, year, equation), and ``Parameters``, a
    subclass of :class:`Parameters`. ``Component(**parameters)`` validates them.

    Raises:
        ParameterError: an unknown parameter or a value outside its range; says what is allowed.
    """

    kind: ClassVar[Kind]
    name: ClassVar[str]
    reference: ClassVar[str] = ""
    Parameters: ClassVar[type[Parameters]] = Parameters

    def __init__(self, **parameters: Any) -> None:
        try:
            self.parameters: Any = self.Parameters(**parameters)
        except ValidationError as error:
            raise ParameterError(_explain(self, error)) from None

    @property
    def spec(self) -> Spec:
        """Name and every parameter, defaults included; a component given as parameter nests."""
        values = {name: getattr(self.parameters, name) for name in type(self.parameters).model_fields}
        return Spec(name=self.name, parameters={name: _plain(value) for name, value in values.items()})

    def __repr__(self) -> str:
        return str(self.spec)


def _plain(value: Any) -> Any:
    if isinstance(value, Component):
        return value.spec
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return list(value) if isinstance(value, tuple) else value


def _explain(component: Component, error: ValidationError) -> str:
    fields = type(component).Parameters.model_fields
    lines = []
    for problem in error.errors():
        where = ".".join(map(str, problem["loc"])) or "parameters"
        if problem["type"] == "extra_forbidden":
            allowed = ", ".join(fields) or "none"
            lines.append(f"{component.kind} {component.name!r} has no parameter {where!r}; it has: {allowed}")
        else:
            message = problem["msg"][0].lower() + problem["msg"][1:]
            lines.append(f"{component.kind} {component.name!r}: {where}={problem['input']!r}: {message}")
    return "; ".join(lines)


@dataclass(frozen=True)
class Context:
    """What surrounds a message, beside the tensor itself.

    Attributes:
        generator: the only source of randomness an encoder may draw from; lives on the tensor's device.
        importance: non-negative weight per element, shape of x, or None.
        gram: input second moments of the layer, [in, in], or None.
        loss: differentiable callable from a reconstruction of x (its shape and scale) to the layer's loss, or None.
        state: memory of this encoder at this site and sender, kept between messages.
        public: what sender and receiver both know for free (step, worker, bucket, shared seed), or None.
        progress: share of training done, 0 to 1.
    """

    generator: torch.Generator
    importance: Tensor | None = None
    gram: Tensor | None = None
    loss: Any = None
    state: dict[str, Any] = field(default_factory=dict)
    public: Mapping[str, Any] | None = None
    progress: float = 1.0


class Quantizer(Component):
    """A code for real tensors. It is mathematics only.

    ``x`` arrives float32 and finite, channel axis first, scaled by an exact power of two so that the largest
    magnitude of what ``fit`` saw lies in [0.5, 1). The core packs, counts, codes and decodes.

    Class attributes:
        family: what kind of code it is, by which tables and charts group it; None for a wrapper, which is of the
            kind of what it wraps, and for what is of none of these kinds.
        targets: what it is meant for, a subset of source, weight, activation, gradient.
        needs: what it must find in the context (importance, gram, loss); a track that cannot give it leaves it out.
        sweep: the points at which ``quantizer = "*"`` of a suite runs it, each a dictionary of parameters.
        version: raised when the meaning of its bytes changes.
        unbiased: whether it claims that the mean of its reconstructions is x, or the values of its parameters with
            which it does, such as ``{"clip": None}``; the contract kit tests the claim.
    """

    kind: ClassVar[Kind] = "quantizer"
    family: ClassVar[Family | None] = None
    targets: ClassVar[tuple[Target, ...]] = ("source", "weight")
    needs: ClassVar[frozenset[str]] = frozenset()
    sweep: ClassVar[tuple[Mapping[str, Any], ...]] = ({},)
    version: ClassVar[int] = 1
    unbiased: ClassVar[bool | Mapping[str, Any]] = False

    @property
    def is_unbiased(self) -> bool:
        """Whether it claims, with the parameters that it has, that the mean of its reconstructions is x."""
        if isinstance(self.unbiased, bool):
            return self.unbiased
        given = dict(self.parameters)
        return {**given, **self.unbiased} == given

    def suits(self, target: Target, provides: frozenset[str]) -> bool:
        """Whether it, and every quantizer inside it, is meant for ``target`` and finds what it needs."""
        return all(target in part.targets and part.needs <= provides for part in self.parts())

    def parts(self) -> list["Quantizer"]:
        """This quantizer and every one inside it."""
        inner = [value for value in dict(self.parameters).values() if isinstance(value, Quantizer)]
        return [self, *(part for quantizer in inner for part in quantizer.parts())]

    @abstractmethod
    def fit(self, x: Tensor, *, context: Context) -> Message:
        """The codebook: what the decoder needs and keeps between messages. ``{}`` where there is none.

        What it returns must be able to code *another* tensor of the same kind; numbers that belong to one tensor
        alone (a scale per group) are decided in ``encode`` and travel with the codes.
        """

    @abstractmethod
    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        """The codes of ``x`` of any shape, with whatever else is decided while encoding."""

    @abstractmethod
    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        """The reconstruction of that shape, float32. Pure: it knows its arguments and nothing else."""


class Wrapper(Quantizer):
    """A quantizer around another, its parameter ``inner``; ``hadamard(uniform(bits=4))`` names it without the key."""

    kind = "wrapper"

    @property
    def inner(self) -> Quantizer:
        quantizer: Quantizer = self.parameters.inner
        return quantizer


class Trainable(ABC):
    """What a quantizer also is when it takes part in training: LSQ, PACT, soft-to-hard.

    Class attribute ``unitless``: names of codebook entries that are learned and stay as they are when x is multiplied,
    such as logits. All others are in units of x, and the core steps them as if no scale were around the message.
    """

    unitless: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def surrogate(self, x: Tensor, codebook: Message, *, context: Context) -> Tensor:
        """A function of ``x`` and of the codebook's float tensors, of x's shape, through which gradients flow.

        Its value equals ``decode(encode(x))``; :func:`qbench.autograd.straight_through` makes one out of a
        differentiable function and a hard code. What of the codebook requires a gradient is learned with the weights.
        """


class Constrained(ABC):
    """What a quantizer also is when it keeps the real weights in bounds while they are trained: BinaryConnect."""

    @abstractmethod
    def project(self, x: Tensor, codebook: Message) -> Tensor:
        """The allowed values nearest to ``x``, of its shape; put in its place after every update."""


class Collective(ABC):
    """What a quantizer also is when workers exchange several messages to agree on one mean: PowerSGD."""

    @abstractmethod
    def exchange(self, x: Tensor, *, context: Context) -> Generator[Message, Message, Tensor]:
        """Yields a message and is sent the mean of all workers' messages, as often as it likes; returns the mean of x.

        The messages hold float tensors, of the same shapes at every worker, so that they can be all-reduced.
        """


class Differential(ABC):
    """What a quantizer also is when a stream of messages codes differences to predictions: :mod:`qbench.channel`.

    Both ends of the stream predict from what has been reconstructed, in float32, the first tensor as 0. ``encode`` and
    ``decode`` know nothing of it: they code a difference.
    """

    @abstractmethod
    def predict(self, prediction: Tensor, reconstruction: Tensor) -> Tensor:
        """The prediction of the next tensor, from that of the last and its reconstruction. Elementwise and pure."""


Inputs = Literal["pictures", "text"]


@dataclass(frozen=True)
class Examples:
    """What a network learns and is tested on: inputs, uint8, and labels, int64.

    Pictures are [n, channels, height, width] with a label each, [n]. Text is [n, length] numbers of characters, its
    labels, [n, length], the character that follows each.
    """

    train_inputs: Tensor
    train_labels: Tensor
    test_inputs: Tensor
    test_labels: Tensor
    classes: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input: (channels, height, width) or (length,)."""
        return tuple(self.train_inputs.shape[1:])

    @property
    def inputs(self) -> Inputs:
        return "pictures" if len(self.shape) == 3 else "text"


class Dataset(Component):
    """Where data comes from: an iid :class:`Source`, or :class:`Stored` examples: :class:`Images`, :class:`Text`."""

    kind = "dataset"


class Source(Dataset):
    """An iid source of zero mean and unit variance.

    ``limit`` names the bound of :meth:`distortion_limit`: the rate-distortion function, or the Shannon lower bound.
    """

    limit: ClassVar[str]

    @abstractmethod
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """``count`` independent values, float32, on the generator's device."""

    @abstractmethod
    def distortion_limit(self, rate: float) -> float:
        """A mean squared error that no code of ``rate`` bits per element can go below."""


class Stored(Dataset):
    """Examples on disk. ``download_bytes`` is what a fetch transfers, 0 where nothing is fetched."""

    inputs: ClassVar[Inputs]
    download_bytes: ClassVar[int] = 0

    @abstractmethod
    def missing(self, root: Path) -> str | None:
        """Why the data under ``root`` cannot be used (absent, damaged) in one line, or None if it can."""

    @abstractmethod
    def fetch(self, root: Path) -> None:
        """Download into ``root`` and verify checksums. Runs in a process that can be killed.

        Raises:
            DataError: the source cannot be reached or sent something else.
        """

    @abstractmethod
    def load(self, root: Path) -> Examples:
        """Read everything into memory.

        Raises:
            DataError: a file is damaged.
        """


class Images(Stored):
    """Labelled pictures."""

    inputs = "pictures"


class Text(Stored):
    """Characters, each to be predicted from those before it."""

    inputs = "text"


class UserData(ABC):
    """What a data set also is when its name does not fix its content: a user's own files."""

    @abstractmethod
    def content(self, root: Path) -> str:
        """sha256 that names the content; part of every identity, so that other files are other data.

        Raises:
            DataError: the files are not there or cannot be read.
        """


class Model(Component):
    """A network architecture. ``inputs`` says what it takes."""

    kind = "model"
    inputs: ClassVar[Inputs] = "pictures"

    @abstractmethod
    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A freshly initialized module.

        From pictures [n, channels, height, width], float, to logits [n, classes]; or from text [n, length], int64, to
        logits [n, length, classes], each of what it knows up to that character. ``shape`` is that of one input.
        """


class Transform(Component):
    """A change to a whole network that helps quantization: model in, model out.

    Class attributes:
        stage: ``before`` its weights are quantized (the function of the network stays as it is) or ``after``.
        calibrated: whether it looks at the calibration inputs; one that does not is given none.

    A quantized weight keeps its name and its value; whatever else a network holds afterwards counts as stored.
    """

    kind = "transform"
    stage: ClassVar[Literal["before", "after"]]
    calibrated: ClassVar[bool] = False

    @abstractmethod
    def apply(self, module: nn.Module, *, calibration: Tensor, original: nn.Module) -> nn.Module:
        """A changed copy of ``module``, in evaluation mode; neither argument is changed.

        Args:
            module: the network, with quantized weights where the stage is ``after``.
            calibration: inputs of the network, none of them a test picture.
            original: the float network of the same structure, layer for layer.

        Raises:
            InputError: a network whose structure it cannot follow; says what it met.
        """


class Optimizer(Component):
    """A training rule over torch.optim."""

    kind = "optimizer"

    @abstractmethod
    def build(self, parameters: Any) -> torch.optim.Optimizer:
        """The optimizer over an iterable of parameters."""


class Track(Component):
    """A kind of task. One cell of it is one call of :meth:`run`.

    Class attributes:
        version: part of every cell's identity; raised when the meaning of its numbers changes.
        targets: the targets a grid of this track may name.
        provides: what its quantizers find in the context.
        quantizers: names of those it can work with; empty for all.
        extensible: whether a grid takes quantizers beside those its file names (``--quantizer``).
        Parameters: the budget a grid states (``[grid.budget]``), validated by it.
        specified: which fields of the budget hold specifications of components, and of what kind. They are written
            out with every parameter and their code is part of a cell's fingerprint; data sets are looked for.
    """

    kind = "track"
    version: ClassVar[int] = 1
    targets: ClassVar[tuple[Target, ...]]
    provides: ClassVar[frozenset[str]] = frozenset()
    quantizers: ClassVar[frozenset[str]] = frozenset()
    extensible: ClassVar[bool] = True
    specified: ClassVar[Mapping[str, Kind]] = {}

    def named(self) -> list[tuple[Kind, Spec]]:
        """The components that the budget specifies."""
        budget = self.spec.parameters
        texts = {name: budget[name] or [] for name in self.specified}
        return [
            (self.specified[name], Spec.parse(text))
            for name, value in texts.items()
            for text in (value if isinstance(value, list) else [value])
        ]

    @abstractmethod
    def baseline(self, cell: Cell) -> Recipe | None:
        """The trained float model the cell starts from, or None."""

    @abstractmethod
    def estimate(self, cell: Cell) -> float:
        """Seconds the cell is expected to take on one core, before anything was measured."""

    @abstractmethod
    def run(self, cell: Cell, bench: "Workbench") -> Outcome:
        """Do the work. ``bench`` gives device, data, baselines, and the decoder that never saw the tensor."""
