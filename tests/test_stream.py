"""Following the data: whatever order the rows come in, a stream forecasts what one pass over all of them would."""

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from builders import START, rich, rich_task, task, untrained, waves
from combinations import covering
from hypothesis import given, settings
from hypothesis import strategies as st
from test_properties import close, numbers

from rnnforecast.forecast import ForecastError, forecast
from rnnforecast.frequency import Frequency
from rnnforecast.nn.buffers import ROOM
from rnnforecast.stream import Stream
from rnnforecast.stream_rows import StreamError
from rnnforecast.stream_store import SERIES

NETWORKS = [each for place, each in enumerate(covering()) if place % 3 == 0]
KEY = ["series_id", "timestamp", "step"]


def same(stream, model, table):
    """The stream's forecasts are those of a pass over the table."""
    found, expected = stream.forecast().sort(KEY), forecast(model, table).sort(KEY)
    assert found.select(*KEY, "cutoff").equals(expected.select(*KEY, "cutoff"))
    close(numbers(found), numbers(expected), model)


def read(frame):
    """The rows that have a reading, in the order of time."""
    return frame.drop_nulls("target").sort("timestamp", "series_id")


def in_updates(stream, rows, chance, **how):
    """Feed the rows in updates of random sizes; what each said."""
    said, done = [], 0
    while done < len(rows):
        size = chance.choice((1, 2, 3, 11, 40))
        said.append(stream.update(rows[done : done + size], **how))
        done += size
    return said


@pytest.mark.parametrize("parts", NETWORKS, ids=lambda parts: f"{parts.cell}-{parts.decoder}-{parts.scaling}")
def test_every_network_follows_late_rows_gaps_channels_and_covariates(parts):
    """One entity of two channels, everything beside it; rows shuffled by up to seven hours; the last from a file."""
    chance = random.Random(3)
    model = untrained(of=rich_task(("x", "y")), entities=("s0",), **parts.model_dump())
    table = rich((90, 75), ("x", "y"))
    ends = pl.col("timestamp").max().over(pl.col("series_id").str.slice(0, 2)) - pl.duration(hours=6)
    table = table.with_columns(target=pl.when(pl.col("timestamp") <= ends).then("target"))
    order = sorted(
        range(len(table)),
        key=lambda row: (table["timestamp"][row] - START).total_seconds() / 3600 + chance.random() * 7,
    )
    stream = Stream(model, lateness=10)
    said = in_updates(stream, table[order], chance)
    assert sum(each.late for each in said) > 5
    assert sum(each.begun for each in said) == 2
    same(stream, model, table)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10**6), lateness=st.integers(0, 30))
def test_any_order_of_arrival_and_any_correction_within_the_lateness_gives_one_pass(seed, lateness):
    chance = random.Random(seed)
    model = untrained(chance.choice(("gru", "lstm")), task(), patch_length=chance.choice((1, 3)))
    table = read(waves((chance.randint(1, 90), chance.randint(1, 150), 40), seed=seed % 50))
    late = [min(chance.random() * lateness * 1.5, lateness) if chance.random() < 0.2 else 0 for _ in range(len(table))]
    order = sorted(
        range(len(table)), key=lambda row: ((table["timestamp"][row] - START).total_seconds() / 3600 + late[row], row)
    )
    stream = Stream(model, lateness=lateness)
    in_updates(stream, table[order], chance)
    same(stream, model, table)
    newest = table.group_by("series_id").agg(last=pl.col("timestamp").max())
    back = table.join(newest, on="series_id").with_columns(back=(pl.col("last") - pl.col("timestamp")).dt.total_hours())
    wrong = back.filter(pl.col("back") <= lateness).sample(fraction=0.3, seed=seed, shuffle=True)
    mended = wrong.select("series_id", "timestamp", target=pl.col("target") + 1.5)
    if len(mended):
        assert stream.update(mended).late == len(mended)
        assert stream.update(mended).late == 0  # the same once more is nothing new
    final = table.join(mended, on=["series_id", "timestamp"], how="left")
    same(stream, model, final.with_columns(target=pl.coalesce("target_right", "target")).drop("target_right"))


