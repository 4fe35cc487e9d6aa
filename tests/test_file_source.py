"""Files as a source: what is read, what is refused with which words, and what a file that changed costs."""

import csv
import io
import json
import os
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rnnforecast.config import parse
from rnnforecast.sources import SourceError, open_source

LONG = {"timestamp": "time", "target": "value"}


@pytest.fixture
def project(tmp_path):
    """Writes files into a project and reads them as a source: project({'a.csv': text}, key=value...)."""
    return Project(tmp_path)


class Project:
    def __init__(self, folder):
        self.folder = folder

    def write(self, **files):
        for name, text in files.items():
            path = self.folder / name.replace("__", ".")
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return self

    def append(self, name, text):
        with (self.folder / name).open("a") as file:
            file.write(text)

    def source(self, path="a.csv", columns=LONG, pipeline=None, **keys):
        mapping = {"name": "p", "horizon": 1, "sources": [{"kind": "file", "path": path, "columns": columns, **keys}]}
        parsed = parse(yaml.safe_dump(mapping | (pipeline or {})), file=self.folder / "p.yaml")
        return open_source(parsed, parsed.sources[0])

    def read(self, cursor=None, until=None, **keys):
        batches = list(self.source(**keys).read(json.loads(json.dumps(cursor)), until=until))
        assert len(batches) <= 1
        return batches[0] if batches else None


def values(batch):
    return batch.frame["target"].to_list()


def times(batch):
    return batch.frame["timestamp"].dt.strftime("%Y-%m-%d %H:%M:%S").to_list()


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)


# What is read


def test_a_csv_becomes_a_long_frame_in_utc(project):
    batch = project.write(a__csv="time,value\n2024-01-01,1\n2024-01-02, 2.5 \n2024-01-03,\n").read()
    assert batch.frame.rows() == [
        ("p", utc(2024, 1, 1), 1.0),
        ("p", utc(2024, 1, 2), 2.5),
        ("p", utc(2024, 1, 3), None),
    ]
    assert batch.frame.schema["timestamp"] == pl.Datetime("us", "UTC")
    assert batch.rejected.is_empty()


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["2013/1/1", "2013/12/31"], ["2013-01-01 00:00:00", "2013-12-31 00:00:00"]),
        (["01 January 2013", "31 Dec 2013"], ["2013-01-01 00:00:00", "2013-12-31 00:00:00"]),
        (["Jan 1 2000", "Sept 30 2001"], ["2000-01-01 00:00:00", "2001-09-30 00:00:00"]),
        (["1958-03", "1958-4"], ["1958-03-01 00:00:00", "1958-04-01 00:00:00"]),
        (["11/5/2019 9:30", "11/15/2019 16:00"], ["2019-11-05 09:30:00", "2019-11-15 16:00:00"]),
        (["5/11/2019", "15/11/2019"], ["2019-11-05 00:00:00", "2019-11-15 00:00:00"]),
        (["5.11.2019"], ["2019-11-05 00:00:00"]),
        (["11/15/2019 12:05 AM", "11/15/2019 1:05 pm"], ["2019-11-15 00:05:00", "2019-11-15 13:05:00"]),
        (["20200229", "20200301"], ["2020-02-29 00:00:00", "2020-03-01 00:00:00"]),
        (["2024-01-01T00:30:00Z", "2024-01-01T00:30:00+02:00"], ["2024-01-01 00:30:00", "2023-12-31 22:30:00"]),
        (["2024-01-01 00:30:00.250 -0530"], ["2024-01-01 06:00:00"]),
        (
            ["2024-01-01", "2024-01-01 06", "2024-01-01 06:30"],
            ["2024-01-01 00:00:00", "2024-01-01 06:00:00", "2024-01-01 06:30:00"],
        ),
    ],
)
def test_times_are_read_in_every_common_form(project, cells, expected):
    batch = project.write(a__csv="\n".join(["time;value", *(f"{cell};1" for cell in cells)])).read(separator=";")
    assert times(batch) == expected


