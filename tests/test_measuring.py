"""Measuring one tensor: rates from bytes, distortion from what decodes."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import qbench
from qbench import plugins
from qbench.errors import InputError, PayloadError, UnknownComponentError
from qbench.measuring import Distortion, code, fit
from qbench.message import nbytes, unpack
from qbench.quantizers.uniform import Uniform
from qbench.schema import derived_seed


def gaussian(shape: tuple[int, ...] | int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def everyone() -> list[qbench.Quantizer]:
    """Every built-in quantizer at the cheapest end of its sweep and at the dearest, and two more points.

    Those that need more than the tensor are measured by their own tests and by the tracks that give it.
    """
    found = plugins.load(["all"])
    chosen = []
    for name in found.names("quantizer"):
        component = found.entry("quantizer", name).component
        if component.needs - {"importance"}:
            continue
        chosen += [component(**component.sweep[0]), component(**component.sweep[-1])]
    return [*chosen, found.quantizer("nested-lattice", lattice="Z", m=5), found.quantizer("uniform", bits=16)]


def test_uniform_input_has_an_error_of_step_squared_over_twelve() -> None:
    x = torch.rand(2**18, generator=torch.Generator().manual_seed(1)) * 2 - 1
    r = qbench.measure(Uniform(bits=6, scheme="midrise", granularity="tensor"), x)
    step = 2 / 64
    # errors are uniform in a cell: the variance of their square is step^4 / 180
    assert r.mse == pytest.approx(step**2 / 12, abs=4 * step**2 / math.sqrt(180 * 2**18))
    assert r.sqnr_db == pytest.approx(10 * math.log10(float(x.double().square().mean()) / r.mse), abs=1e-9)


def test_the_rate_is_the_bytes_of_codebook_and_codes() -> None:
    x = gaussian(1000)
    quantizer = Uniform(bits=4, granularity="tensor")
    r = qbench.measure(quantizer, x)
    header = 7 + int.from_bytes(r.payload[5:7], "little")
    assert r.rate == 8 * (len(r.payload) - header) / 1000
    assert 4 <= r.rate < 4.5


def test_a_codebook_that_existed_before_is_static() -> None:
    x = gaussian(1000)
    quantizer = qbench.quantizer("kmeans", bits=4)
    static = qbench.measure(quantizer, x, samples=gaussian(5000, 9))
    own = qbench.measure(quantizer, x)
    header = 7 + int.from_bytes(static.payload[5:7], "little")
    assert static.static_bytes > 16 * 4
    assert static.rate == 8 * (len(static.payload) - header - static.static_bytes) / 1000
    assert own.static_bytes == 0
    assert own.rate > static.rate


@pytest.mark.parametrize("quantizer", everyone(), ids=str)
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("shape", [(200,), (10, 20), (5, 4, 10), (5, 2, 4, 5)])
def test_bytes_in_memory_are_bytes_packed(
    quantizer: qbench.Quantizer, scale: float, shape: tuple[int, ...]
) -> None:
    x = gaussian(shape) * scale
    # no draw of the data is one of the encoder's
    coded = code(quantizer, x, generator=torch.Generator().manual_seed(derived_seed("encoder", 0)))
    body = coded.payload[7 + int.from_bytes(coded.payload[5:7], "little") :]
    codebook, at = unpack(body)
    codes, _ = unpack(body[at:])
    assert nbytes(codebook) == at
    assert nbytes(codes) == len(body) - at
    assert coded.nbytes == len(body)
    r = qbench.measure(quantizer, x)
    assert r.reconstruction.shape == x.shape
    assert r.payload == coded.payload
    # no code here is worse than sending zeros by more than its stochastic rounding
    assert r.mse / float(x.double().square().mean()) < 4


SCRIPT = """
import sys, torch, qbench
from safetensors.torch import save_file
from pathlib import Path
torch.set_num_threads(1)
folder = Path(sys.argv[1])
save_file({p.stem: qbench.decode(p.read_bytes()) for p in folder.glob("*.payload")}, folder / "decoded.safetensors")
"""


@pytest.mark.slow
def test_a_fresh_process_decodes_bit_for_bit(tmp_path: Path) -> None:
    """Every quantizer, scales 1e-9, 1 and 1e9, 200 elements in one to four dimensions and 10^6 in two."""
    from safetensors.torch import load_file

    expected = {}
    for i, quantizer in enumerate(everyone()):
        for j, scale in enumerate((1e-9, 1.0, 1e9)):
            for k, shape in enumerate([(200,), (10, 20), (5, 4, 10), (5, 2, 4, 5), (1000, 1000)]):
                if k == 4 and j != i % 3:
                    continue
                r = qbench.measure(quantizer, gaussian(shape) * scale)
                (tmp_path / f"{i}-{j}-{k}.payload").write_bytes(r.payload)
                expected[f"{i}-{j}-{k}"] = r.reconstruction
    subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], check=True)
    found = load_file(tmp_path / "decoded.safetensors")
    assert found.keys() == expected.keys()
    assert [key for key in found if not torch.equal(found[key], expected[key])] == []


def test_codes_of_a_scaled_tensor_scale_with_it() -> None:
    x = gaussian(300)
    for quantizer in everyone():
        one, other = qbench.measure(quantizer, x), qbench.measure(quantizer, x * 2.0**20)
        assert torch.equal(one.reconstruction * 2.0**20, other.reconstruction), quantizer
        assert one.rate == other.rate


def test_a_quantizer_that_no_plugin_offers_is_measured_but_not_decoded_by_name() -> None:
    class Sign(qbench.Quantizer):
        name = "just-the-sign"

        def fit(self, x, *, context):
            return {}

        def encode(self, x, codebook, *, context):
            return {"bit": qbench.Stream((x > 0).long(), 2)}

        def decode(self, codes, codebook, shape):
            return codes["bit"].values.float().reshape(shape) - 0.5

    r = qbench.measure(Sign(), gaussian(64))
    assert r.rate > 1
    with pytest.raises(UnknownComponentError, match="just-the-sign"):
        qbench.decode(r.payload)


def test_the_channel_axis_is_the_users() -> None:
    x = gaussian((8, 16)) * torch.logspace(-3, 3, 16)
    quantizer = Uniform(bits=8, granularity="channel")
    by_column = qbench.measure(quantizer, x, channel_axis=1)
    transposed = qbench.measure(quantizer, x.T.contiguous(), channel_axis=0)
    assert torch.equal(by_column.reconstruction, transposed.reconstruction.T)
    assert by_column.sqnr_db == pytest.approx(transposed.sqnr_db)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.empty(0, 3), r"x is empty, of shape \(0, 3\)"),
        (None, "x is of type NoneType; give a float tensor"),
        ([1.0, 2.0], "x is of type list; give a float tensor"),
        (
            torch.tensor([[1.0, 2.0], [3.0, math.nan], [-math.inf, 0.0]]),
            r"2 of the 6 elements of x are NaN or infinite, the first at x\[1, 1\]: nan",
        ),
        (torch.tensor(math.inf), "1 of the 1 elements of x are NaN or infinite, the first at x: inf"),
    ],
)
def test_nothing_to_measure(x: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        qbench.measure(Uniform(), x)


def test_a_name_is_no_quantizer() -> None:
    with pytest.raises(
        InputError, match=r"quantizer='uniform' is of type str; .* qbench.quantizer\(\"uniform:bits=4"
    ):
        qbench.measure("uniform", torch.ones(4))


def test_lossless_and_zero_tensors_have_defined_measures() -> None:
    zeros = torch.zeros(4)
    same = Distortion.between(zeros, zeros)
    assert (same.mse, same.sqnr_db, same.cosine) == (0, math.inf, 1)
    lost = Distortion.between(zeros, zeros + 1)
    assert (lost.mse, lost.sqnr_db, lost.cosine) == (1, -math.inf, 0)


def test_distortions_add_over_tensors() -> None:
    x, y = gaussian(100), gaussian(100, 1)
    parts = Distortion.between(x[:30], y[:30]) + Distortion.between(x[30:], y[30:])
    whole = Distortion.between(x, y)
    assert parts.mse == pytest.approx(whole.mse)
    assert parts.cosine == pytest.approx(float(torch.nn.functional.cosine_similarity(x, y, dim=0)), abs=1e-6)


def test_an_entropy_rate_is_never_plug_in() -> None:
    """2^24 equally likely codewords on 43,690 blocks are 24 bits each, though only 15.4 bits of them can be seen."""

    class Blocks(qbench.Quantizer):
        name = "blocks"

        def fit(self, x, *, context):
            return {}

        def encode(self, x, codebook, *, context):
            return {
                "index": qbench.Stream(torch.randint(2**24, (x.numel(),), generator=context.generator), 2**24)
            }

        def decode(self, codes, codebook, shape):
            return torch.zeros(shape)

    assert qbench.measure(Blocks(), gaussian(43_690)).entropy_rate > 23.9


def test_a_static_codebook_is_fitted_once_for_many_messages() -> None:
    generator = torch.Generator().manual_seed(0)
    quantizer = Uniform(bits=4, granularity="tensor")
    codebook = fit(quantizer, gaussian(1000), generator=generator)
    first, second = (
        code(quantizer, gaussian(64, seed), generator=generator, codebook=codebook) for seed in (1, 2)
    )
    assert first.static_nbytes == second.static_nbytes == nbytes(codebook)
    assert first.nbytes == second.nbytes


@pytest.mark.parametrize("payload", [b"", b"hello", b"QBPL\x01\x02\x00{}"])
def test_decode_refuses_what_is_no_payload(payload: bytes) -> None:
    with pytest.raises(PayloadError):
        qbench.decode(payload)


def test_importance_reaches_the_quantizer() -> None:
    """Weighted k-means has the least weighted error of all codebooks of its size; elements of weight 0 do not count."""
    x, weight = gaussian(500), torch.rand(500, generator=torch.Generator().manual_seed(3))
    weight[250:] = 0
    errors = {}
    for name, importance in (("kmeans-hessian", weight), ("kmeans", None)):
        r = qbench.measure(qbench.quantizer(name, bits=2), x, importance=importance)
        errors[name] = float((weight * (r.reconstruction - x).square()).sum())
    assert errors["kmeans-hessian"] < errors["kmeans"]
    with pytest.raises(InputError, match="importance needs the shape of x"):
        qbench.measure(qbench.quantizer("kmeans-hessian"), x, importance=weight[:10])
