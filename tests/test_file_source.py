"""Files as a source: what is read of them."""

import csv
import io
from datetime import datetime

import polars as pl
import pytest
from file_project import LONG, Project, times, utc, values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rnnforecast.sources import SourceError


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


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
