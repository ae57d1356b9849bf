"""Data-parallel training with coded gradients: accuracy against what workers send."""

import math
from collections.abc import Sequence
from typing import final

from torch import Tensor

from ..classifier import evaluate
from ..components import Examples, Quantizer, Track
from ..data_parallel import Scheme, Traffic
from ..errors import SuiteError
from ..metrics import accuracy
from ..schema import MAX_SAMPLES, Cell, Fact, Measurement, Outcome
from ..training import Trained
from ..workbench import Workbench
from .compressed_training import CompressedTraining, Reference, Run, Setting, best
from .scores import quality

# seconds of an epoch of 60,000 pictures of 28 x 28 on one core, with four workers in turn
_SECONDS = {"mlp": 30.0, "cnn": 80.0, "alexnet": 300.0, "vit": 350.0, "resnet18": 450.0}
_OTHER_SECONDS = 1500.0
_FLOAT_BITS = 32


@final
class GradientCompression(Track):
    """K workers train one network; each sends its gradient coded, everyone adds up what arrives.

    What a step is, :mod:`qbench.data_parallel` says: both executions give the same bits on a CPU at equal seeds and
    threads. Without a quantizer float32 is sent: the uncompressed run, in a row of its own.

    ``accuracy`` is of the weights that ``training`` keeps; ``accuracy_drop``, in percentage points, ``kl``, ``flips``,
    ``lost`` and ``gained`` are against the uncompressed run of as many workers and steps: n test pictures of which
    ``lost`` only the uncompressed run gets right and ``gained`` only the coded one, so that the drop is paired, with a
    standard error over pictures of ``100 sqrt(lost + gained - (lost - gained)^2 / n) / n`` points
    (:func:`qbench.pairs.drop_error`), to which that over trainings adds. Each of the two is trained at every learning
    rate of ``lr_factors``, of which there is one unless a budget says otherwise, and keeps that of best validation
    accuracy (of equal ones, of least validation loss). A training that diverges at all of them is given the accuracy
    of a guess, 1 / classes, and no bits.

    - ``up_bits``: what all workers send, the whole training; ``down_bits``: what they all receive. By all-gather each
      receives the messages of the K - 1 others, so down = (K - 1) up; by all-reduce (floats, PowerSGD) each receives
      one mean. Padding, lengths, and what is said of the loss do not count.
    - ``rate`` and ``rate_down``: the same in bits per element, step and worker.
    - ``bits_to_target``: up and down together until the first epoch whose validation accuracy reaches
      ``target_accuracy``; null where none does.
    - ``relative_variance``: ``|g^ - g|^2 / |g|^2`` over the whole gradient g of a worker, the mean of workers and
      steps; ``bias``: ``<g^, g> / |g|^2 - 1`` likewise. For what is added up on the way both are of the mean. With
      error feedback g^ = Q(g + e) also brings what earlier messages lost, e, and is still set against g: the distance
      to the gradient of the step, then neither a variance nor the error of a message.
    - ``encode_seconds``, ``decode_seconds``: of all workers together; of a collective all of it is encoding.

    Reference: Alistarh et al. 2017, "QSGD", algorithm 1; Seide et al. 2014, "1-Bit Stochastic Gradient Descent".
    """

    name = "gradient-compression"
    reference = "Alistarh et al. 2017, algorithm 1 (arXiv:1610.02132); Seide et al. 2014 (Interspeech)"
    version = 1
    targets = ("gradient",)
    Parameters = CompressedTraining

    def baseline(self, cell: Cell) -> None:
        """The float model is the uncompressed run, which :meth:`run` keeps beside the baselines."""

    def estimate(self, cell: Cell) -> float:
        seconds = _SECONDS.get(cell.model.name, _OTHER_SECONDS) if cell.model is not None else 0.0
        if cell.dataset is not None and cell.dataset.name == "digits":
            seconds /= 100
        return float(seconds * self.parameters.training.epochs * len(self.parameters.lr_factors))

    def run(self, cell: Cell, bench: Workbench) -> Outcome:
        quantizer = None if cell.quantizer is None else bench.quantizer(cell.quantizer)
        if quantizer is not None and not quantizer.suits("gradient", self.provides):
            raise SuiteError(
                f"{self.name}: {quantizer} is not meant for gradients, or needs what they do not come with"
            )
        setting = Setting.of(cell, self.parameters, bench)
        reference = setting.reference()
        bench.loaded()
        runs = [setting.run(quantizer, factor) for factor in self.parameters.lr_factors]
        chosen = best(runs)
        return Outcome(
            measurements=self._measurements(chosen, reference, setting),
            facts=self._facts(quantizer, chosen, reference),
            baseline_id=setting.recipe.baseline_id,
            baseline_sha256=reference.sha256,
        )

    def _measurements(self, chosen: Run, reference: Reference, setting: Setting) -> dict[str, Measurement]:
        data, target = setting.data, self.parameters.target_accuracy
        float_bits = 2 * _FLOAT_BITS * reference.elements * self.parameters.workers * setting.steps_per_epoch
        against = {
            "baseline_bits": Measurement(
                value=float_bits * len(reference.trained.metrics["epoch_seconds"]), unit="bit"
            ),
            "baseline_bits_to_target": Measurement(
                value=_times(_epochs_to(target, reference.trained), float_bits), unit="bit"
            ),
        }
        logits = evaluate(reference.trained.module, data.test_inputs)
        if chosen.trained is None:
            return {**_of_a_guess(logits, data), **against}
        found = quality(logits, evaluate(chosen.trained.module, data.test_inputs), data.test_labels)
        epochs = _epochs_to(target, chosen.trained)
        return {
            **found,
            **_validation(chosen.trained),
            **_size(chosen.traffic, epochs, reference.elements),
            **_closeness(chosen.traffic),
            **_times_of(chosen),
            **against,
        }

    def _facts(self, quantizer: Quantizer | None, chosen: Run, reference: Reference) -> dict[str, Fact]:
        budget = self.parameters
        scheme = Scheme(quantizer, budget.workers, budget.error_feedback, budget.granularity, 0)
        metrics = chosen.trained.metrics if chosen.trained else {}
        return {
            "execution": budget.execution,
            "workers": budget.workers,
            "error_feedback": budget.error_feedback,
            "granularity": budget.granularity,
            "all_reducible": scheme.all_reducible,
            "unbiased": quantizer is None or quantizer.is_unbiased,
            "rate_class": "coded" if any(traffic.coded for traffic in chosen.traffic) else "fixed",
            "lr_factors": " ".join(f"{factor:g}" for factor in budget.lr_factors),
            "lr_factor": chosen.lr_factor,
            "baseline_lr_factor": reference.lr_factor,
            "target_accuracy": budget.target_accuracy,
            "selection": budget.training.selection,
            "diverged": chosen.trained is None,
            **{name: metrics[name] for name in ("epochs", "selected_epoch", "precision") if name in metrics},
        }


