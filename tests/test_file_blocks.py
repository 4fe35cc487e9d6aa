"""Large files come in blocks, compressed ones unpack as they are read: where it is cut makes no difference."""

import bz2
import csv
import gzip
import io
import json
import lzma

import polars as pl
import pyarrow as pa
import pytest
from file_project import LONG, Project, utc, values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from rnnforecast.sources import SourceError

PACKERS = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}
CALM = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


CELL = st.sampled_from(["1", "2.5", "", "NA", "x", '"q"', "a,b", "line\nend", "é", "1e400", " 7 "])
STAMP = st.sampled_from(
    ["2023-10-29 02:30", "2023-10-29 03:30", "2023-03-26 02:30", "1.3.2024", "13.3.2024 10:00", "no time", "2023-10-29"]
)


@CALM
@given(
    rows=st.lists(
        st.tuples(STAMP, CELL, st.sampled_from("ab")), min_size=1, max_size=8, unique_by=lambda row: row[:2:2]
    ),
    end=st.sampled_from(["\n", "\r\n"]),
    unfinished=st.booleans(),
    block=st.integers(1, 200),
    kind=st.sampled_from(["csv", "jsonl"]),
)
def test_tiny_blocks_give_the_same_as_one_and_any_of_them_can_be_the_last_that_was_stored(
    project, rows, end, unfinished, block, kind
):
    rows = [("2024-05-01", "1", "a"), *rows]
    if kind == "csv":
        out = io.StringIO()
        csv.writer(out, lineterminator=end).writerows([("time", "value", "who"), *rows])
        text = out.getvalue()
    else:
        text = "".join(json.dumps(dict(zip(("time", "value", "who"), row, strict=True))) + end for row in rows)
    (project.folder / f"a.{kind}").write_bytes(text.removesuffix(end if unfinished else "").encode())
    keys = {"path": f"a.{kind}", "columns": {**LONG, "series_id": "who"}, "timezone": "Europe/Berlin"}
    whole = project.read(**keys)
    parts = project.batches(**keys, sizes={"block": block})
    cut = project.read(**keys, sizes={"block": block})
    assert_frame_equal(cut.frame, whole.frame)
    assert_frame_equal(cut.rejected, whole.rejected)
    strip = lambda cursor: {k: v for k, v in cursor["files"][f"a.{kind}"].items() if k != "folds"}  # noqa: E731
    assert strip(cut.cursor) == strip(whole.cursor)
    number = len(parts) // 2  # the process is killed after this one was stored
    rest = project.read(parts[number - 1].cursor, **keys, sizes={"block": block}) if number else cut
    frames = [each.frame.drop("#row") for each in parts[:number]] + [rest.frame]
    assert_frame_equal(pl.concat([frame for frame in frames if len(frame)]), whole.frame)
    assert rest.cursor == cut.cursor


@CALM
@given(lengths=st.lists(st.integers(0, 7), min_size=1, max_size=5), rows=st.integers(1, 9), kind=st.sampled_from("pfs"))
def test_typed_files_of_any_row_groups_or_record_batches_are_cut_anywhere(project, lengths, rows, kind):
    lengths = [2, *lengths]
    frame = pl.DataFrame({"time": range(sum(lengths)), "value": [n / 4 for n in range(sum(lengths))]})
    path = project.folder / f"a.{'parquet' if kind == 'p' else 'arrow'}"
    if kind == "p":
        frame.write_parquet(path, row_group_size=max(lengths))
    else:
        table = frame.to_arrow()
        make = pa.ipc.new_file if kind == "f" else pa.ipc.new_stream
        with make(path, table.schema) as writer:
            begin = 0
            for length in lengths:
                writer.write_table(table.slice(begin, length))
                begin += length
    parts = project.batches(path=path.name, sizes={"rows": rows})
    assert max(len(part.frame) for part in parts) <= rows
    assert [value for part in parts for value in values(part)] == frame["value"].to_list()
    assert [row for part in parts for row in part.frame["#row"]] == list(range(1, len(frame) + 1))
    for number, part in enumerate(parts[:-1][:2], start=1):
        rest = project.read(part.cursor, path=path.name, sizes={"rows": rows})
        assert sum(len(each.frame) for each in parts[:number]) + len(rest.frame) == len(frame)
        assert rest.cursor == parts[-1].cursor
    assert project.read(parts[-1].cursor, path=path.name) is None


