"""Local time with daylight saving: hours that are left out, hours that come twice, stamps that end their hour."""

import csv
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import yaml

from rnnforecast import table
from rnnforecast.config import ConfigError, parse
from rnnforecast.ingest import ingest
from rnnforecast.sources import SourceError

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")


@pytest.fixture
def taken(tmp_path):
    """Ingests a file with columns time and value (or those given); returns the report and the table."""

    def go(file, columns=("time", "value"), **keys):
        mapped = dict(zip(("timestamp", "target"), columns, strict=True))
        source = {"kind": "file", "path": str(file), "columns": mapped, **keys}
        built = parse(
            yaml.safe_dump({"name": "clock", "horizon": 1, "sources": [source]}), file=tmp_path / "clock.yaml"
        )
        return ingest(built), table.read(built.table("observations")).sort("timestamp")

    return go


def written(path, moments, *, zone, late=timedelta(0)):
    """A file of UTC moments as the clock of `zone` shows them, each told `late`; values count the rows."""
    rows = [
        f"{(moment + late).astimezone(zone):%Y-%m-%d %H:%M},{number}"
        if not late
        else f"{(moment.astimezone(zone).replace(tzinfo=None) + late):%Y-%m-%d %H:%M},{number}"
        for number, moment in enumerate(moments)
    ]
    path.write_text("\n".join(["time,value", *rows]) + "\n")
    return path


def steps(first, count, step):
    return [first + number * step for number in range(count)]


@pytest.mark.parametrize(("ending", "step"), [("1h", 60), ("15m", 15), ("30m", 30)])
@pytest.mark.parametrize("month", [3, 10])
def test_stamps_that_end_an_interval_give_back_every_begin_across_a_clock_change(tmp_path, taken, ending, step, month):
    first = datetime(2023, month, 20, tzinfo=UTC)
    moments = steps(first, 12 * 24 * 60 // step, timedelta(minutes=step))
    file = written(tmp_path / "a.csv", moments, zone=BERLIN, late=timedelta(minutes=step))
    report, frame = taken(file, timezone="Europe/Berlin", ending=ending)
    assert (report.inserted, report.quarantined, report.duplicates) == (len(moments), 0, 0)
    assert frame["timestamp"].to_list() == moments
    assert frame["target"].to_list() == list(map(float, range(len(moments))))


def test_the_hours_of_pjm_are_all_taken_as_hours_that_end(shared, taken):
    """Its autumn hour is absent up to 2013 and there twice from 2014; its spring days have 23 hours."""
    file = shared("raw/pjm_aep_hourly_local_time.csv")
    report, frame = taken(file, ("Datetime", "AEP_MW"), timezone="America/New_York", ending="1h")
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
    counts = dict(zip(hours["timestamp"], hours["count"], strict=True))
    springs = {day: counts[day] for day in counts if _changes(day) == -1}
    autumns = {day: counts[day] for day in counts if _changes(day) == 1}
    assert set(springs.values()) == {23} and len(springs) == 14
    assert {day.year: count for day, count in autumns.items()} == {
        year: 23 if year < 2014 else 25 for year in range(2004, 2018)
    }
    # Three single hours are not in the file, and its first day begins at one o'clock.
    other = {day: count for day, count in counts.items() if count != 24 and not _changes(day)}
    assert len(other) == 4 or other


def _changes(day: date) -> int:
    """How many hours the day in New York has more than 24."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=NEW_YORK)
    after = datetime.combine(day + timedelta(days=1), midnight.time(), tzinfo=NEW_YORK)
    return round((after.astimezone(UTC) - midnight.astimezone(UTC)) / timedelta(hours=1)) - 24
