"""Files that are not as described: single rows are named and kept, whole files are refused with the fix."""

import json
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from file_project import LONG, Project, values

from rnnforecast.sources import SourceError


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def test_every_bad_row_is_named_and_the_good_ones_are_taken(project):
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%d")
    body = ["2024-01-01,a,1", "soon,a,2", "2024-01-02,,3", "2024-01-03,a,broken", "2024-01-04,a,inf", f"{tomorrow},a,5"]
    project.write(a__csv="\n".join(["time,who,value", *body, "2024-01-05,a", "2024-01-06,a,6,7", "2024-02-30,a,8"]))
    batch = project.read(columns={**LONG, "series_id": "who"})
    assert values(batch) == [1.0]
    found = {row["row"]: (row["column"], row["reason"]) for row in batch.rejected.iter_rows(named=True)}
    assert list(found) == sorted(found) == [3, 4, 5, 6, 7, 8, 9, 10]
    assert found[3] == ("time", "unreadable timestamp: soon")
    assert found[4] == ("who", "no series: the cell is empty")
    assert found[5] == ("value", "'broken' is not a number")
    assert found[6] == ("value", "infinite: a reading is a finite number")
    assert found[7] == ("time", f"dated after now: {tomorrow} 00:00:00 UTC")
    assert found[8] == (None, "2 fields, where the header has 3")
    assert found[9] == (None, "4 fields, where the header has 3")
    assert found[10] == ("time", "unreadable timestamp: 2024-02-30")
    first = batch.rejected.row(0, named=True)
    assert (first["source"], first["file"]) == ("a.csv", "a.csv")
    assert json.loads(first["content"]) == {"time": "soon", "who": "a", "value": "2"}


def test_a_wide_row_without_a_time_is_rejected_once_and_a_bad_cell_alone(project):
    project.write(a__csv="time,x,y\n1,1,2\n?,3,4\n3,5,oops\n")
    batch = project.read(columns={"timestamp": "time", "target": ["x", "y"]})
    assert values(batch) == [1.0, 2.0, 5.0]
    assert batch.rejected.select("row", "column").rows() == [(3, "time"), (4, "y")]


def test_text_in_a_covariate_rejects_its_row(project):
    project.write(a__csv="time,value,rain\n1,1,0.5\n2,2,wet\n")
    batch = project.read(pipeline={"past_covariates": ["rain"]})
    assert batch.rejected.select("row", "column", "reason").rows() == [(3, "rain", "'wet' is not a number")]


def test_lines_that_are_no_json_are_rejected(project):
    project.write(a__jsonl='{"time": 1, "value": 2}\n{"time": 2, "va\n[3]\n{"time": 4, "value": true}\n')
    batch = project.read(path="a.jsonl")
    assert batch.rejected.select("row", "reason").rows() == [
        (2, "the line is not a JSON object"), (3, "the line is not a JSON object"), (4, "'true' is not a number"),
    ]  # fmt: skip


def test_the_future_is_taken_where_it_is_allowed_or_holds_only_what_is_known_ahead(project):
    project.write(a__csv="time,value,price\n2024-01-01,1,5\n2222-01-01,,6\n2222-01-02,7,8\n")
    assert len(project.read(pipeline={"allow_future": True}).frame) == 3
    assert len(project.read(pipeline={"known_covariates": ["price"]}).frame) == 2
    assert len(project.read().frame) == 1


