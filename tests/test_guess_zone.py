"""The zone of a clock with daylight saving, told by the hours that it leaves out and shows twice."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
import yaml

from rnnforecast.config import parse
from rnnforecast.frequency import Frequency
from rnnforecast.guess import guess
from rnnforecast.guess_zone import clock
from rnnforecast.ingest import ingest


def walls(zone, *, minutes=60, late=0, days=400):
    """What a clock in `zone` shows every so many minutes, `late` minutes after the interval began."""
    begin, step = datetime(2022, 12, 31, 5, tzinfo=UTC), timedelta(minutes=minutes)
    moments = [begin + number * step for number in range(days * 24 * 60 // minutes)]
    return [moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None) + timedelta(minutes=late) for moment in moments]


def found(stamps, step="1h"):
    frame = pl.DataFrame({"series_id": "a", "timestamp": stamps}).with_columns(
        pl.col("timestamp").dt.cast_time_unit("us").dt.replace_time_zone("UTC")
    )
    return clock(frame, Frequency.parse(step))


@pytest.mark.parametrize(
    ("zone", "told"),
    [
        ("America/New_York", "America/New_York"),
        ("America/Chicago", "America/New_York"),  # the same rule on the same clock: the best known of them
        ("Europe/Paris", "Europe/Berlin"),
        ("Europe/Lisbon", "Europe/London"),
        ("Europe/Helsinki", "Europe/Athens"),
        ("Australia/Sydney", "Australia/Sydney"),
        ("Pacific/Auckland", "Pacific/Auckland"),
        ("America/Santiago", "America/Santiago"),
        ("Asia/Jerusalem", "Asia/Jerusalem"),
        ("Africa/Cairo", "Africa/Cairo"),
    ],
)
def test_a_clock_is_told_by_the_rule_of_its_changes(zone, told):
    seen = found(walls(zone))
    assert (seen.zone, seen.ending, seen.gaps, seen.lost, seen.folds) == (told, False, 1, 0, 1)
    assert zone == told or zone in seen.others or told.split("/")[0] == "Europe"


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Europe/London", "Australia/Sydney"])
def test_quarters_of_an_hour_tell_whether_stamps_begin_or_end_their_interval(zone):
    for late in (0, 15):
        seen = found(walls(zone, minutes=15, late=late), "15m")
        assert (seen.zone, seen.ending) == (zone, late > 0)


def test_hours_that_end_in_berlin_look_like_hours_that_begin_in_athens_and_both_are_named():
    stamps = walls("Europe/Berlin", late=60)
    seen = found(stamps)
    assert (seen.zone, seen.ending, seen.others) == ("Europe/Athens", False, ("Europe/Berlin with `ending: 1h`",))
    # A file of whole days from 01:00 to 24:00 has hours that end.
    days = stamps[next(n for n, stamp in enumerate(stamps) if stamp.hour == 1) :]
    days = days[: max(n for n, stamp in enumerate(days) if stamp.hour == 0) + 1]
    seen = found(days)
    assert (seen.zone, seen.ending) == ("Europe/Berlin", True)
    assert "Europe/Athens without `ending:`" in seen.others


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Phoenix"])
def test_a_clock_that_never_changes_is_none(zone):
    assert found(walls(zone)) is None
    assert found(walls(zone, minutes=5, days=200), "5m") is None


def test_hours_missing_and_double_at_other_times_are_no_clock_change():
    stamps = walls("UTC")
    holes = [stamp for number, stamp in enumerate(stamps) if number % 97]
    assert found(holes) is None
    assert found([*stamps, *stamps[5_000:5_012]]) is None
    # An hour that the clock would leave out is there: it is no such clock.
    berlin = walls("Europe/Berlin", days=800)
    assert found([*berlin, datetime(2023, 3, 26, 2), datetime(2024, 3, 31, 2)]) is None


def test_the_second_hour_may_have_been_thrown_away_or_both():
    stamps = walls("Europe/Berlin", days=800)
    once = sorted(set(stamps))
    assert (found(once).zone, found(once).gaps, found(once).folds) == ("Europe/Berlin", 2, 0)
    neither = [stamp for stamp in once if stamp not in (datetime(2023, 10, 29, 2), datetime(2024, 10, 27, 2))]
    assert (found(neither).zone, found(neither).lost) == ("Europe/Berlin", 2)


def test_days_and_steps_show_no_clock():
    days = [datetime(2023, 1, 1) + timedelta(days=number) for number in range(90) if number % 7]
    assert found(days, "1d") is None
    frame = pl.DataFrame({"series_id": "a", "timestamp": [1, 2, 3]})
    assert clock(frame, Frequency.parse("1i")) is None


def written(path, texts):
    path.write_text("time,value\n" + "".join(f"{text},{number}\n" for number, text in enumerate(texts)))
    return path


def test_a_zone_is_proposed_with_what_was_seen_and_takes_every_row(tmp_path):
    stamps = walls("Australia/Sydney", minutes=30, late=30)
    file = written(tmp_path / "a.csv", [f"{stamp:%d.%m.%Y %H:%M}" for stamp in stamps])
    text = guess(file, name="seen", project=tmp_path)
    source = yaml.safe_load(text)["sources"][0]
    assert (source["timezone"], source["ending"]) == ("Australia/Sydney", "30m")
    assert (
        "# timezone: 1 hour left out where the clock goes forward, 1 hour there twice where it goes back, as in this "
        "zone; as well: Australia/Adelaide; check it.\n"
    ) in text
    assert "# ending: those hours fit stamps that say when their interval ended; check it.\n" in text
    report = ingest(parse(text, file=tmp_path / "seen.yaml"))
    assert (report.inserted, report.duplicates, report.quarantined) == (len(stamps), 0, 0)


@pytest.mark.parametrize("zone", ["Z", "+00:00"])
def test_stamps_that_carry_a_zone_are_left_in_it(tmp_path, zone):
    """Whoever wrote local time and called it UTC meant something that no key of the pipeline file can mend."""
    file = written(tmp_path / "a.csv", [f"{stamp:%Y-%m-%dT%H:%M}{zone}" for stamp in walls("Europe/Berlin")])
    assert "timezone" not in guess(file, name="seen", project=tmp_path)
