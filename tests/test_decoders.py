"""Decoders against slow ones made of torch's own cells, and what must hold of each of them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from rnnforecast.nn.attention import Attention
from rnnforecast.nn.decoder import Ahead, DirectDecoder
from rnnforecast.nn.decoder_parallel import ParallelDecoder
from rnnforecast.nn.decoder_recurrent import RecurrentDecoder, fed_actual
from rnnforecast.nn.teaching import teacher_forcing_ratio

N, H, D, O, A = 5, 7, 6, 3, 4  # noqa: E741, as in the legend
CELLS = [("rnn", "tanh"), ("rnn", "relu"), ("gru", "tanh"), ("lstm", "tanh")]
NAMES = ["direct", "seq2seq", "additive", "dot", "parallel"]


def location(raw, base):
    """As of a head whose second output is the median."""
    return base + raw[..., 1]


def randomised(decoder):
    """Random weights everywhere, the output layers too that begin as zeros: any property must hold."""
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.normal_(0, 0.3)
    return decoder.double()


def build(name, *, channels=1, known=2, cell="gru", activation="tanh"):
    sizes = {"channels": channels, "outputs": O, "known": known}
    if name == "direct":
        return DirectDecoder(D, H, **sizes)
    if name == "parallel":
        return ParallelDecoder(D, H, segment=3, cell=cell, activation=activation, **sizes)
    attention = None if name == "seq2seq" else name
    return RecurrentDecoder(D, cell=cell, activation=activation, location=location, attention=attention, **sizes)


def given_to(*, channels=1, known=2, seed=0, **more):
    """A context, and what lies ahead: the first cutoffs lie near the beginning of their series."""
    torch.manual_seed(seed)
    valid = torch.arange(A) >= torch.tensor([A - 1, 1, 0, 0, 0])[:, None]
    ahead = Ahead(torch.randn(N, H, channels), torch.randn(N, H, known), torch.randn(N, A, D), valid)
    doubles = (part.double() if part.is_floating_point() else part for part in ahead[:4])
    return torch.randn(N, D).double(), Ahead(*doubles, **more)


def looked(attention, hidden, states, valid):
    """One row's attention, state by state."""
    scores = []
    for state in states[valid]:
        query, key = attention.query(hidden), attention.key(state)
        if attention.score is None:
            scores.append((query * key).sum() / math.sqrt(D))
        else:
            scores.append((attention.score.weight[0] * torch.tanh(query + key)).sum())
    shares = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
    weights = torch.zeros(len(states)).double()
    weights[valid] = shares
    return sum(share * state for share, state in zip(shares, states[valid], strict=True)), weights


def slow_cell(decoder, inputs):
    """torch's own cell with the decoder's weights, the context and the read-out among its inputs."""
    blocks = [decoder.cell.weight_ih, *(layer.weight for layer in inputs)]
    weight = torch.cat(blocks, dim=1)
    more = {"nonlinearity": decoder.activation} if decoder.kind == "rnn" else {}
    kind = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}[decoder.kind]
    cell = kind(weight.shape[1], D, **more).double()
    with torch.no_grad():
        cell.weight_ih.copy_(weight)
        cell.weight_hh.copy_(decoder.cell.weight_hh)
        cell.bias_ih.copy_(decoder.cell.bias_ih + sum(layer.bias for layer in inputs if layer.bias is not None))
        cell.bias_hh.copy_(decoder.cell.bias_hh)
    return cell


