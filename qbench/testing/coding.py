"""Checks of the code itself: description, bytes, randomness, state, limits."""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from .. import plugins
from ..codec import MAX_HEADER, Code, Header, inner_versions
from ..components import Quantizer
from ..message import nbytes, pack, unpack
from ..schema import Spec, Target
from ..tracks.rate_distortion import limit_violation
from ..worker import process_state
from .elsewhere import DecodingElsewhereError, decode_elsewhere
from .inputs import require_likeness
from .subject import NotApplicable, Subject, leaves, nested, twin

_NEEDS = {"importance", "gram", "loss"}
_DRAWS, _REPETITIONS, _BLOCK = 8, 300, 16


def description(subject: Subject) -> str | None:
    """Targets, needs, sweep and specification say what suites and headers take them for."""
    quantizer, kind = subject.quantizer, type(subject.quantizer)
    allowed = get_args(Target)
    if not kind.targets or not set(kind.targets) <= set(allowed):
        subject.fail(f"targets are {kind.targets!r}", f"one or more of {', '.join(allowed)} are allowed")
    if not kind.needs <= _NEEDS:
        subject.fail(f"it needs {sorted(kind.needs - _NEEDS)}", f"{', '.join(sorted(_NEEDS))} can be had")
    specs = [str(kind(**point)) for point in kind.sweep]
    if not specs or len(set(specs)) < len(specs):
        subject.fail(f"sweep holds {len(specs)} points, {len(set(specs))} distinct", "give distinct ones")
    fields = set(kind.Parameters.model_fields)
    if not isinstance(kind.unbiased, bool) and not set(kind.unbiased) <= fields:
        unknown = sorted(set(kind.unbiased) - fields)
        subject.fail(
            f"unbiased names {unknown}, no parameters of it", f"it has {', '.join(sorted(fields)) or 'none'}"
        )
    if not kind.Parameters.model_config.get("frozen"):
        subject.fail("its Parameters can be changed", "derive them from qbench.Parameters")
    text = str(quantizer.spec)
    if str(Spec.parse(text)) != text or quantizer.spec != twin(quantizer).spec:
        subject.fail(
            f"its specification {text} does not read back", "parameters are numbers, words, lists, quantizers"
        )
    return None if kind.reference else "no reference given: name paper, year and equation"


def decodes_elsewhere(subject: Subject) -> None:
    """Another process, given the bytes and nothing else, returns the same reconstruction bit for bit."""
    if not _offered(subject.quantizer):
        raise NotApplicable("no plugin offers it, so only this process can decode it")
    x, other = subject.gaussian(8, 40), subject.gaussian(200)
    sent = [
        subject.send(x),
        subject.send((1e9 * x).to(torch.bfloat16), channel_axis=1),
        subject.send(other * 1e-9, codebook=subject.fit(other)),
        subject.send(torch.zeros(4, 16)),
    ]
    here = [subject.receive(one.payload) for one in sent]
    try:
        there = decode_elsewhere([one.payload for one in sent])
    except DecodingElsewhereError as error:
        subject.fail(
            f"another process cannot decode it: {error}", "put all that decode uses into the messages"
        )
    for y, z in zip(here, there, strict=True):
        if y.dtype != z.dtype or y.shape != z.shape or not torch.equal(_bits(y), _bits(z)):
            subject.fail(
                f"another process decodes a tensor of shape {tuple(y.shape)} differently",
                "decode may use its arguments and nothing else: no globals, no attributes set while encoding",
            )


def _offered(quantizer: Quantizer) -> bool:
    """Whether a plugin has this very class, and those nested in it; a reloaded module's class is the same one."""
    entry = plugins.catalog().entries.get(("quantizer", quantizer.name))
    own = (type(quantizer).__module__, type(quantizer).__qualname__)
    found = entry and (entry.component.__module__, entry.component.__qualname__) == own
    return bool(found) and all(map(_offered, nested(quantizer)))


def _bits(x: Tensor) -> Tensor:
    return x.reshape(-1).view(torch.uint8)


def deterministic(subject: Subject) -> None:
    """One seed, one payload; a second decoding gives what the first gave."""
    x = subject.gaussian(8, 40)
    first = subject.send(x)
    again = {"a second time": subject.quantizer, "by a new instance": twin(subject.quantizer)}
    for what, quantizer in again.items():
        if subject.send(x, quantizer=quantizer).payload != first.payload:
            subject.fail(
                f"coding {what} with the same seed gives other bytes",
                "draw from context.generator alone and keep nothing on self",
            )
    if not torch.equal(subject.receive(first.payload), subject.receive(first.payload)):
        subject.fail("decoding twice gives two tensors", "decode must be pure; put a seed into the bytes")


def process_untouched(subject: Subject) -> None:
    """Default dtype, thread count, random states and the like are after each call as they were."""
    torch.manual_seed(918_273)
    np.random.seed(918_273)
    random.seed(918_273)
    before = process_state()
    x = subject.gaussian(8, 40)
    subject.receive(subject.send(x).payload)
    after = process_state()
    changed = [name for name, value in before.items() if after[name] != value]
    if changed:
        subject.fail(
            f"it changed {', '.join(changed)}", "draw from context.generator and restore what you set"
        )