def test_integers_are_steps_and_not_dates(project):
    batch = project.write(a__csv="time,value\n7,1\n8,2\n").read()
    assert batch.frame["timestamp"].to_list() == [7, 8]
    assert batch.frame.schema["timestamp"] == pl.Int64


@pytest.mark.parametrize(
    ("pattern", "cell", "expected"),
    [
        ("epoch_s", "1500000000", "2017-07-14 02:40:00"),
        ("epoch_ms", "1500000000000", "2017-07-14 02:40:00"),
        ("%m.%Y", "03.1999", "1999-03-01 00:00:00"),
        ("%d/%m/%y %H:%M", "05/11/19 09:30", "2019-11-05 09:30:00"),
        ("%Y-%m-%d %H:%M %z", "2019-11-05 09:30 +0100", "2019-11-05 08:30:00"),
    ],
)
def test_a_timestamp_format_is_obeyed(project, pattern, cell, expected):
    batch = project.write(a__csv=f"time,value\n{cell},1\n").read(timestamp_format=pattern)
    assert times(batch) == [expected]


def test_times_over_several_columns_are_put_together(project):
    project.write(a__csv="hour,No,day,month,year,value\n0,1,1,2,2010,5\n23,2,28,2,2010,6\n")
    columns = {"timestamp": ["year", "month", "day", "hour"], "target": "value"}
    assert times(project.read(columns=columns)) == ["2010-02-01 00:00:00", "2010-02-28 23:00:00"]
    project.write(a__csv="date,time,value\n01/13/2010,09:30,5\n")
    columns = {"timestamp": ["date", "time"], "target": "value"}
    assert times(project.read(columns=columns)) == ["2010-01-13 09:30:00"]


def test_a_wide_file_has_one_series_per_target(project):
    project.write(a__csv="time,site,x,y\n1,n,10,20\n2,n,11,21\n")
    batch = project.read(columns={"timestamp": "time", "target": ["x", "y"]})
    assert sorted(batch.frame.rows()) == [("x", 1, 10.0), ("x", 2, 11.0), ("y", 1, 20.0), ("y", 2, 21.0)]
    batch = project.read(columns={"timestamp": "time", "target": ["x", "y"], "series_id": "site"})
    assert batch.frame["series_id"].unique().sort().to_list() == ["n/x", "n/y"]


def test_a_year_by_month_file_is_read_row_by_row(project):
    names = "Jan,Feb,Mar,Apr,May,Jun,Jul,Aug,Sep,Oct,Nov,Dec"
    project.write(a__csv=f"Year,{names}\n1999,{','.join(map(str, range(1, 13)))}\n2000,{'-99.9,' * 11}13\n")
    batch = project.read(columns={"timestamp": "Year"}, layout="year_month", null_values=["-99.9"])
    assert times(batch) == [f"{year}-{month:02d}-01 00:00:00" for year in (1999, 2000) for month in range(1, 13)]
    assert values(batch) == [float(n) for n in range(1, 13)] + [None] * 11 + [13.0]


def test_series_are_told_apart_by_their_column(project):
    project.write(a__csv="time,value,who\n1,5, b \n1,6,a\n")
    batch = project.read(columns={**LONG, "series_id": "who"})
    assert batch.frame.rows() == [("b", 1, 5.0), ("a", 1, 6.0)]
    assert project.read(series="mine").frame["series_id"].unique().to_list() == ["mine"]


def test_covariates_come_as_numbers_under_their_names_here(project):
    project.write(a__csv="time,value,Temp (C)\n1,5,20\n2,6,NA\n")
    pipeline = {"past_covariates": ["temperature"]}
    batch = project.read(rename={"Temp (C)": "temperature"}, pipeline=pipeline)
    assert batch.frame["temperature"].to_list() == [20.0, None]
    with pytest.raises(SourceError, match=r"a.csv: row 1: no column 'temprature'; found 'time', .*"):
        project.read(pipeline={"past_covariates": ["temprature"]})
    with pytest.raises(SourceError, match=r"covariate 'target': this name is taken; give it another .*`rename:`"):
        project.read(pipeline={"past_covariates": ["target"]})


