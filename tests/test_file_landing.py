"""A folder that files drop into: half-written ones are waited for or left, and nothing is lost or read twice."""

import gzip
import io
import os
import threading
import time

import polars as pl
import pytest
from file_project import Project, values

from rnnforecast.sources import SourceError

HEAD = "time,value\n"


@pytest.fixture
def project(tmp_path):
    (tmp_path / "in").mkdir()
    return Landing(tmp_path)


class Landing(Project):
    def drop(self, name, text):
        path = self.folder / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path


def typed(write):
    out = io.BytesIO()
    getattr(pl.DataFrame({"time": range(1_000), "value": [n / 7 for n in range(1_000)]}), write)(out)
    return out.getvalue()


def grow(path, parts, pause):
    def run():
        for part in parts:
            time.sleep(pause)
            with path.open("a") as file:
                file.write(part)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def aged(path, seconds):
    os.utime(path, (time.time() - seconds,) * 2)


def test_every_file_of_a_known_suffix_is_read_in_the_order_of_names_and_once(project):
    project.drop("b.csv", HEAD + "2,2\n")
    project.drop("a.csv.gz", gzip.compress((HEAD + "1,1\n").encode()))
    project.drop("c.jsonl", '{"time": 3, "value": 3}\n')
    project.drop("readme.md", "nothing of ours")
    project.drop("deep/d.csv", HEAD + "4,4\n")
    first = project.read(path="in")
    assert values(first) == [1.0, 2.0, 3.0]
    assert project.read(first.cursor, path="in") is None
    project.drop("e.csv", HEAD + "5,5\n")
    assert values(project.read(first.cursor, path="in")) == [5.0]
    assert values(project.read(path="in/**/*.csv")) == [2.0, 4.0, 5.0]


@pytest.mark.parametrize(
    "name", ["a.csv.tmp", "a.csv.part", "a.partial", "a.csv.crdownload", "a.csv.filepart", ".a.csv", "_a.csv"]
)
def test_names_that_say_unfinished_are_passed_over_unless_they_are_asked_for(project, name):
    project.drop(name, HEAD + "1,1\n")
    project.drop("b.csv", HEAD + "2,2\n")
    assert values(project.read(path="in")) == [2.0]
    assert values(project.read(path="in/*")) == [2.0]
    assert values(project.read(path=f"in/{name}")) == [1.0]
    asked = f"in/{name[0]}*" if name[0] in "._" else f"in/*{name[name.rindex('.') :]}"
    assert values(project.read(path=asked)) == [1.0]


def test_an_empty_folder_is_no_error_and_neither_are_files_that_were_taken_away(project):
    assert project.read(path="in") is None
    path = project.drop("a.csv", HEAD + "1,1\n")
    first = project.read(path="in/*.csv")
    path.unlink()
    assert project.read(first.cursor, path="in/*.csv") is None
    with pytest.raises(SourceError, match=r"in/\*.csv: no file matches"):
        project.read(path="in/*.csv")
    with pytest.raises(SourceError, match=r"in/a.csv: no file matches"):
        project.read(first.cursor, path="in/a.csv")
    with pytest.raises(SourceError, match=r"elsewhere: no file matches"):
        project.read(path="elsewhere")


def test_a_finished_file_is_not_waited_for(project):
    project.drop("a.csv", HEAD + "1,1\n")
    project.drop("b.csv.gz", gzip.compress((HEAD + "2,2\n").encode()))
    project.drop("c.parquet", typed("write_parquet"))
    project.drop("d.arrow", typed("write_ipc"))
    project.drop("e.arrows", typed("write_ipc_stream"))
    begun = time.monotonic()
    assert len(project.read(path="in", settle=3600).frame) == 3_002
    assert time.monotonic() - begun < 3


def test_a_line_that_is_being_written_is_waited_for(project):
    path = project.drop("a.csv", HEAD + "1,1\n2,1")
    writer = grow(path, ["2", ".5", "\n"], 0.1)
    batch = project.read(path="in", settle=2)
    writer.join()
    assert values(batch) == [1.0, 12.5]