def test_what_the_first_block_leaves_open_later_rows_may_answer(project):
    lines = [f"0{day}/02/2024,{day}" for day in range(1, 10)] + ["13/02/2024,13"]
    project.write(a__csv="\n".join(["time,value", *lines]) + "\n")
    batch = project.read(sizes={"block": 40})
    assert batch.frame["timestamp"].to_list() == [*(utc(2024, 2, day) for day in range(1, 10)), utc(2024, 2, 13)]
    project.write(a__csv="\n".join(["time,value", *lines[:-1]]) + "\n")
    with pytest.raises(SourceError, match=r"day or month first cannot be told \(no number is above 12\)"):
        project.read(sizes={"block": 40})


def test_the_second_of_a_repeated_hour_may_come_blocks_later(project):
    """The rows of one series after those of another: the later series' day is not the file's last one."""
    rows = ["2023-10-29 02:30,1,x", "2024-10-27 02:30,1,y", "2023-10-29 02:30,2,x", "2024-10-27 02:30,2,y"]
    project.write(a__csv="\n".join(["time,value,s", *rows]) + "\n")
    keys = {"timezone": "Europe/Berlin", "columns": {**LONG, "series_id": "s"}}
    for block in (1, 30, 10_000):
        assert project.read(**keys, sizes={"block": block}).frame.rows() == [
            ("x", utc(2023, 10, 29, 0, 30), 1.0), ("y", utc(2024, 10, 27, 0, 30), 1.0),
            ("x", utc(2023, 10, 29, 1, 30), 2.0), ("y", utc(2024, 10, 27, 1, 30), 2.0),
        ]  # fmt: skip


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_compressed_text_is_read_and_read_on_where_it_grew(project, suffix, kind):
    head = "time,value\n" if kind == "csv" else ""
    lines = [f"{n},{n}\n" if kind == "csv" else f'{{"time": {n}, "value": {n}}}\n' for n in range(50)]
    name = f"a.{kind}.{suffix}"
    (project.folder / name).write_bytes(PACKERS[suffix]((head + "".join(lines[:30])).encode()))
    first = project.read(path=name, sizes={"block": 64})
    assert values(first) == [float(n) for n in range(30)]
    # What is appended may be a compressed part of its own.
    with (project.folder / name).open("ab") as file:
        file.write(PACKERS[suffix]("".join(lines[30:]).encode()))
    second = project.read(first.cursor, path=name)
    assert values(second) == [float(n) for n in range(30, 50)]
    assert project.read(second.cursor, path=name) is None


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_damaged_compressed_file_is_refused(project, suffix):
    (project.folder / f"a.csv.{suffix}").write_bytes(b"no such thing as this" * 10)
    with pytest.raises(SourceError, match=rf"a.csv.{suffix}: cannot be unpacked as .{suffix} \(.*check what wrote it"):
        project.read(path=f"a.csv.{suffix}")


def test_a_compressed_parquet_file_is_refused(project):
    project.write(a__parquet__gz=b"x")
    with pytest.raises(SourceError, match=r"a.parquet.gz: a compressed parquet file; unpack it"):
        project.read(path="a.parquet.gz")


def test_a_new_file_that_is_rewritten_halfway_is_read_again_from_its_start(project):
    project.write(a__csv="time,value\n" + "".join(f"{n},1\n" for n in range(20)), b__csv="time,value\n0,7\n")
    parts = project.batches(path="*.csv", sizes={"block": 40})
    assert len(parts) > 2
    project.write(a__csv="time,value\n" + "".join(f"{n},22\n" for n in range(20)))
    rest = project.read(parts[1].cursor, path="*.csv", sizes={"block": 40})
    assert values(rest) == [22.0] * 20 + [7.0]


def test_files_after_a_rewritten_one_are_read_again_even_if_a_crash_comes_between(project):
    project.write(a__csv="time,value\n1,1\n2,2\n", b__csv="time,value\n2,20\n")
    first = project.read(path="*.csv")
    project.write(a__csv="time,value\n1,5\n2,2\n")
    only_a = project.batches(first.cursor, path="*.csv")[0]
    assert values(only_a) == [5.0, 2.0]
    assert values(project.read(only_a.cursor, path="*.csv")) == [20.0]


def test_lists_and_bytes_beside_the_readings_are_passed_over(project):
    frame = pl.DataFrame({"time": [1, 2], "value": [1.0, 2.0], "more": [[1], [2, 3]], "raw": [b"a", b"b"]})
    frame.write_parquet(project.folder / "a.parquet")
    frame.write_ipc(project.folder / "a.arrow")
    for name in ("a.parquet", "a.arrow"):
        assert values(project.read(path=name)) == [1.0, 2.0]
        with pytest.raises(SourceError, match=rf"{name}: column 'more': expected numbers; found List"):
            project.read(path=name, columns={**LONG, "target": "more"})
