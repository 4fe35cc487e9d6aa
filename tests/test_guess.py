"""What `init` sees in a file: a pipeline file that loads, ingests and says what an expert would say."""

import gzip
import os
from pathlib import Path

import numpy as np
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
    """A file that stands there for a while: nobody waits for the end of its last line."""
    (folder / name).write_text(text)
    os.utime(folder / name, (0, 0))
    return folder / name


WEATHER = ["meantemp", "humidity", "wind_speed", "meanpressure"]
TRANSFORMER = ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
BEIJING = {
    "timestamp": ["year", "month", "day", "hour"],
    "target": ["pm2.5", "DEWP", "TEMP", "PRES", "Iws", "Is", "Ir"],
}
LOCAL = {"timezone": "America/New_York", "ending": "1h"}
SP500 = {"timestamp_format": "%m/%d/%Y %H:%M"}


@pytest.mark.parametrize(
    ("name", "columns", "keys", "frequency", "horizon", "readings", "again"),
    [
        ("ETTh1.csv", {"timestamp": "date", "target": TRANSFORMER}, {}, "1h", 24, 7 * 17_420, 0),
        ("beijing_pm25.csv", BEIJING, {}, "1h", 24, 7 * 43_824, 0),
        ("delhi_climate_a.csv", {"timestamp": "date", "target": WEATHER}, {}, "1d", 7, 4 * 1_461, 0),
        ("delhi_climate_b.csv", {"timestamp": "date", "target": WEATHER}, {}, "1d", 7, 4 * 1_462, 0),
        ("delhi_climate_b_next.csv", {"timestamp": "date", "target": WEATHER}, {}, "1d", 7, 4 * 114, 0),
        ("delhi_climate_c.csv", {"timestamp": "date", "target": WEATHER}, {}, "1d", 7, 4 * 1_462, 0),
        ("elnino_year_by_month.csv", {"timestamp": "YEAR"}, {"layout": "year_month"}, "1mo", 12, 61 * 12, 0),
        ("nab_machine_temperature.csv", {"timestamp": "timestamp", "target": "value"}, {}, "5m", 12, 22_683, 12),
        ("nab_traffic_occupancy_6005.csv", {"timestamp": "timestamp", "target": "value"}, {}, "5m", 12, 2_380, 0),
        ("nab_traffic_speed_7578.csv", {"timestamp": "timestamp", "target": "value"}, {}, "5m", 12, 1_127, 0),
        ("pjm_aep_hourly_local_time.csv", {"timestamp": "Datetime", "target": "AEP_MW"}, LOCAL, "1h", 24, 121_273, 0),
        ("sp500_minute_unpadded.csv", {"timestamp": "Date", "target": "Close"}, SP500, "1m", 60, 1_563, 0),
        (
            "stocks_text_dates.csv",
            {"timestamp": "date", "target": "price", "series_id": "symbol"},
            {},
            "1mo",
            12,
            560,
            0,
        ),
        ("wti_daily.csv", {"timestamp": "Date", "target": "Price"}, {}, "1bd", 5, 10_226, 0),
    ],
)
def test_every_raw_file_is_understood_and_all_its_rows_are_taken(
    shared, tmp_path, name, columns, keys, frequency, horizon, readings, again
):
    """`again`: readings of a time that the file has twice."""
    text = guess(shared(f"raw/{name}"), name="seen", project=tmp_path)
    seen = yaml.safe_load(text)
    source = {key: value for key, value in seen["sources"][0].items() if key not in ("kind", "path")}
    assert source == {"columns": columns, **keys}
    assert (seen["frequency"], seen["horizon"]) == (frequency, horizon)
    assert ("resample" in seen) == ("traffic" in name)
    report = ingest(parse(text, file=tmp_path / "seen.yaml"))
    assert (report.inserted, report.duplicates, report.quarantined) == (readings, again, 0)


