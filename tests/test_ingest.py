"""Ingest: every reading accounted for, nothing twice, and a kill at any moment changes nothing."""

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rnnforecast import table
from rnnforecast.config import parse
from rnnforecast.ingest import IngestError, ingest
from rnnforecast.sources import SourceError
from rnnforecast.table import TableError

COLUMNS = {"timestamp": "time", "target": "value", "series_id": "who"}


def pipeline(folder, *paths, **keys):
    sources = [{"kind": "file", "path": path, "columns": COLUMNS} for path in paths or ("*.csv",)]
    return parse(yaml.safe_dump({"name": "p", "horizon": 1, "sources": sources} | keys), file=Path(folder) / "p.yaml")


def write(folder, name, *rows):
    (folder / name).write_text("\n".join(["time,who,value", *rows]) + "\n")


def observations(built):
    return table.read(built.table("observations"))


def adds_up(report):
    return report.read == (report.inserted + report.updated + report.unchanged + report.duplicates + report.quarantined)


def test_every_reading_is_accounted_for(tmp_path):
    write(tmp_path, "a.csv", "2024-01-01,x,1", "2024-01-02,x,2", "2024-01-02,x,3", "2024-01-02,x,3", "now,x,4", ",x,5")
    built = pipeline(tmp_path)
    report = ingest(built)
    assert (report.read, report.inserted, report.duplicates, report.quarantined) == (6, 2, 2, 2)
    assert adds_up(report)
    assert report.reasons == {"unreadable timestamp": 2}
    assert report.sources == {"*.csv": 6}
    assert (report.version, report.watermark) == (0, datetime(2024, 1, 2, tzinfo=UTC))
    assert observations(built)["target"].to_list() == [1.0, 3.0]


def test_readings_of_one_time_with_different_values_are_told_with_an_example(tmp_path):
    write(tmp_path, "a.csv", "2024-01-01,x,1", "2024-01-01,x,1", "2024-01-02,y,2", "2024-01-02,y,3")
    report = ingest(pipeline(tmp_path))
    assert (report.duplicates, report.conflicts) == (2, 1)
    assert (
        report.conflict
        == "series 'y' at 2024-01-02T00:00:00+00:00 came with different values; the last one read was kept"
    )


def test_a_second_ingest_reads_nothing_and_makes_no_version(tmp_path):
    write(tmp_path, "a.csv", "2024-01-01,x,1", "2024-01-02,x,oops")
    built = pipeline(tmp_path)
    first = ingest(built)
    again = ingest(built)
    assert (again.read, again.inserted, again.version) == (0, 0, first.version)
    assert again.watermark == first.watermark
    assert len(table.read(built.table("quarantine"))) == 1


def test_after_appending_exactly_the_new_rows_are_inserted(tmp_path):
    write(tmp_path, "a.csv", "2024-01-01,x,1", "2024-01-02,x,2")
    built = pipeline(tmp_path)
    ingest(built)
    with (tmp_path / "a.csv").open("a") as file:
        file.write("2024-01-03,x,3\n2024-01-01,x,7\n2024-01-04,x,?\n2024-01-05,,5\n")
    report = ingest(built)
    assert (report.read, report.inserted, report.updated, report.quarantined) == (4, 2, 1, 1)
    assert adds_up(report)
    assert observations(built)["target"].to_list() == [7.0, 2.0, 3.0, None]
    assert table.read(built.table("quarantine"))["row"].to_list() == [7]
    assert ingest(built).read == 0


def test_sources_are_stored_together_or_not_at_all(tmp_path):
    write(tmp_path, "a.csv", "2024-01-01,x,1", "soon,x,2")
    write(tmp_path, "b.csv", "1,y,1")
    built = pipeline(tmp_path, "a.csv", "b.csv")
    with pytest.raises(IngestError, match=r"some have integer steps as timestamps, others times; make two pipelines"):
        ingest(built)
    (tmp_path / "b.csv").unlink()
    with pytest.raises(SourceError, match=r"b.csv: no file matches"):
        ingest(built)
    assert not (tmp_path / "data").exists()
    write(tmp_path, "b.csv", "2024-01-01,y,1")
    assert ingest(built).inserted == 2
    assert ingest(built).read == 0


