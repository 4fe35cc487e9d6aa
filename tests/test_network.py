"""What the network sees and how it is put together, each against a slow and obvious second way."""

import math
from dataclasses import replace

import polars as pl
import pytest
import torch
from builders import rich, rich_task, task, untrained, waves, whole_pass

from rnnforecast.batches import Spans
from rnnforecast.config import Candidate
from rnnforecast.nn.encoder import Encoder
from rnnforecast.nn.features import steps_seen
from rnnforecast.nn.memory import State, extend, since_reading
from rnnforecast.nn.places import Places
from rnnforecast.nn.sampling import _uniform, paths
from rnnforecast.panel import Cutoffs, Panel
from rnnforecast.recurrent import network_config

LANE = torch.zeros(1, dtype=torch.int64)


def test_targets_of_a_training_segment_end_where_learning_must():
    panel = Panel.from_frame(waves((50,), gaps=0), "1h")
    spans = Spans(panel, torch.tensor([30]), LANE, 6, 24)
    batch = spans.segment(LANE, LANE + 10, steps=15)
    places = 11 + torch.arange(21)
    assert batch.target_mask[0].tolist() == (places < 30).tolist()
    assert batch.targets[0][batch.target_mask[0]].tolist() == panel.values[11:30].tolist()
    assert batch.before.values[0, -10:].tolist() == panel.values[:10].tolist()
    assert batch.before.mask[0].tolist() == [False] * 14 + [True] * 10


def test_channels_of_a_segment_lie_side_by_side_each_with_its_own_targets():
    frame = rich((60, 40), ("x", "y"))
    panel = rich_task(("x", "y")).panel(frame)
    spans = Spans(panel, panel.lengths - 20, torch.zeros(2, dtype=torch.int64), 6, 24)
    batch = spans.segment(torch.tensor([1, 0]), torch.tensor([3, 8]), steps=10)
    for row, (series, start) in enumerate([(2, 3), (3, 3), (0, 8), (1, 8)]):
        base = int(panel.offsets[series]) + start
        assert batch.inputs.values[row].tolist() == panel.values[base : base + 10].tolist()
        end = int(panel.offsets[series] + panel.lengths[series]) - 20
        assert batch.target_mask[row].sum() == panel.mask[base + 1 : min(base + 17, end)].sum()
    assert batch.inputs.past[1].isclose(panel.past[8:18]).all()
    assert batch.inputs.static[:, 0].tolist() == [1.0, 0.0]


def test_known_covariates_are_those_of_the_step_forecast_and_none_other_matters():
    frame = waves((60,)).with_columns(price=pl.arange(0, 60).cast(pl.Float64))
    model = untrained("gru", task(known=("price",)))
    panel = Panel.from_frame(frame, "1h", known=("price",))
    at = Cutoffs(torch.tensor([0]), torch.tensor([40]))
    before = model.forecast_at(panel, at)["q0.5"]
    for step, changes in [(43, True), (46, True), (47, False), (58, False)]:
        other = frame.with_columns(price=pl.when(pl.arange(0, 60) == step).then(-5.0).otherwise("price"))
        after = model.forecast_at(Panel.from_frame(other, "1h", known=("price",)), at)["q0.5"]
        assert (before != after).any() == changes


def test_gaps_are_filled_forward_only_and_counted():
    values = torch.tensor([[0.0, 5.0, 0.0, 0.0, 7.0, 0.0]])
    mask = torch.tensor([[False, True, False, False, True, False]])
    nothing = State(torch.full((1, 2), torch.nan), torch.zeros(1, 2, dtype=torch.bool), *[torch.zeros(1, 1, 1)] * 4)
    filled, observed, since = extend(nothing, values, mask)
    assert filled[0, 2:].nan_to_num(-1.0).tolist() == [-1.0, 5.0, 5.0, 5.0, 7.0, 7.0]
    assert since[0, 2:].tolist() == [2, 0, 1, 2, 0, 1]  # as many as are remembered, at most
    assert since_reading(observed, 9)[0, 2:].tolist() == [9, 0, 1, 2, 0, 1]
    assert since_reading(observed, 1)[0, 2:].tolist() == [1, 0, 1, 1, 0, 1]