@pytest.mark.parametrize(
    ("name", "frequency"),
    [
        ("ETTh1", "1h"), ("ETTm1", "15m"), ("air_passengers", "1mo"), ("beijing_pm25", "1h"), ("co2_mlo_daily", "1d"),
        ("co2_weekly_statsmodels", "1w"), ("ecg5000_train", "1i"), ("ecg_mitbih_208_5min", "1i"),
        ("elnino_sst", "1mo"), ("energy_prices_daily", "1bd"), ("exchange_rate", "1i"), ("jsb_chorales_16th", "1i"),
        ("m3_test", "1i"), ("m3_train", "1i"), ("m4_hourly_test", "1i"), ("m4_hourly_train", "1i"),
        ("pjm_in_zone_utc", "1h"), ("sp500_daily_2000_2020", "1bd"), ("sunspots_monthly", "1mo"),
        ("taylor_halfhourly", "1i"), ("ucr_basicmotions", "1i"), ("ucr_italypowerdemand", "1i"),
        ("ucr_japanesevowels", "1i"), ("vix_daily", "1bd"),
    ],
)  # fmt: skip
def test_every_long_set_is_understood(shared, tmp_path, name, frequency):
    file = shared(f"parquet/{name}.parquet")
    seen = yaml.safe_load(guess(file, name="seen", project=tmp_path))
    assert seen["sources"][0]["columns"] == {"timestamp": "ds", "target": "y", "series_id": "unique_id"}
    assert set(seen["sources"][0]) == {"kind", "path", "columns"}
    assert (seen["frequency"], "resample" in seen) == (frequency, False)
    assert parse(yaml.safe_dump(seen), file=tmp_path / "seen.yaml").frequency == frequency


@pytest.mark.parametrize("suffix", ["jsonl", "arrow", "parquet", "csv.gz", "tsv.zst"])
@pytest.mark.parametrize(
    "name", ["elnino_year_by_month.csv", "beijing_pm25.csv", "stocks_text_dates.csv", "sp500_minute_unpadded.csv"]
)
def test_what_a_file_is_written_in_changes_nothing(shared, tmp_path, name, suffix):
    frame = pl.read_csv(shared(f"raw/{name}"), infer_schema_length=None, null_values="NA").head(2_000)
    one, other = tmp_path / "one.csv", tmp_path / f"other.{suffix}"
    frame.write_csv(one)
    write = {
        "jsonl": frame.write_ndjson,
        "arrow": frame.write_ipc,
        "parquet": frame.write_parquet,
        "csv.gz": lambda path: path.write_bytes(gzip.compress(one.read_bytes())),
        "tsv.zst": lambda path: pl.DataFrame.write_csv(frame, path, separator="\t", compression="zstd"),
    }
    write[suffix](other)
    expected, seen = proposed(one, tmp_path / "one"), proposed(other, tmp_path / "other")
    keys = ("columns", "frequency", "horizon", "season_length", "resample")
    assert [seen.get(key) for key in keys] == [expected.get(key) for key in keys]
    for key in ("layout", "timestamp_format", "null_values", "timezone"):
        assert seen["source"].get(key) == expected["source"].get(key)
    if suffix != "jsonl":  # there a null says nothing of its series, and is not counted as a reading
        assert seen["text"].splitlines()[0] == expected["text"].splitlines()[0]


def test_seasons_of_integer_steps_are_found_in_the_data(shared, tmp_path):
    assert proposed(shared("parquet/m4_hourly_train.parquet"), tmp_path)["season_length"] == 24
    assert proposed(shared("parquet/taylor_halfhourly.parquet"), tmp_path)["season_length"] == 48
    assert proposed(shared("parquet/exchange_rate.parquet"), tmp_path)["season_length"] == 1


def steps(tmp_path, values):
    """A file of series of integer steps, `values` [series, steps]."""
    rows = [f"s{row:03d},{step},{value:.6f}" for row, each in enumerate(values) for step, value in enumerate(each)]
    return write(tmp_path, "\n".join(["id,step,value", *rows]))


def test_a_weak_season_is_seen_where_many_series_show_it_and_not_in_one(tmp_path):
    """A season of a quarter of the variance of changes: their correlation a year apart is about 0.25."""
    random = np.random.default_rng(5)
    wave = 0.4 * np.array([1.0, -1.0, 0.5, -0.5])[np.arange(44) % 4]
    values = 50 + wave + random.normal(0, 1, (80, 44)).cumsum(axis=1)
    for name, each, expected in (("many", values, 4), ("one", values[:1], 1), ("walks", values - wave, 1)):
        assert proposed(steps(tmp_path, each), tmp_path / name)["season_length"] == expected


