"""What kind of source the gradients of a training are, and how they move."""

from collections.abc import Mapping
from typing import Literal, final

from pydantic import Field

from ..components import Parameters, Track
from ..errors import SuiteError
from ..gradient_capture import Capture, Gradient, Loss, Record, exact_loss
from ..schema import Cell, Fact, Measurement, Outcome, Recipe
from ..training import Trained, Training, mean_loss, train
from ..workbench import Workbench
from .gradient_charts import coding_charts, density_charts, fit_charts, increment_charts
from .gradient_windows import FEWEST_COORDINATES, Layers, pair_figures, window_figures
from .weight_figures import weight_figures

_LOSSES: Mapping[str, Loss] = {"float32": exact_loss, "training": mean_loss}
# seconds an epoch of 54,000 pictures of 28 x 28 takes on one core, and layers that figures are of
_EPOCH_SECONDS = {"mlp": 2.0, "cnn": 20.0, "alexnet": 100.0, "vit": 60.0, "gpt": 2.0}
_LAYERS = {"mlp": 5, "cnn": 4, "alexnet": 8}
_OTHER_EPOCH_SECONDS, _OTHER_LAYERS = 400.0, 24


class GradientStatisticsParameters(Parameters):
    """The budget: the training that is watched, and how closely."""

    training: Training = Field(Training(), description="recipe of the training")
    gradient: Gradient = Field(
        "weights",
        description="what it is the gradient for: each layer's weight, or its output before any activation",
    )
    precision: Literal["float32", "training"] = Field(
        "float32",
        description="of the gradients that statistics are of: float32, evaluated again, or as they were trained with",
    )
    length: int = Field(32, ge=5, le=256, description="steps of a window")
    snapshots: int = Field(6, ge=2, le=64, description="steps of a window whose marginals are looked at")
    coordinates: int = Field(2**16, ge=64, le=2**22, description="weights followed from step to step")
    layers: int = Field(24, ge=1, le=256, description="most layers that figures are of")
    codes: bool = Field(
        True, description="whether the largest layer's gradients are coded, for curves of rate"
    )
    pictures: int = Field(
        64, ge=2, le=4096, description="test examples whose products with weights are looked at"
    )


