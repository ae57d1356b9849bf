"""The code around a quantizer, with toy quantizers whose answers are known."""

import json
import math
import struct

import pytest
import torch
from torch import Tensor

from qbench.codec import MAX_HEADER, Code, Header, from_payload, prepare
from qbench.components import Context, Quantizer, Trainable
from qbench.errors import InputError, InvalidReconstructionError, PayloadError
from qbench.measuring import code
from qbench.message import Message, Stream, pack
from qbench.quantizers.entropy_coded import EntropyCoded
from qbench.quantizers.lsq import LSQ
from qbench.quantizers.surrogates import learnable
from qbench.quantizers.uniform import Uniform
from qbench.schema import Spec


class Raw(Quantizer):
    """Sends the tensor as it is, so that whatever the core does around it can be seen."""

    name = "raw"

    def fit(self, x, *, context):
        return {"largest": x.abs().amax() if x.numel() else torch.zeros(())}

    def encode(self, x, codebook, *, context):
        return {"x": x}

    def decode(self, codes, codebook, shape):
        return codes["x"].reshape(shape)


def context() -> Context:
    return Context(torch.Generator().manual_seed(0))


def to_payload(quantizer: Quantizer, x: Tensor, axis: int, codebook: Message, codes: Message) -> bytes:
    header = Header(quantizer.spec, quantizer.version, x.shape, x.dtype, axis)
    return header.to_bytes() + pack(codebook) + pack(codes)


def round_trip(x: Tensor, axis: int = 0) -> Tensor:
    code = Code(Raw())
    prepared = prepare(x, axis)
    codebook = code.fit(prepared, context())
    payload = to_payload(Raw(), x, axis, codebook, code.encode(prepared, codebook, context()))
    return from_payload(payload, lambda spec: Raw())


@pytest.mark.parametrize("scale", [2.0**-149, 1e-38, 1e-9, 1.0, 1e9, 3e38])
def test_the_scale_is_an_exact_power_of_two(scale: float) -> None:
    x = torch.tensor([scale, -scale / 3, 0.0, scale / 1024]).float()
    codebook = Code(Raw()).fit(x, context())
    assert 0.5 <= float(codebook["c"]["largest"]) < 1
    assert torch.equal(round_trip(x), x)


def test_codes_do_not_depend_on_the_unit_of_x() -> None:
    x = torch.randn(100, generator=torch.Generator().manual_seed(1))
    code = Code(Raw())
    coded = [code.encode(y, code.fit(y, context()), context())["x"] for y in (x, x * 2.0**40)]
    assert torch.equal(*coded)


def test_a_static_codebook_keeps_its_own_scale() -> None:
    code = Code(Raw())
    codebook = code.fit(torch.tensor([1.5]), context())
    assert float(code.encode(torch.tensor([12.0]), codebook, context())["x"]) == 6.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("shape", "axis"), [((), 0), ((5,), 0), ((2, 3), 1), ((2, 3, 4), 1), ((2, 3, 4, 5), 3)]
)
def test_shape_dtype_and_axis_come_back(dtype: torch.dtype, shape: tuple[int, ...], axis: int) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    y = round_trip(x, axis)
    assert y.dtype == dtype
    assert torch.equal(x, y)


def test_quantizers_see_the_channel_axis_first() -> None:
    assert prepare(torch.zeros(2, 3, 4), 1).shape == (3, 2, 4)