def slow_decoder(decoder, context, ahead, *, fed=None):
    """The recurrent decoder row by row; `fed` [N, H, C] stands for the location of a step where it is not NaN."""
    parts = [decoder.context] if decoder.attention is None else [decoder.context, decoder.read]
    cell, rows, looks = slow_cell(decoder, parts), [], []
    for row in range(len(context)):
        first = decoder.start(context[row])
        hidden, memory = torch.tanh(first[:D]), first[D:]
        previous, raws = ahead.base[row, 0], []
        for step in range(H):
            inputs = [previous, ahead.base[row, step], ahead.known[row, step], context[row]]
            if decoder.attention is not None:
                found, weights = looked(decoder.attention, hidden, ahead.states[row], ahead.valid[row])
                inputs.append(found)
                looks.append(weights)
            if decoder.kind == "lstm":
                hidden, memory = cell(torch.cat(inputs), (hidden, memory))
            else:
                hidden = cell(torch.cat(inputs), hidden)
            raws.append(decoder.outer(hidden).view(-1, O))
            previous = ahead.base[row, step] + raws[-1][:, 1]
            if fed is not None:
                previous = torch.where(fed[row, step].isnan(), previous, fed[row, step])
        rows.append(torch.stack(raws))
    return torch.stack(rows), torch.stack(looks).view(len(context), H, -1) if looks else None


@pytest.mark.parametrize(("channels", "known"), [(1, 0), (1, 2), (3, 2)])
@pytest.mark.parametrize(("cell", "activation"), CELLS)
@pytest.mark.parametrize("name", ["seq2seq", "additive", "dot"])
def test_the_recurrent_decoder_is_a_loop_of_torchs_cell_fed_with_its_location(name, cell, activation, channels, known):
    context, ahead = given_to(channels=channels, known=known)
    decoder = randomised(build(name, channels=channels, known=known, cell=cell, activation=activation))
    found = decoder(context, ahead)
    expected, weights = slow_decoder(decoder, context, ahead)
    assert found.raw.shape == (N, H, channels, O)
    torch.testing.assert_close(found.raw, expected)
    if weights is None:
        assert found.weights is None
    else:
        torch.testing.assert_close(found.weights, weights)


@pytest.mark.parametrize("known", [0, 2])
@pytest.mark.parametrize(("cell", "activation"), CELLS)
def test_the_parallel_decoder_is_one_step_of_torchs_cell_for_each_segment(cell, activation, known):
    context, ahead = given_to(channels=2, known=known)
    decoder = randomised(build("parallel", channels=2, known=known, cell=cell, activation=activation))
    expected = torch.full((N, 9, 2, O), torch.nan).double()
    for row in range(N):
        first = decoder.start(context[row])
        for segment in range(3):
            seen = decoder.place[segment]
            if known:
                steps = [ahead.known[row, step] if step < H else torch.zeros(known) for step in range(9)]
                seen = seen + decoder.local(torch.cat(steps[3 * segment : 3 * segment + 3]).double())
            state = torch.tanh(first[:D])
            after = decoder.cell(seen, (state, first[D:]))[0] if cell == "lstm" else decoder.cell(seen, state)
            expected[row, 3 * segment : 3 * segment + 3] = decoder.outer(after).view(3, 2, O)
    torch.testing.assert_close(decoder(context, ahead).raw, expected[:, :H])


@pytest.mark.parametrize("known", [0, 2])
def test_the_direct_decoder_of_two_channels_is_two_of_one(known):
    context, ahead = given_to(channels=2, known=known)
    both = randomised(build("direct", channels=2, known=known))
    for channel in range(2):
        one = build("direct", known=known).double()
        weights = both.state_dict()
        for name, shape in [("outer", (O, H, 2)), ("local_outer", (2, O))]:
            for part in ("weight", "bias"):
                if f"{name}.{part}" in weights:
                    split = weights[f"{name}.{part}"].unflatten(0, shape)
                    weights[f"{name}.{part}"] = split.select(shape.index(2), channel).flatten(0, len(shape) - 2)
        one.load_state_dict(weights)
        torch.testing.assert_close(both(context, ahead).raw[:, :, channel], one(context, ahead).raw[:, :, 0])


@pytest.mark.parametrize("name", NAMES)
def test_a_decoder_begins_as_the_base_forecast_and_learns_from_there(name):
    context, ahead = given_to(channels=2)
    decoder = build(name, channels=2).double()
    if name == "direct":  # its local part is not silent at first
        nn.init.zeros_(decoder.local_outer.weight)
        nn.init.zeros_(decoder.local_outer.bias)
    raw = decoder(context, ahead).raw
    assert torch.equal(raw, torch.zeros(N, H, 2, O).double())
    raw.sum().backward()
    assert decoder.outer.weight.grad.abs().max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_cutoffs_forecast_does_not_depend_on_the_others_beside_it(name):
    context, ahead = given_to()
    decoder = randomised(build(name))
    together = decoder(context, ahead)
    for row in range(N):
        alone = decoder(context[row : row + 1], Ahead(*(part[row : row + 1] for part in ahead[:4])))
        torch.testing.assert_close(alone.raw[0], together.raw[row])


