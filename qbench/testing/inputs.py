"""Checks of what comes in: shapes, dtypes, values at the edges, sizes that fit no block."""

import math

import torch
from torch import Tensor

from ..codec import Code, prepare
from ..errors import InputError
from ..measuring import measure
from ..message import pack
from .subject import NotApplicable, Subject

_DTYPES = (torch.float16, torch.bfloat16, torch.float64)
_SHAPES = ((), (48,), (8, 40), (4, 6, 10), (4, 2, 6, 6))
_PRIMES = ((2,), (3,), (7,), (127,), (257,), (1, 13), (13, 1), (7, 13), (3, 5, 7))
_EXPONENTS = (-100, -20, 20, 100)


def shapes_and_dtypes(subject: Subject) -> None:
    pairs = [(shape, torch.float32) for shape in _SHAPES] + [((4, 6, 10), dtype) for dtype in _DTYPES]
    for shape, dtype in pairs:
        subject.through(subject.gaussian(*shape).to(dtype), f"{dtype} of shape {shape}")
    x = subject.gaussian(40, 8)
    subject.through(x, "channel axis 1", channel_axis=1)
    views = {
        "a transposed view": x.T,
        "every second column": x[:, ::2],
        "one row, expanded": x[0].expand(6, 8),
    }
    for what, view in views.items():
        subject.through(view, what)


def device(subject: Subject) -> None:
    if not torch.cuda.is_available():
        raise NotApplicable("there is no GPU here")
    x = prepare(subject.gaussian(16, 48).cuda())
    coder, context = Code(subject.quantizer), subject.context(x)
    with subject.trying("a tensor on the GPU"):
        codebook = coder.fit(x, context)
        y = coder.decode(coder.encode(x, codebook, context), codebook, x.shape)
    if y.device != x.device:
        subject.fail(f"codes on {x.device} decode to {y.device}", "make tensors on the device of the codes")


def refused_inputs(subject: Subject) -> None:
    """Nothing, NaN, infinity and integers are an InputError before they reach the quantizer."""
    x = subject.gaussian(48)
    cases = {
        "an empty tensor": torch.empty(0),
        "NaN": torch.cat([x, torch.tensor([math.nan])]),
        "infinity": torch.cat([x, torch.tensor([-math.inf])]),
        "a tensor of integers": torch.arange(48),
    }
    for what, bad in cases.items():
        try:
            measure(subject.quantizer, bad)
        except InputError:
            continue
        subject.fail(f"{what} was coded", "it must be refused with an InputError")


def one_element(subject: Subject) -> None:
    for value in (1.0, -0.3, 3e-20, 0.0):
        for shape in ((1,), (1, 1)):
            subject.through(torch.full(shape, value), f"one element, {value:g}, of shape {shape}")


def constants(subject: Subject) -> str | None:
    for value in (0.7, -3.0, 1e-30):
        subject.through(torch.full((8, 16), value), f"a constant tensor of {value:g}")
    zeros = subject.through(torch.zeros(8, 16), "a tensor of zeros")
    rows = subject.gaussian(8, 16) * (torch.arange(8) % 2)[:, None]
    subject.through(rows, "rows of zeros among others")
    largest = float(zeros.abs().max())
    return f"zeros come back as values up to {largest:.3g}" if largest else None


def extreme_values(subject: Subject) -> None:
    x = subject.gaussian(8, 16)
    largest = torch.finfo(torch.float32).max
    one_huge = x * 1e-3
    one_huge[3, 5] = 1e6
    apart = x * 1e-42
    apart[3, 5] = largest
    cases: dict[str, Tensor] = {
        "one huge value among small ones": one_huge,
        "denormals": x * 1e-42,
        "the smallest denormal": torch.where(x > 0, 1e-45, 0.0),
        "the largest float32 values": x.sign() * largest,
        "denormals beside the largest float32 value": apart,
    }
    for what, case in cases.items():
        subject.through(case, what)


def odd_sizes(subject: Subject) -> None:
    for shape in _PRIMES:
        subject.through(subject.gaussian(*shape), f"shape {shape}, which divides no block")


def scale_free(subject: Subject) -> None:
    """x and 2^k x have the same codes, whatever the quantizer's own range is."""
    x = subject.gaussian(8, 40)
    subject.require_repeatable(x)
    plain = subject.send(x)
    inner = plain.codebook["c"]
    for k in _EXPONENTS:
        other = subject.send(x * math.ldexp(1.0, k))
        same = pack(other.codes) == pack(plain.codes) and pack({"c": other.codebook["c"]}) == pack(
            {"c": inner}
        )
        if not same:
            subject.fail(
                f"the codes of x and 2^{k} x differ", "they must be equal: keep nothing between two messages"
            )


def resembles(subject: Subject) -> None:
    """What comes back correlates with what went in, by more than 4 standard errors of chance."""
    x = subject.gaussian(16, 8, 16)
    require_likeness(subject, x, subject.through(x, "a tensor of 3 dimensions"), "a tensor of 3 dimensions")


def require_likeness(subject: Subject, x: Tensor, y: Tensor, what: str) -> None:
    """Fail unless cos(x, y) > 4 / sqrt(n): a code that lost order or content scatters about 0 by 1 / sqrt(n)."""
    cosine = float(torch.nn.functional.cosine_similarity(x.reshape(-1), y.reshape(-1), dim=0))
    least = 4 / math.sqrt(x.numel())
    if not cosine > least:
        subject.fail(
            f"{what} and its reconstruction have cosine {cosine:.3f}, chance allows {least:.3f}",
            "look at the order of the elements and at what the codes hold",
        )
