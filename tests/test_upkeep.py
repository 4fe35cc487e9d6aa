"""Upkeep: fewer files with the same rows, kept versions readable, and nothing that an ingest could trip over."""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_ingest import pipeline, write

from rnnforecast import table, table_files
from rnnforecast.columns import KEY
from rnnforecast.ingest import history, ingest
from rnnforecast.table import TableError
from rnnforecast.upkeep import upkeep
from rnnforecast.upkeep_files import known, rewrite
from rnnforecast.upkeep_plan import Group

START = datetime(2024, 1, 1, tzinfo=UTC)
FILE_ROWS = 40


@pytest.fixture(autouse=True)
def _small_files(monkeypatch):
    monkeypatch.setattr(table_files, "ROWS_PER_FILE", FILE_ROWS)


@pytest.fixture
def built(tmp_path):
    return pipeline(tmp_path)


def put(built, steps, *, series=("a", "b"), value=0.0, **columns):
    """A reading of every series at every step, in one commit."""
    rows = [(name, START + timedelta(hours=step), value + step) for name in series for step in steps]
    schema = {"series_id": pl.String(), "timestamp": pl.Datetime("us", "UTC"), "target": pl.Float64()}
    frame = pl.DataFrame(rows, schema=schema, orient="row").with_columns(**columns)
    metadata = {"cursors": {"file": len(rows)}}
    return table.upsert(built.table("observations"), frame, key=KEY, metadata=metadata)


def observations(built, version=None):
    return table.read(built.table("observations"), version=version)


def digest(built, version=None):
    return table.digest(observations(built, version))


def files(built):
    return known(table.files(built.table("observations")))


def on_disk(built, name="observations"):
    return {file.name for file in Path(built.table(name)).glob("*.parquet")}


def big(built):
    return sorted((file.low, file.high) for file in files(built) if 2 * file.rows >= FILE_ROWS)


def test_many_small_files_become_few_that_follow_each_other_in_time(built):
    for step in range(100):
        put(built, [step])
    before = digest(built)
    report = upkeep(built)
    done = report.tables[0]
    assert (done.table, done.files_before, done.rewritten) == ("observations", 100, 100)
    assert done.files_after == len(files(built)) == 5
    assert digest(built) == before
    assert all(former[1] < later[0] for former, later in pairwise(big(built)))
    assert done.bytes_after < done.bytes_before


def test_a_load_of_one_series_after_the_other_is_cut_in_time(built):
    for name in "abcdef":
        put(built, range(40), series=(name,))
    assert all(file.low < START.timestamp() * 1e6 + 1 for file in files(built))
    before = digest(built)
    upkeep(built)
    assert digest(built) == before
    assert len(big(built)) == 6
    assert all(former[1] < later[0] for former, later in pairwise(big(built)))


def test_late_rows_go_to_their_time_and_leave_the_files_between_alone(built):
    for first in range(0, 100, 20):
        put(built, range(first, first + 20))
    untouched = {file.path for file in files(built)[1:-1]}
    first, last = (
        file.path for file in (min(files(built), key=lambda f: f.low), max(files(built), key=lambda f: f.low))
    )
    put(built, [3, 99, 100], series=("late",))
    before = digest(built)
    upkeep(built)
    assert digest(built) == before
    paths = {file.path for file in files(built)}
    assert paths >= {first, last, *untouched}
    assert len(paths) == 8  # a small one for each of three times


def test_a_second_upkeep_has_nothing_to_do_and_makes_no_version(built):
    for step in range(30):
        put(built, [step])
    first = upkeep(built)
    again = upkeep(built)
    assert again.tables[0].version == first.tables[0].version
    assert [each.rewritten + each.removed for each in again.tables] == [0] * len(again.tables)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    commits=st.lists(
        st.tuples(st.integers(0, 200), st.integers(1, 60), st.sampled_from(["a", "ab", "xyz", "abcdefgh"])),
        min_size=1,
        max_size=12,
    )
)
def test_whatever_was_written_the_rows_stay_and_one_upkeep_is_enough(commits, tmp_path_factory):
    built = pipeline(tmp_path_factory.mktemp("t"))
    for number, (first, count, series) in enumerate(commits):
        put(built, range(first, first + count), series=tuple(series), value=number)
    before, cursors = digest(built), table.metadata(built.table("observations"))
    version = upkeep(built).tables[0].version
    assert digest(built) == before
    assert table.metadata(built.table("observations")) == cursors
    assert upkeep(built).tables[0].version == version
    assert all(former[1] <= later[0] for former, later in pairwise(big(built)))
    assert sum(2 * file.rows < FILE_ROWS for file in files(built)) <= len(big(built)) + 2


def test_more_rows_at_one_time_than_a_file_takes_are_no_endless_task(built):
    for part in range(4):
        put(built, [0, 1], series=tuple(f"{part}-{number}" for number in range(50)))
    before = digest(built)
    upkeep(built)
    assert digest(built) == before
    assert upkeep(built).tables[0].rewritten == 0


