"""Delta tables: one commit or none, nothing twice, and errors in one line."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rnnforecast import table
from rnnforecast.table import TableError, Upsert

KEY = ("series_id", "timestamp")
START = datetime(2024, 1, 1, tzinfo=UTC)


def rows(*values, series="a", first=0, **columns):
    times = [START + timedelta(hours=first + step) for step in range(len(values))]
    frame = {"series_id": [series] * len(values), "timestamp": times, "target": values}
    types = {"timestamp": pl.Datetime("us", "UTC"), "target": pl.Float64}
    return pl.DataFrame(frame | columns, schema_overrides=types)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "lake" / "p" / "observations")


def test_a_table_that_was_never_written_has_no_version_and_no_metadata(path):
    assert table.version(path) is None
    assert table.metadata(path) == {}
    assert table.latest(path) is None
    with pytest.raises(TableError, match=r"observations: there is no table; ingest first"):
        table.read(path)
    assert not Path(path).exists()


def test_an_upsert_inserts_updates_and_leaves_alone(path):
    assert table.upsert(path, rows(1.0, 2.0, None), key=KEY) == Upsert(3, 0, 0, 0)
    assert table.upsert(path, rows(1.0, 5.0, None, 4.0), key=KEY) == Upsert(1, 1, 2, 1)
    assert table.read(path)["target"].to_list() == [1.0, 5.0, None, 4.0]
    assert table.read(path, version=0)["target"].to_list() == [1.0, 2.0, None]


def test_a_reading_may_become_missing_and_come_back(path):
    for values in ([1.0], [None], [2.0]):
        table.upsert(path, rows(*values), key=KEY)
        assert table.read(path)["target"].to_list() == values
    assert table.version(path) == 2


def test_repeating_an_upsert_makes_no_version(path):
    frame = rows(1.0, None, 3.0)
    table.upsert(path, frame, key=KEY, metadata={"cursors": {"a": 1}})
    again = table.upsert(path, frame.reverse(), key=KEY, metadata={"cursors": {"a": 1}})
    assert again == Upsert(0, 0, 3, 0)


def test_metadata_that_is_new_is_kept_though_no_row_changes(path):
    frame = rows(1.0, None, 3.0)
    table.upsert(path, frame, key=KEY, metadata={"cursors": {"a": 1}})
    digest = table.digest(table.read(path))
    assert table.upsert(path, frame, key=KEY, metadata={"cursors": {"a": 2}}) == Upsert(0, 0, 3, 1)
    assert table.upsert(path, frame.head(0), key=KEY, metadata={"cursors": {"a": 3}}) == Upsert(0, 0, 0, 2)
    assert table.metadata(path) == {"cursors": {"a": 3}}
    assert table.digest(table.read(path)) == digest


def test_metadata_is_that_of_the_newest_commit_that_has_any(path):
    table.upsert(path, rows(1.0), key=KEY, metadata={"cursor": [1, "x"]})
    table.upsert(path, rows(2.0), key=KEY)
    assert table.metadata(path) == {"cursor": [1, "x"]}
    table.upsert(path, rows(3.0), key=KEY, metadata={"cursor": None})
    assert table.metadata(path) == {"cursor": None}


def test_an_empty_frame_makes_no_table(path):
    assert table.upsert(path, rows(), key=KEY) == Upsert(0, 0, 0, None)
    assert table.append_new(path, rows(), key=KEY) == 0
    assert table.version(path) is None


def test_a_new_column_is_added_and_an_absent_one_is_left_alone(path):
    table.upsert(path, rows(1.0, 2.0), key=KEY)
    # The column comes in a commit of its own, empty, before that of the rows.
    assert table.upsert(path, rows(1.0, 2.0, rain=[0.5, None]), key=KEY) == Upsert(0, 1, 1, 2)
    assert table.upsert(path, rows(1.0, 9.0), key=KEY) == Upsert(0, 1, 1, 3)
    assert table.read(path)["rain"].to_list() == [0.5, None]
    assert table.read(path)["target"].to_list() == [1.0, 9.0]


def test_columns_of_odd_names_are_stored(path):
    odd = {"wind speed (m/s)": [1.0], "Größe`x": [2.0], "Upper": [3.0]}
    table.upsert(path, rows(1.0), key=KEY)
    table.upsert(path, rows(1.0, **odd), key=KEY)
    assert table.read(path).select(list(odd)).to_dict(as_series=False) == odd


def test_append_new_leaves_what_is_there(path):
    assert table.append_new(path, rows(1.0, 2.0), key=KEY) == 2
    assert table.append_new(path, rows(7.0, 8.0, 9.0), key=KEY) == 1
    assert table.append_new(path, rows(7.0), key=KEY) == 0
    assert table.read(path)["target"].to_list() == [1.0, 2.0, 9.0]
    assert table.version(path) == 1


def test_read_sorts_by_series_then_time(path):
    table.upsert(path, pl.concat([rows(1.0, 2.0, series="b"), rows(3.0, series="a")]).reverse(), key=KEY)
    assert table.read(path)["target"].to_list() == [3.0, 1.0, 2.0]


def test_latest_is_the_newest_time_that_has_a_reading(path):
    table.upsert(path, rows(1.0, 2.0, None), key=KEY)
    assert table.latest(path) == START + timedelta(hours=1)


def test_integer_steps_are_stored_as_such(path):
    frame = pl.DataFrame({"series_id": ["a", "a"], "timestamp": [1, 2], "target": [1.0, 2.0]})
    table.upsert(path, frame, key=KEY)
    assert table.read(path).equals(frame)
    assert table.latest(path) == 2
    with pytest.raises(TableError, match=r"column 'timestamp': expected Int64 as in the table; found Datetime"):
        table.upsert(path, rows(1.0), key=KEY)


def test_null_and_repeated_keys_are_refused(path):
    holed = rows(1.0, 2.0).with_columns(pl.Series("series_id", ["a", None]))
    with pytest.raises(TableError, match=r"expected series_id, timestamp in every row; found .*'series_id': None"):
        table.upsert(path, holed, key=KEY)
    with pytest.raises(TableError, match=r"expected one row per series_id, timestamp; found several for .*'a'"):
        table.append_new(path, pl.concat([rows(1.0), rows(2.0)]), key=KEY)
    assert table.version(path) is None


def test_a_version_that_is_not_there_is_named(path):
    table.upsert(path, rows(1.0), key=KEY)
    with pytest.raises(TableError, match=r"cannot read version 7 of 0 to 0"):
        table.read(path, version=7)


def test_a_place_that_is_no_folder_is_refused_in_one_line(tmp_path):
    (tmp_path / "lake").write_text("in the way")
    path = str(tmp_path / "lake" / "p" / "observations")
    with pytest.raises(
        TableError, match=r"observations: the table cannot be written: .*lake is not a folder; make it"
    ) as e:
        table.upsert(path, rows(1.0), key=KEY)
    assert "\n" not in str(e.value)


def test_a_read_only_folder_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    # Root may write everywhere, so that the answer of the system is played here.
    monkeypatch.setattr(table.os, "access", lambda place, mode: False)
    with pytest.raises(TableError, match=r"is not writable for this user; .*`storage.lake:`"):
        table.upsert(str(tmp_path / "lake" / "t"), rows(1.0), key=KEY)
    assert not (tmp_path / "lake").exists()


WRITER = """
import sys, polars as pl
from datetime import datetime, timedelta, UTC
from rnnforecast import table
path, name = sys.argv[1:]
for step in range(8):
    stamp = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=step)]
    frame = pl.DataFrame({"series_id": [name, "both"], "timestamp": stamp * 2, "target": [float(step)] * 2})
    frame = frame.with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC")))
    table.upsert(path, frame, key=("series_id", "timestamp"))