def test_a_last_line_without_an_end_is_taken_once_it_has_stood_still(project):
    project.drop("a.csv", HEAD + "1,1\n2,12")
    begun = time.monotonic()
    assert values(project.read(path="in", settle=0.3)) == [1.0, 12.0]
    assert time.monotonic() - begun > 0.25


def test_of_a_file_that_never_stands_still_only_finished_lines_are_taken(project):
    path = project.drop("a.csv", HEAD + "1,1\n2,")
    writer = grow(path, ["1"] * 40, 0.02)
    first = project.read(path="in", settle=0.06)
    writer.join()
    assert values(first) == [1.0]
    assert first.notes == ("in/a.csv: its end is not finished yet, and left for the next ingest",)
    assert values(project.read(first.cursor, path="in")) == [float("1" * 40)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.parquet", typed("write_parquet")),
        ("a.arrow", typed("write_ipc")),
        ("a.arrows", typed("write_ipc_stream")),
        ("a.csv.gz", gzip.compress((HEAD + "".join(f"{n},{n}\n" for n in range(5_000))).encode())),
    ],
)
def test_a_file_that_breaks_off_is_left_while_it_is_young_and_refused_when_it_is_not(project, name, content):
    path = project.drop(name, content[: len(content) * 3 // 4])
    project.drop("b.csv", HEAD + "7000,7\n")
    first = project.read(path="in")
    assert values(first)[-1] == 7.0
    assert "left for the next ingest" in " ".join(first.notes)
    project.drop(name, content)
    second = project.read(first.cursor, path="in")
    whole = Project(project.folder).read(path=f"in/{name}")
    rows = [row for part in (first, second) for row in part.frame.rows() if row[1] != 7000]
    assert rows == whole.frame.rows()
    project.drop(name, content[: len(content) // 2])
    aged(path, 4_000)
    with pytest.raises(SourceError, match=rf"in/{name}: (not a (Parquet|Arrow) file|breaks off before its end)"):
        project.read(path="in")


def test_a_file_without_rows_is_passed_over_with_a_note(project):
    project.drop("a.csv", "")
    project.drop("b.csv", HEAD)
    project.drop("c.csv", HEAD + "3,3\n")
    batch = project.read(path="in")
    assert values(batch) == [3.0]
    assert [note.split(":")[1].strip() for note in batch.notes] == ["in/a.csv", "in/b.csv"]
    project.drop("a.csv", HEAD + "1,1\n")
    assert values(project.read(batch.cursor, path="in")) == [1.0]


def test_a_file_that_goes_away_before_it_is_read_is_a_note(project):
    project.drop("a.csv", HEAD + "1,1\n")
    gone = project.drop("b.csv", HEAD + "2,2\n")
    reading = project.source(path="in").read(None)
    assert next(reading).name == "in/a.csv"
    gone.unlink()
    assert [batch.notes for batch in reading] == [("in/b.csv: went away before it was read",)]


def test_what_lies_outside_of_the_folder_does_not_come_in_by_a_link(project):
    project.write(secret__csv=HEAD + "9,9\n")
    project.drop("real.csv", HEAD + "1,1\n")
    (project.folder / "in" / "link.csv").symlink_to(project.folder / "secret.csv")
    (project.folder / "in" / "inside.csv").symlink_to(project.folder / "in" / "real.csv")
    assert list(project.read(path="in").cursor["files"]) == ["in/inside.csv", "in/real.csv"]
    assert list(project.read(path="in/*.csv").cursor["files"]) == ["in/inside.csv", "in/real.csv"]
    assert values(project.read(path="in/link.csv")) == [9.0]


def test_what_is_no_file_is_passed_over(project):
    os.mkfifo(project.folder / "in" / "a.csv")
    (project.folder / "in" / "b.csv").mkdir()
    assert project.read(path="in") is None
