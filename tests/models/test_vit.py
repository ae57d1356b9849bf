import pytest
import torch

from qbench.errors import ParameterError
from qbench.models.vit import Vit


def count(width: int, depth: int, tokens: int, inputs: int, classes: int) -> int:
    """Attention 4 (w^2 + w), hidden layer 8 w^2 + 5 w, two LayerNorms 4 w; embedding, class token, positions."""
    block = 4 * (width * width + width) + 8 * width * width + 5 * width + 4 * width
    outside = inputs * width + width + width + tokens * width + 2 * width + width * classes + classes
    return depth * block + outside


def test_parameter_count_of_the_papers_base_model() -> None:
    """Torchvision publishes 86,567,656 for ViT-B/16."""
    with torch.device("meta"):
        module = Vit(width=768, depth=12, heads=12, patch=16).build((3, 224, 224), 1000)
    assert sum(p.numel() for p in module.parameters()) == 86_567_656
    assert count(768, 12, 14 * 14 + 1, 3 * 16 * 16, 1000) == 86_567_656


@pytest.mark.parametrize(
    ("shape", "patch", "patches"),
    [((1, 8, 8), 2, 16), ((1, 28, 28), 4, 49), ((3, 32, 32), 4, 64), ((1, 4, 4), 1, 16)],
)
def test_patches(shape: tuple[int, int, int], patch: int, patches: int) -> None:
    module = Vit().build(shape, 10)
    assert module.conv_proj.kernel_size == module.conv_proj.stride == (patch, patch)
    expected = count(192, 6, patches + 1, shape[0] * patch * patch, 10)
    assert sum(p.numel() for p in module.parameters()) == expected


def test_an_untrained_one_takes_no_side() -> None:
    """The last layer starts at zero."""
    module = Vit(width=8, depth=1, heads=2).build((1, 8, 8), 10)
    assert not module(torch.randn(3, 1, 8, 8)).any()


def test_the_embedding_is_lecun_normal() -> None:
    """Var(w) = 1 / fan_in; the variance of n weights has relative SE sqrt(2 / n), 5 are allowed.

    Cutting at 2, far out for a deviation of 1/8, changes nothing.
    """
    torch.manual_seed(0)
    weight = Vit(width=256, depth=1, heads=1, patch=8).build((1, 32, 32), 10).conv_proj.weight
    assert weight.var().item() * 64 == pytest.approx(1, abs=5 * (2 / weight.numel()) ** 0.5)


@pytest.mark.parametrize(
    ("shape", "reason"), [((1, 3, 3), "not 3x3"), ((1, 28, 32), "not 28x32"), ((1, 30, 30), "patches of 4")]
)
def test_pictures_it_cannot_cut(shape: tuple[int, int, int], reason: str) -> None:
    with pytest.raises(ParameterError, match=f"square pictures of 4x4.*{reason}"):
        Vit().build(shape, 10)


def test_bad_parameters_are_named() -> None:
    with pytest.raises(ParameterError, match="width=100 is no multiple of heads=3"):
        Vit(width=100)
