"""The quarantine: refused rows are listed with their reason, and taken again after a fix, once and for all."""

import json
from pathlib import Path

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

from rnnforecast import table
from rnnforecast.cli_quarantine import app
from rnnforecast.config import parse
from rnnforecast.ingest import ingest
from rnnforecast.quarantine import QuarantineError, held, replay

LONG = {"timestamp": "time", "target": "value", "series_id": "who"}
WIDE = {"timestamp": "time", "target": ["a", "b"]}


@pytest.fixture
def project(tmp_path):
    """Writes a pipeline file with one source and reads it; called again, as it is after a fix."""

    def go(*, columns=LONG, source=None, **keys):
        described = {"kind": "file", "path": "*.csv", "columns": columns, "settle": 0, **(source or {})}
        text = yaml.safe_dump({"name": "p", "horizon": 1, "sources": [described]} | keys)
        (tmp_path / "p.yaml").write_text(text)
        return parse(text, file=tmp_path / "p.yaml")

    return go


@pytest.fixture
def write(tmp_path):
    def go(name, *lines):
        (tmp_path / name).write_text("\n".join(lines) + "\n")

    return go


def targets(pipeline):
    rows = table.read(pipeline.table("observations"))
    return dict(zip(rows["series_id"] + " " + rows["timestamp"].dt.strftime("%m-%d %H"), rows["target"], strict=True))


def counts(done):
    assert done.rows == done.taken + done.refused + done.superseded
    return done.taken, done.refused, done.superseded


def test_text_that_stands_for_no_reading_is_taken_as_none_once_it_is_listed(project, write):
    write("a.csv", "time,who,value", "2024-01-01,x,1", "2024-01-02,x,broken", "2024-01-03,x,3")
    pipeline = project()
    ingest(pipeline)
    assert counts(replay(pipeline)) == (0, 1, 0)
    mended = project(source={"null_values": ["broken"]})
    assert counts(replay(mended)) == (1, 0, 0)
    assert targets(mended) == {"x 01-01 00": 1.0, "x 01-02 00": None, "x 01-03 00": 3.0}
    assert counts(replay(mended)) == (0, 0, 0)
    assert len(held(mended)) == 0
    assert held(mended, replayed=True)["replayed_version"].to_list() == [table.version(mended.table("observations"))]


def test_times_of_another_form_are_read_once_their_format_is_given(project, write):
    write("a.csv", "time,who,value", "2024-01-01,x,1", "02|01|2024,x,2")
    ingest(project())
    mended = project(source={"timestamp_format": "%d|%m|%Y"})
    assert counts(replay(mended)) == (1, 0, 0)
    assert targets(mended)["x 01-02 00"] == 2.0


def test_readings_out_of_range_are_taken_once_the_range_is_wider(project, write):
    write("a.csv", "time,who,value", "2024-01-01,x,1", "2024-01-02,x,70", "2024-01-03,x,900")
    narrow = project(checks=[{"check": "range", "max": 50}])
    ingest(narrow)
    assert held(narrow)["reason"].str.starts_with("out of range").to_list() == [True, True]
    assert counts(replay(narrow)) == (0, 2, 0)
    assert len(held(narrow, replayed=True)) == 2
    wider = project(checks=[{"check": "range", "max": 100}])
    assert counts(replay(wider)) == (1, 1, 0)
    assert targets(wider) == {"x 01-01 00": 1.0, "x 01-02 00": 70.0}
    assert [json.loads(text)["target"] for text in held(wider)["content"]] == [900.0]


def test_what_fails_a_check_or_comes_late_is_taken_where_it_is_accepted(project, write):
    write("a.csv", "time,who,value", "2024-01-09,x,1", "2024-01-01,x,2", "2024-01-10,x,900")
    strict = project(checks=[{"check": "range", "max": 50}], allowed_lateness="2d")
    ingest(strict)
    done = replay(strict)
    assert counts(done) == (0, 2, 0)
    assert done.reasons == {"fails a check or comes too late": 2}
    assert counts(replay(strict, accept=True)) == (2, 0, 0)
    assert targets(strict) == {"x 01-01 00": 2.0, "x 01-09 00": 1.0, "x 01-10 00": 900.0}


def test_a_row_that_reads_now_and_fails_a_check_stands_in_quarantine_as_a_reading(project, write):
    write("a.csv", "time,who,value", "2024-01-01,x,1", "02|01|2024,x,900")
    ingest(project())
    mended = project(source={"timestamp_format": "%d|%m|%Y"}, checks=[{"check": "range", "max": 50}])
    assert counts(replay(mended)) == (0, 1, 0)
    left = held(mended)
    assert left.select("stage", "reason").rows() == [("reading", "out of range: 900.0 is above 50")]
    assert counts(replay(mended, accept=True)) == (1, 0, 0)
    assert targets(mended)["x 01-02 00"] == 900.0


def test_a_replay_does_not_overrule_what_came_later(project, write):
    write("a.csv", "time,who,value", "2024-01-01,x,1", "2024-01-02,x,70")
    narrow = project(checks=[{"check": "range", "max": 50}])
    ingest(narrow)
    write("b.csv", "time,who,value", "2024-01-02,x,7")
    ingest(narrow)
    wide = project()
    assert counts(replay(wide)) == (0, 0, 1)
    assert targets(wide)["x 01-02 00"] == 7.0
    assert len(held(wide)) == 1
    assert counts(replay(wide, accept=True)) == (1, 0, 0)
    assert targets(wide)["x 01-02 00"] == 70.0


