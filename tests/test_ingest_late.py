"""Event time: what comes late is taken within limits, marked, and refused beyond them, however the input is cut."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rnnforecast import ingest, ledger, table
from rnnforecast.config import ConfigError, parse
from rnnforecast.ingest_late import LatenessError

COLUMNS = {"timestamp": "time", "target": "value", "series_id": "who"}


def pipeline(folder, columns=COLUMNS, **keys):
    sources = [{"kind": "file", "path": "*.csv", "columns": columns}]
    return parse(yaml.safe_dump({"name": "p", "horizon": 1, "sources": sources} | keys), file=Path(folder) / "p.yaml")


def write(folder, name, *rows, header="time,who,value"):
    (folder / name).write_text("\n".join([header, *rows]) + "\n")


def observations(built):
    return {(series, step): value for series, step, value in table.read(built.table("observations")).rows()}


def refused(built):
    path = built.table("quarantine")
    return [] if table.version(path) is None else sorted(table.read(path)["reason"])


def test_rows_later_than_allowed_go_to_quarantine_and_the_others_are_taken(tmp_path):
    built = pipeline(tmp_path, allowed_lateness="2d")
    write(tmp_path, "a.csv", "2024-01-10,x,10", "2024-01-08,x,8", "2024-01-07,x,7", "2024-01-01,y,1")
    report = ingest.ingest(built)
    assert (report.inserted, report.quarantined, report.reasons) == (3, 1, {"too late": 1})
    assert refused(built) == ["too late: more than 2d before 2024-01-10 00:00:00 UTC, the newest reading then"]
    write(tmp_path, "b.csv", "2024-01-07,x,7", "2024-01-09,x,9", "2024-01-02,y,2")
    report = ingest.ingest(built)
    # x's watermark is that of the table now; the row refused before is refused again, and stands there once.
    assert (report.inserted, report.quarantined, report.late) == (2, 1, 1)
    assert len(refused(built)) == 1


def test_each_series_has_its_own_watermark(tmp_path):
    built = pipeline(tmp_path, allowed_lateness=3)
    write(tmp_path, "a.csv", "100,x,1", "5,y,1", "96,x,1", "2,y,1")
    assert ingest.ingest(built).reasons == {"too late": 1}
    assert {key[0] for key in observations(built)} == {"x", "y"}


def test_a_reading_that_is_missing_moves_no_watermark(tmp_path):
    built = pipeline(tmp_path, allowed_lateness=3)
    write(tmp_path, "a.csv", "5,x,1", "100,x,", "4,x,1")
    assert ingest.ingest(built).quarantined == 0


def test_what_comes_again_is_not_late(tmp_path):
    built = pipeline(tmp_path, allowed_lateness=3)
    write(tmp_path, "a.csv", *(f"{step},x,{step}" for step in range(50)))
    ingest.ingest(built)
    write(tmp_path, "b.csv", *(f"{step},x,{step}" for step in range(50)))
    report = ingest.ingest(built)
    assert (report.unchanged, report.quarantined) == (50, 0)
    write(tmp_path, "c.csv", "10,x,99", "48,x,99")
    report = ingest.ingest(built)
    assert (report.updated, report.quarantined) == (1, 1)
    assert (observations(built)["x", 10], observations(built)["x", 48]) == (10.0, 99.0)


@pytest.mark.parametrize(
    ("lateness", "stamp", "words"),
    [
        ("2d", "7", "allowed_lateness: expected whole steps, such as 24, as the timestamps are; found '2d'"),
        (3, "2024-01-01", "allowed_lateness: expected a span of time, such as 7d or 6h, .*; found 3"),
    ],
)
def test_a_lateness_of_another_kind_than_the_timestamps_is_refused(tmp_path, lateness, stamp, words):
    write(tmp_path, "a.csv", f"{stamp},x,1")
    with pytest.raises(LatenessError, match=words):
        ingest.ingest(pipeline(tmp_path, allowed_lateness=lateness))


def test_a_lateness_that_is_no_span_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match="allowed_lateness: expected a span such as 7d, 6h, 30m, or whole steps; found 'soon'"
    ):
        pipeline(tmp_path, allowed_lateness="soon")


# Revisions


def test_a_revision_replaces_the_value_and_the_old_one_stays_at_its_version(tmp_path):
    built = pipeline(tmp_path)
    write(tmp_path, "a.csv", "1,x,1", "2,x,2")
    before = ingest.ingest(built).version
    moment = datetime.now(UTC)
    write(tmp_path, "b.csv", "1,x,9")
    report = ingest.ingest(built)
    assert (report.updated, report.late, report.recompute) == (1, 1, {"x": 1})
    path = built.table("observations")
    assert table.read(path)["target"].to_list() == [9.0, 2.0]
    for version in (before, moment):
        assert table.read(path, version=version)["target"].to_list() == [1.0, 2.0]


row = st.tuples(st.sampled_from("xy"), st.integers(0, 3), st.integers(0, 5))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(row, min_size=1, max_size=12), data=st.data())
def test_with_a_revision_column_order_and_repeats_do_not_matter(rows, data, tmp_path_factory):
    """The highest revision of each key wins, whichever file it comes in, however often, in whatever order."""
    value = {entry: str(number) for number, entry in enumerate(dict.fromkeys(rows))}
    expected = {}
    for series, step, revision in sorted(set(rows), key=lambda entry: entry[2]):
        expected[series, step] = float(value[series, step, revision])
    folder = tmp_path_factory.mktemp("revisions")
    built = pipeline(folder, columns={**COLUMNS, "revision": "seq"})
    order = data.draw(st.permutations(rows + data.draw(st.lists(st.sampled_from(rows), max_size=6))))
    for number in range(0, len(order), 4):
        lines = [
            f"{step},{series},{value[series, step, seq]},{seq}" for series, step, seq in order[number : number + 4]
        ]
        write(folder, f"{number:03d}.csv", *lines, header="time,who,value,seq")
        if data.draw(st.booleans()):
            ingest.ingest(built)
    report = ingest.ingest(built)
    found = table.read(built.table("observations"))
    assert {(series, step): target for series, step, target, _ in found.rows()} == expected
    again = ingest.ingest(built)
    assert (again.read, again.version) == (0, report.version)


def test_a_revision_may_be_a_time_and_must_be_there(tmp_path):
    header = "time,who,value,updated"
    write(tmp_path, "a.csv", "1,x,1,2024-05-02T00:00:00Z", "1,x,2,2024-05-01T00:00:00Z", header=header)
    built = pipeline(tmp_path, columns={**COLUMNS, "revision": "updated"})
    ingest.ingest(built)
    assert table.read(built.table("observations"))["target"].to_list() == [1.0]
    write(tmp_path, "b.csv", "1,x,3,", header=header)
    assert ingest.ingest(built).quarantined == 1
    assert refused(built) == ["revision:  is no whole number and no time"]


# Order of arrival

arrival = st.tuples(st.sampled_from("xy"), st.integers(0, 30), st.integers(0, 3))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(arrival, min_size=1, max_size=14), data=st.data())
def test_what_is_too_late_does_not_depend_on_how_the_input_is_cut(rows, data, tmp_path_factory):
    """Against a loop that takes one row after the other; with repeats of whole ingests and of what was delivered."""
    taken, watermark, expected = {}, {}, set()
    for series, step, value in rows:
        if taken.get((series, step)) == value:
            continue
        if step < watermark.get(series, step) - 5:
            expected.add((series, step, value))
            continue
        taken[series, step] = value
        watermark[series] = max(step, watermark.get(series, step))
    folder = tmp_path_factory.mktemp("cut")
    built = pipeline(folder, allowed_lateness=5)
    number = 0
    while number < len(rows):
        size = data.draw(st.integers(1, 5))
        write(
            folder,
            f"{number:03d}.csv",
            *(f"{step},{series},{value}" for series, step, value in rows[number : number + size]),
        )
        number += size
        for _ in range(data.draw(st.integers(0, 2))):
            ingest.ingest(built)
    ingest.ingest(built)
    assert observations(built) == {key: float(value) for key, value in taken.items()}
    assert len(refused(built)) == len(expected)


# What must be computed anew


def test_late_rows_mark_the_forecasts_that_were_made_without_them(tmp_path):
    built = pipeline(tmp_path)
    write(tmp_path, "a.csv", *(f"2024-01-{day:02d},{who},{day}" for who in "xy" for day in (1, 2, 4, 5)))
    version = ingest.ingest(built).version
    cutoff = datetime(2024, 1, 5, tzinfo=UTC)
    made = pl.DataFrame(
        {
            "series_id": ["x", "y"],
            "cutoff": cutoff,
            "timestamp": cutoff + timedelta(days=1),
            "step": 1,
            "mean": 6.0,
            "q0.5": 6.0,
        },
        schema_overrides={"cutoff": pl.Datetime("us", "UTC"), "timestamp": pl.Datetime("us", "UTC")},
    )
    assert ledger.issue(built, made, model="p/1", table_version=version) == 2
    assert ledger.stale(built).is_empty()
    write(tmp_path, "b.csv", "2024-01-03,x,3", "2024-01-06,y,6")
    report = ingest.ingest(built)
    assert (report.inserted, report.late, report.recompute) == (2, 1, {"x": "2024-01-03T00:00:00+00:00"})
    stale = ledger.stale(built)
    assert stale.select("series_id", "since", "version").rows() == [
        ("x", datetime(2024, 1, 3, tzinfo=UTC), report.version)
    ]
    # Made anew, though it says the same, it is up to date; the other one is not written again.
    assert ledger.issue(built, made, model="p/1", table_version=report.version) == 1
    assert ledger.stale(built).is_empty()


def test_a_known_covariate_that_waits_for_its_reading_is_not_late(tmp_path):
    built = pipeline(tmp_path, known_covariates=["plan"])
    header = "time,who,value,plan"
    write(tmp_path, "a.csv", "1,x,1,5", "2,x,,6", "3,x,,7", header=header)
    ingest.ingest(built)
    write(tmp_path, "b.csv", "2,x,2,6", header=header)
    report = ingest.ingest(built)
    assert (report.updated, report.late, report.recompute) == (1, 0, {})
