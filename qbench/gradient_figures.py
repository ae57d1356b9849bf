"""What kind of source one gradient is: the figures that hypotheses about gradients are stated in."""

import math

import numpy as np
import torch
from scipy import special
from torch import Tensor

from .distributions import FEWEST, kolmogorov_smirnov
from .errors import InputError
from .families import Floats, generalized_gaussian_shape
from .gradient_coding import coding_figures, strata
from .gradient_structure import (
    block,
    decorrelation_gain_db,
    dependence_figures,
    doubles,
    normalized,
    variance_spread_db,
)

SAMPLE = 2**16
CODED = 2**15

FIGURES = (
    "zero_share",
    "ks_gaussian",
    "excess_kurtosis",
    "shape",
    "normalized_ks_gaussian",
    "normalized_excess_kurtosis",
    "normalized_shape",
    "variance_spread_db",
    "dead_rows",
    "top4_energy_ratio",
    "decorrelation_gain_db",
    "effective_rank",
    "median_magnitude",
    "tail_share",
    "coding_gap_db_2",
    "coding_gap_db_4",
    "adapting_gain_db_2",
    "adapting_gain_db_4",
)


def figures(g: Tensor, generator: torch.Generator, elements: int | None = None) -> dict[str, float]:
    """The figures of one gradient, :data:`FIGURES`; none depends on its unit. NaN: not defined for this one.

    ``g`` is a matrix, rows by all that follows; a vector is one row. Of the whole matrix:

    - ``zero_share``: share of coordinates that are exactly 0; ``dead_rows``: share of rows that are.

    Of a sample x of at most 2^16 coordinates, one from each of as many equal strata:

    - ``ks_gaussian``, ``excess_kurtosis``, ``shape``: :func:`marginal_figures` of the nonzeros.
    - ``median_magnitude`` = median |u| and ``tail_share`` = P(|u| > 3), with u = x / sqrt(mean x^2), zeros
      included. Gaussian .6745 and .0027, Laplace .4901 and .0144.
    - ``coding_gap_db_b``, ``adapting_gain_db_b``: :func:`qbench.gradient_coding.coding_figures` of 2^15 of them.

    Of a block of at most 2^16 coordinates, where runs of 16 neighbouring rows and columns meet: up to 128 along the
    shorter side, and as many as fit along the other:

    - ``variance_spread_db``: :func:`variance_spread_db`.
    - ``normalized_...``: the marginal figures after :func:`normalized`.
    - ``top4_energy_ratio``, ``effective_rank``: :func:`dependence_figures`.

    Of two such blocks, along rows and along columns: ``decorrelation_gain_db``, :func:`decorrelation_gain_db`.

    Args:
        g: [rows, ...], float, in any unit.
        generator: on the CPU; chooses coordinates and the signs of controls.
        elements: coordinates of the gradient that ``g`` is a part of, which share a codebook; default those of g.

    Raises:
        InputError: ``g`` is empty or not finite.
    """
    matrix = _matrix(g)
    flat = matrix.reshape(-1)
    sample = doubles(flat[strata(len(flat), SAMPLE, generator).to(g.device)])
    coded = torch.from_numpy(sample)[strata(len(sample), CODED, generator)]
    part = block(matrix, generator)
    scales = normalized(part)
    values = {
        "zero_share": 1 - float(torch.count_nonzero(flat)) / len(flat),
        "dead_rows": 1 - float((matrix != 0).any(1).double().mean()),
        **marginal_figures(sample),
        **magnitude_figures(sample),
        **{f"normalized_{name}": value for name, value in marginal_figures(scales.gaussian).items()},
        "variance_spread_db": variance_spread_db(part, generator),
        **dependence_figures(scales, generator),
        "decorrelation_gain_db": decorrelation_gain_db(matrix, generator),
        **coding_figures(coded, elements or len(flat)),
    }
    return {name: values[name] for name in FIGURES}


def marginal_figures(x: Floats) -> dict[str, float]:
    """Of the nonzeros of ``x``, standardized: u = (x - mean) / standard deviation. NaN for fewer than 8, or equal ones.

    - ``ks_gaussian`` = max |F_n(u) - Phi(u)|. A Gaussian sample of n has about .6 / sqrt(n); Laplace .0620 beside that.
    - ``excess_kurtosis`` = mean u^4 - 3: Gaussian 0, Laplace 3.
    - ``shape``: maximum-likelihood shape of a generalized Gaussian about 0, in [.05, 50]: Gaussian 2, Laplace 1.
    """
    values = x[x != 0]
    spread = float(values.std()) if values.size >= FEWEST else 0.0
    if spread <= 1e-12 * float(np.abs(values).max(initial=0.0)):
        return dict.fromkeys(("ks_gaussian", "excess_kurtosis", "shape"), math.nan)
    u = (values - values.mean()) / spread
    return {
        "ks_gaussian": kolmogorov_smirnov(special.ndtr(u)),
        "excess_kurtosis": float(np.mean(np.square(np.square(u)))) - 3,
        "shape": generalized_gaussian_shape(np.abs(u[u != 0])),
    }


def magnitude_figures(x: Floats) -> dict[str, float]:
    """``median_magnitude`` and ``tail_share`` as :func:`figures` says; NaN where all is 0."""
    power = float(np.mean(np.square(x)))
    if power == 0:
        return {"median_magnitude": math.nan, "tail_share": math.nan}
    u = np.abs(x) / math.sqrt(power)
    return {"median_magnitude": float(np.median(u)), "tail_share": float(np.mean(u > 3))}


def _matrix(g: Tensor) -> Tensor:
    """[rows, columns]; a vector is one row."""
    if g.numel() == 0 or not bool(torch.isfinite(g).all()):
        what = "empty" if g.numel() == 0 else "not finite"
        raise InputError(f"a gradient of shape {tuple(g.shape)} is {what}; figures need finite coordinates")
    return g.detach().reshape(g.shape[0] if g.dim() > 1 else 1, -1)
