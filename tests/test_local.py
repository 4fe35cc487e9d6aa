"""The correction of each step ahead by the naive forecasts and the earlier cycles around it."""

from itertools import product

import pytest
import torch
from builders import untrained, waves, whole_pass
from torch.nn.functional import gelu

from rnnforecast.nn import base
from rnnforecast.nn.local import Local
from rnnforecast.nn.places import Places
from rnnforecast.panel import Panel

LANES, CUTOFFS, STEPS, CYCLES, OUTPUTS, SIZE = 2, 3, 5, 4, 2, 6


def made(channels):
    """A network with weights in its output layer too, and what it reads: context, past cycles, their mix."""
    torch.manual_seed(0)
    local = Local(7, SIZE, cycles=CYCLES, channels=channels, outputs=OUTPUTS, scaling="robust")
    torch.nn.init.normal_(local.outer.weight)
    rows = LANES * channels
    shapes = (LANES, CUTOFFS, 7), (rows, CUTOFFS, STEPS, CYCLES), (rows, CUTOFFS, STEPS)
    return local, *(3 * torch.randn(shape) for shape in shapes)


@pytest.mark.parametrize("channels", [1, 2])
def test_every_step_is_corrected_by_its_own_surroundings_with_the_same_weights(channels):
    """The slow way, one step at a time; beyond the horizon's ends stands the step at that end."""
    local, context, cycles, mixed = made(channels)
    found = local(context, cycles, mixed)
    assert found.shape == (LANES * channels, CUTOFFS, STEPS, OUTPUTS)
    apart = (cycles - mixed[..., None]).clamp(-10, 10)
    for lane, cutoff, step in [(0, 0, 0), (0, 2, 3), (1, 1, STEPS - 1)]:
        seen = []
        for channel in range(channels):
            row = apart[lane * channels + channel, cutoff]
            seen += [row[step], row[max(step - 1, 0)], row[min(step + 1, STEPS - 1)]]
            seen.append(mixed[lane * channels + channel, cutoff, step].clamp(-10, 10)[None])
        seen = torch.cat([*seen, torch.tensor([step / STEPS])])
        gate = 1 + context[lane, cutoff] @ local.gate.weight.T + local.gate.bias
        hidden = gelu(seen @ local.read[0].weight.T + local.read[0].bias) * gate
        hidden = gelu(hidden @ local.inner[0].weight.T + local.inner[0].bias)
        expected = (hidden @ local.outer.weight.T + local.outer.bias).view(channels, OUTPUTS)
        for channel in range(channels):
            torch.testing.assert_close(found[lane * channels + channel, cutoff, step], expected[channel])


@pytest.mark.parametrize("decoder", ["direct", "seq2seq", "parallel"])
def test_whatever_the_decoder_it_begins_at_zero_and_is_added_to_the_raw_outputs(decoder):
    model = untrained("gru", decoder=decoder, local_size=4, base="profile", mix="step")
    net = model.network
    encoding, at = whole_pass(model, Panel.from_frame(waves((60,)), "1h"), 60), torch.tensor([[40, 59]])
    torch.nn.init.zeros_(net.local.outer.weight)
    torch.nn.init.zeros_(net.local.outer.bias)
    plain = net.decode(encoding, at)
    net.local.outer.bias.data = torch.arange(float(net.head.outputs))
    torch.testing.assert_close(net.decode(encoding, at).raw, plain.raw + net.local.outer.bias)


def test_naive_forecasts_side_by_side_are_those_that_are_mixed():
    """A base of one naive forecast alone is that forecast, in scaled units."""
    model = untrained("gru", base="moved", local_size=4)
    net = model.network
    encoding = whole_pass(model, Panel.from_frame(waves((60,)), "1h"), 60)
    places = Places(60, torch.tensor([[40, 59]]))
    units, horizon = encoding.units.at(places), model.task.horizon
    naive, _ = net._naive(encoding, places, units)
    side_by_side = base.scaled(naive, units, horizon)
    for index in range(net.bases):
        alone = torch.nn.functional.one_hot(torch.tensor(index), net.bases).float().expand(1, 2, horizon, -1)
        torch.testing.assert_close(side_by_side[..., index], base.mixed(naive, alone, units, horizon))


def test_the_cycles_before_the_last_one_are_read_one_by_one_as_far_back_as_the_memory_goes():
    filled = torch.arange(100.0).repeat(2, 1)
    filled[1] *= 2
    places, level = Places(10, torch.tensor([[0, 9], [4, 4]])), torch.full((2, 2), 7.0)
    asked = {"level": level, "places": places, "seasons": (1, 4, 30), "horizon": 6, "memory": 90}
    found = [base.repeated(each, 6) for each in base.earlier(filled, **asked)]
    expected = [(4, back) for back in range(2, 8)] + [(30, 2), (30, 3)]  # a week of days; two more months in 90 days
    assert base.earlier_cycles((1, 4, 30), 90) == expected
    assert len(found) == len(expected)
    for (season, back), each in zip(expected, found, strict=True):
        for row, cutoff, step in product(range(2), range(2), range(6)):
            at = 90 + int(places.at[row, cutoff]) + 1 + step % season - back * season
            assert float(each[row, cutoff, step]) == float(filled[row, at]) - 7.0
