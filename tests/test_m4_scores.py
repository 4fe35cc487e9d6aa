"""The scores of the M4 competition: its published figures, and each score by hand on a few numbers."""

import importlib
from pathlib import Path

import polars as pl
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def m4(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.m4")


def test_the_seasonal_naive_has_its_published_scores(m4, shared):
    train, test = m4.hourly(shared("parquet/m4_hourly_train.parquet").parents[1])
    found = m4.scores(m4.seasonal_naive(train), train, test)
    assert (len(train.group_by("series_id").len()), len(test)) == (414, 414 * 48)
    assert round(found["sMAPE"], 3) == 13.912  # the competition's table
    assert round(found["MASE"], 3) == 1.193
    assert found["OWA"] == pytest.approx((13.912 / 18.383 + 1.193 / 2.395) / 2, abs=1e-3)


def test_each_score_on_numbers_that_a_hand_can_follow(m4):
    """A unit of 2 (the last 24 steps are the 24 before plus 2), actual values 10 and 20."""
    train = pl.DataFrame({"series_id": "a", "timestamp": range(48), "target": [5.0] * 24 + [7.0] * 24})
    test = pl.DataFrame({"series_id": "a", "timestamp": [48, 49], "target": [10.0, 20.0]})
    forecast = pl.DataFrame(
        {"series_id": "a", "step": [1, 2], "q0.025": [8.0, 21.0], "q0.5": [11.0, 22.0], "q0.9": [12.0, 26.0]}
    ).with_columns((pl.col("q0.5") + pl.Series([3.0, 8.0])).alias("q0.975"))
    found = m4.scores(forecast, train, test)
    assert found["sMAPE"] == pytest.approx(200 * (1 / 21 + 2 / 42) / 2)
    assert found["MASE"] == pytest.approx((1 / 2 + 2 / 2) / 2)
    # Widths 6 and 9; the second misses by 1 below, which costs 2 / 0.05.
    assert found["MSIS"] == pytest.approx((6 + 9 + 40 * 1) / 2 / 2)
    assert found["coverage"] == 0.5
    # Twice the loss: at 0.5 the absolute errors 1 and 2; at 0.9 a tenth of the excesses 2 and 6, twice.
    assert found["WQL"] == pytest.approx(((1 + 2) + 2 * 0.1 * (2 + 6)) / 2 / 30)


def test_a_forecast_that_leaves_out_steps_is_refused(m4):
    train = pl.DataFrame({"series_id": "a", "timestamp": range(48), "target": [5.0] * 48})
    test = pl.DataFrame({"series_id": "a", "timestamp": [48, 49], "target": [10.0, 20.0]})
    forecast = pl.DataFrame({"series_id": "a", "step": [1], "q0.5": [1.0]})
    with pytest.raises(ValueError, match="expected a forecast of each of 2 steps; found 1"):
        m4.scores(forecast, train, test)
