"""Columns that are not as they were: told by name, and treated as the pipeline file says."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from rnnforecast import table
from rnnforecast.config import ConfigError, parse
from rnnforecast.ingest import ingest
from rnnforecast.sources import SourceError
from rnnforecast.sources.base import ROW
from rnnforecast.sources.layout import Mapping
from rnnforecast.sources.parse import Memory, to_long
from rnnforecast.sources.rows import Rows


class Feed:
    """Batches of one source, one after the other; what is remembered goes through JSON as in a cursor."""

    def __init__(self, *, sparse=False, covariates=(), columns=None, **source):
        columns = columns or {"timestamp": "time", "target": "value"}
        source = {"kind": "file", "path": "x.csv", "columns": columns, **source}
        keys = {"past_covariates": list(covariates)} if covariates else {}
        text = yaml.safe_dump({"name": "p", "horizon": 1, "sources": [source]} | keys)
        pipeline = parse(text, file=Path("/p.yaml"))
        self.mapping = Mapping.of(pipeline, pipeline.sources[0], "x.csv")
        self.memory, self.row, self.sparse = Memory(), 0, sparse

    def __call__(self, **columns):
        frame = pl.DataFrame(columns)
        if "time" not in columns:
            times = [f"2020-01-01T{(self.row + i) % 24:02d}:00" for i in range(len(frame))]
            days = [(self.row + i) // 24 for i in range(len(frame))]
            frame = frame.with_columns(
                time=pl.Series(times).str.to_datetime() + pl.duration(days=pl.Series(days)),
            ).with_columns(pl.col("time").dt.to_string("iso"))
        if all(dtype == pl.Float64 for name, dtype in frame.schema.items() if name != "time"):
            frame = frame.cast(pl.String)
        frame = frame.with_row_index(ROW, offset=self.row + 1).cast({ROW: pl.Int64})
        self.row += len(frame)
        rows = Rows(frame, sparse=self.sparse)
        done = to_long(rows, self.mapping, name="x.csv", memory=self.memory)
        self.memory = Memory.of(json.loads(json.dumps(done.memory.as_cursor())))
        return done


def told(done):
    return [(change.kind, change.column, change.action) for change in done.changes]


def numbers(size, count=64, seed=0):
    return (size * (1 + 0.1 * np.random.default_rng(seed).normal(size=count))).round(4).tolist()


def test_the_first_rows_of_a_source_change_nothing():
    assert Feed()(value=numbers(10), other=["a"] * 64).changes == ()


def test_a_new_column_is_told_once_and_ignored():
    feed = Feed()
    feed(value=["1", "2"])
    done = feed(value=["3"], humidity=["40"])
    assert told(done) == [("new", "humidity", "ignore")]
    assert "holds numbers" in done.changes[0].detail
    assert done.frame["target"].to_list() == [3.0]
    assert feed(value=["4"], humidity=["41"]).changes == ()


@pytest.mark.parametrize("rule", ["new", "humidity"])
def test_a_new_column_is_stored_from_then_on_where_it_is_to_be_added(rule):
    feed = Feed(on_change={rule: "add"})
    first = feed(value=["1"])
    assert "humidity" not in first.frame.columns
    done = feed(value=["2", "3"], humidity=["40", "NA"])
    assert told(done) == [("new", "humidity", "add")]
    assert done.frame["humidity"].to_list() == [40.0, None]
    without = feed(value=["4"])
    assert told(without) == [("missing", "humidity", "ignore")]
    assert without.frame["humidity"].to_list() == [None]
    again = feed(value=["5"], humidity=["43"])
    assert again.frame["humidity"].to_list() == [43.0]


def test_a_column_of_text_and_one_of_a_taken_name_are_not_added():
    feed = Feed(on_change={"new": "add"})
    feed(value=["1"])
    done = feed(value=["2"], state=["on"], target=["7"])
    assert told(done) == [("new", "state", "ignore"), ("new", "target", "ignore")]
    assert done.frame["target"].to_list() == [2.0]
    assert "state" not in done.frame.columns


def test_a_column_that_was_ignored_is_added_as_soon_as_the_pipeline_file_says_so():
    feed = Feed()
    feed(value=["1"])
    feed(value=["2"], humidity=["40"])
    later = Feed(on_change={"humidity": "add"})
    later.memory, later.row = feed.memory, feed.row
    assert later(value=["3"], humidity=["41"]).frame["humidity"].to_list() == [41.0]


@pytest.mark.parametrize(("rule", "shown"), [("new", "'humidity' is new"), ("humidity", "'humidity' is new")])
def test_a_new_column_stops_the_source_where_it_is_to(rule, shown):
    feed = Feed(on_change={rule: "stop"})
    feed(value=["1"])
    with pytest.raises(SourceError, match=f"x.csv: column {shown}.*on_change"):
        feed(value=["2"], humidity=["40"])


def test_a_missing_target_stops_the_source_and_the_new_column_is_named():
    feed = Feed()
    feed(value=["1"])
    with pytest.raises(SourceError, match=r"'value' is missing, which earlier rows had \(new: val\)"):
        feed(val=["2"])


def test_a_missing_column_that_is_not_used_is_only_told():
    feed = Feed()
    feed(value=["1"], note=["x"])
    assert told(feed(value=["2"])) == [("missing", "note", "ignore")]
    assert feed(value=["3"]).changes == ()


def test_a_missing_covariate_is_null_where_that_is_to_be_ignored():
    feed = Feed(covariates=["load"], on_change={"load": "ignore"})
    feed(value=["1"], load=["5"])
    done = feed(value=["2"])
    assert told(done) == [("missing", "load", "ignore")]
    assert (done.frame["target"].to_list(), done.frame["load"].to_list()) == ([2.0], [None])


def test_readings_of_a_missing_column_go_to_quarantine_where_they_are_to():
    wide = {"timestamp": "time", "target": ["a", "b"]}
    feed = Feed(columns=wide, on_change={"missing": "quarantine"})
    feed(a=["1"], b=["2"])
    done = feed(a=["3"])
    assert done.frame.select("series_id", "target").rows() == [("a", 3.0)]
    assert done.rejected.select("column", "reason").rows() == [("b", "missing column: earlier rows had it")]


@pytest.mark.parametrize("action", ["ignore", "quarantine"])
def test_rows_without_their_time_stop_the_source_whatever_is_said(action):
    feed = Feed(on_change={"missing": action})
    feed(value=["1"])
    rows = Rows(pl.DataFrame({ROW: [9], "stamp": ["2024-01-02"], "value": ["2"]}))
    with pytest.raises(SourceError, match=r"'time' is missing, which earlier rows had \(new: stamp"):
        to_long(rows, feed.mapping, name="x.csv", memory=feed.memory)


def test_a_key_that_few_messages_have_is_not_missing_until_a_thousand_went_without():
    feed = Feed(sparse=True, covariates=["load"], on_change={"load": "ignore"})
    feed(value=["1"], load=["5"])
    assert feed(value=["2"]).changes == ()
    assert feed(value=["3"] * 997).changes == ()
    assert told(feed(value=["3"] * 2)) == [("missing", "load", "ignore")]
    assert feed(value=["3"] * 5).changes == ()
    assert feed(value=["3"], load=["6"]).frame["load"].to_list() == [6.0]


def test_a_message_without_a_key_says_nothing_of_that_series():
    feed = Feed(sparse=True, columns={"timestamp": "time", "target": ["a", "b"]})
    done = feed(a=["1", None, None], b=[None, "2", "x"])
    assert done.frame.select(ROW, "series_id", "target").rows() == [(1, "a", 1.0), (2, "b", 2.0)]
    assert done.rejected.select("row", "column").rows() == [(3, "b")]
    empty = Feed(sparse=True, columns={"timestamp": "time", "target": ["a", "b"]})
    assert len(empty(a=[None], b=[None]).frame) == 0
    assert empty(time=[7], a=["1"]).frame["timestamp"].to_list() == [7]


def test_numbers_that_become_text_are_told_and_refused_cell_by_cell():
    feed = Feed()
    feed(value=["1", "2"])
    done = feed(value=["high", "low", "3"])
    assert told(done) == [("type", "value", "quarantine")]
    assert "held numbers before and holds text now, such as 'low'" in done.changes[0].detail
    assert done.frame["target"].to_list() == [3.0]
    assert done.rejected["reason"].to_list() == ["'high' is not a number", "'low' is not a number"]


def test_text_where_numbers_were_is_no_reading_where_that_is_to_be_ignored():
    feed = Feed(on_change={"type": "ignore"})
    feed(value=["1", "2"])
    assert feed(value=["high", "3"]).frame["target"].to_list() == [None, 3.0]


def test_a_typed_column_that_becomes_true_or_false_is_refused_cell_by_cell():
    feed = Feed()
    feed(value=[1.0, 2.0])
    done = feed(value=[True, False])
    assert told(done) == [("type", "value", "quarantine")]
    assert done.rejected["reason"].to_list() == ["'true' is not a number", "'false' is not a number"]


@pytest.mark.parametrize("dtype", [pl.String, pl.Datetime("us")])
def test_steps_that_become_times_are_told_and_refused(dtype):
    feed = Feed()
    feed(time=[1, 2], value=["1", "2"])
    times = pl.Series(["2024-01-01 00:00", "2024-01-01 01:00"]).str.to_datetime(time_unit="us").cast(dtype)
    done = feed(time=times, value=["3", "4"])
    assert told(done) == [("type", "time", "quarantine")]
    assert len(done.frame) == 0
    assert done.rejected["reason"].str.starts_with("unreadable timestamp: 2024").to_list() == [True, True]


def test_a_changed_type_stops_the_source_where_it_is_to():
    feed = Feed(on_change={"value": "stop"})
    feed(value=["1"])
    with pytest.raises(SourceError, match="column 'value' held numbers before and holds text now, such as 'high'"):
        feed(value=["high"])


@pytest.mark.parametrize(("factor", "said"), [(1000, "1,000 times larger"), (0.1, "10 times smaller")])
def test_another_unit_is_told_with_both_sizes_and_the_row_once(factor, said):
    feed = Feed()
    feed(value=numbers(12, 128))
    done = feed(value=[factor * value for value in numbers(12, 128, seed=1)])
    assert told(done) == [("unit", "value", "ignore")]
    assert f"readings are {said} from row 129 on (12" in done.changes[0].detail.replace("11.9", "12")
    assert len(done.frame) == 128
    assert feed(value=[factor * value for value in numbers(12, 128, seed=2)]).changes == ()
    assert told(feed(value=numbers(12, 64))) == [("unit", "value", "ignore")]


@pytest.mark.parametrize(("size", "since"), [(3, 160), (7, 155), (40, 129), (256, 129)])
def test_another_unit_is_found_wherever_batches_are_cut_and_small_ones_tell_where_it_was_certain(size, since):
    feed, found = Feed(), []
    values = numbers(12, 128) + [100 * value for value in numbers(12, 128, seed=1)]
    for start in range(0, len(values), size):
        found += feed(value=values[start : start + size]).changes
    assert [change.kind for change in found] == ["unit"]
    assert f"from row {since} on" in found[0].detail


def test_readings_in_another_unit_go_to_quarantine_until_the_old_one_is_back():
    feed = Feed(covariates=["load"], on_change={"unit": "quarantine"})
    feed(value=numbers(12, 128), load=numbers(5, 128))
    for _ in range(2):
        done = feed(value=numbers(12_000), load=numbers(5))
        assert len(done.frame) == 0
        assert done.rejected["reason"].str.starts_with("other unit: readings are 1,000 times larger").all()
    assert len(feed(value=numbers(12), load=numbers(5)).frame) == 64
    load = feed(value=numbers(12), load=numbers(0.05))
    assert told(load) == [("unit", "load", "quarantine")]
    assert load.rejected["column"].unique().to_list() == ["load"]


def test_another_unit_stops_the_source_where_it_is_to():
    feed = Feed(on_change={"unit": "stop"})
    feed(value=numbers(12, 128))
    with pytest.raises(SourceError, match="column 'value': readings are 100 times larger from row 129 on"):
        feed(value=numbers(1200))


def test_series_of_other_sizes_and_a_growing_one_are_no_change_of_unit():
    feed = Feed(columns={"timestamp": "time", "target": "value", "series_id": "who"})
    for who in range(8):
        values = numbers(10.0**who, 100, seed=who)
        assert feed(value=[str(value) for value in values], who=[f"s{who}"] * 100).changes == ()
    growing = Feed()
    for step in range(60):
        assert growing(value=numbers(1.1**step, 50, seed=step)).changes == ()


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        ({"missing": "add"}, "on_change: missing: add: only a new column can be added"),
        ({"unit": "add"}, "on_change: unit: add"),
        ({"new": "quarantine"}, "on_change: new: quarantine"),
    ],
)
def test_what_cannot_be_done_about_a_change_is_refused(rules, found):
    with pytest.raises(ConfigError, match=found):
        Feed(on_change=rules)


def test_what_is_done_about_changes_is_no_part_of_what_a_source_is():
    assert Feed().mapping.decisive == Feed(on_change={"new": "add"}).mapping.decisive


@pytest.mark.parametrize("name", ["ETTh1", "m4_hourly_train", "beijing_pm25", "exchange_rate", "ecg_mitbih_208_5min"])
def test_real_series_in_batches_are_no_change(shared, name):
    assert changes_of(shared, name, factor=1) == []


@pytest.mark.parametrize("name", ["ETTh1", "m4_hourly_train", "pjm_in_zone_utc", "vix_daily"])
def test_real_series_a_thousand_times_larger_from_a_batch_on_are_told_once(shared, name):
    found = changes_of(shared, name, factor=1000)
    assert [change.kind for change in found] == ["unit"]
    assert "1,000 times larger" in found[0].detail


def changes_of(shared, name, *, factor, batches=20):
    feed = Feed(columns={"timestamp": "ds", "target": "y", "series_id": "unique_id"})
    frame = pl.read_parquet(shared(f"parquet/{name}.parquet")).select("unique_id", "ds", "y").head(100_000)
    frame = frame.sort("ds", "unique_id").with_row_index(ROW, offset=1).cast({ROW: pl.Int64, "y": pl.Float64})
    size, found = len(frame) // batches + 1, []
    for number in range(batches):
        rows = frame[number * size : (number + 1) * size]
        rows = rows.with_columns(pl.col("y") * (factor if 2 * number >= batches else 1))
        done = to_long(Rows(rows), feed.mapping, name=name, memory=feed.memory)
        feed.memory = Memory.of(json.loads(json.dumps(done.memory.as_cursor())))
        found += done.changes
    return found


def test_an_ingest_tells_of_changes_and_the_table_grows_by_the_column_that_is_added(tmp_path):
    columns = {"timestamp": "time", "target": "value"}
    source = {"kind": "file", "path": "*.csv", "columns": columns, "settle": 0, "on_change": {"new": "add"}}
    text = yaml.safe_dump({"name": "p", "horizon": 1, "sources": [source]})
    pipeline = parse(text, file=tmp_path / "p.yaml")
    (tmp_path / "a.csv").write_text("time,value\n2024-01-01,1\n")
    assert ingest(pipeline).changes == []
    (tmp_path / "b.csv").write_text("time,value,humidity\n2024-01-02,2,40\n")
    told = [(change["kind"], change["column"], change["action"]) for change in ingest(pipeline).changes]
    assert told == [("new", "humidity", "add")]
    (tmp_path / "c.csv").write_text("time,value,humidity\n2024-01-03,3,41\n")
    assert ingest(pipeline).changes == []
    assert table.read(pipeline.table("observations"))["humidity"].to_list() == [None, 40.0, 41.0]
