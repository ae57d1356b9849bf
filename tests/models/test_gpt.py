import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from qbench.classifier import cross_entropy, evaluate
from qbench.components import Examples
from qbench.datasets.characters import examples
from qbench.datasets.english import English
from qbench.errors import ParameterError
from qbench.layers import weight_tensors
from qbench.metrics import bits_per_character
from qbench.models.gpt import Gpt
from qbench.optimizers.adamw import AdamW
from qbench.training import Training, train

LENGTH, CLASSES, WIDTH, DEPTH, HEADS = 16, 11, 24, 3, 4


def network() -> nn.Module:
    torch.manual_seed(0)
    return Gpt(width=WIDTH, depth=DEPTH, heads=HEADS).build((LENGTH,), CLASSES).eval()


def text(count: int = 5) -> Tensor:
    return torch.randint(CLASSES, (count, LENGTH), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("width", "depth", "heads"), [(24, 3, 4), (64, 2, 4), (128, 4, 1)])
def test_parameter_count(width: int, depth: int, heads: int) -> None:
    """A block: attention 4 (w^2 + w), hidden layer 8 w^2 + 5 w, two LayerNorms 4 w."""
    module = Gpt(width=width, depth=depth, heads=heads).build((LENGTH,), CLASSES)
    block = 4 * (width * width + width) + 8 * width * width + 5 * width + 4 * width
    outside = CLASSES * width + LENGTH * width + 2 * width + width * CLASSES + CLASSES
    assert sum(p.numel() for p in module.parameters()) == depth * block + outside
    assert list(module.buffers()) == []


def test_quantizers_reach_every_matrix_but_the_embeddings() -> None:
    module = network()
    reached = {weight.name for weight in weight_tensors(module)}
    matrices = {name for name, parameter in module.named_parameters() if parameter.dim() > 1}
    assert len(reached) == 6 * DEPTH + 1
    assert matrices - reached == {"embedding.weight", "positions"}


@pytest.mark.parametrize("position", range(LENGTH))
def test_a_later_character_moves_no_earlier_logit(position: int) -> None:
    module, given = network(), text()
    changed = given.clone()
    changed[:, position] = (given[:, position] + 1) % CLASSES
    before, after = module(given), module(changed)
    assert before.shape == (5, LENGTH, CLASSES)
    assert torch.equal(before[:, :position], after[:, :position])
    assert not torch.isclose(before[:, position:], after[:, position:]).all(-1).any()


def test_a_shorter_text_has_the_logits_of_the_beginning() -> None:
    """Other shapes may add in another order: float32 sums of 96 terms of unit size leave 1e-5."""
    module, given = network(), text()
    torch.testing.assert_close(module(given[:, :7]), module(given)[:, :7], rtol=1e-5, atol=1e-5)


def test_gradients_reach_every_parameter() -> None:
    """Keys have no bias that matters: it adds the same to all scores of a query, which softmax ignores."""
    module, given = network().train(), text(32)
    cross_entropy(module(given), given.roll(-1, 1)).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None
        if not name.endswith("key.bias"):
            assert parameter.grad.any(), name
    touched = module.embedding.weight.grad.any(1)
    assert torch.equal(touched, given.flatten().bincount(minlength=CLASSES) > 0)
    assert module.positions.grad.any(1).all()


def theirs(module: nn.Module) -> nn.TransformerEncoder:
    """Torch's own, with the same weights."""
    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    stack = nn.TransformerEncoder(layer, DEPTH, norm=nn.LayerNorm(WIDTH), enable_nested_tensor=False)
    for block, copy in zip(module.blocks, stack.layers, strict=True):
        inputs = (block.attention.query, block.attention.key, block.attention.value)
        copy.self_attn.in_proj_weight.data = torch.cat([part.weight.data for part in inputs])
        copy.self_attn.in_proj_bias.data = torch.cat([part.bias.data for part in inputs])
        for own, other in (
            (block.attention.output, copy.self_attn.out_proj),
            (block.attention_norm, copy.norm1),
            (block.hidden_norm, copy.norm2),
            (block.hidden, copy.linear1),
            (block.projection, copy.linear2),
        ):
            other.load_state_dict(own.state_dict())
    stack.norm.load_state_dict(module.norm.state_dict())
    return stack


def test_it_computes_what_torchs_transformer_computes() -> None:
    module, given = network(), text()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)  # weights at which no part is negligible
    stack, mask = theirs(module).train(), nn.Transformer.generate_square_subsequent_mask(LENGTH)
    embedded = module.embedding(given) + module.positions
    expected = module.head(stack(embedded, mask=mask, is_causal=True))
    torch.testing.assert_close(module(given), expected, rtol=1e-5, atol=1e-5)


def test_initialization() -> None:
    """Deviation .02, of layers added to their input .02 / sqrt(2 depth); that of n weights has relative SE
    1 / sqrt(2 n), 5 are allowed."""
    torch.manual_seed(0)
    module = Gpt(width=128, depth=3).build((64,), 100)
    for name, parameter in module.named_parameters():
        if parameter.dim() == 1:
            assert torch.equal(parameter, torch.full_like(parameter, float("norm.weight" in name)))
            continue
        added = name.endswith(("attention.output.weight", "projection.weight"))
        wanted = 0.02 / math.sqrt(6) if added else 0.02
        assert parameter.std().item() == pytest.approx(wanted, rel=5 / math.sqrt(2 * parameter.numel())), name


def test_bad_parameters_are_named() -> None:
    with pytest.raises(ParameterError, match="width=100 is no multiple of heads=3"):
        Gpt(width=100, heads=3)


def trained_bits(data: Examples, model: Gpt, lr: float, epochs: int, batch_size: int) -> float:
    training = Training(epochs=epochs, batch_size=batch_size, warmup=0.1)
    module = train(model, AdamW(lr=lr), data, training, seed=0).module
    return bits_per_character(evaluate(module, data.test_inputs), data.test_labels.flatten())


def test_it_finds_what_lies_two_characters_back() -> None:
    """Words uvuv of independent u and v from four letters: half of the characters are free, 2 bits each, so 1 bit per
    character is the limit, and 2 bits is what the one before can tell.

    Windows of 16 are in step with the words: 8 of 16 labels are free. A model beats the true odds by 20 bits in total
    with probability 2^-20 at most, as it is a likelihood ratio whose mean is 1.
    """
    pairs = torch.randint(4, (4000, 2), generator=torch.Generator().manual_seed(0))
    data = examples("".join("abcd"[letter] for letter in pairs.repeat(1, 2).flatten()), 16)
    bits = trained_bits(data, Gpt(width=32, depth=2), lr=0.01, epochs=6, batch_size=32)
    assert 1 - 20 / data.test_labels.numel() < bits < 1.1


def test_it_learns_english() -> None:
    """No fixed odds do better than the entropy of the test part's own frequencies."""
    whole = English().load(Path("/nowhere"))
    data = replace(
        whole,
        train_inputs=whole.train_inputs[:2400],
        train_labels=whole.train_labels[:2400],
        test_inputs=whole.test_inputs[:200],
        test_labels=whole.test_labels[:200],
    )
    counts = data.test_labels.flatten().bincount()
    share = counts[counts > 0].double() / data.test_labels.numel()
    entropy = -float((share * share.log2()).sum())
    assert trained_bits(data, Gpt(width=64, depth=2), lr=0.006, epochs=1, batch_size=8) < entropy