def test_what_is_smooth_repeats_at_short_lags_and_has_no_season(tmp_path):
    random = np.random.default_rng(6)
    smooth = np.convolve(random.normal(0, 1, 4_020), np.ones(20), mode="valid").cumsum()
    changes = np.diff(smooth)
    assert np.corrcoef(changes[4:], changes[:-4])[0, 1] > 0.5
    assert proposed(steps(tmp_path, smooth[None]), tmp_path)["season_length"] == 1


def test_auto_ets_competes_where_it_costs_little_and_the_champion_is_best_in_median_and_quantiles(tmp_path):
    random = np.random.default_rng(7)
    few = proposed(steps(tmp_path, random.normal(50, 1, (3, 40)).cumsum(axis=1)), tmp_path / "few")
    assert "models: [naive, seasonal_naive, auto_ets, auto_theta, gru, lstm, seq2seq, combination]" in few["text"]
    assert "backtest: {metric: both}" in few["text"]
    day = np.sin(2 * np.pi * np.arange(200) / 24)
    assert "models" not in proposed(steps(tmp_path, 50 + 9 * day[None]), tmp_path / "day")


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


def test_a_sentinel_is_one_in_every_column_that_has_it(tmp_path):
    cells = [(-9.99 if day % 5 == 0 else day / 10, (-0.99, 7, 8)[day % 3], day - 15) for day in range(1, 31)]
    rows = [f"2024-01-{day:02d},{a},{b},{c}\n" for day, (a, b, c) in enumerate(cells, start=1)]
    seen = proposed(write(tmp_path, "date,a,b,c\n" + "".join(rows)), tmp_path)
    assert seen["source"]["null_values"] == ["-0.99", "-9.99"]
    rows = [row.replace("\n", f",{-0.99 + number % 4 / 50}\n") for number, row in enumerate(rows)]
    seen = proposed(write(tmp_path, "date,a,b,c,d\n" + "".join(rows), "b.csv"), tmp_path)
    assert seen["source"]["null_values"] == ["-9.99"]


@pytest.mark.parametrize("column", ["station", "unique_id"])
def test_a_column_called_like_a_series_is_one_though_no_times_repeat(tmp_path, column):
    days = [f"2024-01-{day:02d},{'rome' if day < 15 else 'oslo'},{day}\n" for day in range(1, 29)]
    assert proposed(write(tmp_path, f"date,{column},y\n{''.join(days)}"), tmp_path)["columns"]["series_id"] == column
    alike = "".join(days).replace("oslo", "rome")
    seen = proposed(write(tmp_path, f"date,{column},y\n{alike}", "b.csv"), tmp_path)
    assert seen["columns"]["series_id"] == column


def test_a_name_or_number_of_each_row_is_no_series(tmp_path):
    days = [f"{day},n{day % 9},2024-01-{day:02d},{day % 5}\n" for day in range(1, 29)]
    assert "series_id" not in proposed(write(tmp_path, f"id,name,date,y\n{''.join(days)}"), tmp_path)["columns"]


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
    words = (
        r"row 2 has 7 fields and the header \(row 1\) 6 names; .*'Number of Days': -9.99, no name: -0.99; "
        r"write 7 names into row 1, .* \(such as: Date,.*,Number of Days,column 7\), then try again"
    )
    with pytest.raises(GuessError, match=words):
        guess(shared("raw/co2_monthly_broken_header.csv"), name="x")
    for name in ("multi30k", "sst2_sentences"):
        with pytest.raises(GuessError, match=r"no column holds times; found 'split'"):
            guess(shared(f"parquet/{name}.parquet"), name="x")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(GuessError, match=r"nowhere.csv: cannot be read \(No such file or directory\)"):
        guess(tmp_path / "nowhere.csv", name="x")


def test_parquet_that_is_irregular_by_series_is_read_per_series(tmp_path):
    frame = pl.DataFrame({"ds": [1, 2, 3, 1, 2, 3], "y": [1.0, 2, 3, 4, 5, 6], "unique_id": ["a"] * 3 + ["b"] * 3})
    frame.write_parquet(tmp_path / "a.parquet")
    seen = proposed(Path(tmp_path / "a.parquet"), tmp_path)
    assert (seen["columns"]["series_id"], seen["frequency"]) == ("unique_id", "1i")
