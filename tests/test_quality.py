"""Checks and the report of quality: right in one piece, cut anywhere, and against facts known by other means."""

from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnforecast.config import FrozenCheck, RangeCheck, SentinelCheck, SpikeCheck
from rnnforecast.quality import as_words, examine, rows_before

START = datetime(2024, 1, 1, tzinfo=UTC)


def long(values, *, times=None, series="s", **covariates):
    """A long frame of one series, hourly where no times are given."""
    times = [START + timedelta(hours=hour) for hour in (range(len(values)) if times is None else times)]
    frame = pl.DataFrame(
        {"#row": range(len(values)), "series_id": series, "timestamp": times, "target": values, **covariates},
        schema_overrides={"target": pl.Float64(), **dict.fromkeys(covariates, pl.Float64())},
    )
    return frame.with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC")))


def slow(checks, rows):
    """The verdicts, reading by reading, straight from the description of the checks."""
    taken, failed = {}, []
    for row, (time, value) in enumerate(rows):
        if taken.get(time, "none") == value:
            continue
        times = sorted(taken)
        place = bisect_left(times, time)
        wrong = False
        for check in checks:
            if value is None:
                continue
            if isinstance(check, FrozenCheck):
                last = [taken[t] for t in times[:place][-check.steps :]]
                wrong |= len(last) == check.steps and set(last) == {value}
            if isinstance(check, SpikeCheck):
                least = max(5, check.window // 2)
                later = [t for t in times if t > time]
                history = times[:place][-check.window :] if place >= least else later[: check.window]
                known = np.array([taken[t] for t in history if taken[t] is not None])
                if len(known) < least:
                    continue
                step = np.quantile(np.diff(history), 0.5, method="lower")
                if max(abs(time - history[0]), abs(time - history[-1])) > 3 * len(history) * step:
                    continue
                low, middle, high = (np.quantile(known, q, method="lower") for q in (0.25, 0.5, 0.75))
                spread = max((high - low) / 1.349, (known.max() - known.min()) / 8)
                wrong |= bool(spread > 0 and abs(value - middle) > check.deviations * spread)
        if wrong:
            failed.append(row)
        else:
            taken[time] = value
    return failed


@st.composite
def streams(draw):
    count = draw(st.integers(20, 120))
    random = np.random.default_rng(draw(st.integers(0, 2**20)))
    values = random.normal(10, 1, count).round(1)
    level = draw(st.integers(0, count))
    values[level:] += draw(st.sampled_from([0, 50]))
    values[random.random(count) < 0.05] += 100
    start = draw(st.integers(0, count - 1))
    values[start : start + draw(st.integers(0, 20))] = 11
    cells = [None if random.random() < 0.05 else float(value) for value in values]
    times = np.cumsum(1 + (random.random(count) < 0.05) * random.integers(0, 60, count))
    if draw(st.booleans()):
        for _ in range(draw(st.integers(1, 10))):
            one, other = random.integers(0, count, 2)
            times[one] = times[other]
    if draw(st.booleans()):
        times = times[:: draw(st.sampled_from([1, -1]))]
    return [(int(time), value) for time, value in zip(times, cells, strict=True)]


CHECKS = [SpikeCheck(window=12, deviations=6), FrozenCheck(steps=5)]


def failing(frame, checks, tail=None):
    return examine(frame, checks=checks, tail=tail).failed["#row"].to_list()


@settings(max_examples=100, deadline=None)
@given(streams(), st.lists(st.integers(1, 119), max_size=4), st.sampled_from([CHECKS, CHECKS[:1], CHECKS[1:]]))
def test_cut_anywhere_the_same_readings_fail(rows, cuts, checks):
    frame = long([value for _, value in rows], times=[time for time, _ in rows])
    expected = slow(checks, rows)
    assert failing(frame, checks) == expected
    stored, failed = None, []
    edges = sorted({0, *(cut for cut in cuts if cut < len(rows)), len(rows)})
    for start, end in pairwise(edges):
        done = examine(frame[start:end], checks=checks, tail=stored)
        failed += done.failed["#row"].to_list()
        taken = done.kept if stored is None else pl.concat([stored, done.kept])
        stored = taken.unique(["series_id", "timestamp"], keep="last", maintain_order=True)
    assert failed == expected


@settings(max_examples=40, deadline=None)
@given(streams(), st.integers(1, 119))
def test_in_the_order_of_time_the_last_rows_before_are_tail_enough(rows, cut):
    rows = [row for place, row in enumerate(rows) if place == 0 or row[0] > max(time for time, _ in rows[:place])]
    frame = long([value for _, value in rows], times=[time for time, _ in rows])
    first = examine(frame[:cut], checks=CHECKS)
    later = failing(frame[cut:], CHECKS, first.kept.tail(rows_before(CHECKS)))
    assert [*first.failed["#row"], *later] == slow(CHECKS, rows)


def test_checks_say_what_a_reading_failed_and_for_which_series():
    frame = pl.concat([long([1, 60, -5, -999, None], series="a/1"), long([60, 1], series="b")])
    checks = [RangeCheck(min=0, max=50, series="a/*"), SentinelCheck(series="*")]
    done = examine(frame, checks=checks)
    assert done.failed.select("series_id", "column", "reason").rows() == [
        ("a/1", "target", "out of range: 60.0 is above 50"),
        ("a/1", "target", "out of range: -5.0 is below 0"),
        ("a/1", "target", "out of range: -999.0 is below 0"),
    ]
    assert done.kept["target"].to_list() == [1, None, 60, 1]
    assert done.kept.columns == frame.columns
    assert done.findings.filter(kind="refused").select("series_id", "count").rows() == [("a/1", 3), ("a/1", 1)]


def test_a_check_that_only_reports_refuses_nothing():
    frame = long([*[10.0, 11.0, 12.0] * 8, 900.0, 11.0], load=[1.0] * 26)
    checks = [SpikeCheck(window=12, action="report"), FrozenCheck(column="load", steps=20, action="report")]
    done = examine(frame, checks=checks)
    assert (len(done.failed), len(done.kept)) == (0, 26)
    told = done.findings.filter(kind="failed").select("column", "count").rows()
    assert sorted(told) == [("load", 6), ("target", 1)]


def test_a_row_that_fails_several_checks_is_refused_once_for_the_first_of_them():
    frame = long([1.0, -999.0], load=[1.0, 99.0])
    done = examine(frame, checks=[RangeCheck(column="load", max=10), SentinelCheck()])
    assert done.failed.select("column", "reason").rows() == [("load", "out of range: 99.0 is above 10")]


def test_a_new_level_is_taken_once_the_old_one_is_long_past():
    random = np.random.default_rng(1)
    frame = long([*random.normal(10, 1, 100), *random.normal(500, 1, 100)])
    failed = failing(frame, [SpikeCheck(window=12)])
    assert failed == list(range(100, 100 + len(failed)))
    assert 12 <= len(failed) <= 36


def test_no_check_needs_no_reading_from_before():
    assert rows_before([RangeCheck(min=0), SentinelCheck()]) == 0
    assert rows_before([SpikeCheck(window=48), FrozenCheck(steps=60)]) == 60


# --- the report without checks -------------------------------------------------------------------------------------


def report(frame):
    done = examine(frame, checks=())
    assert len(done.kept) == len(frame)
    return {kind: done.findings.filter(kind=kind).to_dicts() for kind in done.findings["kind"].unique()}


def wavy(count, seed=0):
    return (np.sin(np.arange(count) / 4) + np.random.default_rng(seed).normal(10, 0.1, count)).tolist()


def test_ordinary_readings_are_no_finding():
    assert report(long(wavy(500))) == {}
    assert report(long([]).clear()) == {}


def test_duplicates_are_counted_with_those_that_differ():
    found = report(long([1.0, 2.0, 2.0, 3.0, 4.0], times=[0, 1, 1, 2, 2]))["duplicate"]
    assert (found[0]["count"], found[0]["first"]) == (2, START + timedelta(hours=1))
    assert "1 with another value, such as 3 and 4 at 2024-01-01 02:00" in found[0]["detail"]


def test_gaps_are_counted_in_steps_with_the_longest():
    times = [*range(50), *range(53, 100), *range(120, 200)]
    found = report(long(wavy(len(times)), times=times))["gap"]
    assert found[0]["count"] == 3 + 20
    assert "2 gaps, 23 steps of 1h missing; the longest, 20 steps, after 2024-01-05 03:00" in found[0]["detail"]


@pytest.mark.parametrize("days", [1, 7, 30.436875, 365.2425])
def test_weekends_and_calendar_months_and_years_are_no_gaps(days):
    grid = pl.Series([START + timedelta(days=round(days * number)) for number in range(60)])
    if days == 1:
        grid = grid.filter(grid.dt.weekday() <= 5)
    frame = long(wavy(len(grid))).with_columns(timestamp=grid.cast(pl.Datetime("us", "UTC")))
    assert report(frame) == {}


def test_a_frozen_sensor_and_a_constant_series_are_told_and_nothing_falling_is_not():
    values = wavy(300)
    values[100:140] = [values[100]] * 40
    rain = [0.0] * 200 + [3.0, 1.0] + [0.0] * 98
    frames = [long(values, series="stuck"), long([5.0] * 100, series="flat"), long(rain, series="rain")]
    found = report(pl.concat(frames))["frozen"]
    assert [(row["series_id"], row["count"]) for row in found] == [("flat", 100), ("stuck", 40)]
    assert found[0]["detail"] == "constant: 5 in all 100 readings"
    assert "40 times from 2024-01-05 04:00 on" in found[1]["detail"]


def test_spikes_are_told_with_the_farthest_and_sentinels_with_the_remedy():
    values = wavy(300)
    values[50], values[200] = 90.0, 300.0
    void = wavy(300, seed=1)
    void[10], void[20], void[30] = -999.0, -999.0, -999.0
    found = report(pl.concat([long(values, series="a"), long(void, series="b")]))
    assert [(row["series_id"], row["count"]) for row in found["spike"]] == [("a", 2)]
    assert "the farthest, 300 at 2024-01-09 08:00" in found["spike"][0]["detail"]
    assert [(row["series_id"], row["count"]) for row in found["sentinel"]] == [("b", 3)]
    assert "null_values" in found["sentinel"][0]["detail"]


def test_local_time_with_daylight_saving_is_told_apart_from_utc():
    hours = pl.datetime_range(datetime(2023, 1, 1), datetime(2024, 12, 31), "1h", time_zone="UTC", eager=True)
    berlin = hours.dt.convert_time_zone("Europe/Berlin").dt.replace_time_zone(None).dt.replace_time_zone("UTC")
    frame = long(wavy(len(hours))).with_columns(timestamp=hours.cast(pl.Datetime("us", "UTC")))
    assert report(frame) == {}
    local = report(frame.with_columns(timestamp=berlin.cast(pl.Datetime("us", "UTC"))))["clock"]
    assert "an hour is missing on 2 Sundays in spring, and one comes twice on 2 in autumn" in local[0]["detail"]
    assert "set `timezone:`" in local[0]["detail"]


def test_a_clock_that_was_set_back_by_hours_is_told():
    times = [*range(100), *range(98, 150)]
    found = report(long(wavy(len(times)), times=times))["clock"]
    assert "a row steps back in time, the farthest by 1h to 2024-01-05 02:00, by whole hours" in found[0]["detail"]


def test_of_many_series_the_worst_are_listed_and_the_others_counted():
    frames = [long(wavy(30 + n), times=[*range(20), *range(21 + n, 31 + 2 * n)], series=f"s{n:02d}") for n in range(12)]
    found = report(pl.concat(frames))["gap"]
    assert [row["series_id"] for row in found] == ["s11", "s10", "s09", "s08", "s07", None]
    assert found[-1]["detail"] == f"and {sum(range(1, 8))} more in 7 other series"


@pytest.fixture
def raw(shared):
    """A raw file as a long frame, read by polars alone."""

    def go(name, time, target, **options):
        frame = pl.read_csv(shared(f"raw/{name}.csv"), infer_schema_length=None, **options)
        frame = frame.with_columns(pl.col(time).str.to_datetime(time_unit="us", time_zone="UTC"))
        frame = frame.select(
            pl.lit("s").alias("series_id"),
            pl.col(time).alias("timestamp"),
            pl.col(target).cast(pl.Float64).alias("target"),
        )
        return frame.with_row_index("#row").cast({"#row": pl.Int64})

    return go


def test_the_pressure_of_delhi_has_spikes_up_to_7679_and_its_other_columns_none(raw):
    found = report(raw("delhi_climate_b", "date", "meanpressure"))
    assert set(found) == {"spike"}
    assert "7679.33 at 2016-03-28" in found["spike"][0]["detail"]
    outside = raw("delhi_climate_b", "date", "meanpressure").filter(~pl.col("target").is_between(990, 1025))
    assert found["spike"][0]["count"] == len(outside) == 9
    for column in ("meantemp", "humidity", "wind_speed"):
        assert report(raw("delhi_climate_b", "date", column)) == {}


def test_the_machine_of_nab_steps_back_once_and_its_traffic_is_irregular(raw):
    found = report(raw("nab_machine_temperature", "timestamp", "value"))
    assert (found["order"][0]["count"], found["duplicate"][0]["count"]) == (1, 12)
    assert set(report(raw("nab_traffic_speed_7578", "timestamp", "value"))) == {"irregular"}
    assert set(report(raw("nab_traffic_occupancy_6005", "timestamp", "value"))) == {"irregular"}


def test_the_load_of_pjm_is_in_local_time(raw):
    found = report(raw("pjm_aep_hourly_local_time", "Datetime", "AEP_MW"))
    assert "set `timezone:`" in found["clock"][0]["detail"]
    assert "comes twice on 4 in autumn" in found["clock"][0]["detail"]
    assert found["duplicate"][0]["count"] == 4


def test_the_air_of_beijing_has_2067_empty_readings(raw, shared):
    frame = pl.read_parquet(shared("parquet/beijing_pm25.parquet")).filter(pl.col("unique_id") == "pm2.5")
    frame = frame.select(series_id="unique_id", timestamp=pl.col("ds").cast(pl.Datetime("us")), target="y")
    found = report(frame.with_columns(pl.col("target").cast(pl.Float64).fill_nan(None)).with_row_index("#row"))
    assert found["empty"][0]["count"] == 2_067


def test_the_price_of_oil_below_zero_and_its_holidays_are_told(raw):
    found = report(raw("wti_daily", "Date", "Price"))
    assert "-36.98 at 2020-04-20" in found["spike"][0]["detail"]
    known = raw("wti_daily", "Date", "Price")["timestamp"].dt.date()
    days = pl.date_range(known.min(), known.max(), "1d", eager=True)
    assert found["gap"][0]["count"] == (days.dt.weekday() <= 5).sum() - len(known)


@pytest.mark.parametrize(
    "name", ["air_passengers", "elnino_sst", "taylor_halfhourly", "pjm_in_zone_utc", "m4_hourly_test"]
)
def test_clean_sets_have_no_finding(shared, name):
    frame = pl.read_parquet(shared(f"parquet/{name}.parquet"))
    time = pl.col("ds").cast(pl.Int64) if frame.schema["ds"].is_integer() else pl.col("ds").cast(pl.Datetime("us"))
    frame = frame.select(series_id="unique_id", timestamp=time, target=pl.col("y").cast(pl.Float64))
    assert report(frame.with_row_index("#row")) == {}


def test_findings_are_said_in_words():
    words = as_words(examine(long([1.0, 1.0], times=[0, 0], series="pump"), checks=()).findings)
    assert words == ["duplicate: pump: a reading came again as before"]
