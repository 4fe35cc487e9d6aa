"""Files as found in the wild: each ingested right, against a count by other means, or refused with the fix."""

import csv
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest
import yaml

from rnnforecast import table
from rnnforecast.config import parse
from rnnforecast.ingest import ingest
from rnnforecast.sources import SourceError


@pytest.fixture
def wild(shared, tmp_path):
    """Ingests raw files; returns the report and the table."""

    def go(*names, columns, pipeline=None, **keys):
        paths = [name if isinstance(name, Path) else shared(f"raw/{name}") for name in names]
        sources = [{"kind": "file", "path": str(path), "columns": columns, **keys} for path in paths]
        text = yaml.safe_dump({"name": "wild", "horizon": 1, "sources": sources} | (pipeline or {}))
        built = parse(text, file=tmp_path / "p.yaml")
        report = ingest(built)
        assert report.read == sum(
            (report.inserted, report.updated, report.unchanged, report.duplicates, report.quarantined)
        )
        again = ingest(built)
        assert (again.read, again.version) == (0, report.version)
        return report, table.read(built.table("observations"))

    return go


@pytest.fixture
def lines(shared):
    """The rows of a raw file as dictionaries of text."""

    def go(name):
        with shared(f"raw/{name}").open(newline="") as file:
            return list(csv.DictReader(file))

    return go


def as_dict(frame, series="wild"):
    one = frame.filter(pl.col("series_id") == series)
    return dict(zip(one["timestamp"].dt.strftime("%Y-%m-%d %H:%M"), one["target"], strict=True))


def number(text):
    return None if text in ("", "NA") else float(text)


def test_etth1_as_a_wide_file(wild, lines):
    names = ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
    report, frame = wild("ETTh1.csv", columns={"timestamp": "date", "target": names})
    assert (report.inserted, report.quarantined, report.duplicates) == (7 * 17_420, 0, 0)
    for name in ("HUFL", "OT"):
        assert as_dict(frame, name) == {row["date"][:16]: float(row[name]) for row in lines("ETTh1.csv")}


def test_beijing_with_its_time_over_four_columns_and_weather_as_covariates(wild, lines):
    columns = {"timestamp": ["year", "month", "day", "hour"], "target": "pm2.5"}
    pipeline = {"past_covariates": ["TEMP", "PRES"]}
    report, frame = wild("beijing_pm25.csv", columns=columns, pipeline=pipeline, timezone="Asia/Shanghai")
    assert (report.inserted, frame["target"].null_count()) == (43_824, 2_067)
    expected = {}
    for row in lines("beijing_pm25.csv"):
        local = datetime(*(int(row[part]) for part in columns["timestamp"]), tzinfo=ZoneInfo("Asia/Shanghai"))
        expected[local.astimezone(UTC).strftime("%Y-%m-%d %H:%M")] = number(row["pm2.5"])
    assert as_dict(frame) == expected
    assert frame["TEMP"].to_list() == [float(row["TEMP"]) for row in lines("beijing_pm25.csv")]


def test_a_text_column_of_beijing_is_refused_as_target_and_as_covariate(wild):
    columns = {"timestamp": ["year", "month", "day", "hour"], "target": "cbwd"}
    with pytest.raises(
        SourceError, match=r"beijing_pm25.csv: target column 'cbwd' needs numbers .* row 2: 'NW'; map a"
    ):
        wild("beijing_pm25.csv", columns=columns)
    with pytest.raises(SourceError, match=r"beijing_pm25.csv: covariate column 'cbwd' needs numbers .* row 2: 'NW'"):
        wild("beijing_pm25.csv", columns=columns | {"target": "pm2.5"}, pipeline={"past_covariates": ["cbwd"]})


def test_co2_with_a_header_too_short_is_refused_and_read_once_the_header_is_right(wild, shared, tmp_path):
    columns = {"timestamp": "Date", "target": "Average"}
    with pytest.raises(
        SourceError, match=r"broken_header.csv: row 2 has 7 fields and the header \(row 1\) 6, .*correct"
    ):
        wild("co2_monthly_broken_header.csv", columns=columns)
    text = shared("raw/co2_monthly_broken_header.csv").read_text().replace("Trend,Number", "Trend,X,Number", 1)
    (tmp_path / "fixed.csv").write_text(text.replace("Trend,X,Number of Days", "Days,Deviation,Uncertainty", 1))
    report, frame = wild(tmp_path / "fixed.csv", columns=columns | {"target": "Uncertainty"}, null_values=["-0.99"])
    cells = [line.split(",") for line in text.splitlines()[1:]]
    assert report.inserted == len(cells) == 820
    assert as_dict(frame) == {f"{c[0]}-01 00:00": None if c[6] == "-0.99" else float(c[6]) for c in cells}
    assert frame["target"].null_count() == 194