def test_what_comes_too_late_is_told_by_name_and_changes_nothing():
    model, table = untrained(of=task()), read(waves((60, 60)))
    stream = Stream.start(model, table, lateness=5)
    expected = stream.forecast()
    old = table.filter(pl.col("series_id") == "s1").tail(8).head(1).with_columns(target=99.0)
    with pytest.raises(StreamError, match=r"series 's1', 2024-01-03 04:00:00: .* more than 5 steps ago .*lateness"):
        stream.update(old)
    told = stream.update(old, too_late="leave")
    assert told.too_late.rows() == [("s1", old["timestamp"][0], 99.0)]
    assert (told.steps, told.late) == (0, 0)
    assert stream.forecast().equals(expected)
    assert stream.update(table.tail(12)).too_late.is_empty()  # known rows that come again are no news


def test_a_long_gap_is_read_as_missing_steps_and_a_new_series_begins():
    model, table = untrained(of=task()), read(waves((60, 60, 400)))
    table = table.filter(
        (pl.col("series_id") != "s2")
        | ~pl.col("timestamp").is_between(START + timedelta(hours=90), START + timedelta(hours=390))
    )
    first = table.filter(pl.col("timestamp") < START + timedelta(hours=70), pl.col("series_id") != "s1")
    stream = Stream.start(model, first)
    said = stream.update(table.join(first, on=["series_id", "timestamp"], how="anti"))
    assert said.begun == 1
    assert said.steps == 60 + 400 - 70
    same(stream, model, table)


def test_a_stream_goes_on_from_a_file_and_not_with_another_model(tmp_path):
    model = untrained(of=rich_task(), decoder="attention", attention_length=12, patch_length=2)
    table = rich((90, 60))
    ends = pl.col("timestamp").max().over("series_id") - pl.duration(hours=6)
    table = table.with_columns(target=pl.when(pl.col("timestamp") <= ends).then("target"))
    early = pl.col("timestamp") < START + timedelta(hours=40)
    stream = Stream.start(model, table.filter(early), lateness=4)
    stream.save(tmp_path)
    loaded = Stream.load(tmp_path, model)
    for each in (stream, loaded):
        each.update(table.filter(~early))
    assert loaded.forecast().equals(stream.forecast())
    same(loaded, model, table)
    assert not [file for file in tmp_path.iterdir() if file.suffix not in (".json", ".safetensors")]
    other = untrained(of=rich_task(), decoder="attention", attention_length=12, patch_length=2, seed=1)
    found = (tmp_path / SERIES).read_text().split('"model": "')[1][:32]
    with pytest.raises(StreamError, match=f"states of model version {found}, and the model given is version"):
        Stream.load(tmp_path, other)


def test_far_past_the_training_length_the_state_is_that_of_a_pass_and_memory_stays():
    """Many times through the room of its buffers, one step at a time."""
    model, table = untrained("lstm", task()), read(waves((6 * ROOM + 50, 6 * ROOM + 50), gaps=0))
    stream = Stream(model, lateness=3)
    sizes = set()
    for moment in table.partition_by("timestamp", maintain_order=True):
        stream.update(moment)
        sizes.add(sum(part.numel() for part in vars(stream.lanes.kept).values()))
    assert len(sizes) == 1
    same(stream, model, table)


def test_known_covariates_must_reach_over_the_horizon_and_may_be_revised():
    model, table = untrained(of=task(known=("price",))), rich((60,))
    ends = table["timestamp"].max() - timedelta(hours=6)
    table = table.with_columns(target=pl.when(pl.col("timestamp") <= ends).then("target")).drop("load", "size")
    stream = Stream.start(model, table.filter(pl.col("timestamp") <= ends))
    with pytest.raises(ForecastError, match=r"series 's0': known covariates reach 1 of 6 steps"):
        stream.forecast()
    stream.update(table.filter(pl.col("timestamp") > ends))
    same(stream, model, table)
    other = table.with_columns(
        price=pl.when(pl.col("timestamp") > ends - timedelta(hours=2)).then(-pl.col("price")).otherwise("price")
    )
    stream.update(other.tail(8))
    same(stream, model, other)


