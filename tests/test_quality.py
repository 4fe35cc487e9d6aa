"""Checks and the report of quality: right in one piece, cut anywhere, and against facts known by other means."""

from bisect import bisect_left
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnforecast.config import FrozenCheck, RangeCheck, SentinelCheck, SpikeCheck
from rnnforecast.quality import examine, rows_before

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


@settings(max_examples=150, deadline=None)
@given(streams(), st.lists(st.integers(1, 119), max_size=4), st.sampled_from([CHECKS, CHECKS[:1], CHECKS[1:]]))
def test_cut_anywhere_the_same_readings_fail(rows, cuts, checks):
    frame = long([value for _, value in rows], times=[time for time, _ in rows])
    expected = slow(checks, rows)
    assert failing(frame, checks) == expected
    stored, failed = None, []
    edges = sorted({0, *(cut for cut in cuts if cut < len(rows)), len(rows)})
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        done = examine(frame[start:end], checks=checks, tail=stored)
        failed += done.failed["#row"].to_list()
        taken = done.kept if stored is None else pl.concat([stored, done.kept])
        stored = taken.unique(["series_id", "timestamp"], keep="last", maintain_order=True)
    assert failed == expected
