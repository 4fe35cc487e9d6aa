"""The gradient of a window, against torch's own layer: once, again with what the first one kept, and beside others."""

import pytest
import torch

from rnnforecast.config import Candidate
from rnnforecast.nn.encoder import Encoder

WINDOWS, STEPS, FEATURES, SIZE = 5, 7, 3, 4


def encoder(**choices):
    torch.manual_seed(0)
    return Encoder(Candidate(model=choices.pop("cell"), hidden_size=SIZE, **choices), FEATURES, 0)


def gradients(module, loss):
    module.zero_grad()
    loss.backward()
    return [parameter.grad.clone() for parameter in module.parameters()]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("outputs_too", [False, True], ids=["last", "all"])
def test_a_window_learns_as_from_the_layer_itself(cell, outputs_too):
    ours = encoder(cell=cell)
    layer = ours.recurrence.layers[0]
    for windows in (WINDOWS, WINDOWS, 2 * WINDOWS, WINDOWS):  # the zeros of one serve the next, or do not fit it
        seen = torch.randn(windows, STEPS, FEATURES)
        nothing = ours.initial(torch.zeros(windows, 0))
        context, outputs = ours.window(seen, tuple(part[:, :, 0] for part in nothing))
        found, (expected, weight) = layer(seen)[0], torch.randn(2, windows, SIZE)
        torch.testing.assert_close(context, found[:, -1])
        loss, other = (context * weight).sum(), (found[:, -1] * weight).sum()
        if outputs_too:
            loss = loss + (outputs[:, 2] * expected).square().sum()
            other = other + (found[:, 2] * expected).square().sum()
        for mine, theirs in zip(gradients(layer, loss), gradients(layer, other), strict=True):
            torch.testing.assert_close(mine, theirs)


def test_a_window_of_numbers_of_half_the_length_learns_too():
    ours = encoder(cell="lstm")
    nothing = ours.initial(torch.zeros(WINDOWS, 0))
    with torch.autocast("cpu", torch.bfloat16):
        context, _ = ours.window(torch.randn(WINDOWS, STEPS, FEATURES), tuple(part[:, :, 0] for part in nothing))
        loss = context.float().square().sum()
    assert all(torch.isfinite(each).all() and each.abs().sum() > 0 for each in gradients(ours, loss))
