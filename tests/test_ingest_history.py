"""What every ingest did is kept with its rows, and two ingests at once do not hurt each other."""

import json
from pathlib import Path

import killed
import pytest
import yaml

from rnnforecast import cli, ingest, ingest_record, table
from rnnforecast.config import parse
from rnnforecast.ingest import IngestReport

COLUMNS = {"timestamp": "time", "target": "value", "series_id": "who"}


def pipeline(folder, **keys):
    sources = [{"kind": "file", "path": "*.csv", "columns": COLUMNS}]
    text = yaml.safe_dump({"name": "p", "horizon": 1, "sources": sources} | keys)
    (Path(folder) / "p.yaml").write_text(text)
    return parse(text, file=Path(folder) / "p.yaml")


def write(folder, name, *rows):
    (folder / name).write_text("\n".join(["time,who,value", *rows]) + "\n")


def test_every_commit_is_one_row_of_the_history_and_its_counts_add_up(tmp_path):
    built = pipeline(tmp_path)
    write(tmp_path, "a.csv", "1,x,1", "2,x,2", "2,x,2", "3,x,?", "4,x,bad")
    ingest.ingest(built)
    ingest.ingest(built)  # nothing new: no row
    write(tmp_path, "b.csv", "1,x,1", "2,x,9", "5,x,5")
    report = ingest.ingest(built)
    found = ingest.history(built)
    assert found.select("version", "read", "inserted", "updated", "unchanged", "duplicates", "quarantined").rows() == [
        (0, 5, 3, 0, 0, 1, 1),
        (1, 3, 1, 1, 1, 0, 0),
    ]
    assert found["version"].to_list()[-1] == report.version
    assert [json.loads(text) for text in found["reasons"]] == [{"not a number": 1}, {}]
    assert [json.loads(text) for text in found["sources"]] == [{"*.csv": 5}, {"*.csv": 3}]


def test_a_history_that_was_not_written_is_made_good_by_the_next_ingest(tmp_path, monkeypatch):
    built = pipeline(tmp_path)
    write(tmp_path, "a.csv", "1,x,1")
    with monkeypatch.context() as patch:
        patch.setattr(ingest, "settle", lambda pipeline: None)
        ingest.ingest(built)
    assert ingest.history(built).is_empty()
    write(tmp_path, "b.csv", "2,x,1")
    ingest.ingest(built)
    assert ingest.history(built)["inserted"].to_list() == [1, 1]


def test_reports_of_one_ingest_are_added_up():
    first = IngestReport(read=3, inserted=3, reasons={"a": 1}, sources={"s": 3}, recompute={"x": 5, "y": 1}, version=1)
    second = IngestReport(read=2, updated=2, reasons={"a": 2, "b": 1}, recompute={"x": 3}, version=2, conflict="c")
    both = first.plus(second)
    assert (both.read, both.inserted, both.updated, both.version, both.conflict) == (5, 3, 2, 2, "c")
    assert (both.reasons, both.sources) == ({"a": 3, "b": 1}, {"s": 3})
    assert both.recompute == {"x": 3, "y": 1}


def test_the_command_shows_the_history_and_the_table_as_it_was(tmp_path, capsys):
    built = pipeline(tmp_path)
    write(tmp_path, "a.csv", "1,x,1", "2,x,bad")
    ingest.ingest(built)
    write(tmp_path, "b.csv", "1,x,7")
    ingest.ingest(built)
    file = str(tmp_path / "p.yaml")
    assert cli.main(["table", file, "--history", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["version"], row["inserted"], row["updated"], row["refused for"]) for row in rows] == [
        (0, 1, 0, "1 not a number"),
        (1, 0, 1, ""),
    ]
    assert cli.main(["table", file, "--json"]) == 0
    assert [row["target"] for row in json.loads(capsys.readouterr().out)] == [7.0]
    for moment in ("0", rows[0]["at"]):
        assert cli.main(["table", file, "--as-of", moment, "--json"]) == 0
        assert [row["target"] for row in json.loads(capsys.readouterr().out)] == [1.0]
    assert cli.main(["table", file, "--as-of", "7"]) == 1
    assert "cannot read version 7 of 0 to 1" in capsys.readouterr().err
    assert cli.main(["table", file, "--as-of", "noon"]) == 1
    assert "--as-of noon: expected an ISO time" in capsys.readouterr().err


def test_two_ingests_at_once_both_succeed_and_readers_never_see_half_a_batch(tmp_path):
    """Each file is a series of its own, stored in one commit: a reader meets all of its rows, or none."""
    built = pipeline(tmp_path)
    files = {
        f"s{number:02d}": [f"{step},s{number:02d},{step}" for step in range(killed.ROWS_PER_COMMIT)]
        for number in range(12)
    }
    for name, rows in files.items():
        write(tmp_path, f"{name}.csv", *rows, "soon,x,1")
    context = killed.forks()
    writers = [context.Process(target=killed.ingest, args=(tmp_path / "p.yaml",)) for _ in range(2)]
    for writer in writers:
        writer.start()
    seen = set()
    path = built.table("observations")
    while any(writer.is_alive() for writer in writers):
        if table.version(path) is not None:
            counts = table.scan(path).group_by("series_id").len().collect()
            assert set(counts["len"]) <= {killed.ROWS_PER_COMMIT}
            seen.add(len(counts))
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert len(seen) > 1, "no reader came between the commits"
    found = table.read(path)
    assert found.rows() == sorted((name, step, float(step)) for name in files for step in range(len(files[name])))
    assert len(table.read(built.table("quarantine"))) == 1
    assert ingest.history(built)["inserted"].sum() == len(found)
    assert ingest.ingest(built).read == 0


def test_an_ingest_that_was_overtaken_goes_on_from_the_other_ones_cursor(tmp_path, monkeypatch):
    built = pipeline(tmp_path)
    write(tmp_path, "a.csv", "1,x,1")
    store, others = ingest.store, []

    def late(*arguments, **keys):
        if not others:
            others.append(ingest_record.IngestReport())
            ingest.ingest(built)  # another one comes first
        return store(*arguments, **keys)

    monkeypatch.setattr(ingest, "store", late)
    report = ingest.ingest(built)
    assert (report.read, report.version) == (0, 0)
    assert ingest.history(built)["inserted"].to_list() == [1]


def test_an_ingest_that_is_overtaken_for_ever_says_so(tmp_path, monkeypatch):
    built = pipeline(tmp_path)
    write(tmp_path, "a.csv", "1,x,1")

    def never(*arguments, **keys):
        raise ingest.Overtaken("p: other ingests")

    monkeypatch.setattr(ingest, "store", never)
    with pytest.raises(ingest.Overtaken, match="p: other ingests"):
        ingest.ingest(built)
