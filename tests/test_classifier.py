"""Evaluation: exact kernels in float32, and what the device computes in."""

import contextlib

import pytest
import torch
from torch import nn

from qbench.classifier import Classifier, autocast_dtype, evaluate, exact_kernels


def test_evaluation_is_float32_and_leaves_the_module_as_it_was() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(12, 3))
    module = Classifier(network, torch.full((1, 3, 1, 1), 10.0), torch.full((1, 3, 1, 1), 5.0)).train()
    images = torch.randint(0, 256, (7, 3, 2, 2), dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        logits = evaluate(module, images, batch=3)
    assert module.training
    assert logits.dtype == torch.float32
    linear = network[2]
    expected = (images.double().flatten(1) - 10) / 5 @ linear.weight.double().T + linear.bias.double()
    torch.testing.assert_close(logits.double(), expected, rtol=1e-5, atol=1e-5)


def test_kernel_settings_return() -> None:
    def settings() -> list[object]:
        backends = torch.backends
        return [
            *(
                owner.fp32_precision
                for owner in (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul)
            ),
            *(backends.cudnn.deterministic, backends.cudnn.benchmark),
        ]

    before = settings()
    with contextlib.suppress(RuntimeError), exact_kernels():
        assert settings() == ["ieee", "ieee", "ieee", True, False]
        raise RuntimeError
    assert settings() == before


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx512_f": True}, None),
    ],
)
def test_bfloat16_only_where_it_is_native(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: torch.dtype | None
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert autocast_dtype(torch.device("cpu")) is expected