def test_what_would_overflow_is_clamped_to_the_largest_float() -> None:
    class Doubling(Raw):
        def decode(self, codes, codebook, shape):
            return 2 * codes["x"].reshape(shape)

    code = Code(Doubling())
    x = torch.tensor([3e38])
    codebook = code.fit(x, context())
    y = code.decode(code.encode(x, codebook, context()), codebook, x.shape)
    assert float(y) == torch.finfo(torch.float32).max


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.tensor([1.0, float("nan")]), "1 of 2 elements are NaN"),
        (torch.tensor([float("inf")]), "infinite"),
        (torch.tensor([1e300], dtype=torch.float64), "beyond float32"),
        (torch.tensor([1, 2]), "not torch.int64"),
        ([1.0], "not list"),
    ],
)
def test_unusable_input_is_refused(x: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        prepare(x)


def test_an_axis_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match=r"channel_axis=2 is not an axis of shape \(3, 4\)"):
        prepare(torch.zeros(3, 4), 2)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda shape: torch.full(shape, float("nan")), "2 of 2 elements to NaN"),
        (lambda shape: torch.zeros(3), r"\(3,\) instead of shape \(2,\)"),
        (lambda shape: None, "NoneType"),
    ],
)
def test_a_bad_reconstruction_is_invalid(bad, words: str) -> None:
    class Bad(Raw):
        def decode(self, codes, codebook, shape):
            return bad(shape)

    code = Code(Bad())
    codebook = code.fit(torch.ones(2), context())
    with pytest.raises(InvalidReconstructionError, match=words):
        code.decode({}, codebook, torch.Size([2]))


def steps_by_code(x: Tensor, rate: float, momentum: float) -> list[float]:
    """LSQ's step in units of x after each of 30 updates that lessen the squared error."""
    code = Code(LSQ(bits=3))
    codebook = learnable(code.fit(x, context()))
    step = codebook["c"]["step"]
    sgd = torch.optim.SGD([step], lr=rate, momentum=momentum)
    found = []
    for _ in range(30):
        sgd.zero_grad()
        ((code.surrogate(x, codebook, context()) - x).square().sum() / 2).backward()
        sgd.step()
        found.append(float(step.detach()) * 2.0 ** int(codebook["e"]))
    return found


def steps_by_hand(x: Tensor, rate: float, momentum: float) -> list[float]:
    """Equations 1 to 3 of Esser et al. 2020 in float64, Q_N = 4 and Q_P = 3, with no scale around anything."""
    x, velocity, found = x.double(), 0.0, []
    step = float(2 * x.abs().mean()) / math.sqrt(3)
    for _ in range(30):
        v = x / step
        levels = v.clamp(-4, 3).round()
        slope = torch.where((v > -4) & (v < 3), levels - v, levels)
        gradient = float(((levels * step - x) * slope).sum()) / math.sqrt(x.numel() * 3)
        velocity = momentum * velocity + gradient
        step -= rate * velocity
        found.append(step)
    return found


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("k", [-30, -3, 0, 9])
def test_a_learned_step_descends_as_if_there_were_no_scale(k: int, momentum: float) -> None:
    """The gradient is continuous where codes change, so float32 follows float64 as closely as it rounds."""
    x = torch.randn(300, generator=torch.Generator().manual_seed(3)) * 2.0**k
    expected = steps_by_hand(x, 0.02, momentum)
    assert not 0.9 < expected[-1] / expected[0] < 1.1
    assert steps_by_code(x, 0.02, momentum) == pytest.approx(expected, rel=1e-4)


class LevelAndRatio(Raw, Trainable):
    """a b sign(x), a level a in units of x, a ratio b."""

    unitless = frozenset({"ratio"})

    def surrogate(self, x, codebook, *, context):
        return codebook["inner"]["level"] * codebook["ratio"] * x.sign()


@pytest.mark.parametrize("exponent", [-140, -3, 0, 100])
def test_what_has_no_units_keeps_its_gradient(exponent: int) -> None:
    """Of y = 2^e a b sign(x) = q b sign(x): 2^-e dy/dq for a, at any depth, and dy/db for b."""
    book = learnable({"inner": {"level": torch.tensor(0.75)}, "ratio": torch.tensor(2.0)})
    codebook: Message = {"e": torch.tensor(exponent, dtype=torch.int16), "c": book}
    y = Code(LevelAndRatio()).surrogate(torch.tensor([1.0, -1.0]), codebook, context())
    (y * torch.tensor([3.0, 1.0])).sum().backward()
    level, ratio = book["inner"]["level"], book["ratio"]
    assert (float(level.detach()), float(ratio.detach())) == (0.75, 2.0)
    assert float(level.grad) == min(2.0 * (3 - 1) * 2.0**-exponent, torch.finfo(torch.float32).max)
    assert float(ratio.grad) == 0.75 * (3 - 1) * 2.0**exponent