@pytest.mark.parametrize(
    ("name", "pattern", "count"),
    [
        ("delhi_climate_a.csv", "%Y/%m/%d", 1_461),
        ("delhi_climate_b.csv", "%Y-%m-%d", 1_462),
        ("delhi_climate_c.csv", "%d %B %Y", 1_462),
    ],
)
def test_delhi_in_three_styles_of_dates(wild, lines, name, pattern, count):
    report, frame = wild(name, columns={"timestamp": "date", "target": ["meantemp", "meanpressure"]})
    rows = {datetime.strptime(row["date"], pattern).strftime("%Y-%m-%d 00:00"): row for row in lines(name)}
    assert report.inserted == 2 * len(rows) == 2 * count
    for column in ("meantemp", "meanpressure"):
        assert as_dict(frame, column) == {day: number(row[column]) for day, row in rows.items()}


def test_a_late_revision_of_delhi_replaces_the_value(shared, tmp_path):
    """The next file of the feed brings 2017-01-01 again, with other values."""
    keys = {"kind": "file", "path": "delhi_*.csv", "columns": {"timestamp": "date", "target": "meantemp"}}
    built = parse(yaml.safe_dump({"name": "delhi", "horizon": 7, "sources": [keys]}), file=tmp_path / "p.yaml")
    shutil.copy2(shared("raw/delhi_climate_b.csv"), tmp_path / "delhi_1.csv")
    first = ingest(built)
    shutil.copy2(shared("raw/delhi_climate_b_next.csv"), tmp_path / "delhi_2.csv")
    second = ingest(built)
    assert (first.inserted, first.updated) == (1_462, 0)
    assert (second.read, second.inserted, second.updated) == (114, 113, 1)
    path, day = built.table("observations"), pl.col("timestamp") == datetime(2017, 1, 1, tzinfo=UTC)
    assert table.read(path, version=first.version).filter(day)["target"].to_list() == [10.0]
    assert table.read(path).filter(day)["target"].to_list() == [15.91304347826087]
    assert ingest(built).read == 0


def test_elnino_as_a_matrix_of_years_and_months(wild, lines):
    report, frame = wild("elnino_year_by_month.csv", columns={"timestamp": "YEAR"}, layout="year_month")
    names = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
    expected = {
        f"{row['YEAR']}-{month:02d}-01 00:00": float(row[name])
        for row in lines("elnino_year_by_month.csv")
        for month, name in enumerate(names, start=1)
    }
    assert report.inserted == 61 * 12
    assert as_dict(frame) == expected


@pytest.mark.parametrize(
    ("name", "duplicates"),
    [("nab_machine_temperature.csv", 12), ("nab_traffic_speed_7578.csv", 0), ("nab_traffic_occupancy_6005.csv", 0)],
)
def test_nab_keeps_the_last_reading_of_a_time_that_comes_twice(wild, lines, name, duplicates):
    report, frame = wild(name, columns={"timestamp": "timestamp", "target": "value"})
    assert as_dict(frame) == {row["timestamp"][:16]: float(row["value"]) for row in lines(name)}
    assert (report.duplicates, report.conflicts) == (duplicates, duplicates)
    if duplicates:
        assert "series 'wild' at 2014-01-07T02:00:00+00:00 came with different values" in report.conflict


def test_pjm_without_a_zone_tells_of_the_four_hours_that_come_twice(wild, lines):
    report, frame = wild("pjm_aep_hourly_local_time.csv", columns={"timestamp": "Datetime", "target": "AEP_MW"})
    assert (report.read, report.inserted, report.duplicates, report.conflicts) == (121_273, 121_269, 4, 4)
    assert "2014-11-02T02:00:00" in report.conflict
    rows = lines("pjm_aep_hourly_local_time.csv")
    assert as_dict(frame) == {row["Datetime"][:16]: float(row["AEP_MW"]) for row in rows}