"""


def test_two_writers_at_once_lose_and_double_nothing(path):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, path, name], stderr=subprocess.PIPE, text=True)
        for name in ("left", "right")
    ]
    for writer in writers:
        assert writer.wait(60) == 0, writer.stderr.read()
    frame = table.read(path)
    assert frame.group_by("series_id").len().sort("series_id").rows() == [("both", 8), ("left", 8), ("right", 8)]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(
        st.dictionaries(st.integers(0, 6), st.one_of(st.none(), st.floats(-9, 9, width=16)), min_size=1), max_size=4
    )
)
def test_upserts_equal_a_dictionary_that_is_updated(batches, tmp_path_factory):
    path, expected = str(tmp_path_factory.mktemp("t") / "t"), {}
    for batch in batches:
        frame = pl.DataFrame(
            {"series_id": ["s"] * len(batch), "timestamp": list(batch), "target": list(batch.values())},
            schema_overrides={"target": pl.Float64},
        )
        inserted = len(set(batch) - set(expected))
        updated = sum(key in expected and expected[key] != value for key, value in batch.items())
        before = table.version(path)
        done = table.upsert(path, frame, key=KEY)
        assert (done.inserted, done.updated) == (inserted, updated)
        assert done.inserted + done.updated + done.unchanged == len(batch)
        assert (done.version == before) == (inserted + updated == 0)
        expected |= batch
    if expected:
        assert dict(table.read(path).select("timestamp", "target").rows()) == expected


def test_the_digest_ignores_order_and_sees_every_change():
    frame = rows(1.0, None, 0.0, name=["ab", "c", None])
    same = table.digest(frame)
    assert len(same) == 32
    assert table.digest(frame.reverse().select(*reversed(frame.columns))) == same
    assert table.digest(frame.with_columns(pl.col("target") * -1 * -1)) == same
    others = [
        rows(1.0, 0.0, None, name=["ab", "c", None]),
        rows(1.0, None, 0.0, name=["a", "bc", None]),
        rows(1.0, None, 0.0, name=["ab", "c", ""]),
        rows(1.0, None, 0.0, name=["ab", "c", None], first=1),
        frame.rename({"name": "names"}),
        frame.head(2),
    ]
    assert len({table.digest(other) for other in others} | {same}) == len(others) + 1


def test_the_digest_stays_what_it_was():
    # Stored in the registry: a new value would retrain everybody's models.
    assert table.digest(rows(1.5, None, -2.0)) == "1ce01dc7b84a8dc9ffbbf33d0da688c8"