@pytest.mark.parametrize("name", ["seq2seq", "additive", "dot"])
@settings(deadline=None, max_examples=10)
@given(step=st.integers(0, H - 2), noise=st.floats(-1e3, 1e3))
def test_a_recurrent_decoder_looks_at_no_later_step_of_what_lies_ahead(name, step, noise):
    context, ahead = given_to(actual=torch.randn(N, H, 1).double(), teacher_forcing=1.0)
    decoder = randomised(build(name))
    before = decoder(context, ahead).raw
    base, known, actual = ahead.base.clone(), ahead.known.clone(), ahead.actual.clone()
    base[:, step + 1 :], known[:, step + 1 :], actual[:, step:] = noise, noise, noise  # its own actual value neither
    after = decoder(context, ahead._replace(base=base, known=known, actual=actual)).raw
    assert torch.equal(before[:, : step + 1], after[:, : step + 1])


@pytest.mark.parametrize("name", ["seq2seq", "additive", "dot"])
def test_with_full_teacher_forcing_each_step_is_fed_the_actual_value_where_there_is_one(name):
    actual = torch.randn(N, H, 2).double()
    actual[torch.rand(N, H, 2) < 0.3] = torch.nan
    context, ahead = given_to(channels=2, actual=actual, teacher_forcing=1.0)
    decoder = randomised(build(name, channels=2))
    expected, _ = slow_decoder(decoder, context, ahead, fed=actual)
    torch.testing.assert_close(decoder(context, ahead).raw, expected)
    assert not torch.allclose(expected, decoder(context, ahead._replace(teacher_forcing=0.0)).raw)


def test_a_missing_actual_value_leaves_no_nan_in_the_gradient():
    actual = torch.full((N, H, 1), torch.nan).double()
    context, ahead = given_to(actual=actual, teacher_forcing=0.5)
    decoder = randomised(build("seq2seq"))
    decoder(context, ahead).raw.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in decoder.parameters())


def test_without_teacher_forcing_the_actual_values_and_the_random_numbers_are_left_alone():
    context, ahead = given_to()
    decoder = randomised(build("seq2seq"))
    state = torch.get_rng_state()
    found = decoder(context, ahead._replace(actual=torch.randn(N, H, 1, generator=torch.Generator()).double())).raw
    assert torch.equal(found, decoder(context, ahead).raw)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_of_fed_steps_is_the_asked_one_and_all_channels_of_a_step_are_fed_together(share):
    torch.manual_seed(0)
    steps = torch.zeros(200, 100, 2)
    nothing = torch.zeros(200, 100, 0)
    forced = fed_actual(Ahead(steps, nothing, nothing, nothing.bool(), actual=steps, teacher_forcing=share))
    assert torch.equal(forced[..., 0], forced[..., 1])
    deviation = math.sqrt(share * (1 - share) / (200 * 100))
    assert forced[..., 0].double().mean().item() == pytest.approx(share, abs=5 * deviation)


def test_dot_attention_is_torchs_scaled_dot_product_of_the_projections():
    context, ahead = given_to()
    attention = randomised(Attention(D, "dot"))
    found, _ = attention(context, keys=attention.keys(ahead.states), states=ahead.states, valid=ahead.valid)
    query = attention.query(context)[:, None]
    expected = F.scaled_dot_product_attention(
        query, attention.key(ahead.states), ahead.states, attn_mask=ahead.valid[:, None]
    )
    torch.testing.assert_close(found, expected[:, 0])