def test_a_source_that_turns_from_times_to_steps_is_refused(tmp_path):
    write(tmp_path, "a.csv", "2024-01-01,x,1")
    ingest(pipeline(tmp_path))
    write(tmp_path, "a.csv", "1,x,1")
    with pytest.raises(TableError, match=r"column 'timestamp': expected Datetime.* as in the table; found Int64"):
        ingest(pipeline(tmp_path))


def test_a_refused_row_is_quarantined_once_however_often_it_is_read(tmp_path):
    write(tmp_path, "a.csv", "2024-01-01,x,1", "2024-01-02,x,bad", "2024-01-03,x,bad")
    built = pipeline(tmp_path)
    ingest(built)
    write(tmp_path, "a.csv", "2024-01-01,x,9", "2024-01-02,x,bad", "2024-01-03,x,bad", "2024-01-04,x,worse")
    assert ingest(built).quarantined == 3
    kept = table.read(built.table("quarantine"))
    assert sorted(kept["row"]) == [3, 4, 5]
    row = kept.filter(pl.col("row") == 5).row(0, named=True)
    assert (row["source"], row["file"], row["column"], row["reason"]) == (
        "*.csv",
        "a.csv",
        "value",
        "'worse' is not a number",
    )
    assert row["content"] == '{"time": "2024-01-04", "who": "x", "value": "worse"}'


def test_rows_that_are_corrected_leave_the_quarantine_as_a_record_and_enter_the_table(tmp_path):
    write(tmp_path, "a.csv", "2024-01-01,x,1", "2024-01-02,x,2,5")
    built = pipeline(tmp_path)
    assert ingest(built).quarantined == 1
    write(tmp_path, "a.csv", "2024-01-01,x,1", "2024-01-02,x,2.5")
    assert ingest(built).inserted == 1
    assert observations(built)["target"].to_list() == [1.0, 2.5]


def test_a_covariate_declared_later_is_filled_in_by_reading_again(tmp_path):
    (tmp_path / "a.csv").write_text("time,who,value,rain\n2024-01-01,x,1,0.5\n2024-01-02,x,2,0\n")
    ingest(pipeline(tmp_path))
    built = pipeline(tmp_path, past_covariates=["rain"])
    report = ingest(built)
    assert (report.read, report.updated, report.inserted) == (2, 2, 0)
    assert observations(built)["rain"].to_list() == [0.5, 0.0]


def test_until_plays_a_file_as_a_stream(tmp_path):
    write(tmp_path, "a.csv", *(f"2024-01-{day:02d},x,{day}" for day in range(1, 11)))
    built = pipeline(tmp_path)
    counts = [ingest(built, until=datetime(2024, 1, day)).inserted for day in (3, 3, 7)] + [ingest(built).inserted]
    assert counts == [3, 0, 4, 3]
    assert ingest(built).read == 0


def test_until_plays_a_dataset_as_a_stream(tmp_path):
    pytest.importorskip("statsmodels")
    built = pipeline(tmp_path, sources=[{"kind": "dataset", "name": "co2"}])
    reports = [
        ingest(built, until=until) for until in (datetime(1990, 1, 1), datetime(1990, 1, 1), datetime(1995, 1, 1), None)
    ]
    assert [report.read for report in reports] == [1658, 0, 261, 365]
    assert sum(report.inserted for report in reports) == 2284
    assert reports[-1].watermark == datetime(2001, 12, 29, tzinfo=UTC)


def test_a_lake_that_cannot_be_written_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(TableError, match=r"quarantine: the table cannot be written: .*data is not a folder"):
        ingest(pipeline(tmp_path))


