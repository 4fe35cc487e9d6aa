"""What `init` sees in a file: a pipeline file that loads, ingests and says what an expert would say."""

from pathlib import Path

import polars as pl
import pytest
import yaml

from rnnforecast.config import parse
from rnnforecast.guess import GuessError, guess
from rnnforecast.ingest import ingest


def proposed(file, folder):
    """The proposal as a mapping; that it loads and ingests is checked on the way."""
    text = guess(file, name="seen", project=folder)
    built = parse(text, file=folder / "seen.yaml")
    report = ingest(built)
    assert report.inserted > 0
    assert ingest(built).read == 0
    mapping = yaml.safe_load(text)
    return mapping | {"source": mapping["sources"][0], "columns": mapping["sources"][0]["columns"], "text": text}


def write(folder, text, name="a.csv"):
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize(
    ("name", "columns", "frequency", "horizon"),
    [
        ("raw/wti_daily.csv", {"timestamp": "Date", "target": "Price"}, "1bd", 5),
        ("raw/stocks_text_dates.csv", {"timestamp": "date", "target": "price", "series_id": "symbol"}, "1mo", 12),
        ("raw/elnino_year_by_month.csv", {"timestamp": "YEAR"}, "1mo", 12),
        ("raw/pjm_aep_hourly_local_time.csv", {"timestamp": "Datetime", "target": "AEP_MW"}, "1h", 24),
        ("raw/sp500_minute_unpadded.csv", {"timestamp": "Date", "target": "Close"}, "1m", 60),
        ("raw/nab_machine_temperature.csv", {"timestamp": "timestamp", "target": "value"}, "5m", 12),
        ("parquet/air_passengers.parquet", {"timestamp": "ds", "target": "y"}, "1mo", 12),
        ("parquet/co2_weekly_statsmodels.parquet", {"timestamp": "ds", "target": "y"}, "1w", 13),
        ("parquet/m4_hourly_train.parquet", {"timestamp": "ds", "target": "y", "series_id": "unique_id"}, "1i", 24),
        ("parquet/taylor_halfhourly.parquet", {"timestamp": "ds", "target": "y"}, "1i", 48),
        ("parquet/energy_prices_daily.parquet", {"timestamp": "ds", "target": "y", "series_id": "unique_id"}, "1bd", 5),
    ],
)
def test_real_files_are_understood(shared, tmp_path, name, columns, frequency, horizon):
    seen = proposed(shared(name), tmp_path)
    assert (seen["columns"], seen["frequency"], seen["horizon"]) == (columns, frequency, horizon)
    assert "resample" not in seen


def test_seasons_of_integer_steps_are_found_in_the_data(shared, tmp_path):
    assert proposed(shared("parquet/m4_hourly_train.parquet"), tmp_path)["season_length"] == 24
    assert proposed(shared("parquet/taylor_halfhourly.parquet"), tmp_path)["season_length"] == 48
    assert proposed(shared("parquet/exchange_rate.parquet"), tmp_path)["season_length"] == 1


@pytest.mark.parametrize("style", "abc")
def test_several_value_columns_make_a_wide_file(shared, tmp_path, style):
    seen = proposed(shared(f"raw/delhi_climate_{style}.csv"), tmp_path)
    assert seen["columns"] == {"timestamp": "date", "target": ["meantemp", "humidity", "wind_speed", "meanpressure"]}
    assert (seen["frequency"], seen["horizon"]) == ("1d", 7)


def test_a_time_over_four_columns_is_seen_and_row_numbers_and_texts_are_left_out(shared, tmp_path):
    seen = proposed(shared("raw/beijing_pm25.csv"), tmp_path)
    assert seen["columns"]["timestamp"] == ["year", "month", "day", "hour"]
    assert seen["columns"]["target"] == ["pm2.5", "DEWP", "TEMP", "PRES", "Iws", "Is", "Ir"]
    assert seen["frequency"] == "1h"


@pytest.mark.parametrize("name", ["nab_traffic_speed_7578.csv", "nab_traffic_occupancy_6005.csv"])
def test_irregular_readings_are_resampled(shared, tmp_path, name):
    seen = proposed(shared(f"raw/{name}"), tmp_path)
    assert (seen["frequency"], seen["resample"]) == ("5m", "mean")


def test_the_order_of_day_and_month_is_written_down_to_be_checked(shared, tmp_path):
    seen = proposed(shared("raw/sp500_minute_unpadded.csv"), tmp_path)
    assert seen["source"]["timestamp_format"] == "%m/%d/%Y %H:%M"
    assert "check it" in seen["text"]
    assert "Open, High, Low, Volume" in seen["text"]


