"""The files of a table: what is written where, and that many files answer as one would."""

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rnnforecast import table, table_files
from rnnforecast.columns import KEY
from rnnforecast.table import Snapshot

FEW = 4
SCHEMA = {"series_id": pl.String(), "timestamp": pl.Int64(), "target": pl.Float64()}


@pytest.fixture(autouse=True)
def _small_files(monkeypatch):
    monkeypatch.setattr(table_files, "ROWS_PER_FILE", FEW)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "t")


def rows(steps, *, series="ab", value=0.0):
    found = [(name, step, value + step) for name in series for step in steps]
    return pl.DataFrame(found, schema=SCHEMA, orient="row")


def limits(path):
    files = table.files(path)
    return sorted(files.select("min.timestamp", "max.timestamp", "num_records").rows())


def snapshot(path):
    return table.commit(path, lambda found: found)


def test_a_large_commit_is_cut_in_time_and_every_part_has_all_series(path):
    table.upsert(path, rows(range(6)), key=KEY)
    assert limits(path) == [(0, 1, 4), (2, 3, 4), (4, 5, 4)]


def test_more_rows_of_one_time_than_a_file_takes_are_cut_by_series(path):
    table.upsert(path, rows([7], series="abcdefgh"), key=KEY)
    assert limits(path) == [(7, 7, 4), (7, 7, 4)]


def test_a_revision_of_old_rows_leaves_the_other_files_alone_and_new_rows_apart(path):
    table.upsert(path, rows(range(6)), key=KEY)
    before = set(table.files(path)["path"])
    table.upsert(path, pl.concat([rows([1], value=9.0), rows([6])]), key=KEY)
    assert limits(path) == [(0, 1, 4), (2, 3, 4), (4, 5, 4), (6, 6, 2)]
    assert len(before & set(table.files(path)["path"])) == 2


def test_a_small_last_file_grows_where_it_is_written_anyway(path):
    for step in range(3):
        table.upsert(path, rows([step], series="a"), key=KEY)
    assert len(limits(path)) == 3
    table.upsert(path, pl.concat([rows([2], series="a", value=5.0), rows([3], series="a")]), key=KEY)
    assert limits(path) == [(0, 0, 1), (1, 1, 1), (2, 3, 2)]


def test_a_batch_meets_only_the_files_of_its_own_times(path):
    table.upsert(path, rows(range(20)), key=KEY)
    batch = pl.concat([rows([3], series="a"), rows([17], series="b"), rows([99])])
    met = [name for paths, _ in table_files.touched(table.files(path), batch, KEY) for name in paths]
    files = table.files(path).filter(pl.col("path").is_in(met))
    assert sorted(files.select("min.timestamp", "max.timestamp").rows()) == [(2, 3), (16, 17)]


def test_the_newest_reading_of_a_series_that_went_silent_is_found_far_back(path):
    table.upsert(path, rows(range(4), series="s"), key=KEY)
    for step in range(4, 20, 2):
        table.upsert(path, rows([step, step + 1], series="ab"), key=KEY)
    found = snapshot(path).newest(rows([2], series="sa"))
    assert dict(found.rows()) == {"s": 3, "a": 19}


step, value = st.integers(0, 12), st.one_of(st.none(), st.floats(-9, 9, width=16))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(st.dictionaries(st.tuples(st.sampled_from("abc"), step), value, min_size=1), max_size=6),
    asked=st.dictionaries(st.sampled_from("abcd"), step, min_size=1),
)
def test_many_small_files_answer_as_a_dictionary_does(batches, asked, tmp_path_factory):
    path, expected = str(tmp_path_factory.mktemp("t") / "t"), {}
    for batch in batches:
        frame = pl.DataFrame([(*key, value) for key, value in batch.items()], schema=SCHEMA, orient="row")
        inserted = len(set(batch) - set(expected))
        updated = sum(key in expected and expected[key] != value for key, value in batch.items())
        done = table.upsert(path, frame, key=KEY)
        assert (done.inserted, done.updated) == (inserted, updated)
        expected |= batch
    if not expected:
        return
    assert {(name, at): value for name, at, value in table.read(path).rows()} == expected
    known = {key for key, value in expected.items() if value is not None}
    assert table.latest(path) == max((at for _, at in known), default=None)
    frame = pl.DataFrame([(name, at, 0.0) for name, at in asked.items()], schema=SCHEMA, orient="row")
    here = snapshot(path)
    newest = {name: max((at for other, at in known if other == name), default=-1) for name in asked}
    found = {name: at for name, at in here.newest(frame).rows() if at >= asked[name]}
    assert found == {name: at for name, at in newest.items() if at >= asked[name]}
    before = [(name, at) for name in sorted(asked) for at in sorted(at for other, at in expected if other == name)]
    wanted = [key for name in sorted(asked) for key in [k for k in before if k[0] == name and k[1] < asked[name]][-2:]]
    assert here.tail(frame, 2).select(KEY).rows() == wanted


def test_a_snapshot_of_no_table_knows_nothing(path):
    none = Snapshot(path, None, None)
    frame = rows([1])
    assert none.matching(frame, KEY).is_empty()
    assert none.newest(frame).is_empty()
    assert none.tail(frame, 3).is_empty()
    assert none.latest() is None