def test_the_encoder_sees_values_gaps_lags_and_covariates_of_the_right_steps():
    model = untrained(of=rich_task(), patch_length=3, lags=(1, 4), scaling="standard")
    panel, net = rich_task().panel(rich((60, 40))), model.network
    encoding = whole_pass(model, panel, 60)
    at = torch.tensor([[17, 40]])
    units = type(encoding.units)(*(part.gather(1, at) for part in encoding.units))
    found = steps_seen(encoding.past, Places(60, at), units, patch=3, lags=(1, 4), scaling="standard")[0]
    mean, deviation = net.target_stats[:, 0].tolist()
    values, mask = panel.values.tolist(), panel.mask.tolist()

    def known(step):  # the last reading up to `step`
        return next((values[i] - mean) / deviation for i in range(step, -1, -1) if mask[i])

    for row, step in enumerate(at[0].tolist()):
        gap = next(back for back in range(step + 1) if mask[step - back])
        expected = [known(step), known(step - 1), known(step - 2), known(step + 1 - 1), known(step + 1 - 4)]
        expected += [float(mask[step]), float(mask[step - 1]), float(mask[step - 2])]
        expected += [math.log1p(gap), math.asinh(mean / deviation) / 4]
        for back in range(3):
            hour = 2 * math.pi * (int(panel.starts[0]) + step - back + 1) / 24
            load = (float(panel.past[step - back, 0]) - float(net.past_stats[0, 0])) / float(net.past_stats[1, 0])
            price = (float(panel.known[step - back + 1, 0]) - float(net.known_stats[0, 0])) / float(
                net.known_stats[1, 0]
            )
            expected += [math.sin(hour), math.cos(hour), load, price]
        assert found[row].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_segments_are_read_by_interleaved_recurrences_each_going_on_from_a_segment_ago(cell):
    parts = untrained(cell, patch_length=3, num_layers=2).network.config.parts
    encoder = Encoder(parts, features=5, statics=0)
    seen = torch.randn(2, 17, 5)
    found, _ = encoder(seen, encoder.initial(torch.zeros(2, 0)))
    for step in range(17):
        own = seen[:, step % 3 : step + 1 : 3]  # this step, three before it, six before it, ...
        expected, _ = encoder.recurrence(encoder.embed(own))
        torch.testing.assert_close(found[:, step], expected[:, -1], rtol=1e-5, atol=1e-5)


def test_a_skip_adds_a_linear_image_of_each_step_to_what_the_recurrence_says_of_it():
    parts = untrained("lstm", num_layers=2, patch_length=3, skip=True).network.config.parts
    encoder, seen = Encoder(parts, features=5, statics=0), torch.randn(2, 17, 5)
    image = seen @ encoder.skip.weight.T + encoder.skip.bias
    start = encoder.initial(torch.zeros(2, 0))
    (found, after), window = encoder(seen, start), encoder.window(seen, tuple(part[:, :, 0] for part in start))
    encoder.skip = None
    (plain, same), behind = encoder(seen, start), encoder.window(seen, tuple(part[:, :, 0] for part in start))
    torch.testing.assert_close(found, plain + image)
    assert all(torch.equal(*each) for each in zip(after, same, strict=True))  # the state knows nothing of it
    torch.testing.assert_close(window[0], behind[0] + image[:, -1])
    torch.testing.assert_close(window[1], behind[1] + image)