def _epochs_to(target: float, trained: Trained) -> int | None:
    """Epochs until the validation accuracy reaches ``target``; None where it never does."""
    reached = [
        number for number, share in enumerate(trained.metrics["validation_accuracy"], 1) if share >= target
    ]
    return reached[0] if reached else None


def _times(count: int | None, what: float) -> float | None:
    return None if count is None else count * what


def _validation(trained: Trained) -> dict[str, Measurement]:
    metrics = trained.metrics
    share, n = (
        metrics["validation_accuracy"][metrics["selected_epoch"] - 1],
        metrics["validation_predictions"],
    )
    return {"validation_accuracy": Measurement(value=100 * share, unit="%", n=n)}


def _size(traffic: Sequence[Traffic], epochs: int | None, elements: int) -> dict[str, Measurement]:
    up, down = (8 * sum(getattr(one, name) for one in traffic) for name in ("up_nbytes", "down_nbytes"))
    sent = len(traffic) * elements * len(traffic[0].errors)
    to_target = None if epochs is None else 8 * sum(sum(one.epochs[epochs - 1]) for one in traffic)
    return {
        "up_bits": Measurement(value=up, unit="bit"),
        "down_bits": Measurement(value=down, unit="bit"),
        "bits_to_target": Measurement(value=to_target, unit="bit"),
        "rate": Measurement(value=up / sent, unit="bit/element"),
        "rate_down": Measurement(value=down / sent, unit="bit/element"),
    }


def _closeness(traffic: Sequence[Traffic]) -> dict[str, Measurement]:
    errors = _of_steps([one.errors for one in traffic])
    biases = [projection - 1 for projection in _of_steps([one.projections for one in traffic])]
    found = {"relative_variance": errors, "bias": biases}
    return {
        name: Measurement(
            value=math.fsum(steps) / len(steps), unit="1", n=len(steps), samples=_thinned(steps)
        )
        for name, steps in found.items()
    }


def _of_steps(workers: Sequence[Sequence[float]]) -> list[float]:
    """The mean over workers at every step."""
    return [math.fsum(step) / len(step) for step in zip(*workers, strict=True)]


def _thinned(samples: list[float]) -> list[float]:
    """At most so many as a measurement holds, equally spaced."""
    return samples[:: -(-len(samples) // MAX_SAMPLES)]


def _times_of(run: Run) -> dict[str, Measurement]:
    assert run.trained is not None
    seconds = {
        "encode_seconds": math.fsum(one.encode_seconds for one in run.traffic),
        "decode_seconds": math.fsum(one.decode_seconds for one in run.traffic),
        "training_seconds": run.trained.metrics["seconds"],
    }
    return {name: Measurement(value=value, unit="s", timing=True) for name, value in seconds.items()}


def _of_a_guess(logits: Tensor, data: Examples) -> dict[str, Measurement]:
    """What a network is worth whose training diverged, beside the uncompressed one's logits."""
    labels = data.test_labels.flatten()
    before, guess = 100 * accuracy(logits, labels), 100 / data.classes
    found = {"baseline_accuracy": before, "accuracy": guess, "accuracy_drop": before - guess}
    return {
        **{name: Measurement(value=value, unit="%", n=len(labels)) for name, value in found.items()},
        **{name: Measurement(value=None, unit="bit") for name in ("up_bits", "down_bits", "bits_to_target")},
    }
