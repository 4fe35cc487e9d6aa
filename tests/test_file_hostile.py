"""Files made to do harm: each is refused, or its bad line kept aside, in bounded memory and time."""

import bz2
import gzip
import json
import lzma
import os
import re
import struct
import time
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from file_project import LONG, Project, values

from rnnforecast.sources import SourceError
from rnnforecast.sources.rows import MIB

HEAD = b"time,value\n1,1\n"
MOST = 400  # MiB that reading may take above what is there
MOST_SECONDS = 20


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


@pytest.fixture(autouse=True)
def bounded(request, tmp_path):
    """No test here may take more memory or time than reading a common file does."""
    Project(tmp_path).write(z__csv=HEAD).read(path="z.csv")  # libraries are loaded before it counts
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before, begun = resident("VmRSS"), time.monotonic()
    yield
    assert resident("VmHWM") - before < MOST
    assert time.monotonic() - begun < MOST_SECONDS


def resident(kind):
    return int(re.search(rf"{kind}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024


def write_long(path, *, start, fill, megabytes, end):
    """A file whose middle is a run of one text, written without holding it."""
    with path.open("wb") as file:
        file.write(start)
        for _ in range(megabytes):
            file.write(fill * (MIB // len(fill)))
        file.write(end)


@pytest.mark.parametrize(
    ("opener", "fill"),
    [(gzip.open, b"\0"), (bz2.open, b"\0"), (lzma.open, b"\0"), (gzip.open, b"2,2\n"), (lzma.open, b"2,2\n")],
)
def test_a_bomb_is_refused_before_it_is_unpacked(project, opener, fill):
    path = project.folder / f"a.csv.{ {gzip.open: 'gz', bz2.open: 'bz2', lzma.open: 'xz'}[opener] }".replace(" ", "")
    with opener(path, "wb") as file:
        file.write(HEAD)
        for _ in range(40):
            file.write(fill * (MIB // len(fill)))
    assert path.stat().st_size < MIB // 10
    with pytest.raises(SourceError, match=r"holds a zero byte|swells to more than \d+ MiB, 200 times its size"):
        for _ in project.source(path=path.name).read(None):  # each is stored, and gone
            pass


def test_a_field_of_100_mb_is_kept_aside_with_its_beginning(project):
    write_long(project.folder / "a.csv", start=HEAD + b"2,", fill=b"7", megabytes=100, end=b"\n3,3\n")
    batch = project.read()
    assert values(batch) == [1.0, 3.0]
    rejected = batch.rejected.row(0, named=True)
    assert (rejected["row"], rejected["column"]) == (3, None)
    assert rejected["reason"] == f"a line of more than 4 MiB ({100 * MIB + 2} bytes); only its beginning is kept"
    assert json.loads(rejected["content"]) == "2," + "7" * 998


def test_a_quoted_field_of_100_mb_over_many_lines_is_refused(project):
    write_long(
        project.folder / "a.csv", start=HEAD + b'2,"', fill=b"77777777777777\n" + b"x", megabytes=100, end=b'"\n'
    )
    with pytest.raises(SourceError, match=r"a.csv: row 3: quotes do not match \(field larger than field limit"):
        project.read()


def test_a_last_line_without_an_end_of_100_mb_is_kept_aside(project):
    write_long(project.folder / "a.csv", start=HEAD, fill=b"1,", megabytes=100, end=b"")
    batch = project.read()
    assert (values(batch), len(batch.rejected)) == ([1.0], 1)
    assert project.read(batch.cursor) is None


@pytest.mark.parametrize(
    ("fill", "megabytes", "words"),
    [
        (b"a,", 100, r"a.csv: row 1: a header of more than 4 MiB"),
        (b"a,", 3, r"a.csv: row 1: 157286\d columns, where a file has 100000 at most"),
        (b"ab", 3, r"a.csv: row 1: no header of a CSV file \(field larger than field limit"),
    ],
)
def test_a_header_of_a_billion_columns_is_refused(project, fill, megabytes, words):
    write_long(project.folder / "a.csv", start=b"time,value," if fill == b"a," else b"", fill=fill, megabytes=megabytes, end=b"z\n1,2\n")  # fmt: skip  # noqa: E501
    with pytest.raises(SourceError, match=words) as error:
        project.read()
    assert len(str(error.value)) < 1_000


def test_json_that_is_nested_100_000_deep_or_a_line_of_100_mb_is_kept_aside(project):
    deep = b'{"time": 2, "value": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
    start = b'{"time": 1, "value": 1}\n' + deep + b'{"time": 3, "value": "'
    write_long(project.folder / "a.jsonl", start=start, fill=b"3", megabytes=100, end=b'"}\n{"time": 4, "value": 4}\n')
    batch = project.read(path="a.jsonl")
    assert values(batch) == [1.0, 4.0]
    assert batch.rejected["row"].to_list() == [2, 3]
    assert batch.rejected["reason"].to_list()[0] == "the line is not a JSON object"


def test_json_of_ever_new_keys_is_refused(project):
    lines = [json.dumps({"time": n, "value": n, f"key {n}": 1}) for n in range(60_000)]
    project.write(a__jsonl="\n".join(lines) + "\n")
    with pytest.raises(SourceError, match=r"a.jsonl: 40\d\d different keys in 40\d\d lines, most of them in few"):
        project.read(path="a.jsonl")


@pytest.mark.parametrize(
    "line", ['{"time": 2, "value": "\\ud800"}', '{"time": 2, "value": 1e400}', '{"\\ud800": 1, "time": 2, "value": 2}']
)
def test_half_characters_and_numbers_beyond_all_bounds_are_kept_aside(project, line):
    project.write(a__jsonl=f'{{"time": 1, "value": 1}}\n{line}\n{{"time": 3, "value": 3}}\n')
    batch = project.read(path="a.jsonl")
    assert (values(batch), batch.rejected["row"].to_list()) == ([1.0, 3.0], [2])


@pytest.mark.parametrize("name", ["#row", "#time", "#from", "#stamp", "#number", "series_id", "target"])
def test_columns_may_have_the_names_that_are_used_inside_or_are_refused(project, name):
    project.write(a__csv=f"time,value,{name}\n1,1,7\n", b__jsonl=json.dumps({"time": 1, "value": 1, name: 7}))
    for path in ("a.csv", "b.jsonl"):
        if path == "a.csv" and name == "#row":
            with pytest.raises(SourceError, match=r"a.csv: row 1: column 3 is called '#row', which is taken"):
                project.read(path=path)
        else:
            assert values(project.read(path=path)) == [1.0]


@pytest.mark.parametrize("formula", ["=cmd|' /C calc'!A0", "=1+1", "@SUM(1)", "+1+1", "-1+2", "=HYPERLINK(1)"])
def test_a_formula_is_text_and_no_number(project, formula):
    project.write(a__csv=f"time,value\n1,1\n2,{formula}\n")
    batch = project.read()
    assert batch.rejected["reason"].to_list() == [f"'{formula}' is not a number"]


def test_parquet_that_claims_more_rows_than_bytes_can_hold_is_refused(project):
    path = project.folder / "a.parquet"
    pl.DataFrame({"time": [1], "value": [1.0]}).write_parquet(path)
    table = pa.table({"time": pa.array([1], pa.int64()).take(pa.array([0] * 12_000_000)), "value": pa.nulls(12_000_000, pa.float64())})  # fmt: skip  # noqa: E501
    pq.write_table(table, path, compression="zstd", row_group_size=12_000_000)
    assert path.stat().st_size < 100_000
    with pytest.raises(SourceError, match=r"a.parquet: claims 12000000 rows in \d+ bytes: no file of readings does"):
        project.read(path="a.parquet")


def test_parquet_that_unpacks_to_gigabytes_is_refused(project):
    path = project.folder / "a.parquet"
    text = pa.array(["x" * 30 * MIB])
    texts = pa.chunked_array([text] * 70)
    table = pa.table({"time": list(range(70)), "value": [1.0] * 70, "note": texts})
    pq.write_table(table, path, compression="zstd", use_dictionary=False, write_statistics=False)
    del table, texts, text
    with pytest.raises(SourceError, match=r"a.parquet: column 'note' unpacks to 2\d+ bytes in one row group"):
        project.read(path="a.parquet")


def test_text_that_is_shared_by_all_rows_is_counted_before_it_is_copied(project):
    indices = pa.array([0] * 5_000, pa.int32())
    note = pa.DictionaryArray.from_arrays(indices, ["x" * MIB])
    table = pa.table({"time": list(range(5_000)), "value": [1.0] * 5_000, "note": note})
    pq.write_table(table, project.folder / "a.parquet", compression="zstd")
    with pytest.raises(SourceError, match=r"a.parquet: row 1: more than 512 MiB of text in 1000 rows"):
        project.read(path="a.parquet")


@pytest.mark.parametrize("where", range(0, 400, 13))
@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.arrows"])
def test_a_typed_file_with_damaged_bytes_is_refused_or_read_and_never_more(project, name, where):
    frame = pl.DataFrame(
        {"time": range(50), "value": [n / 3 for n in range(50)], "s": [f"series {n}" for n in range(50)]}
    )
    path = project.folder / name
    {"a.parquet": frame.write_parquet, "a.arrow": frame.write_ipc, "a.arrows": frame.write_ipc_stream}[name](path)
    data = bytearray(path.read_bytes())
    place = len(data) - 8 - where if where % 2 else where + 8
    data[place : place + 4] = struct.pack("<I", 0x7FFF_FF00)
    path.write_bytes(data)
    os.utime(path, (0, 0))
    assert found(project, name) in range(51)


def found(project, name):
    """How many readings a file gives, or what the error says where that is not one line that names the file."""
    try:
        batch = project.read(path=name, columns={**LONG, "series_id": "s"})
    except SourceError as error:
        return 0 if name in str(error) and "\n" not in str(error) else str(error)
    return len(batch.frame) + len(batch.rejected)


def test_bytes_that_are_no_text_are_refused_wherever_they_are(project):
    rows = b"".join(b"%d,1\n" % n for n in range(5_000))
    project.write(a__csv=b"time,value\n" + rows + b"9000,\xc3\x28\n")
    with pytest.raises(SourceError, match=r"a.csv: row 5002 holds byte 0xc3, which is not UTF-8"):
        project.read(sizes={"block": 1_000})