@final
class GradientStatistics(Track):
    """A training is watched in three windows, early, middle and late (:class:`qbench.gradient_capture.Capture`).

    ``<window>.<figure>`` is the parameter-weighted median over layers of at least 4096 coordinates, its samples are
    the layers' values; ``.low`` and ``.high`` are the ends of its 95 % interval by a block bootstrap over steps,
    ``.left_out`` is the number of layers for which the figure is not defined, where there are any.

    - :data:`qbench.gradient_figures.FIGURES` of weight gradients, as ``<window>.update.<figure>`` of the optimizer's
      updates; of all layers thrown together ``<window>.pooled.<figure>``.
    - ``cosine``, ``autocorrelation``, ``relative_increment``, ``gain_last_db``, ``gain_average_db`` and
      ``gain_increment_db`` (:mod:`qbench.gradient_dynamics`) of successive steps, of updates likewise, and as
      ``<window>.network.<figure>`` of the whole network; ``autocorrelation_by_lag`` has a sample for each lag from 0.
    - :func:`~qbench.tracks.gradient_windows.pair_figures` of batches evaluated before and after an update; as
      ``run.<figure>`` over all windows.
    - ``weights.<figure>`` (:func:`~qbench.tracks.weight_figures.weight_figures`) of the network kept, and what
      :mod:`qbench.tracks.gradient_charts` draws from.

    precision=float32: gradients of bfloat16 lie on a grid of 8 bits, and a network that rounds its weights to it does
    not notice small updates; distributions and drift are therefore of gradients evaluated again in float32 at the
    same weights, batch and random numbers. What is followed from step to step is as the optimizer got it.

    gradient=outputs: of the mean loss for what each layer gives away on the batch of a paired step. Rows are output
    channels, as those of a weight are, columns pictures and positions; a layer's size, which decides and weighs, is the
    coordinates of its output. Figures of distribution, coding and drift are as above. There are no updates, nothing is
    followed from step to step, where a coordinate is another picture each time, nor set against the change of weights,
    and figures of the weights are left to cells of gradient=weights.
    """

    name = "gradient-statistics"
    reference = "Jayant, Noll, Digital Coding of Waveforms, 1984, chapters 4 and 6"
    version = 3
    targets = ("gradient",)
    extensible = False
    Parameters = GradientStatisticsParameters

    def baseline(self, cell: Cell) -> None:
        """None: what is watched is trained in the cell."""

    def estimate(self, cell: Cell) -> float:
        name = "" if cell.model is None else cell.model.name
        seconds = self.parameters.training.epochs * _EPOCH_SECONDS.get(name, _OTHER_EPOCH_SECONDS)
        if cell.dataset is not None and cell.dataset.name == "digits":
            seconds /= 100
        layers = min(self.parameters.layers, _LAYERS.get(name, _OTHER_LAYERS))
        return float(1.1 * seconds + 3 + 3 * 0.05 * layers * (self.parameters.snapshots + 2))

    def run(self, cell: Cell, bench: Workbench) -> Outcome:
        if cell.quantizer is not None:
            raise SuiteError(
                f"track {self.name!r} has no quantizer, and its grid names {cell.quantizer}; leave it out"
            )
        recipe = Recipe.of(cell, self.parameters.training.model_dump(mode="json"))
        data = bench.data(recipe.dataset)
        bench.loaded()
        capture = self._capture(cell.seed)
        trained = train(
            bench.build("model", recipe.model),
            bench.build("optimizer", recipe.optimizer),
            data,
            self.parameters.training,
            cell.seed,
            bench.device,
            lambda epoch, epochs, _: bench.note(f"watching {recipe}: epoch {epoch} of {epochs}"),
            watch=capture,
        )
        layers = Layers.of(capture.sites, self.parameters.layers)
        found, facts = self._windows(capture, layers, cell.seed, bench)
        if self.parameters.gradient == "weights":
            found |= weight_figures(trained.module, data, self.parameters.pictures)
        return Outcome(
            measurements={**found, **_training(trained, data.test_labels.numel())},
            facts={**facts, **self._facts(capture, layers, trained)},
        )

    def _capture(self, seed: int) -> Capture:
        return Capture(
            gradient=self.parameters.gradient,
            loss=_LOSSES[self.parameters.precision],
            length=self.parameters.length,
            snapshots=self.parameters.snapshots,
            coordinates=self.parameters.coordinates,
            seed=seed,
        )

    def _windows(
        self, capture: Capture, layers: Layers, seed: int, bench: Workbench
    ) -> tuple[dict[str, Measurement], dict[str, Fact]]:
        """Of every window that training went through; it may have ended before the last."""
        found: dict[str, Measurement] = {}
        facts: dict[str, Fact] = {}
        complete = [r for r in capture.records if capture.steps >= r.window.stop]
        for record in complete:
            bench.note(f"figures of the {record.window.name} window")
            fits, best = fit_charts(record, layers, seed)
            found |= window_figures(capture, record, layers, seed) | fits
            found |= density_charts(record, layers)
            found |= coding_charts(record, layers, seed) if self.parameters.codes else {}
            facts |= best | _window_facts(record)
        pairs = [pair for record in complete for pair in record.pairs]
        found |= pair_figures("run", pairs, layers, seed, capture.steps / 2) | increment_charts(pairs)
        return found, facts

    def _facts(self, capture: Capture, layers: Layers, trained: Trained) -> dict[str, Fact]:
        metrics = trained.metrics
        pairs = sum(len(record.pairs) for record in capture.records)
        of_training = metrics["precision"]
        return {
            "gradient": self.parameters.gradient,
            "precision": "float32" if self.parameters.precision == "float32" else of_training,
            "training_precision": of_training,
            "steps": capture.steps,
            "paired_steps": pairs,
            "paired_share": pairs / capture.steps,
            "coordinates": sum(len(site.coordinates) for site in capture.sites),
            "kept_bytes": sum(record.nbytes for record in capture.records),
            "layers": " ".join(f"{site.name}:{site.kind}:{site.size}" for site in layers.sites),
            "layers_of_network": len(capture.sites),
            "small_layers": all(site.size < FEWEST_COORDINATES for site in layers.sites),
            "epochs": metrics["epochs"],
            "selection": self.parameters.training.selection,
            "execution": "native",
        }


def _window_facts(record: Record) -> dict[str, Fact]:
    window = record.window
    return {
        f"{window.name}.steps": f"{window.start}-{window.stop - 1}",
        f"{window.name}.paired": " ".join(map(str, window.paired)),
        f"{window.name}.snapshots": " ".join(map(str, window.snapshots)),
    }


def _training(trained: Trained, n: int) -> dict[str, Measurement]:
    """Accuracy of the last epoch's weights on test examples, and losses by epoch."""
    metrics = trained.metrics
    found = {
        "training_loss": Measurement(
            value=metrics["training_loss"][-1], unit="nat", samples=metrics["training_loss"][:4096]
        ),
        "training_seconds": Measurement(value=metrics["seconds"], unit="s", timing=True),
    }
    if metrics["last_test_accuracy"] is not None:
        found["accuracy"] = Measurement(value=100 * metrics["last_test_accuracy"], unit="%", n=n)
    return found
