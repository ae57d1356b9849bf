import pytest
import torch

from qbench.components import Context
from qbench.errors import InputError
from qbench.message import Stream
from qbench.quantizers.surrogates import LearnedCodebook, hard, learnable, scaled_gradient
from qbench.quantizers.uniform import Uniform


def test_a_scaled_gradient_leaves_the_value_alone():
    x = torch.tensor([0.1, -3.0], requires_grad=True)
    y = scaled_gradient(x, 0.25)
    assert torch.equal(y, x)
    y.square().sum().backward()
    assert x.grad.tolist() == (0.5 * x.detach()).tolist()


def test_the_hard_value_is_what_decodes_and_belongs_to_no_graph(code, gaussian):
    x = (gaussian(200) / 8).requires_grad_()
    quantizer, context = Uniform(bits=3), Context(torch.Generator())
    value = hard(quantizer, x, {}, context)
    assert not value.requires_grad
    codes = quantizer.encode(x.detach(), {}, context=context)
    assert torch.equal(value, quantizer.decode(codes, {}, x.shape))


def test_float_tensors_at_any_depth_become_leaves():
    codebook = {
        "scale": torch.ones(2),
        "inner": {"half": torch.ones(1, dtype=torch.float16), "e": torch.tensor(3)},
        "codes": Stream(torch.ones(2), 3),
    }
    learned = learnable(codebook)
    assert learned["scale"].requires_grad
    assert learned["scale"].is_leaf
    assert learned["inner"]["half"].requires_grad
    assert not learned["inner"]["e"].requires_grad
    assert learned["codes"] is codebook["codes"]
    assert not codebook["scale"].requires_grad
    learned["scale"].data.add_(1)
    assert codebook["scale"].tolist() == [1, 1]


def test_a_learned_codebook_of_another_shape_is_refused():
    book = LearnedCodebook({"words": torch.zeros(4), "n": torch.tensor(2)})
    assert [name for name, _ in book.named_parameters()] == ["tensor0"]
    assert len(book.state_dict()) == 2
    with pytest.raises(InputError, match=r"shapes \[\[4\], \[\]\]; the new fit has \[\[3\], \[\]\]"):
        book.assign({"words": torch.ones(3), "n": torch.tensor(1)})
    book.assign({"words": torch.ones(4), "n": torch.tensor(1)})
    message = book.message()
    assert torch.equal(message["words"], torch.ones(4))
    assert int(message["n"]) == 1