def test_what_a_stream_cannot_take_is_refused():
    model, table = untrained(of=task(), transform="log"), read(waves((60,)))
    stream = Stream.start(model, table)
    later = table.tail(1).with_columns(pl.col("timestamp") + timedelta(hours=1))
    with pytest.raises(StreamError, match=r"'s0', 2024-01-03 12:00:00: -2 has no logarithm"):
        stream.update(later.with_columns(target=-2.0))
    with pytest.raises(StreamError, match=r"expected `timestamp` of type .*found .*UTC"):
        stream.update(later.with_columns(pl.col("timestamp").dt.replace_time_zone("UTC")))
    with pytest.raises(StreamError, match="lateness: expected a number of steps"):
        Stream(model, lateness=-1)
    fixed = untrained(of=task(static=("size",)))
    frame = table.with_columns(size=2.0)
    with pytest.raises(StreamError, match=r"'s0': static covariate `size` was 2 when it began, found 3"):
        Stream.start(fixed, frame).update(later.with_columns(size=3.0))


def test_what_was_forecast_does_not_change_with_what_comes_later_and_other_series_are_not_felt():
    model, table = untrained(of=task()), read(waves((60, 60)))
    mine = pl.col("series_id") == "s0"
    stream = Stream.start(model, table.head(80))
    before = stream.forecast()
    kept = before.clone()
    stream.update(table.tail(len(table) - 80))
    assert before.equals(kept)  # what was handed out is no view of what goes on
    alone = Stream.start(model, table.filter(mine))
    close(numbers(alone.forecast()), numbers(stream.forecast().filter(mine)), model)


BERLIN = ZoneInfo("Europe/Berlin")
HOURS = [datetime(2024, 3, 30, 20, tzinfo=UTC) + timedelta(hours=hour) for hour in range(8)]  # two o'clock is left out
CALENDARS = {
    "1h": [hour.replace(tzinfo=None) for hour in HOURS],
    "1h in Berlin": [hour.astimezone(BERLIN) for hour in HOURS],
    "15m": [datetime(2024, 12, 31, 23, 7) + timedelta(minutes=15 * step) for step in range(8)],
    "1mo": [datetime(2023 + month // 12, month % 12 + 1, 1) for month in range(9, 17)],
    "1bd": [datetime(2024, 5, day) for day in (2, 3, 6, 7, 8, 9, 10, 13)],
    "1d": [date(2024, 2, 26) + timedelta(days=day) for day in range(8)],
    "5i": list(range(2, 42, 5)),
}


@pytest.mark.parametrize("lagging", [0, 2], ids=["together", "one behind"])
@pytest.mark.parametrize("calendar", CALENDARS)
def test_cutoffs_and_times_are_the_calendar_s_where_series_stand_together_and_where_one_lags(calendar, lagging):
    times, horizon = CALENDARS[calendar], 2
    ends = {"a": 6, "b": 6 - lagging}
    frame = pl.concat(
        pl.DataFrame({"series_id": [name] * end, "timestamp": times[:end], "target": [float(end)] * end})
        for name, end in ends.items()
    )
    step = Frequency.parse(calendar.split()[0]).anchored(frame["timestamp"])
    found = Stream.start(untrained(of=replace(task(horizon=horizon, seasons=(1,)), frequency=step)), frame).forecast()
    expected = [(name, times[end - 1], times[end + ahead], ahead + 1) for name, end in ends.items() for ahead in (0, 1)]
    wanted = pl.DataFrame(expected, schema=["series_id", "cutoff", "timestamp", "step"], orient="row")
    wanted = wanted.cast({"cutoff": found.schema["cutoff"], "timestamp": found.schema["timestamp"], "step": pl.Int32})
    assert found.select(wanted.columns).equals(wanted)