def test_null_values_are_kept_as_missing_readings(project):
    project.write(a__csv="time,value\n1,NA\n2,\n3,-999\n4,-999.0\n5,NaN\n6,?\n7,0\n")
    batch = project.read(null_values=["-999"])
    assert values(batch) == [None] * 6 + [0.0]
    assert batch.rejected.is_empty()


def test_all_missing_is_read_as_missing(project):
    assert values(project.write(a__csv="time,value\n1,NA\n2,\n").read()) == [None, None]


def test_json_lines_are_read(project):
    lines = [
        '{"time": "2024-01-01", "value": 1.5}',
        "",
        '{"value": "2", "time": "2024-01-02", "more": [1]}',
        '{"time": "2024-01-03"}',
    ]
    batch = project.write(a__jsonl="\n".join(lines)).read(path="a.jsonl")
    assert values(batch) == [1.5, 2.0, None]
    assert times(batch)[0] == "2024-01-01 00:00:00"


@pytest.mark.parametrize(
    "stamps",
    [
        pl.Series([utc(2024, 1, 1, 0)], dtype=pl.Datetime("ns", "UTC")),
        pl.Series([datetime(2024, 1, 1)], dtype=pl.Datetime("ms")),
        pl.Series([datetime(2024, 1, 1)]).dt.date(),
        pl.Series(["2024-01-01 00:00"]),
        pl.Series([utc(2024, 1, 1)]).dt.convert_time_zone("Asia/Tokyo"),
    ],
)
def test_parquet_times_of_every_type_are_read(project, stamps):
    pl.DataFrame({"time": stamps, "value": [3]}).write_parquet(project.folder / "a.parquet")
    assert project.read(path="a.parquet").frame.rows() == [("p", utc(2024, 1, 1), 3.0)]


def test_parquet_integers_and_sentinels_of_any_width_are_read(project):
    frame = pl.DataFrame(
        {"time": pl.Series([1, 2], dtype=pl.UInt16), "value": pl.Series([-99.99, 2.5], dtype=pl.Float32)}
    )
    frame.write_parquet(project.folder / "a.parquet")
    batch = project.read(path="a.parquet", null_values=["-99.99"])
    assert batch.frame.rows() == [("p", 1, None), ("p", 2, 2.5)]


def test_quoted_fields_may_hold_separators_and_line_ends(project):
    project.write(a__csv='"time","note","value"\r\n1,"a, ""b""\r\nc",5\r\n2,d,x\r\n')
    batch = project.read()
    assert values(batch) == [5.0]
    assert batch.rejected["row"].to_list() == [4]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    notes=st.lists(st.text(st.sampled_from('a,;"\n é'), max_size=6), min_size=1, max_size=6),
    end=st.sampled_from(["\n", "\r\n"]),
    data=st.data(),
)
def test_what_a_csv_writer_writes_is_read_back_whole_or_in_two_parts(project, notes, end, data):
    def text(rows):
        out = io.StringIO()
        csv.writer(out, lineterminator=end).writerows(rows)
        return out.getvalue()

    rows = [(number, note, number / 4) for number, note in enumerate(notes)]
    cut = data.draw(st.integers(1, len(rows)))
    project.write(a__csv=(text([("time", "note", "value")]) + text(rows[:cut])).encode())
    first = project.read(columns={**LONG, "target": ["value"]})
    with (project.folder / "a.csv").open("a", newline="") as file:
        file.write(text(rows[cut:]))
    second = project.read(first.cursor, columns={**LONG, "target": ["value"]})
    found = values(first) + (values(second) if second else [])
    assert found == [value for _, _, value in rows]