def test_a_reader_shows_the_decoder_what_the_encoder_saw_of_the_same_step():
    """The inputs that the encoder keeps of every step, for sample paths, are those that are looked at again."""
    model = untrained("lstm", decoder="autoregressive", head="gaussian", reader_size=5, embedding_size=2, lags=(1, 7))
    net = model.network
    encoding = whole_pass(model, Panel.from_frame(waves((60,), gaps=0.3), "1h"), 60)
    beside = net.encoder.reader(encoding.seen)
    net.decoder.outer.weight.data.normal_()
    context = torch.cat([encoding.contexts, beside], dim=-1)
    expected = net.decoder.outer(torch.nn.functional.gelu(net.decoder.inner(context))).detach()
    for at in (None, torch.tensor([[0, 3, 59]])):
        found = net.decode(encoding, at).raw[0, :, 0].detach()
        torch.testing.assert_close(found, expected[0] if at is None else expected[0, at[0]])


@pytest.mark.parametrize(
    ("seasons", "horizon", "expected"),
    [
        ((1,), 3, []),
        ((4,), 3, [1, 2, 3, 4]),
        ((4,), 9, [1, 2, 3, 4]),
        ((4, 12), 3, [1, 2, 3, 4, 10, 11, 12]),
        ((4, 12), 20, list(range(1, 13))),
    ],
)
def test_lags_of_cycles_are_the_shortest_season_and_what_lay_before_the_horizon_in_the_longer(
    seasons, horizon, expected
):
    config = network_config(task(seasons=seasons, horizon=horizon), Candidate(model="gru", lags="cycles"))
    assert list(config.lags) == expected
    assert config.memory >= max(expected, default=0)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_window_model_reads_its_window_from_rest_in_the_units_of_its_end(bidirectional):
    model = untrained(context_length=12, patch_length=3, scaling="last", bidirectional=bidirectional, num_layers=1)
    panel, net = Panel.from_frame(waves((60,)), "1h"), model.network
    encoding = whole_pass(model, panel, 60)
    at = torch.tensor([[30]])
    units = encoding.units.at(Places(60, at))
    context, _, _ = net._contexts(encoding, Places(60, at), units)
    segments = []
    for step in (21, 24, 27, 30):
        place = Places(60, torch.tensor([[step]]))
        segments.append(steps_seen(encoding.past, place, units, patch=3, lags=(12,), scaling="last"))
    rnn = net.encoder.recurrence.layers[0]
    outputs, last = rnn(net.encoder.embed(torch.cat(segments, dim=1)))
    expected = outputs[:, -1] if not bidirectional else net.encoder.merge(torch.cat([last[0], last[1]], dim=-1))
    torch.testing.assert_close(context[0], expected, rtol=1e-5, atol=1e-5)
    assert float(segments[-1][0, 0, 0]) == 0.0  # the last value, less itself


@pytest.mark.parametrize("scaling", ["last", "revin", "offset"])
def test_in_units_of_its_window_a_network_does_not_know_the_level_it_stands_on(scaling):
    """The same window ten higher: the same forecast, ten higher."""
    frame = waves((60,))
    model = untrained(context_length=12, patch_length=3, scaling=scaling, lags=(1, 2), base="none")
    both = [frame, frame.with_columns(pl.col("target") + 10)]
    low, high = (model.forecast_at(panel, panel.last) for panel in (Panel.from_frame(each, "1h") for each in both))
    assert high["q0.5"].to_list() == pytest.approx((low["q0.5"] + 10).to_list(), rel=1e-5)
    assert low["q0.5"].n_unique() > 1


