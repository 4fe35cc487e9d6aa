"""What a file that changed costs: only what is new is read, and nothing is overruled."""

import json
import os
from datetime import datetime

import pytest
from file_project import Project, times, values

from rnnforecast.sources import SourceError


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


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
    with pytest.raises(SourceError, match=r"a.csv: column 'value' is missing, which earlier rows had"):
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