def payload() -> bytes:
    codebook = Code(Raw()).fit(torch.ones(4), context())
    return to_payload(
        Raw(), torch.ones(4), 0, codebook, {"x": torch.ones(4), "s": Stream(torch.arange(4), 5)}
    )


def test_every_truncation_of_a_payload_is_refused() -> None:
    whole = payload()
    for length in range(len(whole)):
        with pytest.raises(PayloadError):
            from_payload(whole[:length], lambda spec: Raw())


def test_bytes_behind_a_payload_are_refused() -> None:
    with pytest.raises(PayloadError, match="3 bytes follow"):
        from_payload(payload() + b"abc", lambda spec: Raw())


def test_other_versions_are_refused() -> None:
    other = bytearray(payload())
    other[4] = 9
    with pytest.raises(PayloadError, match="payload format 9"):
        from_payload(bytes(other), lambda spec: Raw())

    class Newer(Raw):
        version = 2

    with pytest.raises(PayloadError, match="version 1; the installed one is version 2"):
        from_payload(payload(), lambda spec: Newer())


def test_other_versions_inside_a_wrapper_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The version of the wrapper alone would let a new decoder misread the bytes of an old one inside."""
    wrapper = EntropyCoded(inner=Uniform(bits=4))
    whole = code(wrapper, torch.arange(8.0), generator=torch.Generator().manual_seed(0)).payload
    assert Header.read(whole)[0].inner_versions == ()
    assert from_payload(whole, lambda spec: wrapper).shape == (8,)
    monkeypatch.setattr(Uniform, "version", 2)
    with pytest.raises(PayloadError, match=r"quantizers inside .* in versions 1; .* are \[2\]"):
        from_payload(whole, lambda spec: wrapper)
    newer = code(wrapper, torch.arange(8.0), generator=torch.Generator().manual_seed(0)).payload
    assert from_payload(newer, lambda spec: wrapper).shape == (8,)
    monkeypatch.setattr(Uniform, "version", 1)
    with pytest.raises(PayloadError, match=r"in versions \[2\]; .* are 1"):
        from_payload(newer, lambda spec: wrapper)


@pytest.mark.parametrize(
    "exponent",
    [
        torch.tensor(129, dtype=torch.int16),
        torch.tensor(-149, dtype=torch.int16),
        torch.tensor(2**15 - 1, dtype=torch.int16),
        torch.tensor(float("nan")),
    ],
)
def test_an_exponent_that_no_float32_has_is_refused(exponent: Tensor) -> None:
    codebook: Message = {"e": exponent, "c": {}}
    whole = to_payload(Raw(), torch.ones(4), 0, codebook, {"x": torch.ones(4)})
    with pytest.raises(PayloadError, match="no integer from -148 to 128"):
        from_payload(whole, lambda spec: Raw())


def test_a_header_says_specification_shape_dtype_and_axis_and_nothing_else() -> None:
    _, _, length = struct.unpack_from("<4sBH", payload())
    fields = json.loads(payload()[7 : 7 + length])
    assert fields == {"quantizer": "raw", "version": 1, "shape": [4], "dtype": "float32", "axis": 0}


def test_a_header_has_at_most_512_bytes() -> None:
    long = Header(
        Spec(name="raw", parameters={"note": "x" * MAX_HEADER}), 1, torch.Size([1]), torch.float32, 0
    )
    with pytest.raises(PayloadError, match="at most 512"):
        long.to_bytes()


def test_damaged_headers_are_refused() -> None:
    for fields in (
        "[]",
        "{}",
        '{"quantizer":"raw","version":1,"shape":[-1],"dtype":"float32","axis":0}',
        "\xff",
    ):
        text = fields.encode()
        head = struct.pack("<4sBH", b"QBPL", 1, len(text)) + text
        with pytest.raises(PayloadError):
            from_payload(head + pack({}) + pack({}), lambda spec: Raw())