def test_a_byte_order_mark_and_blank_lines_do_no_harm(project):
    project.write(a__csv=b"\xef\xbb\xbftime,value\r\n1,5\r\n\r\n,\r\n3,x\r\n")
    batch = project.read()
    assert values(batch) == [5.0]
    assert batch.rejected.select("row", "column").rows() == [(5, "value")]


def test_globs_are_read_in_the_order_of_their_names(project):
    project.write(b__csv="time,value\n2,2\n", a__csv="time,value\n1,1\n", c__txt="time,value\n3,3\n")
    assert values(project.read(path="*.csv")) == [1.0, 2.0]
    assert values(project.read(path=["c.txt", "*.csv", "a.csv"])) == [3.0, 1.0, 2.0]


# Local time


def test_local_times_are_put_in_utc_over_both_clock_changes(project):
    hours = ["2023-03-26 01:30", "2023-03-26 02:30", "2023-03-26 03:30", "2023-10-29 01:30"]
    hours += ["2023-10-29 02:30", "2023-10-29 02:30", "2023-10-29 03:30"]
    project.write(a__csv="\n".join(["time,value", *(f"{hour},{n}" for n, hour in enumerate(hours))]))
    batch = project.read(timezone="Europe/Berlin")
    assert times(batch) == [
        "2023-03-26 00:30:00", "2023-03-26 01:30:00", "2023-10-28 23:30:00",
        "2023-10-29 00:30:00", "2023-10-29 01:30:00", "2023-10-29 02:30:00",
    ]  # fmt: skip
    rejected = batch.rejected.row(0, named=True)
    assert (rejected["row"], rejected["column"]) == (3, "time")
    assert "no such time in Europe/Berlin (the clock change leaves it out): 2023-03-26 02:30" in rejected["reason"]


def test_the_second_of_a_repeated_hour_may_come_with_a_later_read(project):
    project.write(a__csv="time,value,s\n2023-10-29 02:30,1,x\n2023-10-29 02:30,2,y\n")
    keys = {"timezone": "Europe/Berlin", "columns": {**LONG, "series_id": "s"}}
    first = project.read(**keys)
    project.append("a.csv", "2023-10-29 02:30,3,x\n")
    second = project.read(first.cursor, **keys)
    assert times(first) == ["2023-10-29 00:30:00"] * 2
    assert second.frame.rows() == [("x", utc(2023, 10, 29, 1, 30), 3.0)]


def test_an_offset_in_the_cell_counts_more_than_the_zone(project):
    project.write(a__csv="time,value\n2023-10-29 02:30+02:00,1\n2023-10-29 02:30,2\n")
    assert times(project.read(timezone="Europe/Berlin")) == ["2023-10-29 00:30:00"] * 2


def test_an_unknown_zone_is_refused_with_the_nearest(project):
    with pytest.raises(SourceError, match=r"expected a name .*found 'Europe/Berln'; did you mean 'Europe/Berlin'"):
        project.write(a__csv="time,value\n2024-01-01,1\n").read(timezone="Europe/Berln")


# Single bad rows


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


# Files that are refused


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
    (project.folder / "folder").mkdir()
    with pytest.raises(
        SourceError, match=r"folder: no file matches: it is a folder; name its files, such as 'folder/\*"
    ):
        project.read(path="folder")
    with pytest.raises(SourceError, match=r"s3://bucket/a.csv: files are read from disk only"):
        project.read(path="s3://bucket/a.csv")


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


# The cursor


