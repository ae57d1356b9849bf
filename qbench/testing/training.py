"""Checks of quantizers that take part in training."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ..components import Context, Quantizer, Trainable
from ..message import Message, pack
from ..quantizers.surrogates import learnable
from .subject import NotApplicable, Subject

_SHAPES = ((8, 40), (48,), (), (4, 6, 10), (4, 3, 6, 6))
_PROGRESS = (0.0, 0.5, 1.0)


def surrogate(subject: Subject) -> str:
    """The value is decode(encode(x)), bit for bit, at any progress; gradients are finite and reach x."""
    if not isinstance(subject.quantizer, Trainable):
        raise NotApplicable("it is not Trainable: trained straight through")
    learned: set[str] = set()
    for what, x, codebook in _cases(subject):
        reached: dict[str, bool] = {}
        for progress in _PROGRESS:
            with subject.trying(f"the surrogate of {what} at progress {progress:g}"):
                reached |= _require_surrogate(subject, what, x, codebook, progress)
        learned |= {name for name, yes in reached.items() if yes}
    if "x" not in learned:
        subject.fail("every gradient of its surrogate for x is 0", "let some of it through")
    return f"learns {', '.join(sorted(learned - {'x'}) or ['nothing'])} beside x"


def _cases(subject: Subject) -> Iterator[tuple[str, Tensor, Message]]:
    for shape in _SHAPES:
        x = subject.gaussian(*shape) / 8
        yield f"shape {shape}", x, subject.quantizer.fit(x, context=subject.context(x))
    fitted = subject.gaussian(8, 40) / 8
    codebook = subject.quantizer.fit(fitted, context=subject.context(fitted))
    zeros = torch.zeros(8, 40)
    yield "values 100 times beyond the fitted range", 100 * fitted, codebook
    yield "zeros under a codebook fitted on others", zeros, codebook
    yield "zeros", zeros, subject.quantizer.fit(zeros, context=subject.context(zeros))


def _require_surrogate(
    subject: Subject, what: str, x: Tensor, codebook: Message, progress: float
) -> dict[str, bool]:
    """Which of x and the codebook's float tensors got a gradient other than 0, by name."""
    quantizer, book = subject.quantizer, learnable(codebook)
    assert isinstance(quantizer, Trainable)
    leaves = {"x": x.clone().requires_grad_(), **_floats(book)}
    y = quantizer.surrogate(leaves["x"], book, context=_context(subject, x, progress))
    _require_value(subject, what, y, _hard(quantizer, x, codebook, _context(subject, x, progress)))
    if pack(book) != pack(codebook):
        subject.fail("its surrogate changed the codebook", "only the optimizer changes it")
    weights = torch.linspace(1, 2, x.numel()).reshape(x.shape)
    found = dict.fromkeys(leaves) if not y.requires_grad else _gradients((y * weights).sum(), leaves)
    if found["x"] is None:
        subject.fail("no gradient of its surrogate reaches x", "do not detach x on every way")
    for name, gradient in found.items():
        if gradient is not None and not bool(torch.isfinite(gradient).all()):
            subject.fail(f"{what} gives {name} a gradient that is NaN or infinite", "guard what divides")
    return {name: gradient is not None and bool(gradient.any()) for name, gradient in found.items()}


def _require_value(subject: Subject, what: str, y: Tensor, hard: Tensor) -> None:
    if y.shape != hard.shape or y.dtype != hard.dtype:
        subject.fail(
            f"its surrogate of {what} is {y.dtype} {tuple(y.shape)}", "shape and dtype of decode are required"
        )
    if not torch.equal(y.detach(), hard):
        apart = float((y.detach() - hard).abs().max())
        subject.fail(
            f"its surrogate of {what} is up to {apart:.3g} away from decode(encode(x))",
            "give the hard value to straight_through, and draw as often as encode does",
        )


def _gradients(loss: Tensor, leaves: dict[str, Tensor]) -> dict[str, Tensor | None]:
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()), allow_unused=True), strict=True))


def _context(subject: Subject, x: Tensor, progress: float) -> Context:
    return replace(subject.context(x), progress=progress)


def _hard(quantizer: Quantizer, x: Tensor, codebook: Message, context: Context) -> Tensor:
    return quantizer.decode(quantizer.encode(x, codebook, context=context), codebook, x.shape)


def _floats(message: Message, prefix: str = "") -> dict[str, Tensor]:
    """The tensors that :func:`learnable` made leaves, by dotted name."""
    found: dict[str, Tensor] = {}
    for name, value in message.items():
        if isinstance(value, dict):
            found |= _floats(value, f"{prefix}{name}.")
        elif isinstance(value, Tensor) and value.requires_grad:
            found[prefix + name] = value
    return found
