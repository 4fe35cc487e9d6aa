"""The door: what a long frame may be, and what is said of one that may not."""

from datetime import datetime, timedelta

import polars as pl
import pytest

from rnnforecast.frame import FrameError, normalise, validate

START = datetime(2024, 1, 1)


def frame(**changes):
    columns = {
        "series_id": ["a", "a", "b", "b"],
        "timestamp": [START, START + timedelta(hours=1)] * 2,
        "target": [1.0, 2.0, 3.0, None],
    }
    return pl.DataFrame(columns | changes)


def test_a_good_frame_passes():
    validate(frame())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (frame().rename({"target": "targets"}), "expected a column `target`.*rename `targets`"),
        (frame().head(0), "at least one row"),
        (frame(target=["1", "2", "x", "4"]), "`target` must hold numbers, found String"),
        (frame(timestamp=["x"] * 4), "`timestamp` must be a datetime, a date or an integer step, found String"),
        (frame(series_id=["a", None, "b", "b"]), "row 1: `series_id` is null"),
        (frame(timestamp=[START, START, START, START + timedelta(hours=1)]), "series 'a': timestamp 2024-01-01.*twice"),
        (frame(target=[1.0, float("inf"), 3.0, 4.0]), "series 'a', 2024-01-01 01:00:00: `target` is infinite"),
    ],
)
def test_a_bad_frame_is_refused_with_place_and_remedy(bad, message):
    with pytest.raises(FrameError, match=message):
        validate(bad)


def test_readings_off_the_grid_are_refused_unless_resampled():
    stray = frame(timestamp=[START, START + timedelta(minutes=61), START, START + timedelta(hours=1)])
    with pytest.raises(FrameError, match=r"series 'a': 2024-01-01 01:01:00 does not stand on the grid of 1h.*resample"):
        normalise(stray, "1h")
    out, step = normalise(stray, "1h", resample="mean")
    assert str(step) == "1h"
    assert out["ordinal"].diff().to_list()[1] == 1


def test_resampling_takes_the_mean_last_or_sum_of_each_step_and_no_reading_stays_none():
    times = [START, START + timedelta(minutes=20), START + timedelta(hours=1)]
    rows = pl.DataFrame({"series_id": ["a"] * 3, "timestamp": times, "target": [1.0, 5.0, None]})
    for how, value in [("mean", 3.0), ("last", 5.0), ("sum", 6.0)]:
        out, _ = normalise(rows, "1h", resample=how)
        assert out["target"].to_list() == [value, None]


def test_two_readings_in_one_business_day_step_are_refused():
    friday = datetime(2024, 1, 5)
    rows = pl.DataFrame(
        {"series_id": ["a"] * 2, "timestamp": [friday, friday + timedelta(days=1)], "target": [1.0, 2.0]}
    )
    with pytest.raises(FrameError, match="does not stand on the grid of 1bd"):
        normalise(rows, "1bd")


def test_two_nanosecond_timestamps_that_are_one_microsecond_are_refused():
    times = pl.Series([0, 0, 3_600_000_000_000], dtype=pl.Int64) + pl.Series([0, 7, 0])
    rows = pl.DataFrame({"series_id": ["a"] * 3, "timestamp": times.cast(pl.Datetime("ns")), "target": [1.0, 2.0, 3.0]})
    with pytest.raises(FrameError, match="fall in one step of 1h"):
        normalise(rows, "1h")


def test_integer_steps_and_a_step_of_time_do_not_fit():
    rows = pl.DataFrame({"series_id": ["a"] * 2, "timestamp": [1, 2], "target": [1.0, 2.0]})
    with pytest.raises(FrameError, match="integer timestamps take `1i`"):
        normalise(rows, "1h")


def test_nan_is_a_missing_reading_and_order_does_not_matter():
    rows = frame(target=[1.0, float("nan"), 3.0, 4.0])
    straight, _ = normalise(rows)
    shuffled, _ = normalise(rows.sample(fraction=1, shuffle=True, seed=3))
    assert straight.equals(shuffled)
    assert straight["target"].to_list() == [1.0, None, 3.0, 4.0]
