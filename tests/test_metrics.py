"""Metrics against published figures and slow arithmetic."""

from datetime import datetime

import numpy as np
import polars as pl
import pytest
from builders import task, waves

from rnnforecast import backtest, windows
from rnnforecast.baselines import BaselineModel
from rnnforecast.config import Candidate
from rnnforecast.metrics import interval, overall, per_series
from rnnforecast.panel import Panel
from rnnforecast.task import Task

NAMES = {"unique_id": "series_id", "ds": "timestamp", "y": "target"}


def test_the_seasonal_naive_scores_what_the_m4_competition_published(shared):
    train = pl.read_parquet(shared("parquet/m4_hourly_train.parquet")).rename(NAMES)
    test = (
        pl.read_parquet(shared("parquet/m4_hourly_test.parquet"))
        .rename(NAMES)
        .with_columns(pl.col("timestamp").cast(pl.Int64))
    )
    panel = Panel.from_frame(train)
    hourly = Task(48, (0.1, 0.5, 0.9), panel.frequency, (24,))
    found = BaselineModel(hourly, Candidate(model="seasonal_naive")).forecast_at(panel, panel.last)
    scored = found.join(test, on=["series_id", "timestamp"], how="left")
    row = overall(scored, per_series(scored, backtest.long_frame(panel), season_length=24))
    assert row["smape"] == pytest.approx(13.912, abs=5e-4)
    assert row["mase"] == pytest.approx(1.193, abs=5e-4)


def scored_frame():
    return pl.DataFrame(
        {
            "series_id": ["a", "a", "b", "b"],
            "cutoff": [datetime(2024, 1, 1)] * 4,
            "timestamp": [datetime(2024, 1, 2), datetime(2024, 1, 3)] * 2,
            "step": [1, 2, 1, 2],
            "mean": [1.0, 2.0, 3.0, 4.0],
            "q0.1": [0.0, 1.0, 2.0, 3.0],
            "q0.5": [1.5, 2.0, 3.0, 5.0],
            "q0.9": [2.0, 3.0, 4.0, 6.0],
            "target": [2.5, 2.0, 3.5, None],
        }
    )


def test_every_metric_equals_its_definition_worked_by_hand():
    history = pl.DataFrame(
        {
            "series_id": ["a"] * 4 + ["b"] * 3,
            "timestamp": [datetime(2023, 12, d) for d in (1, 2, 3, 4)] + [datetime(2023, 12, d) for d in (1, 2, 3)],
            "target": [1.0, 3.0, None, 4.0, 7.0, 7.0, 7.0],
        }
    )
    out = per_series(scored_frame(), history, season_length=1)
    a, b = out.row(0, named=True), out.row(1, named=True)
    assert a["mae"] == pytest.approx((1.0 + 0.0) / 2)
    assert a["rmse"] == pytest.approx(np.sqrt((1.5**2 + 0) / 2))
    assert a["smape"] == pytest.approx(100 * (2 * 1.0 / 4.0 + 0) / 2)
    assert a["mase"] == pytest.approx(0.5 / 2.0)  # the one step without a gap on either side: |3 - 1|
    assert a["coverage"] == 0.5
    pinball_a = [2 * (0.1 * 2.5 + 0.5 * 1.0 + 0.9 * 0.5) / 3, 2 * (0.1 * 1.0 + 0 + 0.1 * 1.0) / 3]
    assert a["wql"] == pytest.approx(sum(pinball_a) / 4.5)
    assert a["both"] ** 2 == pytest.approx(a["mase"] * a["wql"])
    assert b["mase"] is None  # a constant history has no unit
    assert b["both"] is None
    assert b["mae"] == pytest.approx(0.5)  # the row without an actual value counts nowhere
    row = overall(scored_frame(), out)
    pinball_b = 2 * (0.1 * 1.5 + 0.5 * 0.5 + 0.1 * 0.5) / 3
    assert row["wql"] == pytest.approx((sum(pinball_a) + pinball_b) / (2.5 + 2.0 + 3.5))
    assert row["mase"] == pytest.approx(0.25)
    assert row["both"] == pytest.approx(np.sqrt(0.25 * row["wql"]))


def test_the_outermost_symmetric_interval_is_found():
    assert interval([0.05, 0.1, 0.5, 0.9]) == (0.1, 0.9)
    assert interval([0.5]) is None


def test_the_leaderboard_counts_skill_against_the_seasonal_naive_and_puts_the_best_first():
    panel = Panel.from_frame(waves((240, 200)), "1h")
    parts = windows.split(panel, 18, 18)
    cutoffs = windows.backtest_cutoffs(panel, parts, 6, 3)
    results = [
        backtest.run(BaselineModel(task(), Candidate(model=name)), panel, cutoffs, label=name)
        for name in ("naive", "seasonal_naive", "auto_theta")
    ]
    table = backtest.by_series(results, panel, parts.valid_end, season_length=12)
    board = backtest.leaderboard(results, table, metric="mase")
    assert board["mase"].is_sorted()
    skill = dict(zip(board["model"], board["skill"], strict=True))
    mase = dict(zip(board["model"], board["mase"], strict=True))
    assert skill["seasonal_naive"] == 0
    assert skill["naive"] == pytest.approx(1 - mase["naive"] / mase["seasonal_naive"])
    assert len(results[0].scored) == len(cutoffs) * 6


def test_constant_series_have_no_mase_so_the_absolute_error_decides():
    frame = pl.DataFrame({"series_id": "a", "timestamp": range(100), "target": 5.0})
    panel = Panel.from_frame(frame)
    constant = Task(6, (0.1, 0.5, 0.9), panel.frequency, (1,))
    cutoffs = windows.backtest_cutoffs(panel, windows.split(panel, 18, 18), 6, 6)
    naive = backtest.run(
        BaselineModel(constant, Candidate(model="seasonal_naive")), panel, cutoffs, label=backtest.REFERENCE
    )
    worse = backtest.Result("worse", naive.scored.with_columns(pl.col("q0.5") + 1))
    series = backtest.by_series([worse, naive], panel, season_length=1)
    board = backtest.leaderboard([worse, naive], series, metric="mase")
    assert board["mase"].to_list() == [None, None]
    assert board["model"].to_list() == ["seasonal_naive", "worse"]
    assert board["skill"].to_list() == [None, None]
    assert backtest.decisive("mase", board["mase"]) == "mae"
    assert backtest.decisive("mase", [None, 1.0]) == "mase"