def test_the_report_is_one_row_that_json_can_hold(tmp_path):
    write(tmp_path, "a.csv", "2024-01-01,x,1")
    row = ingest(pipeline(tmp_path)).as_row()
    assert json.loads(json.dumps(row)) == row
    assert row["watermark"] == "2024-01-01T00:00:00+00:00"


def test_readings_that_are_all_refused_make_no_table_and_stop_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("rnnforecast.ingest.ROWS_PER_COMMIT", 1)
    write(tmp_path, "a.csv", "1,x,99", "2,x,99")
    write(tmp_path, "b.csv", "3,x,99")
    built = pipeline(tmp_path, checks=[{"check": "range", "max": 10}])
    report = ingest(built)
    assert (report.read, report.quarantined, report.version) == (3, 3, None)
    write(tmp_path, "c.csv", "4,x,1")
    report = ingest(built)
    assert (report.inserted, report.quarantined, quarantined(built)) == (1, 3, 3)
    assert ingest(built).read == 0


# Invariants

reading = st.tuples(st.sampled_from("xy"), st.integers(0, 5), st.sampled_from([*range(6), "", "bad"]))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.lists(st.lists(reading, min_size=1, max_size=8), min_size=1, max_size=3), data=st.data())
def test_the_table_is_the_same_however_the_rows_arrive(files, data, tmp_path_factory):
    """All files at once, or each in pieces with ingests repeated between: same table, same quarantine."""
    files = [[("x", 9, 0), *rows] for rows in files]
    texts = [[f"{step},{series},{value}" for series, step, value in rows] for rows in files]
    expected = {}
    for rows in files:
        expected |= {
            (series, step): value or None if value == "" else value for series, step, value in rows if value != "bad"
        }
    whole, pieces = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("pieces")
    for number, rows in enumerate(texts):
        write(whole, f"{number}.csv", *rows)
    assert adds_up(ingest(pipeline(whole)))
    for number, rows in enumerate(texts):
        path = pieces / f"{number}.csv"
        cut = data.draw(st.integers(1, len(rows)))
        write(pieces, path.name, *rows[:cut])
        for _ in range(data.draw(st.integers(0, 2))):
            assert adds_up(ingest(pipeline(pieces)))
        with path.open("a") as file:
            file.writelines(f"{row}\n" for row in rows[cut:])
        for _ in range(data.draw(st.integers(1, 2))):
            assert adds_up(ingest(pipeline(pieces)))
    left, right = observations(pipeline(whole)), observations(pipeline(pieces))
    assert {(series, step): value for series, step, value in left.rows()} == expected
    assert table.digest(left) == table.digest(right)
    assert quarantined(pipeline(whole)) == quarantined(pipeline(pieces))


def quarantined(built):
    path = built.table("quarantine")
    return 0 if table.version(path) is None else len(table.read(path))


@pytest.mark.parametrize("stage", ["quarantine", "observations"])
def test_a_failure_right_before_a_commit_loses_nothing(tmp_path, monkeypatch, stage):
    """The two moments that the kills may miss: before the quarantine, and between it and the rows."""
    write(tmp_path, "a.csv", "1,x,1", "2,x,bad")
    built = pipeline(tmp_path)

    apply = table.Snapshot.apply

    def fail(snapshot, *arguments, **keys):
        if snapshot.path == built.table(stage):
            raise KeyboardInterrupt
        return apply(snapshot, *arguments, **keys)

    with monkeypatch.context() as patch:
        patch.setattr(table.Snapshot, "apply", fail)
        with pytest.raises(KeyboardInterrupt):
            ingest(built)
    assert table.version(built.table("observations")) is None
    assert quarantined(built) == (0 if stage == "quarantine" else 1)
    report = ingest(built)
    assert (report.inserted, report.quarantined, quarantined(built)) == (1, 1, 1)
