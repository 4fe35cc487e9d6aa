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


def test_the_last_third_of_a_series_decides_nothing():
    frame = waves((900,), season=24, gaps=0)
    other = frame.with_columns(target=pl.when(pl.arange(0, 900) >= 600).then(pl.arange(0, 900) % 7).otherwise("target"))
    assert resolve(Panel.from_frame(frame, "1h"), "auto") == resolve(Panel.from_frame(other, "1h"), "auto")


def test_a_calendar_cycle_counts_once_it_was_seen_three_times():
    assert calendar_periods(hourly(60, weekly=True)) == (24.0, 168.0)
    assert calendar_periods(hourly(10, weekly=True)) == (24.0,)
