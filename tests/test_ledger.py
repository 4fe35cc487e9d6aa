"""The ledger: nothing twice, a revision as new rows, and scores that can be checked by hand."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from rnnforecast import config, ledger, table
from rnnforecast.baselines import BaselineModel
from rnnforecast.config import Candidate
from rnnforecast.forecast import ForecastError
from rnnforecast.frequency import Frequency
from rnnforecast.task import Task

START = datetime(2024, 1, 1, tzinfo=UTC)
TEXT = "{name: tiny, horizon: 2, sources: [{kind: file, path: x.csv}]}"


def frame(values, name="a"):
    times = [START + timedelta(hours=index) for index in range(len(values))]
    return pl.DataFrame({"series_id": [name] * len(values), "timestamp": times, "target": values}).with_columns(
        pl.col("timestamp").cast(pl.Datetime("us", "UTC")), pl.col("target").cast(pl.Float64)
    )


def naive(model="naive", *, horizon=2, seasons=(1,)):
    task = Task(horizon, (0.1, 0.5, 0.9), Frequency(1, "h"), seasons)
    return BaselineModel(task, Candidate(model=model))


@pytest.fixture
def pipeline(tmp_path):
    return config.parse(TEXT, file=tmp_path / "tiny.yaml")


def stored(pipeline):
    return table.read(pipeline.table("forecasts"))


def test_issuing_the_same_forecasts_twice_writes_them_once(pipeline):
    made, _ = ledger.make(naive(), frame([1, 2, 4, 3]))
    assert ledger.issue(pipeline, made, model="tiny/1", table_version=0) == 2
    assert ledger.issue(pipeline, made, model="tiny/1", table_version=0) == 0
    assert ledger.issue(pipeline, made, model="tiny/1", table_version=7) == 0  # a newer table, the same forecast
    assert stored(pipeline)["mean"].to_list() == [3.0, 3.0]
    assert stored(pipeline)["table_version"].to_list() == [0, 0]


def test_another_model_and_another_cutoff_are_forecasts_of_their_own(pipeline):
    made, _ = ledger.make(naive(), frame([1, 2, 4, 3]))
    later, _ = ledger.make(naive(), frame([1, 2, 4, 3, 5]))
    assert ledger.issue(pipeline, made, model="tiny/1", table_version=0) == 2
    assert ledger.issue(pipeline, made, model="tiny/2", table_version=0) == 2
    assert ledger.issue(pipeline, later, model="tiny/2", table_version=1) == 2
    assert len(stored(pipeline)) == 6


def test_a_revised_history_makes_new_rows_and_the_newest_of_them_stand(pipeline):
    first, _ = ledger.make(naive(), frame([1, 2, 4, 3]))
    revised, _ = ledger.make(naive(), frame([1.0, 2.0, 4.0, 3.5]))
    ledger.issue(pipeline, first, model="tiny/1", table_version=0)
    assert ledger.issue(pipeline, revised, model="tiny/1", table_version=1) == 2
    assert ledger.issue(pipeline, revised, model="tiny/1", table_version=1) == 0
    assert len(stored(pipeline)) == 4
    standing = ledger.issued(pipeline)
    assert standing["mean"].to_list() == [3.5, 3.5]
    assert standing["table_version"].to_list() == [1, 1]


def test_nothing_in_the_ledger_tells_when_it_was_written(pipeline):
    made, _ = ledger.make(naive(), frame([1, 2, 4, 3]))
    ledger.issue(pipeline, made, model="tiny/1", table_version=0)
    expected = {"series_id", "cutoff", "timestamp", "step", "mean", "q0.1", "q0.5", "q0.9", "model", "table_version"}
    assert set(stored(pipeline).columns) == expected


def test_series_without_enough_readings_are_left_out_and_named():
    data = pl.concat([frame([1, 2, 4, 3]), frame([None, None], "empty"), frame([1], "single")])
    made, left_out = ledger.make(naive(), data)
    assert made["series_id"].unique().to_list() == ["a"]
    assert left_out == ["empty", "single"]
    with pytest.raises(ForecastError, match="none of 1 series has 2 readings"):
        ledger.make(naive(), frame([1], "single"))


def test_only_forecasts_whose_reading_came_are_scored(pipeline):
    made, _ = ledger.make(naive(), frame([1, 2, 4, 3]))
    assert ledger.scored(pipeline, frame([1, 2, 4, 3])) is None  # no forecast yet
    ledger.issue(pipeline, made, model="tiny/1", table_version=0)
    assert ledger.scored(pipeline, frame([1, 2, 4, 3])) is None  # no reading yet
    rows = ledger.scored(pipeline, frame([1, 2, 4, 3, 5]))
    assert rows.select("step", "mean", "target").rows() == [(1, 3.0, 5.0)]


def test_scores_agree_with_a_calculation_by_hand(pipeline):
    history, later = [1, 2, 4, 3, 3, 2], [6, 2]
    model = naive(seasons=(2,))
    made, _ = ledger.make(model, frame(history))  # naive says 2, 2
    ledger.issue(pipeline, made, model="tiny/1", table_version=0)
    everything = frame(history + later)
    rows = ledger.scored(pipeline, everything)
    bound = START + timedelta(hours=len(history) - 1)
    found = ledger.score(rows, model.task, model.task.panel(everything), bounds=[bound])
    mae = (abs(6 - 2) + abs(2 - 2)) / 2
    unit = (abs(4 - 1) + abs(3 - 2) + abs(3 - 4) + abs(2 - 3)) / 4  # of repeating the value two steps before
    seasonal = (abs(6 - 3) + abs(2 - 2)) / 2  # the seasonal naive says 3, 2
    row = found.row(0, named=True)
    assert (row["until"], row["model"], row["forecasts"]) == (bound, "tiny/1", 2)
    assert row["mae"] == pytest.approx(mae)
    assert row["mase"] == pytest.approx(mae / unit)
    assert row["skill"] == pytest.approx(1 - mae / seasonal)


def test_each_forecast_counts_in_the_round_of_its_cutoff(pipeline):
    values = [1.0, 2, 4, 3, 5, 4, 6, 5, 7]
    model = naive()
    bounds = [START + timedelta(hours=hour) for hour in (3, 5, 7)]
    for version, stop in enumerate((4, 6, 8)):
        made, _ = ledger.make(model, frame(values[:stop]))
        ledger.issue(pipeline, made, model="tiny/1", table_version=version)
    rows = ledger.scored(pipeline, frame(values))
    found = ledger.score(rows, model.task, model.task.panel(frame(values)), bounds=bounds)
    assert found["until"].to_list() == bounds
    assert found["forecasts"].to_list() == [2, 2, 1]  # of the last one, one reading has come
    assert found["mae"].to_list() == pytest.approx([1.5, 1.5, 2.0])