@contextmanager
def preserved_state() -> Iterator[None]:
    """Put random states, default dtype, threads and gradient mode back, whatever a quantizer does to them."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    dtype, threads, gradients = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(gradients)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


def arguments_untouched(subject: Subject) -> None:
    """The mathematics changes neither its input nor a codebook that other messages use."""
    quantizer, x = subject.quantizer, subject.gaussian(8, 40) / 8
    kept, context = x.clone(), subject.context(x)
    codebook = quantizer.fit(x, context=context)
    book = pack(codebook)
    codes = quantizer.encode(x, codebook, context=context)
    if not torch.equal(x, kept):
        subject.fail("fit or encode changed its input", "work on a copy")
    sent = pack(codes)
    quantizer.decode(codes, codebook, x.shape)
    if pack(codebook) != book or pack(codes) != sent:
        subject.fail("encode or decode changed a message it was given", "a codebook is shared: copy it first")


def static_codebook(subject: Subject) -> None:
    """A codebook fitted on one tensor codes another one; values beyond the fitted range stay finite."""
    samples, x = subject.values(2048), subject.values(2048, draw=1)
    with subject.trying("fitting 2048 values"):
        book = subject.fit(samples)
    other = subject.through(x, "another tensor than the codebook was fitted on", codebook=book)
    require_likeness(subject, x, other, "a tensor that the codebook was not fitted on")
    outlier = x.clone()
    outlier[7] = 1e20
    cases = {
        "values 100 times beyond the fitted range": x * 100,
        "one value far beyond the fitted range": outlier,
        "zeros under a codebook fitted on others": torch.zeros_like(x),
        "fewer values than the codebook was fitted on": x[:600],
    }
    for what, case in cases.items():
        subject.through(case, what, codebook=book)


def bytes_counted(subject: Subject) -> None:
    """``nbytes`` of codebook and codes is the length of what is packed, and reads back to its end."""
    x = subject.gaussian(8, 40)
    sent = subject.send(x)
    for what, message in (("codebook", sent.codebook), ("codes", sent.codes)):
        packed = pack(message)
        if nbytes(message) != len(packed) or unpack(packed)[1] != len(packed):
            subject.fail(
                f"its {what} count {nbytes(message)} bytes and pack to {len(packed)}",
                "build messages from plain tensors, streams and dictionaries",
            )


def header_says_nothing(subject: Subject) -> str | None:
    """The header, which no rate counts, is the same for any two tensors of one shape."""
    one = subject.send(subject.gaussian(8, 40))
    two = subject.send(subject.gaussian(8, 40, draw=1).exp())
    spec = twin(subject.quantizer).spec
    version, inner = subject.quantizer.version, inner_versions(subject.quantizer)
    named = Header(spec, version, torch.Size([8, 40]), torch.float32, 0, inner).to_bytes()
    if not one.header == two.header == named or len(named) > MAX_HEADER:
        subject.fail(
            "its header depends on the tensor",
            "parameters and version must not change: use codes or codebook",
        )
    varies = leaves(one.codes) != leaves(two.codes) or leaves(one.codebook) != leaves(two.codebook)
    return "its schema varies with the data, and is charged" if varies else None


def not_below_the_limit(subject: Subject) -> None:
    """Mean squared error on a Gaussian is at least D(R) = 4^-R, by the gate of the rate-distortion track."""
    book = subject.fit(subject.values(8192))
    errors, counted, size = [], 0, 4096
    for draw in range(1, _DRAWS + 1):
        x = subject.values(size, draw=draw)
        sent = subject.send(x, codebook=book)
        errors.append(float((x - subject.receive(sent.payload)).double().square().mean()))
        counted += nbytes(sent.codes)
    problem = limit_violation(errors, math.pow(4.0, -8 * counted / (size * _DRAWS)))
    if problem:
        subject.fail(problem, "let decode use the messages alone")


def unbiased(subject: Subject) -> None:
    """E[x^] = x: over 300 messages, sums of 16 errors, plain and towards zero, are within 5 standard errors of 0."""
    if not subject.quantizer.is_unbiased:
        raise NotApplicable("it does not claim to be unbiased")
    x = subject.gaussian(_BLOCK, _BLOCK)
    coder, context = Code(subject.quantizer), subject.context(x)
    errors = []
    for _ in range(_REPETITIONS):
        book = coder.fit(x, context)
        errors.append(coder.decode(coder.encode(x, book, context), book, x.shape) - x)
    stacked = torch.stack(errors).double()
    for what, sums in (("offset", stacked), ("shrinkage", -stacked * x.sign())):
        blocks = sums.sum(dim=2)
        # 1e-6 per element allows for float32 arithmetic where nothing is random
        allowed = 5 * blocks.std(dim=0) / math.sqrt(_REPETITIONS) + 1e-6 * _BLOCK
        worst = float((blocks.mean(dim=0).abs() / allowed).max())
        if worst > 1:
            subject.fail(
                f"it claims to be unbiased and has {what} {5 * worst:.1f} standard errors from 0",
                "5 are allowed: correct the rounding, or do not set unbiased",
            )