def test_of_a_wide_row_only_the_column_that_was_refused_is_taken(project, write):
    write("a.csv", "time,a,b", "2024-01-01,1,2", "2024-01-02,3,broken")
    ingest(project(columns=WIDE))
    write("b.csv", "time,a,b", "2024-01-02,33,")
    ingest(project(columns=WIDE))
    mended = project(columns=WIDE, source={"rename": {}, "null_values": ["broken"]})
    assert counts(replay(mended)) == (1, 0, 0)
    assert targets(mended) == {"a 01-01 00": 1.0, "b 01-01 00": 2.0, "a 01-02 00": 33.0, "b 01-02 00": None}


def test_of_a_year_by_month_row_only_the_month_that_was_refused_is_taken(project, write, tmp_path):
    months = "jan feb mar apr may jun jul aug sep oct nov dec"
    write("a.csv", f"year,{months.replace(' ', ',')}", "2020,1,2,oops,4,5,6,7,8,9,10,11,12", f"2021{',1' * 12}")
    columns = {"timestamp": "year"}
    pipeline = project(columns=columns, source={"layout": "year_month"})
    ingest(pipeline)
    row = held(pipeline)
    mended = row.drop("obstacle").with_columns(pl.col("content").str.replace("oops", "3.5").str.replace('"9"', '"99"'))
    table.upsert(pipeline.table("quarantine"), mended, key=("id",))
    assert counts(replay(pipeline)) == (1, 0, 0)
    rows = table.read(pipeline.table("observations"))
    found = dict(zip("p " + rows["timestamp"].dt.strftime("%y-%m"), rows["target"], strict=True))
    assert (found["p 20-03"], found["p 20-09"], len(found)) == (3.5, 9.0, 24)


def test_a_line_that_is_no_row_is_listed_with_the_reason_why_it_cannot_be_replayed(project, write):
    write("a.csv", "time,who,value", "2024-01-01,x,1", "2024-01-02,x,2,3")
    pipeline = project()
    ingest(pipeline)
    assert "no row with the columns of its source" in held(pipeline)["obstacle"][0]
    done = replay(pipeline, accept=True)
    assert counts(done) == (0, 1, 0)
    assert list(done.reasons) == ["not a row"]


def test_rows_of_a_source_that_is_gone_are_refused_by_name(project, write):
    write("a.csv", "time,who,value", "2024-01-01,x,1", "2024-01-02,x,broken")
    ingest(project())
    gone = project(source={"path": "a*.csv"})
    assert replay(gone).reasons == {"no such source": 1}


def test_a_kill_between_the_rows_and_their_mark_is_made_good_by_the_next_replay(project, write):
    write("a.csv", "time,who,value", "2024-01-01,x,1", "2024-01-02,x,70")
    ingest(project(checks=[{"check": "range", "max": 50}]))
    wide = project()
    unmarked = held(wide).drop("obstacle")
    replay(wide)
    before = table.digest(table.read(wide.table("observations")))
    table.upsert(wide.table("quarantine"), unmarked, key=("id",))  # as a kill would have left it
    assert counts(replay(wide)) == (1, 0, 0)
    assert table.digest(table.read(wide.table("observations"))) == before
    assert len(held(wide)) == 0


def test_an_ingest_after_a_replay_reads_nothing_and_changes_nothing(project, write):
    write("a.csv", "time,who,value", "2024-01-01,x,1", "2024-01-02,x,70")
    narrow = project(checks=[{"check": "range", "max": 50}])
    ingest(narrow)
    replay(narrow, accept=True)
    again = ingest(narrow)
    assert (again.read, targets(narrow)["x 01-02 00"]) == (0, 70.0)


def test_rows_are_chosen_by_reason_and_by_the_beginning_of_their_id(project, write):
    write("a.csv", "time,who,value", "2024-01-01,x,1", "2024-01-02,x,70", "noon,x,3", "2024-01-04,x,80")
    pipeline = project(checks=[{"check": "range", "max": 50}])
    ingest(pipeline)
    assert len(held(pipeline, reason="unreadable")) == 1
    first = held(pipeline, reason="out of range")["id"][0]
    assert counts(replay(pipeline, ids=[first[:10]], accept=True)) == (1, 0, 0)
    assert len(held(pipeline)) == 2
    with pytest.raises(QuarantineError, match="no row of the quarantine has an id that begins with 'zz'"):
        held(pipeline, ids=["zz"])


def test_the_command_lists_by_reason_and_replays(project, write, tmp_path):
    write("a.csv", "time,who,value", "2024-01-01,x,1", "2024-01-02,x,70", "2024-01-03,x,80")
    file = str(tmp_path / "p.yaml")
    assert "nothing yet" in CliRunner().invoke(app, ["list", _saved(project(), file)]).output
    ingest(project(checks=[{"check": "range", "max": 50}]))
    listed = CliRunner().invoke(app, ["list", file])
    assert listed.exit_code == 0, listed.output
    assert "quarantine, 2 rows" in listed.output
    assert "out of range: 80.0 is above 50" in listed.output
    rows = json.loads(CliRunner().invoke(app, ["list", file, "--json"]).output)
    assert [Path(row["file"]).name for row in rows] == ["a.csv", "a.csv"]
    done = json.loads(CliRunner().invoke(app, ["replay", file, "--id", rows[0]["id"], "--accept", "--json"]).output)
    assert (done["rows"], done["taken"], done["readings"]) == (1, 1, 1)
    shown = CliRunner().invoke(app, ["replay", file])
    assert "still refused for" in shown.output
    assert len(json.loads(CliRunner().invoke(app, ["list", file, "--all", "--json"]).output)) == 2


def _saved(pipeline, file):
    Path(file).write_text(pipeline.text)
    return file
