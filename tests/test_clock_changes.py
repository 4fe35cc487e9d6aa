"""Local time with daylight saving: hours that are left out, hours that come twice, stamps that end their hour."""

import csv
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
import yaml

from rnnforecast import table
from rnnforecast.config import ConfigError, parse
from rnnforecast.ingest import ingest
from rnnforecast.sources import SourceError
from rnnforecast.sources.file import FileReader

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
PJM = {"columns": {"timestamp": "Datetime", "target": "AEP_MW"}, "timezone": "America/New_York", "ending": "1h"}


@pytest.fixture
def clock(tmp_path):
    """A pipeline over one file, columns time and value if no others are given."""

    def go(file, **keys):
        source = {"kind": "file", "path": str(file), "columns": {"timestamp": "time", "target": "value"}, **keys}
        text = yaml.safe_dump({"name": "clock", "horizon": 1, "sources": [source]})
        return parse(text, file=tmp_path / "clock.yaml")

    return go


def taken(pipeline):
    """What an ingest reports, and the readings in the order of their times."""
    report = ingest(pipeline)
    return report, table.read(pipeline.table("observations")).sort("timestamp")


def shown(moments, *, zone, late):
    """A CSV text of UTC moments as a clock in `zone` shows them, `late` after; the values count them."""
    walls = [moment.astimezone(zone).replace(tzinfo=None) + late for moment in moments]
    return "".join(f"{wall:%Y-%m-%d %H:%M},{number}\n" for number, wall in enumerate(walls))


def hours_more(day: date) -> int:
    """How many hours a day in New York has more than 24."""
    midnights = [
        datetime.combine(each, datetime.min.time(), tzinfo=NEW_YORK) for each in (day, day + timedelta(days=1))
    ]
    begin, end = (midnight.astimezone(UTC) for midnight in midnights)
    return (end - begin) // timedelta(hours=1) - 24


@pytest.mark.parametrize(("ending", "minutes"), [("1h", 60), ("15m", 15), ("30m", 30)])
@pytest.mark.parametrize("month", [3, 10])
def test_stamps_that_end_an_interval_give_every_begin_across_a_clock_change(tmp_path, clock, ending, minutes, month):
    step = timedelta(minutes=minutes)
    moments = [datetime(2023, month, 20, tzinfo=UTC) + number * step for number in range(12 * 24 * 60 // minutes)]
    (tmp_path / "a.csv").write_text("time,value\n" + shown(moments, zone=BERLIN, late=step))
    report, frame = taken(clock(tmp_path / "a.csv", timezone="Europe/Berlin", ending=ending))
    assert (report.inserted, report.quarantined, report.duplicates) == (len(moments), 0, 0)
    assert frame["timestamp"].to_list() == moments
    assert frame["target"].to_list() == list(map(float, range(len(moments))))


def test_every_hour_of_pjm_is_taken_as_one_that_its_stamp_ends(shared, clock):
    """The autumn hour is not in the file up to 2013 and there twice from 2014; spring days have 23 hours."""
    file = shared("raw/pjm_aep_hourly_local_time.csv")
    report, frame = taken(clock(file, **PJM))
    assert (report.read, report.inserted, report.quarantined, report.duplicates) == (121_273, 121_273, 0, 0)
    expected, seen = {}, set()
    with file.open(newline="") as text:
        for row in csv.DictReader(text):
            begin = datetime.fromisoformat(row["Datetime"]) - timedelta(hours=1)
            moment = begin.replace(tzinfo=NEW_YORK, fold=begin in seen).astimezone(UTC)
            seen.add(begin)
            expected[moment] = float(row["AEP_MW"])
    assert dict(zip(frame["timestamp"], frame["target"], strict=True)) == expected
    hours = frame["timestamp"].dt.convert_time_zone("America/New_York").dt.date().value_counts()
    counts = dict(hours.rows())
    assert [counts[day] for day in counts if hours_more(day) == -1] == [23] * 14
    autumns = {day.year: count for day, count in counts.items() if hours_more(day) == 1}
    assert autumns == {year: 23 if year < 2014 else 25 for year in range(2004, 2018)}
    # Three hours of other days are not in the file.
    assert sorted(count for day, count in counts.items() if not hours_more(day) and count != 24) == [23, 23, 23]


@pytest.mark.parametrize("block", [28, 56, 200])
def test_the_hour_that_comes_twice_is_the_same_wherever_a_file_is_cut(shared, tmp_path, clock, block):
    lines = shared("raw/pjm_aep_hourly_local_time.csv").read_text().splitlines()
    first = lines.index("2014-11-02 02:00:00,12994.0")
    # As in the file, later days stand before.
    (tmp_path / "a.csv").write_text("\n".join([lines[0], *lines[first - 30 : first + 30]]) + "\n")
    pipeline = clock(tmp_path / "a.csv", **PJM)
    parts = [batch.frame for batch in FileReader(pipeline, pipeline.sources[0], block=block).read(None)]
    whole = next(FileReader(pipeline, pipeline.sources[0]).read(None)).frame
    assert len(parts) > 5
    assert pl.concat(parts).equals(whole)
    assert whole["timestamp"].n_unique() == 60


def test_quarters_of_the_hour_that_comes_twice_may_be_appended_one_by_one(tmp_path, clock):
    step = timedelta(minutes=15)
    moments = [datetime(2023, 10, 28, 23, 30, tzinfo=UTC) + number * step for number in range(14)]
    text, file = "time,value\n", tmp_path / "a.csv"
    for line in shown(moments, zone=BERLIN, late=timedelta(0)).splitlines(keepends=True):
        text += line
        file.write_text(text)
        _, frame = taken(clock(file, timezone="Europe/Berlin"))
    assert frame["timestamp"].to_list() == moments


def test_days_that_a_stamp_ends_begin_a_day_earlier(tmp_path, clock):
    (tmp_path / "a.csv").write_text("time,value\n2024-03-01,1\n2024-03-02,2\n")
    assert taken(clock(tmp_path / "a.csv", ending="1d"))[1]["timestamp"].to_list() == [
        datetime(2024, 2, 29, tzinfo=UTC),
        datetime(2024, 3, 1, tzinfo=UTC),
    ]


def test_stamps_with_a_zone_of_their_own_end_their_intervals_too(tmp_path, clock):
    (tmp_path / "a.csv").write_text("time,value\n2024-03-01T01:00:00+01:00,1\n2024-03-01T02:00:00+01:00,2\n")
    _, frame = taken(clock(tmp_path / "a.csv", ending="30m", timezone="America/New_York"))
    assert frame["timestamp"][0] == datetime(2024, 2, 29, 23, 30, tzinfo=UTC)


@pytest.mark.parametrize("ending", ["1", "h", "0h", "1mo", "-1h", "1.5h", "hour", "1i"])
def test_an_ending_that_is_no_length_is_refused_at_the_door(clock, ending):
    with pytest.raises(ConfigError, match=rf"ending: expected the length of an interval.*found '{ending}'"):
        clock("a.csv", ending=ending)


def test_steps_that_only_count_have_no_endings(tmp_path, clock):
    with pytest.raises(ConfigError, match=r"ending: 1h with timestamp_format: integer: .* leave `ending:` out"):
        clock("a.csv", ending="1h", timestamp_format="integer")
    (tmp_path / "a.csv").write_text("time,value\n1,1\n2,2\n")
    with pytest.raises(SourceError, match=r"a.csv: timestamp column 'time': found integer steps.*`ending: 1h` out"):
        ingest(clock(tmp_path / "a.csv", ending="1h"))
