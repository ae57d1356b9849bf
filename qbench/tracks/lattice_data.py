"""The vectors that a landscape is measured on: of an iid source, or of a trained model's gradients."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import capture
from ..components import Source
from ..errors import InputError, SuiteError
from ..quantizers.scaling import root_mean_square
from ..schema import Cell, Fact, Recipe, derived_seed
from ..workbench import Workbench


@dataclass(frozen=True)
class Vectors:
    """Vectors, and others that ratios of betas may be fitted on, [vectors, n]; a bound on the error at a rate."""

    x: Tensor
    fitted_on: Tensor
    limit: Callable[[float], float] | None
    facts: dict[str, Fact]
    baseline_id: str | None = None
    baseline_sha256: str | None = None


def source_vectors(cell: Cell, bench: Workbench, elements: int, n: int) -> Vectors:
    """Successive values of an iid source, the same for every n, and as many others to fit on."""
    if cell.dataset is None:
        raise SuiteError(f"a cell of {cell.track!r} with target source needs a data set, such as gaussian")
    source = bench.build("dataset", cell.dataset)
    if not isinstance(source, Source):
        raise SuiteError(f"data set {cell.dataset} is no iid source; name one, such as gaussian")
    generator = torch.Generator().manual_seed(derived_seed("draws", cell.seed, str(cell.dataset)))
    x, other = (
        source.sample(elements, generator)[: elements // n * n].reshape(-1, n).to(bench.device)
        for _ in range(2)
    )
    return Vectors(x, other, source.distortion_limit, {"limit": source.limit})


def gradient_vectors(
    cell: Cell, bench: Workbench, recipe: Recipe, pictures: int, elements: int, n: int
) -> Vectors:
    """Gradients of a trained model over some training pictures; vectors of all layers in random order."""
    baseline = bench.baseline(recipe)
    images, generator = baseline.data, torch.Generator().manual_seed(derived_seed("gradients", cell.seed))
    rows = torch.randperm(len(images.train_labels), generator=generator)[:pictures].to(
        images.train_labels.device
    )
    found = capture.gradients(baseline.module, images.train_inputs[rows], images.train_labels[rows])
    layers = [vectors for gradient in found.values() if len(vectors := _unit(gradient, n))]
    if not layers:
        raise InputError("every gradient is zero; train for fewer epochs, or take more pictures")
    x = torch.cat(layers)
    x = x[torch.randperm(len(x), generator=generator).to(x.device)][: elements // n]
    return Vectors(x, x, None, {"layers": len(layers)}, recipe.baseline_id, baseline.sha256)


def _unit(gradient: Tensor, n: int) -> Tensor:
    """n successive values each, in units of the layer's root mean square; none where it is 0."""
    scale, flat = root_mean_square(gradient), gradient.detach().float().reshape(-1)
    return (flat[: len(flat) // n * n if scale > 0 else 0] / scale).reshape(-1, n)


def batched(x: Tensor, batches: int) -> Tensor:
    """The first vectors, a multiple of ``batches``.

    Raises:
        InputError: less than two for each batch.
    """
    if len(x) < 2 * batches:
        raise InputError(
            f"{len(x)} vectors are too few for {batches} batches; raise elements or lower batches"
        )
    return x[: len(x) // batches * batches]


def on_sphere(x: Tensor) -> Tensor:
    """Vectors of norm sqrt(n) in the same directions; zero stays zero."""
    norms = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float64)
    return torch.where(norms > 0, x * math.sqrt(x.shape[1]) / norms, 0.0).float()
