"""GPTQ: the columns of a weight matrix are rounded in turn, and those to come make up for the error so far."""

import math
from dataclasses import dataclass
from typing import Literal, final

import torch
from pydantic import Field
from torch import Tensor

from ..components import Context, Quantizer
from ..errors import InputError
from ..message import Message, Stream
from .affine import AffineGrid, AffineParameters, range_of
from .nearest_plane import nearest_plane, triangular_factor
from .reading import values
from .scaling import load_scale, require_rows, store_scale


class GptqParameters(AffineParameters):
    range: Literal["minmax", "mse"] = Field("minmax", description="how the range is chosen")
    damping: float = Field(0.01, ge=0, le=1e6, description="added to gram's diagonal, in units of its mean")
    act_order: bool = Field(False, description="round the columns of largest gram[j, j] first")


@final
class Gptq(Quantizer):
    """Rounding of W [out, in] that keeps ``tr((W - W^) H (W - W^)^T)`` small, column by column.

    ``H = gram + damping mean(diag gram) I``, [in * kernel] squared. With ``H = R R^T``, R upper triangular,
    ``w^_j = round(w_j + sum over k < j of (w_k - w^_k) R_kj / R_jj)``: what is rounded is the best column j
    given the columns before it, if those after it were free. Algorithm 1 finds the same with ``R^-1``, the
    Cholesky factor of ``H^-1``, and so does nearest-plane decoding in the lattice of R. The sums are float64.
    A column whose gram[j, j] is 0 was never used; it counts as zeros.

    Levels are those of ``uniform``. A scale per group belongs to ``group_size`` columns of a row (the last group
    of a row may be shorter) and is decided when the group's turn comes, from what its columns should be by then;
    with ``act_order`` from the weights as they were. Scales per tensor or channel are fitted. A tensor of less
    than two dimensions is one row.

    Raises:
        InputError: no gram in the context, or one that is not finite or not [in * kernel] squared.

    Reference: Frantar, Ashkboos, Hoefler & Alistarh 2022, "GPTQ", algorithm 1; as nearest plane: Chen, Hoefler &
    Alistarh 2025, "The Geometry of LLM Quantization: GPTQ as Babai's Nearest Plane Algorithm".
    """

    name = "gptq"
    family = "optimized"
    reference = "Frantar et al. 2022, algorithm 1 (arXiv:2210.17323)"
    targets = ("weight",)
    needs = frozenset({"gram"})
    Parameters = GptqParameters
    sweep = tuple({"bits": b, "scheme": "asymmetric"} for b in (2, 3, 4, 8))

    @property
    def grid(self) -> AffineGrid:
        grid: AffineGrid = self.parameters.grid
        return grid

    def fit(self, x: Tensor, *, context: Context) -> Message:
        if self._per_group:
            return {}
        rows = self.parameters.layout.split(x)
        return self.grid.message(*self.grid.spanning(*range_of(rows, self.grid, self.parameters.range)))

    def encode(self, x: Tensor, codebook: Message, *, context: Context) -> Message:
        weights = _matrix(x, x.shape).double()
        gram = _checked(context.gram, weights.shape[1])
        weights = torch.where(gram.diagonal() > 0, weights, 0.0)
        levels = self._levels(weights, codebook)
        codes = self._codes(weights, gram, levels)
        own: Message = {}
        if self._per_group:
            stored = store_scale(levels.scale.reshape(-1), self.parameters.scale_dtype)
            own = self.grid.message(stored, levels.zero_point.reshape(-1))
        return {"codes": Stream(codes, self.grid.levels), **own}

    def decode(self, codes: Message, codebook: Message, shape: torch.Size) -> Tensor:
        found = _matrix(values(codes, "codes").float(), shape)
        width, groups = self._groups(found)
        scale, zero_point = (
            each.reshape(-1, groups).repeat_interleave(width, 1)[:, : found.shape[1]]
            for each in self.grid.read(codes if self._per_group else codebook)
        )
        return ((found - zero_point) * scale).reshape(shape)

    @property
    def _per_group(self) -> bool:
        return bool(self.parameters.granularity == "group")

    def _groups(self, weights: Tensor) -> tuple[int, int]:
        """How many columns share a scale, and how many groups of them a row has."""
        width = self.parameters.group_size if self._per_group else max(1, weights.shape[1])
        return width, max(1, math.ceil(weights.shape[1] / width))

    def _levels(self, weights: Tensor, codebook: Message) -> "_Levels":
        """The levels of every group that are known before anything is rounded."""
        width, groups = self._groups(weights)
        if self._per_group:
            tables = weights.new_zeros(2, len(weights), groups, dtype=torch.float32)
        else:
            scale, zero_point = self.grid.read(codebook)
            require_rows(self.parameters.layout.split(weights), scale, self.name)
            tables = torch.stack([scale, zero_point])[..., None].expand(2, len(weights), 1)
        levels = _Levels(self.grid, self.parameters.range, tables[0], tables[1])
        if self._per_group and self.parameters.act_order and weights.numel():
            for group, columns in enumerate(torch.split(weights, width, dim=1)):
                levels.decide(group, columns)
        return levels

    def _codes(self, weights: Tensor, gram: Tensor, levels: "_Levels") -> Tensor:
        """Codes of each weight, [rows, columns]; decides the levels of groups whose turn it is."""
        codes, (width, _) = torch.empty_like(weights), self._groups(weights)
        order = torch.arange(weights.shape[1], device=weights.device)
        if self.parameters.act_order:
            order = gram.diagonal().argsort(descending=True, stable=True)
        waiting = self._per_group and not self.parameters.act_order
        column_of = order.tolist()

        def round_column(j: int, wanted: Tensor) -> Tensor:
            codes[:, column_of[j]], point = levels.round(column_of[j] // width, wanted)
            return point

        nearest_plane(
            weights[:, order],
            triangular_factor(gram[order][:, order], self.parameters.damping),
            round_column,
            starts=range(0, len(order), width) if waiting else (),
            begin=lambda start, free: levels.decide(start // width, free),
        )
        return codes


@dataclass(frozen=True)
class _Levels:
    """Scales and zero points of the groups of columns, each [rows, groups]; zeros until they are decided."""

    grid: AffineGrid
    choice: Literal["minmax", "mse"]
    scale: Tensor
    zero_point: Tensor

    def decide(self, group: int, columns: Tensor) -> None:
        stored, zero_point = self.grid.spanning(*range_of(columns.float(), self.grid, self.choice))
        self.scale[:, group], self.zero_point[:, group] = load_scale(stored), zero_point

    def round(self, group: int, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """The codes of a column [rows], and what they stand for."""
        scale, zero_point = self.scale[:, group], self.zero_point[:, group]
        codes = self.grid.codes(wanted.float()[:, None], scale, zero_point)
        return codes[:, 0], self.grid.points(codes, scale, zero_point)[:, 0]


def _matrix(x: Tensor, shape: torch.Size) -> Tensor:
    """[out, in * kernel]; a tensor of less than two dimensions is one row."""
    rows = shape[0] if len(shape) > 1 else 1
    return x.reshape(rows, math.prod(shape[1:]) if len(shape) > 1 else shape.numel())


def _checked(gram: Tensor | None, columns: int) -> Tensor:
    """The gram, float64.

    Raises:
        InputError: there is none, or it is not finite or of another size.
    """
    if gram is None:
        raise InputError(
            "gptq: the context has no gram; tracks that calibrate (ptq) give it, and code(..., gram=) takes one: "
            "the mean outer product of the layer's inputs, [in * kernel, in * kernel]"
        )
    if gram.shape != (columns, columns):
        raise InputError(
            f"gptq: the gram has shape {tuple(gram.shape)}, the weights have {columns} inputs; "
            f"give [{columns}, {columns}]: in channels times kernel"
        )
    if not bool(torch.isfinite(gram).all()):
        raise InputError("gptq: the gram has NaN or infinite entries; all must be finite")
    return (gram.double() + gram.double().T) / 2