def test_a_row_of_the_future_is_read_again_when_its_time_has_come(project):
    soon = datetime.now(UTC) + timedelta(seconds=0.3)
    project.write(a__csv=f"time,value\n2024-01-01,1\n{soon.isoformat()},2\n")
    first = project.read()
    assert values(first) == [1.0]
    assert project.read(first.cursor) is None
    while datetime.now(UTC) < soon:
        pass
    assert values(project.read(first.cursor)) == [1.0, 2.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"a.csv: the file is empty; check what wrote it"),
        (" \n\n", r"a.csv: the file is empty"),
        ("time,value\n", r"a.csv: no rows: the file holds its header only"),
        ("time,value,value\n1,2,3\n", r"a.csv: row 1: columns 2 and 3 are both called 'value'; give one of"),
        ("when,value\n1,2\n", r"a.csv: row 1: no column 'time'; found 'when', 'value'"),
        ("Time,value\n1,2\n", r"row 1: no column 'time'; found 'Time', 'value'; did you mean 'Time'\?"),
        ("time;value\n1;2\n", r"no column 'time'; found 'time;value'; set `separator: \";\"`"),
        ("time,value\n1,2,3\n2,3,4\n", r"row 2 has 3 fields and the header \(row 1\) 2, and so in 2 of 2 rows; cor"),
        ("time,value\n1,a\n2,b\n", r"target column 'value' needs numbers and has text in every row, .* row 2: 'a'; "),
        ("time,value\nx,1\ny,2\n", r"column 'time': no row can be read as a time, .* row 2: 'x'; set `times"),
        ("time,value\n1/2/2020,1\n", r"column 'time': 1/2/2020: day or month first cannot be told \(no number is "),
        ("time,value\n13/1/2020,1\n1/13/2020,1\n", r"cannot be told \(both orders occur\); set `timestamp_format:`"),
        ("time,value\n1500000000,1\n1500000060,2\n", r"looks like a count since 1970; set `timestamp_format: epoch"),
        ("time,value\n2222-01-01,1\n", r"none of 1 rows can be taken; row 2, column 'time': dated after.*allow_future"),
        ('time,value\n1,"2\n3,4\n', r"a.csv: row 2: quotes do not match"),
        (b"time,value\n1,2\n2,\xff\n", r"a.csv: row 3 holds byte 0xff, which is not UTF-8; save it as UTF-8"),
        (b"time,value\r1,2\r", r"a.csv: row 1: no header of a CSV file .*; save it with usual line ends"),
        (b"PK\x03\x04\x00\x00", r"a.csv: row 1 holds a zero byte: not a UTF-8 text file"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_right_is_refused_with_place_and_fix(project, text, words):
    with pytest.raises(SourceError, match=words) as error:
        project.write(a__csv=text).read()
    assert "\n" not in str(error.value)


def test_paths_without_a_file_are_refused(project):
    with pytest.raises(SourceError, match=r"no/\*.csv: no file matches: no such file .* relative paths count from the"):
        project.read(path="no/*.csv")


def test_files_of_another_kind_than_they_seem_are_refused(project):
    project.write(a__parquet="time,value\n1,2\n", a__jsonl="time,value\n1,2\n")
    with pytest.raises(SourceError, match=r"a.parquet: not a Parquet file .*set `format:` to what it is"):
        project.read(path="a.parquet")
    with pytest.raises(SourceError, match=r"a.jsonl: expected one JSON object a line; line 1 is \"time,value\""):
        project.read(path="a.jsonl")
    assert values(project.read(path="a.parquet", format="csv")) == [2.0]


def test_a_parquet_column_without_numbers_is_refused(project):
    pl.DataFrame({"time": [1], "value": [True]}).write_parquet(project.folder / "a.parquet")
    with pytest.raises(SourceError, match=r"a.parquet: column 'value': expected numbers; found Boolean"):
        project.read(path="a.parquet")


def test_text_all_over_a_covariate_is_refused(project):
    project.write(a__csv="time,value,wind\n1,1,NW\n2,2,SE\n")
    with pytest.raises(SourceError, match=r"covariate column 'wind' needs numbers and has text in every row"):
        project.read(pipeline={"past_covariates": ["wind"]})


def test_files_that_count_steps_do_not_go_with_files_that_have_times(project):
    project.write(a__csv="time,value\n1,1\n", b__csv="time,value\n2024-01-01,1\n")
    with pytest.raises(SourceError, match=r"\*.csv: timestamps: some files hold integer steps, others times"):
        project.read(path="*.csv")