@pytest.mark.parametrize("name", ["additive", "dot"])
@settings(deadline=None, max_examples=10)
@given(noise=st.floats(-1e3, 1e3))
def test_attention_never_looks_before_the_series_began(name, noise):
    context, ahead = given_to()
    decoder = randomised(build(name))
    found = decoder(context, ahead)
    other = ahead._replace(states=torch.where(ahead.valid[..., None], ahead.states, noise))
    assert torch.equal(found.raw, decoder(context, other).raw)
    assert found.weights.shape == (N, H, A)
    assert found.weights[~ahead.valid[:, None].expand_as(found.weights)].eq(0).all()
    torch.testing.assert_close(found.weights.sum(dim=-1), torch.ones(N, H).double())


@pytest.mark.parametrize("name", ["additive", "dot"])
def test_attention_finds_the_state_that_holds_the_answer(name):
    """Each step's answer stands in another encoder state, and nothing of it in the context: only looking finds it."""
    torch.manual_seed(0)
    size = 16
    decoder = RecurrentDecoder(
        size, cell="gru", channels=1, outputs=1, known=0, location=lambda raw, base: base + raw[..., 0], attention=name
    )
    order = torch.tensor([3, 1, 0, 2])  # the state at place p holds the answer of step order[p]
    optimiser = torch.optim.Adam(decoder.parameters(), lr=0.02)
    for _ in range(250):
        answers = torch.randn(64, 4)
        states = F.pad(torch.cat([answers[:, order, None], torch.eye(4).expand(64, 4, 4)], dim=-1), (0, size - 5))
        nothing = torch.zeros(64, 4, 1)
        found = decoder(torch.zeros(64, size), Ahead(nothing, nothing[..., :0], states, torch.ones(64, 4).bool()))
        loss = (found.raw[:, :, 0, 0] - answers).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.05  # of a variance of one
    assert found.weights.mean(dim=0).argmax(dim=-1).tolist() == order.argsort().tolist()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("cell", "activation"), CELLS)
def test_in_bfloat16_a_decoder_says_nearly_the_same_in_float32(name, cell, activation):
    context, ahead = given_to(channels=2)
    decoder = randomised(build(name, channels=2, cell=cell, activation=activation)).float()
    context, ahead = context.float(), Ahead(*(part if part.dtype == torch.bool else part.float() for part in ahead[:4]))
    exact = decoder(context, ahead)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = decoder(context, ahead)
    assert found.raw.dtype == torch.float32
    torch.testing.assert_close(found.raw, exact.raw, rtol=0.05, atol=0.1)


@pytest.mark.parametrize("schedule", ["constant", "linear", "exponential", "inverse_sigmoid"])
@given(start=st.floats(0, 1), progress=st.floats(0, 1), later=st.floats(0, 1))
def test_teacher_forcing_begins_at_its_ratio_and_never_rises(schedule, start, progress, later):
    first, last = sorted([progress, later])
    assert teacher_forcing_ratio(schedule, start, 0.0) == pytest.approx(start)
    ratios = [teacher_forcing_ratio(schedule, start, moment) for moment in (first, last)]
    assert start + 1e-12 >= ratios[0] >= ratios[1] - 1e-12
    assert ratios[1] >= 0


def test_teacher_forcing_ends_where_its_schedule_says():
    halves = [teacher_forcing_ratio(name, 0.8, 0.5) for name in ("constant", "linear", "exponential")]
    assert halves == pytest.approx([0.8, 0.4, 0.08])
    ends = [teacher_forcing_ratio(name, 0.8, 1.0) for name in ("constant", "linear", "exponential", "inverse_sigmoid")]
    assert ends == pytest.approx([0.8, 0.0, 0.008, 0.008])


@pytest.mark.parametrize("progress", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_the_inverse_sigmoid_is_that_of_the_paper(progress):
    """k / (k + exp(i / k)) with k = 100, over 2 k ln k steps, scaled by (k + 1) / k to begin at the ratio itself."""
    k = 100
    step = progress * 2 * k * math.log(k)
    expected = k / (k + math.exp(step / k)) * (k + 1) / k
    assert teacher_forcing_ratio("inverse_sigmoid", 1.0, progress) == pytest.approx(expected)
