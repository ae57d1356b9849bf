"""A trained float model trained on: what a network with quantized weights is fairly compared with."""

from copy import deepcopy

from ..baselines import Baseline, BaselineStore
from ..fingerprint import fingerprint
from ..schema import Recipe, digest
from ..training import Training, train
from ..workbench import Workbench


def finetuned(
    recipe: Recipe, baseline: Baseline, training: Training, lr_factor: float, bench: Workbench
) -> Baseline:
    """The ``baseline`` of ``recipe`` trained on by ``training``; stored among the baselines, trained once.

    Recipe, further training, the weights it starts from and the code of model, optimizer and trainer name it.
    """
    model, optimizer = bench.build("model", recipe.model), bench.build("optimizer", recipe.optimizer)
    further = {**training.model_dump(mode="json"), "lr_factor": lr_factor, "start": baseline.sha256}
    extended = recipe.model_copy(update={"training": further})
    modules = sorted({type(model).__module__, type(optimizer).__module__, train.__module__})
    stored = BaselineStore(bench.cache_root / "baselines", bench.device.type).get_or_train(
        extended,
        lambda: train(
            model,
            optimizer,
            baseline.images,
            training,
            recipe.seed,
            bench.device,
            lambda epoch, epochs, _: bench.note(f"training {recipe} on: epoch {epoch} of {epochs}"),
            start=baseline.module.state_dict(),
            lr_factor=lr_factor,
        ),
        digest([fingerprint(module) for module in modules])[:16],
    )
    module = deepcopy(baseline.module)
    module.load_state_dict(stored.tensors)
    return Baseline(module.eval(), baseline.images, stored.sha256, stored.metrics, extended.baseline_id)