def test_a_column_that_came_later_stays_null_where_it_was(built):
    put(built, range(5))
    put(built, range(5, 10), rain=pl.lit(1.5))
    before = digest(built)
    upkeep(built)
    assert digest(built) == before
    assert observations(built)["rain"].null_count() == 10


def test_versions_of_models_and_of_the_last_days_stay_readable_and_no_others(built):
    for value in range(5):
        put(built, range(10), value=value)
    digests = [digest(built, version) for version in range(5)]
    report = upkeep(built, versions=[1, 77, -1], keep_days=0)
    assert report.kept == (1,)
    assert report.tables[0].removed == 3
    assert len(on_disk(built)) == 2
    assert [digest(built, version) for version in (1, 4)] == [digests[1], digests[4]]
    for gone in (0, 2, 3):
        with pytest.raises(TableError, match=rf"version {gone} is not kept any more: upkeep .*the newest is 4$"):
            observations(built, gone)
    assert upkeep(built, versions=[1], keep_days=0).tables[0].removed == 0


def test_the_last_days_are_kept_whatever_models_say(built):
    for value in range(3):
        put(built, range(10), value=value)
    assert upkeep(built, keep_days=1).tables[0].removed == 0
    assert [observations(built, version)["target"][0] for version in range(3)] == [0, 1, 2]


def test_what_a_killed_writer_left_is_deleted_after_a_day_and_not_before(built):
    put(built, range(10))
    folder = Path(built.table("observations"))
    for name, hours in (("old", 25), ("fresh", 23)):
        (folder / f"{name}.parquet").write_bytes(b"half a file")
        os.utime(folder / f"{name}.parquet", (time.time() - 3_600 * hours,) * 2)
    done = upkeep(built, keep_days=0).tables[0]
    assert (done.removed, done.removed_bytes) == (1, 11)
    assert (folder / "fresh.parquet").exists()
    assert not (folder / "old.parquet").exists()


def test_a_dry_run_says_what_would_be_done_and_does_nothing(built):
    for step in range(3):
        put(built, range(0, 12 + step), value=step)
        put(built, [50 + step])
    there = on_disk(built)
    said = upkeep(built, keep_days=0, dry_run=True)
    assert said.tables[0].rewritten > 1
    assert said.tables[0].removed > 0
    assert on_disk(built) == there
    assert said.tables[0].version == table.version(built.table("observations")) == 5


def test_the_tables_beside_the_observations_are_merged_too(built, tmp_path):
    for day in range(1, 6):
        write(tmp_path, f"{day}.csv", f"2024-01-0{day},x,{day}", f"2024-01-0{day},x,bad{day}")
        ingest(built)
    before = {name: table.digest(table.read(built.table(name))) for name in ("quarantine", "ingests")}
    done = {each.table: each for each in upkeep(built).tables}
    assert {name: (done[name].files_before, done[name].files_after) for name in before} == {
        "quarantine": (5, 1),
        "ingests": (5, 1),
    }
    assert {name: table.digest(table.read(built.table(name))) for name in before} == before


def test_upkeep_is_no_ingest_and_equal_ingests_are_several(built, tmp_path):
    for day in (1, 2, 3):
        write(tmp_path, f"{day}.csv", f"2024-01-0{day},x,1")
        ingest(built)
        upkeep(built)
    assert table.version(built.table("observations")) > 3
    write(tmp_path, "4.csv", "2024-01-04,x,1")
    ingest(built)
    found = history(built)
    assert found["inserted"].to_list() == [1, 1, 1, 1]
    assert ingest(built).read == 0


def test_a_file_that_an_ingest_changed_meanwhile_is_left_to_it(built):
    for step in range(5):
        put(built, [step])
    group = Group(tuple(files(built)))
    put(built, [2], value=7.0)
    before, there = digest(built), on_disk(built)
    assert not rewrite(built.table("observations"), group, KEY, FILE_ROWS, None)
    assert digest(built) == before
    assert on_disk(built) == there


WRITER = """
import sys, polars as pl
from datetime import datetime, timedelta, UTC
from rnnforecast import table
print("ready", flush=True)
for round in range(3):
    for step in range(25):
        stamp = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=step)]
        frame = pl.DataFrame({"series_id": ["a", "b"], "timestamp": stamp * 2, "target": [float(step + round)] * 2})
        frame = frame.with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC")))
        table.upsert(sys.argv[1], frame, key=("series_id", "timestamp"), metadata={"cursors": {"at": [round, step]}})
"""


def test_upkeep_while_another_process_writes_loses_and_doubles_nothing(built):
    path = built.table("observations")
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "ready\n"
        rewritten = 0
        while writer.poll() is None:
            rewritten += sum(each.rewritten for each in upkeep(built).tables)
    assert writer.returncode == 0
    assert rewritten > 0
    frame = observations(built)
    assert frame["target"].to_list() == [float(step + 2) for _ in "ab" for step in range(25)]
    assert table.metadata(path) == {"cursors": {"at": [2, 24]}}
