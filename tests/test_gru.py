"""A GRU that learns by our steps, against torch's own layer and against differences of its outputs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rnnforecast.nn import gru
from rnnforecast.nn.recurrence import Recurrence


def layer_and_inputs(lanes, steps, *, size=3, features=2):
    torch.manual_seed(lanes * 100 + steps)
    layer = nn.GRU(features, size, batch_first=True).double()
    inputs, hidden = torch.randn(lanes, steps, features).double(), torch.randn(1, lanes, size).double()
    return layer, inputs.requires_grad_(), hidden.requires_grad_()


def gradients(found, given_):
    """Those of a loss that sees every output and the last state, each with a weight of its own."""
    outputs, hidden = found
    weights = torch.arange(outputs.numel(), dtype=outputs.dtype).view(outputs.shape).cos()
    return torch.autograd.grad((outputs * weights).sum() + hidden.square().sum(), given_)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 5), st.integers(1, 20), st.integers(1, 6), st.integers(1, 7))
def test_it_is_torchs_own_layer_however_its_steps_are_taken_together(lanes, steps, size, together):
    layer, inputs, hidden = layer_and_inputs(lanes, steps, size=size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gru, "TILE", lanes * size * together)
        given_ = [inputs, hidden, *layer.parameters()]
        found, expected = gru.run(layer, inputs, hidden), layer(inputs, hidden)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(gradients(found, given_), gradients(expected, given_))


def test_its_gradient_is_that_of_small_differences():
    layer, inputs, hidden = layer_and_inputs(2, 5)
    parameters = tuple(layer.parameters())
    assert torch.autograd.gradcheck(lambda seen, start, *_: gru.run(layer, seen, start), (inputs, hidden, *parameters))


def test_what_is_not_for_it_stays_torchs():
    layer, inputs, _ = layer_and_inputs(3, gru.FEWEST_STEPS, size=4)
    assert gru.better(layer, inputs)
    assert not gru.better(layer, inputs[:, 1:])
    assert not gru.better(layer, inputs[:0])
    assert gru.better(layer, inputs[:1].expand(gru.MOST_NUMBERS // 4, -1, -1))
    assert not gru.better(layer, inputs[:1].expand(gru.MOST_NUMBERS // 4 + 1, -1, -1))
    assert not gru.better(nn.GRU(2, 4, batch_first=True, bidirectional=True), inputs)
    assert not gru.better(layer, inputs.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not gru.better(layer, inputs)
    with torch.no_grad():
        assert not gru.better(layer, inputs)


@pytest.mark.parametrize("residual", [False, True])
def test_layers_upon_each_other_learn_as_those_of_torch(residual):
    torch.manual_seed(0)
    ours = Recurrence(2, 4, cell="gru", num_layers=3, residual=residual).double()
    inputs, start = torch.randn(3, 2 * gru.FEWEST_STEPS, 2).double(), torch.randn(3, 3, 4).double()
    outputs, hiddens = inputs, []
    for index, layer in enumerate(ours.layers):
        found, hidden = layer(outputs, start[index : index + 1].contiguous())
        outputs = found + outputs if residual and index else found
        hiddens.append(hidden)
    found, (last, _) = ours(inputs, (start, start[..., :0]))
    torch.testing.assert_close((found, last), (outputs, torch.cat(hiddens)))
    given_ = list(ours.parameters())
    torch.testing.assert_close(gradients((found, last), given_), gradients((outputs, torch.cat(hiddens)), given_))