def test_pjm_in_its_zone_names_the_hours_that_do_not_exist(wild, lines):
    """Its stamps are the ends of the hours, so that in spring each year 02:00 is there and 03:00 is not."""
    columns, zone = {"timestamp": "Datetime", "target": "AEP_MW"}, ZoneInfo("America/New_York")
    report, frame = wild("pjm_aep_hourly_local_time.csv", columns=columns, timezone=str(zone))
    expected, missing = {}, 0
    for row in lines("pjm_aep_hourly_local_time.csv"):
        local = datetime.fromisoformat(row["Datetime"])
        moment = local.replace(tzinfo=zone).astimezone(UTC)
        if moment.astimezone(zone).replace(tzinfo=None) != local:
            missing += 1
        else:
            expected[moment.strftime("%Y-%m-%d %H:%M")] = float(row["AEP_MW"])
    assert as_dict(frame) == expected
    assert report.reasons == {"no such time in America/New_York (the clock change leaves it out)": missing}
    assert (missing, report.duplicates) == (14, 4)


def test_sp500_minutes_are_refused_until_the_order_of_day_and_month_is_given(wild, lines):
    columns = {"timestamp": "Date", "target": "Close"}
    with pytest.raises(
        SourceError, match=r"unpadded.csv: timestamp column 'Date': 11/5/2019: day or month first cannot"
    ):
        wild("sp500_minute_unpadded.csv", columns=columns)
    report, frame = wild("sp500_minute_unpadded.csv", columns=columns, timestamp_format="%m/%d/%Y %H:%M")
    expected = {}
    for row in lines("sp500_minute_unpadded.csv"):
        day, clock = row["Date"].split()
        month, of_month, year = map(int, day.split("/"))
        hour, minute = map(int, clock.split(":"))
        expected[f"{year}-{month:02d}-{of_month:02d} {hour:02d}:{minute:02d}"] = float(row["Close"])
    assert report.inserted == 1_563
    assert as_dict(frame) == expected


def test_stocks_with_dates_as_text_and_five_series(wild, lines):
    columns = {"timestamp": "date", "target": "price", "series_id": "symbol"}
    report, frame = wild("stocks_text_dates.csv", columns=columns)
    rows = lines("stocks_text_dates.csv")
    assert report.inserted == 560
    for symbol in ("MSFT", "AMZN", "IBM", "GOOG", "AAPL"):
        expected = {
            datetime.strptime(row["date"], "%b %d %Y").strftime("%Y-%m-%d 00:00"): float(row["price"])
            for row in rows
            if row["symbol"] == symbol
        }
        assert as_dict(frame, symbol) == expected


def test_wti_keeps_its_negative_price(wild, lines):
    report, frame = wild("wti_daily.csv", columns={"timestamp": "Date", "target": "Price"})
    rows = [row for row in lines("wti_daily.csv") if datetime.fromisoformat(row["Date"]) < datetime.now()]
    assert report.inserted == len(rows)
    assert as_dict(frame) == {f"{row['Date']} 00:00": number(row["Price"]) for row in rows}
    assert as_dict(frame)["2020-04-20 00:00"] == -36.98


def test_shakespeare_is_refused(wild):
    with pytest.raises(
        SourceError, match=r"tiny_shakespeare.txt: row 1: no column 'timestamp'; found 'First Citizen:'"
    ):
        wild("tiny_shakespeare.txt", columns={})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"x.csv: the file is empty"),
        ("time,value\n1,one\n2,two\n", r"x.csv: target column 'value' needs numbers and has text in every row"),
        ("time,value,value\n1,2,3\n", r"x.csv: row 1: columns 2 and 3 are both called 'value'"),
    ],
)
def test_files_made_wrong_are_refused_and_leave_nothing(wild, tmp_path, text, words):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(SourceError, match=words):
        wild(tmp_path / "x.csv", columns={"timestamp": "time", "target": "value"})
    assert not (tmp_path / "data").exists()


def test_a_future_date_is_quarantined_and_all_missing_is_kept(wild, tmp_path):
    later = (datetime.now(UTC) + timedelta(days=2)).date()
    (tmp_path / "x.csv").write_text(f"time,value\n2024-01-01,1\n{later},2\n")
    columns = {"timestamp": "time", "target": "value"}
    report, frame = wild(tmp_path / "x.csv", columns=columns)
    assert (report.inserted, report.reasons, len(frame)) == (1, {"dated after now": 1}, 1)
    (tmp_path / "y.csv").write_text("time,value\n2024-01-01,\n2024-01-02,NA\n")
    report, frame = wild(tmp_path / "y.csv", columns=columns, pipeline={"name": "missing"})
    assert (report.inserted, frame["target"].to_list(), report.watermark) == (2, [None, None], None)
