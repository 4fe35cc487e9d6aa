"""Which seasons and calendar cycles a panel is believed to have."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
from builders import waves

from rnnforecast.panel import Panel
from rnnforecast.seasons import calendar_periods, resolve


def hourly(days, *, weekly, seed=0):
    """A daily wave; with `weekly`, every day of the week has a level of its own."""
    steps = np.arange(24 * days)
    noise = np.random.default_rng(seed).normal(0, 0.1, len(steps))
    level = np.array([0, 3, -2, 5, 1, -4, 2])[steps // 24 % 7] if weekly else 0
    values = np.sin(2 * np.pi * steps / 24) + level + noise
    times = [datetime(2024, 1, 1) + timedelta(hours=int(step)) for step in steps]
    return Panel.from_frame(pl.DataFrame({"series_id": "a", "timestamp": times, "target": values}), "1h")


def test_a_week_is_kept_where_days_differ_and_the_day_alone_where_it_says_most():
    assert 168 in resolve(hourly(60, weekly=True), "auto")
    assert resolve(hourly(60, weekly=False), "auto") == (24, 168)


def test_seven_of_a_given_season_are_tried():
    assert resolve(hourly(60, weekly=True), 24) == (24, 168)
    assert resolve(hourly(10, weekly=True), 24) == (24,)


def test_seasons_that_are_listed_are_taken_as_they_are():
    assert resolve(hourly(10, weekly=False), (168, 24, 24)) == (24, 168)
    assert resolve(hourly(10, weekly=False), 1) == (1,)


def test_a_random_walk_has_no_season():
    walk = np.random.default_rng(1).normal(size=3_000).cumsum()
    frame = pl.DataFrame({"series_id": "a", "timestamp": np.arange(3_000), "target": walk})
    assert resolve(Panel.from_frame(frame), "auto") == (1,)


def test_a_trend_hides_no_season_and_makes_none():
    steps = np.arange(144)
    noise = np.random.default_rng(2).normal(0, 1, 144)
    months = [datetime(2010 + step // 12, 1 + step % 12, 1) for step in steps]
    for wave, expected in ((10, (12,)), (0, (1,))):
        values = 5 * steps + wave * np.sin(2 * np.pi * steps / 12) + noise.cumsum()
        frame = pl.DataFrame({"series_id": "a", "timestamp": months, "target": values})
        assert resolve(Panel.from_frame(frame), "auto") == expected


def test_a_smooth_season_is_seen_though_the_last_value_is_nearer_than_the_last_day():
    """A load with a smooth day under a slow random level: one hour changes it less than one day does."""
    steps = np.arange(24 * 60)
    level = np.random.default_rng(3).normal(0, 0.1, len(steps)).cumsum()
    values = np.sin(2 * np.pi * steps / 24) + level
    assert np.abs(values[1:] - values[:-1]).mean() < np.abs(values[24:] - values[:-24]).mean()
    times = [datetime(2024, 1, 1) + timedelta(hours=int(step)) for step in steps]
    panel = Panel.from_frame(pl.DataFrame({"series_id": "a", "timestamp": times, "target": values}), "1h")
    assert 24 in resolve(panel, "auto")


def test_the_last_third_of_a_series_decides_nothing():
    frame = waves((900,), season=24, gaps=0)
    other = frame.with_columns(target=pl.when(pl.arange(0, 900) >= 600).then(pl.arange(0, 900) % 7).otherwise("target"))
    assert resolve(Panel.from_frame(frame, "1h"), "auto") == resolve(Panel.from_frame(other, "1h"), "auto")


def test_a_calendar_cycle_counts_once_it_was_seen_three_times():
    assert calendar_periods(hourly(60, weekly=True)) == (24.0, 168.0)
    assert calendar_periods(hourly(10, weekly=True)) == (24.0,)