@pytest.mark.parametrize("head", ["gaussian", "student_t", "point"])
def test_a_sample_path_is_the_recurrence_fed_with_what_was_drawn(head):
    """Each value of a path is drawn from the one-step forecast of the series that ends with the values before it."""
    model = untrained("lstm", decoder="autoregressive", head=head, sample_paths=5, patch_length=2)
    panel, net, horizon = Panel.from_frame(waves((60,)), "1h"), model.network, model.task.horizon
    with torch.inference_mode():
        drawn = paths(net, whole_pass(model, panel, 60), torch.tensor([[50]]))[0, 0]  # [H, paths]
        uniform = _uniform(drawn.shape[1], horizon, 1)
        for path in range(drawn.shape[1]):
            series = torch.cat([panel.values[:51], drawn[:, path]])
            mask = torch.cat([panel.mask[:51], torch.ones(horizon) > 0])
            told = replace(panel, values=series, mask=mask, offsets=torch.tensor([0, len(series)]))
            encoding = whole_pass(model, told, 51 + horizon - 1)
            forecast = net.decode(encoding, 50 + torch.arange(horizon)[None])
            expected = net.sample(forecast, uniform[:, path, 0][None, :, None])[0, :, 0]
            torch.testing.assert_close(drawn[:, path], expected, rtol=1e-4, atol=1e-4)


def test_a_series_of_training_has_its_own_embedding_and_a_new_one_the_common_one():
    frame = rich((60, 60))
    model = untrained(of=rich_task(), embedding_size=4, entities=("s0", "s1"))
    same = frame.filter(pl.col("series_id") == "s0")
    renamed = {name: same.with_columns(series_id=pl.lit(name)) for name in ("s0", "s1", "new", "newer")}
    at = Cutoffs(LANE, torch.tensor([40]))
    found = {name: model.forecast_at(rich_task().panel(each), at)["q0.5"].to_list() for name, each in renamed.items()}
    assert found["new"] == found["newer"]
    assert len({tuple(each) for each in found.values()}) == 3


def test_the_first_state_can_follow_from_static_covariates():
    model = untrained(of=rich_task(), start="static", num_layers=1)
    net = model.network
    states = net.initial_state(torch.tensor([[0.0], [5.0]]), torch.zeros(2, dtype=torch.int64))
    assert not torch.equal(states.hidden[:, 0], states.hidden[:, 1])
    standard = (torch.tensor([[5.0]]) - net.static_stats[0]) / net.static_stats[1]
    expected = torch.tanh(net.encoder.from_static(standard))
    torch.testing.assert_close(states.hidden[:, 1, 0], expected)


def test_channels_are_forecast_from_each_other():
    channels = ("x", "y")
    frame, model = rich((60,), channels), untrained(of=rich_task(channels))
    panel = rich_task(channels).panel(frame)
    at = Cutoffs(torch.tensor([0, 1]), torch.tensor([40, 40]))
    before = model.forecast_at(panel, at)
    hit = (pl.col("series_id") == "s0/y") & (pl.col("timestamp") == panel.stamps(panel.starts[:1] + 38)[0])
    after = model.forecast_at(
        rich_task(channels).panel(frame.with_columns(target=pl.when(hit).then(99.0).otherwise("target"))), at
    )
    assert before["series_id"].unique().sort().to_list() == ["s0/x", "s0/y"]
    x = pl.col("series_id") == "s0/x"
    assert (before.filter(x)["q0.5"] != after.filter(x)["q0.5"]).all()


@pytest.mark.parametrize("decoder", ["direct", "seq2seq", "parallel"])
def test_dropout_acts_before_the_output_layer_while_training_and_then_alone(decoder):
    """Of a single recurrent layer: with weights of one and no bias an output is twice the number let through."""
    model = untrained("gru", decoder=decoder, dropout=0.5, num_layers=1, hidden_size=16)
    outer = model.network.decoder.outer
    with torch.no_grad():
        outer.weight.fill_(1.0)
        outer.bias.zero_()
    torch.manual_seed(0)
    learning = outer.train()(torch.ones(4_000, 16))[:, 0]
    assert set(learning.tolist()) <= {2.0 * n for n in range(17)}
    assert learning.mean().item() == pytest.approx(16, abs=0.2)
    assert learning.var().item() == pytest.approx(16, rel=0.1)  # of 16 draws of 0 or 2
    assert torch.equal(outer.eval()(torch.ones(2, 16))[:, 0], torch.full((2,), 16.0))