def test_an_unchanged_file_is_not_read_again(project):
    first = project.write(a__csv="time,value\n1,1\n").read()
    assert project.read(first.cursor) is None
    os.utime(project.folder / "a.csv")
    assert project.read(first.cursor).frame.is_empty()


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_only_what_was_appended_is_read_and_rows_keep_counting(project, name):
    def line(step, value):
        return json.dumps({"time": step, "value": value}) + "\n" if name == "a.jsonl" else f"{step},{value}\n"

    head = "" if name == "a.jsonl" else "time,value\n"
    (project.folder / name).write_text(head + line(1, 1) + line(2, 2))
    first = project.read(path=name)
    project.append(name, line(3, 3) + line(4, "bad"))
    second = project.read(first.cursor, path=name)
    assert values(second) == [3.0]
    assert second.rejected["row"].to_list() == [4 if name == "a.jsonl" else 5]
    assert project.read(second.cursor, path=name) is None


def test_a_line_still_being_written_is_read_again_when_it_is_finished(project):
    first = project.write(a__csv="time,value\n1,1\n2,12").read()
    project.append("a.csv", ".5\n3,3\n")
    assert values(first) == [1.0, 12.0]
    assert values(project.read(first.cursor)) == [12.5, 3.0]


def test_a_file_that_changed_before_its_end_is_read_whole(project):
    first = project.write(a__csv="time,value\n1,1\n2,2\n").read()
    project.write(a__csv="time,value\n1,9\n2,2\n3,3\n")
    assert values(project.read(first.cursor)) == [9.0, 2.0, 3.0]


def test_a_rewritten_file_does_not_overrule_the_files_after_it(project):
    project.write(a__csv="time,value\n1,1\n2,2\n", b__csv="time,value\n2,20\n")
    first = project.read(path="*.csv")
    project.write(a__csv="time,value\n1,5\n2,2\n")
    assert values(project.read(first.cursor, path="*.csv")) == [5.0, 2.0, 20.0]


def test_what_a_column_has_shown_before_decides_for_rows_that_do_not(project):
    first = project.write(a__csv="time,value\n30/1/2020,1\n").read()
    project.append("a.csv", "1/2/2020,2\n")
    second = project.read(first.cursor)
    assert times(second) == ["2020-02-01 00:00:00"]
    project.write(b__csv="time,value\n2/2/2020,3\n")
    other = project.write(a__csv="time,value\n30/1/2020,1\n").read(path="*.csv")
    assert times(other) == ["2020-01-30 00:00:00", "2020-02-02 00:00:00"]


def test_a_row_of_the_wrong_width_that_comes_alone_is_rejected(project):
    first = project.write(a__csv="time,value\n1,1\n").read()
    project.append("a.csv", "2,2,2\n")
    assert project.read(first.cursor).rejected["reason"].to_list() == ["3 fields, where the header has 2"]


def test_a_bad_row_that_comes_alone_is_no_reason_to_refuse_the_file(project):
    first = project.write(a__csv="time,value\n1,1\n").read()
    project.append("a.csv", "2,oops\nwhen,3\n")
    second = project.read(first.cursor)
    assert second.frame.is_empty()
    assert second.rejected["row"].to_list() == [3, 4]


def test_a_column_that_vanishes_from_a_rewritten_file_is_refused(project):
    first = project.write(a__csv="time,value\n1,1\n").read()
    project.write(a__csv="time,other\n1,1\n")
    with pytest.raises(SourceError, match=r"no column 'value'"):
        project.read(first.cursor)


def test_the_key_changes_with_everything_that_decides_how_rows_are_read(project):
    sources = [
        project.source(),
        project.source(timezone="Europe/Berlin"),
        project.source(pipeline={"past_covariates": ["x"]}),
        project.source(pipeline={"allow_future": True}),
    ]
    assert len({source.key for source in sources}) == 4
    assert project.source().key == sources[0].key


def test_until_leaves_later_rows_and_the_cursor_for_another_time(project):
    project.write(a__csv="time,value\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3\n")
    batch = project.read(until=datetime(2024, 1, 2))
    assert (values(batch), batch.cursor) == ([1.0, 2.0], {})
    assert values(project.read(batch.cursor)) == [1.0, 2.0, 3.0]
    with pytest.raises(SourceError, match=r"until: expected a time; found 3"):
        project.read(until=3)