def test_a_semicolon_a_sentinel_and_an_epoch_are_seen(tmp_path):
    rows = [f"{1_500_000_000 + 3_600 * n};{-999 if n % 10 == 3 else 20 + n % 7}" for n in range(60)]
    seen = proposed(write(tmp_path, "\n".join(["time;level", *rows])), tmp_path)
    assert seen["source"]["separator"] == ";"
    assert seen["source"]["timestamp_format"] == "epoch_s"
    assert seen["source"]["null_values"] == ["-999"]
    assert (seen["frequency"], seen["columns"]["target"]) == ("1h", "level")


def test_values_that_are_merely_negative_are_no_sentinels(tmp_path):
    rows = [f"2024-01-{day:02d},{-99 if day % 5 == 0 else -100 + day}" for day in range(1, 29)]
    assert "null_values" not in proposed(write(tmp_path, "\n".join(["date,t", *rows])), tmp_path)["source"]


def test_json_lines_and_series_of_numbers_are_seen(tmp_path):
    lines = [
        f'{{"station": {s}, "ts": "2024-01-01T{h:02d}:00:00Z", "flow": {s + h}}}' for h in range(24) for s in (7, 9)
    ]
    seen = proposed(write(tmp_path, "\n".join(lines), "a.jsonl"), tmp_path)
    assert seen["columns"] == {"timestamp": "ts", "target": "flow", "series_id": "station"}


def test_paths_inside_the_project_are_written_from_there(tmp_path):
    (tmp_path / "in").mkdir()
    file = write(tmp_path, "date,x\n2024-01-01,1\n2024-01-02,2\n", "in/a.csv")
    assert proposed(file, tmp_path)["source"]["path"] == "in/a.csv"
    assert yaml.safe_load(guess(file, name="seen"))["sources"][0]["path"] == str(file)


def test_a_short_file_gets_a_short_horizon(tmp_path):
    file = write(tmp_path, "date,x\n" + "".join(f"2024-01-{day:02d},{day}\n" for day in range(1, 13)))
    assert proposed(file, tmp_path)["horizon"] == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"a.csv: the file is empty"),
        ("First Citizen:\nBefore we proceed\n", r"a.csv: not a table: .*row 1: 'First Citizen:'"),
        ("name,city\nann,rome\nbob,oslo\n", r"a.csv: row 1: no column holds times; found 'name' \(\['ann'\]\)"),
        ("date,city\n2024-01-01,rome\n2024-01-02,oslo\n", r"no numeric column to forecast; found .*'city'"),
        ("date,x\n2024-01-01,1\n", r"a.csv: frequency: no series has two different timestamps"),
        ("date,x\n1/1/2024,1\n2/2/2024,2\n", r"day or month first cannot be told; write `timestamp_format:` by hand"),
        ("date,x,x\n2024-01-01,1,2\n", r"columns 2 and 3 are both called 'x'"),
    ],
)
def test_a_file_without_sense_is_refused_with_what_was_seen(tmp_path, text, words):
    with pytest.raises(GuessError, match=words) as error:
        guess(write(tmp_path, text), name="seen")
    assert "\n" not in str(error.value)


def test_raw_files_that_are_no_tables_are_refused(shared):
    with pytest.raises(GuessError, match=r"tiny_shakespeare.txt: not a table"):
        guess(shared("raw/tiny_shakespeare.txt"), name="x")
    with pytest.raises(GuessError, match=r"row 2 has 7 fields and the header \(row 1\) 6"):
        guess(shared("raw/co2_monthly_broken_header.csv"), name="x")
    with pytest.raises(GuessError, match=r"no column holds times; found 'split'"):
        guess(shared("parquet/multi30k.parquet"), name="x")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(GuessError, match=r"nowhere.csv: cannot be read \(No such file or directory\)"):
        guess(tmp_path / "nowhere.csv", name="x")


def test_parquet_that_is_irregular_by_series_is_read_per_series(tmp_path):
    frame = pl.DataFrame({"ds": [1, 2, 3, 1, 2, 3], "y": [1.0, 2, 3, 4, 5, 6], "unique_id": ["a"] * 3 + ["b"] * 3})
    frame.write_parquet(tmp_path / "a.parquet")
    seen = proposed(Path(tmp_path / "a.parquet"), tmp_path)
    assert (seen["columns"]["series_id"], seen["frequency"]) == ("unique_id", "1i")
