"""Ordinals must be a true clock: timestamps to whole steps and back, for every kind of step."""

from datetime import datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnforecast.frequency import Frequency, infer

START = datetime(2019, 3, 4, 7, 30)


def there_and_back(frequency, times):
    frame = pl.DataFrame({"t": times})
    frame = frame.with_columns(frequency.ordinal("t").alias("o"))
    return frame.with_columns(frequency.timestamp("o", frame["t"].dtype).alias("back"))


@pytest.mark.parametrize("text", ["1s", "15m", "1h", "6h", "1d", "1w"])
@given(steps=st.lists(st.integers(-5_000, 5_000), min_size=2, max_size=20, unique=True))
def test_fixed_steps_come_back_and_count_one_per_step(text, steps):
    frequency = Frequency.parse(text)
    unit = timedelta(microseconds=frequency._step)
    times = [START + step * unit for step in sorted(steps)]
    out = there_and_back(frequency.anchored(pl.Series(times)), times)
    assert out["back"].to_list() == times
    assert out["o"].diff().drop_nulls().to_list() == [b - a for a, b in pairwise(sorted(steps))]


@pytest.mark.parametrize(("text", "months"), [("1mo", 1), ("1q", 3), ("1y", 12)])
def test_months_count_by_the_calendar_and_keep_their_day(text, months):
    first = [datetime(1999 + i // 4, 1 + 3 * (i % 4), 1) for i in range(20)]
    times = [t for t in first if (t.month - 1) % months == 0]
    out = there_and_back(Frequency.parse(text).anchored(pl.Series(times)), times)
    assert out["back"].to_list() == times


def test_month_ends_stay_inside_short_months():
    ends = [
        datetime(2023, 1, 31),
        datetime(2023, 2, 28),
        datetime(2023, 3, 31),
        datetime(2023, 4, 30),
        datetime(2023, 5, 31),
    ]
    out = there_and_back(Frequency.parse("1mo").anchored(pl.Series(ends)), ends)
    assert out["back"].to_list() == ends


def test_business_days_skip_the_weekend():
    days = [datetime(2024, 1, 1) + timedelta(days=i) for i in range(40)]
    weekdays = [day for day in days if day.weekday() < 5]
    out = there_and_back(Frequency.parse("1bd").anchored(pl.Series(weekdays)), weekdays)
    assert out["back"].to_list() == weekdays
    assert out["o"].diff().drop_nulls().unique().to_list() == [1]
    saturday = there_and_back(Frequency.parse("1bd"), [datetime(2024, 1, 6)])
    assert saturday["back"].to_list() == [datetime(2024, 1, 5)]


def test_zone_aware_stamps_keep_their_zone():
    times = pl.datetime_range(datetime(2024, 3, 30), datetime(2024, 4, 1), "1h", time_zone="UTC", eager=True)
    out = there_and_back(Frequency.parse("1h"), times)
    assert out["back"].equals(times)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([START + timedelta(minutes=5 * i) for i in range(9)], "5m"),
        ([START + timedelta(hours=i) for i in [0, 1, 2, 5, 6, 7, 30, 31]], "1h"),
        ([datetime(2020, 1, 1) + timedelta(days=i) for i in range(9)], "1d"),
        ([datetime(2020, 1, 1) + timedelta(days=7 * i) for i in range(9)], "1w"),
        ([datetime(2020, m, 1) for m in range(1, 12)], "1mo"),
        ([datetime(y, 1, 1) for y in range(1990, 2002)], "1y"),
        ([d for d in (datetime(2020, 1, 1) + timedelta(days=i) for i in range(30)) if d.weekday() < 5], "1bd"),
        ([1, 2, 3, 5, 6], "1i"),
        ([0, 10, 20, 40], "10i"),
    ],
)
def test_the_commonest_step_is_found(times, expected):
    assert str(infer(pl.Series(times), pl.Series(["a"] * len(times)))) == expected


def test_steps_are_not_counted_across_series():
    times = [START, START + timedelta(hours=1), START + timedelta(minutes=7), START + timedelta(hours=1, minutes=7)]
    assert str(infer(pl.Series(times), pl.Series(["a", "a", "b", "b"]))) == "1h"


def test_a_frequency_that_is_none_is_refused_with_the_units():
    with pytest.raises(ValueError, match=r"s, m, h, d, w, mo, q, y, bd, i.*found '1z'"):
        Frequency.parse("1z")


def test_no_two_timestamps_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="no series has two different timestamps; set `frequency:`"):
        infer(pl.Series([START]), pl.Series(["a"]))


def test_seasons_follow_from_the_step():
    assert Frequency.parse("1h").season_lengths() == (24, 168)
    assert Frequency.parse("1d").season_lengths() == (7,)
    assert Frequency.parse("1w").season_lengths() == (52,)
    assert Frequency.parse("1mo").season_lengths() == (12,)
    assert Frequency.parse("1bd").season_lengths() == (5,)
    assert Frequency.parse("1i").season_lengths() == (1,)


@pytest.mark.parametrize("text", ["1h", "1mo", "1bd"])
@pytest.mark.parametrize("ordinals", [[], [7], [5, 3, 5, 4], [-900, 900]])
def test_stamps_of_few_steps_said_often_and_of_far_ones_are_those_of_each(text, ordinals):
    frequency, told = Frequency.parse(text), pl.Series("ordinal", ordinals, dtype=pl.Int64) + 24_000
    expected = told.to_frame().select(t=frequency.timestamp("ordinal", pl.Datetime("us"))).to_series()
    assert frequency.stamps(told, pl.Datetime("us")).to_list() == expected.to_list()
