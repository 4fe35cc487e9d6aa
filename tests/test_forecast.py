"""Asking a fitted model for forecasts."""

import polars as pl
import pytest
import torch
from builders import task, untrained, waves
from polars.testing import assert_frame_equal

from rnnforecast.forecast import ForecastError, forecast
from rnnforecast.panel import Cutoffs


def test_a_forecast_frame_has_one_row_per_series_and_step_after_the_last_reading():
    frame = waves((60, 40))
    out = forecast(untrained("gru"), frame)
    assert out.columns == ["series_id", "cutoff", "timestamp", "step", "mean", "q0.1", "q0.5", "q0.9"]
    assert out.group_by("series_id", maintain_order=True).len().rows() == [("s0", 6), ("s1", 6)]
    last = dict(frame.group_by("series_id").agg(pl.col("timestamp").max()).rows())
    for series, cutoff, timestamp, step in out.select("series_id", "cutoff", "timestamp", "step").rows():
        assert cutoff == last[series]
        assert (timestamp - cutoff).total_seconds() == 3600 * step


def test_less_may_be_asked_for_and_is_the_same_forecast():
    model, frame = untrained("seq2seq"), waves((60,))
    full = forecast(model, frame)
    part = forecast(model, frame, horizon=2, quantile_levels=[0.9, 0.5])
    assert part.columns == ["series_id", "cutoff", "timestamp", "step", "mean", "q0.9", "q0.5"]
    assert part["q0.9"].to_list() == full["q0.9"].head(2).to_list()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"horizon": 7}, "forecasts 1 to 6 steps, asked for 7"),
        ({"quantile_levels": [0.2]}, r"asked for \[0.2\]; retrain"),
    ],
)
def test_more_than_was_trained_for_is_refused(asked, message):
    with pytest.raises(ForecastError, match=message):
        forecast(untrained("gru"), waves((60,)), **asked)


def test_known_covariates_that_end_too_early_are_refused_with_the_count():
    model = untrained("gru", task(known=("price",)))
    frame = waves((60,)).with_columns(price=pl.lit(1.0))
    with pytest.raises(ForecastError, match="series 's0': known covariates reach 0 of 6 steps beyond its last reading"):
        forecast(model, frame)
    more = pl.select(
        series_id=pl.lit("s0"),
        timestamp=pl.lit(frame["timestamp"].max()) + pl.duration(hours=pl.int_range(1, 7)),
        target=pl.lit(None, dtype=pl.Float64),
        price=pl.lit(2.0),
    )
    assert len(forecast(model, pl.concat([frame, more.cast(frame.schema)]))) == 6


@pytest.mark.parametrize(
    "asked",
    [
        [(0, 30), (0, 31), (0, 32), (1, 20), (1, 39)],  # as a backtest has them
        [(1, 39), (0, 32), (0, 30), (1, 20), (0, 31)],
        [(0, 31), (1, 39), (0, 31), (0, 59), (1, 39)],  # some of them twice
        [(1, 5)],
    ],
)
def test_cutoffs_in_any_order_give_what_each_gives_alone(asked):
    model = untrained("lstm")
    panel = model.task.panel(waves((60, 40)))
    series, position = torch.tensor(asked).T
    found = model.forecast_at(panel, Cutoffs(series, position))
    for number, (one, at) in enumerate(asked):
        alone = model.forecast_at(panel, Cutoffs(torch.tensor([one]), torch.tensor([at])))
        own = found.slice(6 * number, 6)
        assert_frame_equal(own, alone, rel_tol=1e-5)
        assert own["cutoff"].unique().to_list() == panel.stamps(panel.starts[one] + torch.tensor([at])).to_list()
