"""What must hold of the recurrence: it is causal, and it is one, however a series is cut into pieces."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import torch
from builders import NETWORKS, task, untrained, waves
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnforecast.batches import gather, remember, segment
from rnnforecast.nn import base, head
from rnnforecast.nn.memory import State, extend, since_reading
from rnnforecast.nn.scaling import middle, trailing
from rnnforecast.panel import Cutoffs, Panel


def cut(frame, panel, cutoff):
    """The frame as it was at `cutoff` (series 0): everything after it gone."""
    moment = panel.stamps(panel.starts[:1] + cutoff)[0]
    return frame.filter(pl.col("timestamp") <= moment)


@pytest.mark.parametrize("name", NETWORKS)
@settings(deadline=None, max_examples=8)
@given(cutoff=st.integers(20, 100), noise=st.floats(-1e6, 1e6))
def test_rewriting_everything_after_the_cutoff_changes_no_bit_of_the_forecast(name, cutoff, noise):
    frame, model = waves(), untrained(name)
    panel = Panel.from_frame(frame, "1h")
    moment = panel.stamps(panel.starts[:1] + cutoff)[0]
    after = pl.col("timestamp") > moment
    other = frame.with_columns(target=pl.when(after).then(pl.lit(noise)).otherwise("target"))
    at = Cutoffs(torch.tensor([0, 0]), torch.tensor([cutoff - 7, cutoff]))
    assert model.forecast_at(panel, at).equals(model.forecast_at(Panel.from_frame(other, "1h"), at))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_backtest_over_all_cutoffs_equals_forecasts_of_the_series_cut_there(name):
    frame, model = waves(), untrained(name)
    panel = Panel.from_frame(frame, "1h")
    places = [15, 40, 77, 101]
    together = model.forecast_at(panel, Cutoffs(torch.zeros(4, dtype=torch.int64), torch.tensor(places)))
    for place in places:
        short = Panel.from_frame(cut(frame, panel, place), "1h")
        alone = model.forecast_at(short, Cutoffs(torch.tensor([0]), torch.tensor([place])))
        part = together.filter(pl.col("cutoff") == alone["cutoff"][0])
        for column in ("mean", "q0.1", "q0.5", "q0.9"):
            assert part[column].to_numpy() == pytest.approx(alone[column].to_numpy(), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
@settings(deadline=None, max_examples=10)
@given(cuts=st.sets(st.integers(1, 119), max_size=6))
def test_feeding_a_series_in_pieces_with_the_state_carried_gives_the_same_forecast(name, cuts):
    model = untrained(name)
    network, panel = model.network, Panel.from_frame(waves((120,)), "1h")
    lane = torch.zeros(1, dtype=torch.int64)
    horizon = model.task.horizon
    with torch.inference_mode():
        whole, _ = network.encode(gather(panel, lane, lane, 120, horizon), network.initial_state(1))
        expected = network.decode(whole, torch.tensor([[119]])).quantiles
        state, edges = network.initial_state(1), [0, *sorted(cuts), 120]
        for start, stop in pairwise(edges):
            pieces = gather(panel, lane, lane + start, stop - start, horizon)
            encoding, state = network.encode(pieces, state)
        found = network.decode(encoding, torch.tensor([[edges[-1] - edges[-2] - 1]])).quantiles
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_ragged_batch_equals_a_loop_over_its_series():
    model, frame = untrained("lstm"), waves((120, 33, 75))
    panel = Panel.from_frame(frame, "1h")
    together = model.forecast_at(panel, panel.last)
    for name in panel.series_ids:
        alone = Panel.from_frame(frame.filter(pl.col("series_id") == name), "1h")
        found = model.forecast_at(alone, alone.last)["q0.5"].to_numpy()
        assert together.filter(pl.col("series_id") == name)["q0.5"].to_numpy() == pytest.approx(found, rel=1e-5)


def test_a_training_segment_gives_the_forecast_of_the_full_pass_once_the_state_is_carried():
    model = untrained("gru")
    network, panel = model.network, Panel.from_frame(waves((120,)), "1h")
    lane, end = torch.zeros(1, dtype=torch.int64), torch.tensor([120])
    with torch.inference_mode():
        whole, _ = network.encode(gather(panel, lane, lane, 120, 6), network.initial_state(1))
        _, carried = network.encode(gather(panel, lane, lane, 60, 6), network.initial_state(1))
        batch = segment(panel, (lane, lane + 60), end, steps=60, horizon=6, memory=network.memory)
        state = remember(network, batch.before, batch.before_mask).where(torch.tensor([False]), carried)
        part, _ = network.encode(batch.inputs, state)
    torch.testing.assert_close(part.level, whole.level[:, 60:], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(part.context, whole.context[:, 60:], rtol=1e-5, atol=1e-5)


def test_targets_of_a_training_segment_end_where_learning_must():
    panel = Panel.from_frame(waves((50,), gaps=0), "1h")
    lane = torch.zeros(1, dtype=torch.int64)
    batch = segment(panel, (lane, lane + 10), torch.tensor([30]), steps=15, horizon=6, memory=24)
    places = 11 + torch.arange(21)
    assert batch.target_mask[0].tolist() == (places < 30).tolist()
    assert batch.targets[0][batch.target_mask[0]].tolist() == panel.values[11:30].tolist()
    assert batch.before[0, -10:].tolist() == panel.values[:10].tolist()
    assert batch.before_mask[0].tolist() == [False] * 14 + [True] * 10


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


def test_level_and_spread_are_medians_over_blocks_of_their_means_and_deviations():
    torch.manual_seed(0)
    values, mask = torch.randn(2, 40) + 300, torch.rand(2, 40) < 0.7
    nothing = torch.full((2, 12), torch.nan)
    state = State(nothing, torch.zeros(2, 12, dtype=torch.bool), torch.zeros(1, 2, 1), torch.zeros(1, 2, 0))
    filled, observed = extend(state, values, mask)
    level, spread = trailing(filled, observed, 3, 4, steps=40)
    for lane in range(2):
        for step in range(40):
            blocks = [range(step - 4 * k - 3, step - 4 * k + 1) for k in range(3)]
            read = [[float(values[lane, i]) for i in block if i >= 0 and mask[lane, i]] for block in blocks]
            read = [block for block in read if block]
            if read:
                assert float(level[lane, step]) == pytest.approx(np.median([np.mean(r) for r in read]), rel=1e-6)
                expected = max(np.median([np.std(r) for r in read]), 1e-3 * float(level[lane, step]))
                assert float(spread[lane, step]) == pytest.approx(expected, rel=1e-3)


def test_a_dropout_of_half_a_season_leaves_the_units_as_they_were():
    steps = torch.arange(200)
    healthy = (100 + torch.sin(2 * torch.pi * steps / 24))[None]
    broken = healthy.clone()
    broken[0, 150:162] = 24.0
    units = []
    for values in (healthy, broken):
        state = State(
            torch.full((1, 168), torch.nan), torch.zeros(1, 168, dtype=torch.bool), *[torch.zeros(1, 1, 1)] * 2
        )
        units.append(trailing(*extend(state, values, torch.ones(1, 200, dtype=torch.bool)), 7, 24, steps=200))
    (level, spread), (level_after, spread_after) = units
    torch.testing.assert_close(level_after[:, 162:], level[:, 162:], atol=0.2, rtol=0)
    torch.testing.assert_close(spread_after[:, 162:], spread[:, 162:], atol=0.2, rtol=0)


def test_the_middle_of_what_is_there():
    nan = float("nan")
    rows = torch.tensor([[3.0, 1.0, 2.0, nan], [4.0, 1.0, 2.0, 3.0], [nan, nan, 7.0, nan], [nan] * 4])
    assert middle(rows).nan_to_num(-1).tolist() == [2.0, 2.5, 7.0, -1.0]


def test_gaps_are_filled_forward_only_and_counted():
    values = torch.tensor([[0.0, 5.0, 0.0, 0.0, 7.0, 0.0]])
    mask = torch.tensor([[False, True, False, False, True, False]])
    nothing = State(torch.full((1, 2), torch.nan), torch.zeros(1, 2, dtype=torch.bool), *[torch.zeros(1, 1, 1)] * 2)
    filled, observed = extend(nothing, values, mask)
    assert filled[0, 2:].nan_to_num(-1.0).tolist() == [-1.0, 5.0, 5.0, 5.0, 7.0, 7.0]
    assert since_reading(observed, 5)[0].tolist() == [0, 1, 2, 0, 1]


def test_the_naive_forecasts_repeat_the_right_steps():
    filled = torch.arange(20.0)[None]
    found = base.naive_forecasts(filled, torch.tensor([[100.0]]), torch.tensor([[15]]), (4, 7), 9)[0, 0]
    assert found[:, 0].tolist() == [15.0] * 9
    assert found[:, 1].tolist() == [12, 13, 14, 15, 12, 13, 14, 15, 12]
    assert found[:, 2].tolist() == [9, 10, 11, 12, 13, 14, 15, 9, 10]
    assert found[:, 3].tolist() == [100.0] * 9


def test_quantiles_never_cross_and_the_mean_weights_integrate():
    raw = torch.randn(50, 5) * 30
    assert (head.quantiles(raw, 2).diff(dim=-1) >= 0).all()
    assert head.mean_weights((0.1, 0.5, 0.9)) == pytest.approx([0.3, 0.4, 0.3])
    assert sum(head.mean_weights((0.05, 0.2, 0.5, 0.7))) == pytest.approx(1)


def test_the_pinball_loss_of_the_median_is_the_absolute_error():
    actual, forecast = torch.randn(9), torch.randn(9, 3)
    loss = head.pinball(forecast, actual, torch.tensor([0.1, 0.5, 0.9]))
    torch.testing.assert_close(loss[:, 1], (actual - forecast[:, 1]).abs())
