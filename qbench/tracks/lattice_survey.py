"""One nested lattice code at any beta, on the same vectors with the same random draws."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..components import Context
from ..measuring import Coded, code
from ..message import Message
from ..quantizers.lattices import lattice
from ..quantizers.nested_lattice import NestedLattice
from ..quantizers.reading import values
from ..quantizers.scaling import root_mean_square
from .beta_landscape import Point
from .lattice_origin import Sizes


class Survey:
    """Measures what decoding returns.

    Arguments: ``quantizer``, with ``beta=auto``; ``x`` [vectors, n] float32, vectors a multiple of ``batches``;
    ``seed`` of the encoder's random draws; ``ratios`` of the betas of ``best-of-k`` to the least of them.
    """

    def __init__(
        self, quantizer: NestedLattice, x: Tensor, batches: int, seed: int, ratios: Sequence[float] = (1.0,)
    ) -> None:
        self.quantizer, self.x, self.seed = quantizer, x, seed
        self.ratios = torch.tensor(ratios, dtype=torch.float64, device=x.device)
        self.sizes = Sizes(torch.linalg.vector_norm(x, dim=1, dtype=torch.float64))
        self._batches = batches
        self._scale = root_mean_square(x)
        self._mean_energy = self.sizes.norms.square().sum() / batches
        batch = torch.arange(len(x), device=x.device) // (len(x) // batches)
        self._group = 4 * batch + self.sizes.large()

    def measure(self, beta: float) -> Point:
        """The errors at one beta; nothing is serialized."""
        codebook: Message = {"scale": self._scale, "beta": self._betas(beta)}
        context = Context(self._generator())
        codes = self.quantizer.encode(self.x, codebook, context=context)
        y = self.quantizer.decode(codes, codebook, self.x.shape).double()
        errors = (self.x - y).square().sum(1)
        overloads = self._overloads(y, codes, beta)
        parts = torch.bincount(self._group + 2 * overloads, errors, minlength=4 * self._batches)
        norms = torch.linalg.vector_norm(y, dim=1)
        radial = (self.sizes.norms - norms).square().sum() / (self._mean_energy * self._batches)
        return Point(
            beta=beta,
            parts=(parts / self._mean_energy).reshape(self._batches, 2, 2).cpu(),
            radial=float(radial),
            overload=float(overloads.double().mean()),
            choices=tuple(_shares(codes)),
        )

    def coded(self, beta: float) -> Coded:
        """The vectors at one beta as bytes; beta stands in the specification."""
        given = {**self.quantizer.parameters.model_dump(), "beta": self._betas(beta).double().tolist()}
        return code(NestedLattice(**given), self.x, generator=self._generator())

    def _generator(self) -> torch.Generator:
        return torch.Generator(self.x.device).manual_seed(self.seed)

    def _betas(self, beta: float) -> Tensor:
        """float32, [k] for best-of-k, else []."""
        betas = (beta * self.ratios).float()
        return betas if self.quantizer.parameters.overload == "best-of-k" else betas[0]

    def _overloads(self, y: Tensor, codes: Message, beta: float) -> Tensor:
        """Which vectors did not get the fine lattice's nearest point, that of the beta that was chosen; [vectors]."""
        if "expansion" in codes:
            return values(codes, "expansion") > 0
        kind = lattice(self.quantizer.parameters.lattice)
        factor = self.ratios[values(codes, "choice").long()][:, None] if "choice" in codes else 1.0
        step = self._scale.double() * beta * factor / self.quantizer.parameters.m
        return kind.nearest((self.x - y) / step).ne(0).any(1)


def _shares(codes: Message) -> list[float]:
    """Of the vectors, by what they chose; none where nothing is chosen."""
    name = next((name for name in ("expansion", "choice") if name in codes), None)
    if name is None:
        return []
    chosen = values(codes, name)
    shares: list[float] = (torch.bincount(chosen.long()) / len(chosen)).tolist()
    return shares
