"""A panel from a stream of batches is the panel from the frame, however the stream was cut; so are its groups."""

from dataclasses import replace
from datetime import datetime, timedelta

import polars as pl
import pytest
import torch
from builders import rich, rich_task, task, untrained, waves
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnforecast import backtest, forecast, frame_rows, panel_layout, recurrent
from rnnforecast import panel as panels
from rnnforecast.frame import FrameError, normalise, validate
from rnnforecast.panel import Cutoffs, Panel
from rnnforecast.panel_layout import Layout

START = datetime(2024, 1, 1)
FIELDS = ("offsets", "starts", "values", "mask", "past", "known", "static")
LAYOUT = {"past": ("load",), "known": ("price",), "static": ("size",)}


def slow(frame, frequency, *, past, known, static, resample="none"):
    """The panel by a loop over every row of the checked and sorted frame: lists, no tensors, no batches."""
    columns = (*past, *known, *static)
    validate(frame, covariates=columns)
    rows, _ = normalise(frame, frequency, covariates=columns, resample=resample)
    series = {}
    for row in rows.iter_rows(named=True):
        series.setdefault(row["series_id"], {})[row["ordinal"]] = row
    out = {name: [] for name in ("ids", "starts", "offsets", "values", "mask", "past", "known", "static")}
    for name, steps in series.items():
        read = [step for step, row in steps.items() if row["target"] is not None]
        if not read:
            continue
        out["ids"].append(name)
        out["starts"].append(min(read))
        out["offsets"].append(len(out["values"]))
        for step in range(min(read), max(steps) + 1):
            row = steps.get(step, dict.fromkeys(("target", *columns)))
            out["values"].append(0.0 if row["target"] is None else row["target"])
            out["mask"].append(row["target"] is not None)
            out["past"].append([row[each] for each in past])
            out["known"].append([row[each] for each in known])
        kept = [row for step, row in sorted(steps.items()) if step >= min(read)]
        out["static"].append([next((r[each] for r in kept if r[each] is not None), None) for each in static])
    out["offsets"].append(len(out["values"]))
    return out


def same(panel, expected):
    assert list(panel.series_ids) == expected["ids"]
    for name in FIELDS:
        found = getattr(panel, name)
        holes = (
            [[torch.nan if each is None else each for each in row] for row in expected[name]]
            if found.ndim == 2
            else expected[name]
        )
        wanted = torch.tensor(holes, dtype=found.dtype).view(found.shape)
        torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)


def holes(frame, seed):
    """Rows left out, values left out, the order shuffled."""
    random = pl.Series(torch.rand(len(frame), generator=torch.Generator().manual_seed(seed)).numpy())
    frame = frame.with_columns(
        pl.when(random < 0.2).then(None).otherwise(name).alias(name) for name in ("target", "load")
    )
    return frame.filter(random > 0.05).sample(fraction=1, shuffle=True, seed=seed)


@settings(deadline=None, max_examples=30)
@given(batch=st.integers(1, 300), kept=st.integers(1, 50), seed=st.integers(0, 5), lazy=st.booleans())
def test_a_panel_is_the_same_however_its_rows_come(batch, kept, seed, lazy):
    frame = holes(rich((120, 40, 77), seed=seed), seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frame_rows, "BATCH", batch)
        patch.setattr(panel_layout, "KEPT", kept)
        panel = Panel.from_frame(frame.lazy() if lazy else frame, "1h", **LAYOUT)
    same(panel, slow(frame, "1h", **LAYOUT))


@pytest.mark.parametrize("how", ["mean", "last", "sum"])
@pytest.mark.parametrize("whole", [20, 100, 1_000_000])
def test_resampled_and_with_its_step_found_it_is_the_same_in_parts_of_whole_series(monkeypatch, how, whole):
    frame = holes(rich((60, 90, 30)), 1)
    minutes = pl.Series(torch.randint(0, 59, (len(frame),), generator=torch.Generator().manual_seed(2)).numpy())
    moved = frame.with_columns(pl.col("timestamp") + pl.duration(minutes=minutes))
    expected = slow(moved, "1h", resample=how, **LAYOUT), slow(frame, "auto", **LAYOUT)
    monkeypatch.setattr(frame_rows, "WHOLE", whole)
    same(Panel.from_frame(moved.lazy(), "1h", resample=how, **LAYOUT), expected[0])
    same(Panel.from_frame(frame.lazy(), "auto", **LAYOUT), expected[1])


@settings(deadline=None, max_examples=20)
@given(steps=st.integers(1, 400), entities=st.integers(1, 3))
def test_groups_of_a_layout_are_its_panel_in_parts(steps, entities):
    frame = holes(rich((50, 80, 20, 60), channels=("x", "y")), 3)
    channels = ("x", "y")
    whole = Panel.from_frame(frame, "1h", channels=channels, **LAYOUT)
    parts = [
        Panel.of(each)
        for each in Layout.of(frame.lazy(), "1h", channels=channels, **LAYOUT).groups(steps, entities=entities)
    ]
    assert [name for part in parts for name in part.series_ids] == list(whole.series_ids)
    for name in FIELDS[1:]:
        together = torch.cat([getattr(part, name) for part in parts])
        torch.testing.assert_close(together, getattr(whole, name), rtol=0, atol=0, equal_nan=True)
    assert all(len(part) % (2 * entities) == 0 for part in parts[:-1])


BAD = {
    "twice": (lambda rows: [*rows, rows[40]], "series 's1': timestamp 2024-01-01 10:00:00 stands twice"),
    "infinite": (lambda rows: [*rows, ("s1", START, float("inf"))], "s1', 2024-01-01 00:00:00: `target` is infinite"),
    "null": (lambda rows: [*rows[:40], (None, *rows[40][1:]), *rows[41:]], "row 40: `series_id` is null"),
    "off the grid": (lambda rows: [*rows, ("s0", START + timedelta(minutes=5), 1.0)], r"00:05:00 does not .*\(1 of 61"),
    "no readings": (lambda rows: [(*row[:2], None) for row in rows], r"series \['s0', 's1'\]: every target is missing"),
    "no rows": (lambda rows: [], "at least one row"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("batch", [7, 1_000])
@pytest.mark.parametrize("lazy", [False, True])
def test_what_is_refused_is_refused_in_the_same_words_however_it_comes(monkeypatch, kind, batch, lazy):
    spoil, message = BAD[kind]
    rows = [(f"s{series}", START + timedelta(hours=step), float(step)) for series in (0, 1) for step in range(30)]
    frame = pl.DataFrame(
        spoil(rows), schema={"series_id": pl.String, "timestamp": pl.Datetime("us"), "target": pl.Float64}, orient="row"
    )
    monkeypatch.setattr(frame_rows, "BATCH", batch)
    with pytest.raises(FrameError, match=message):
        Panel.from_frame(frame.lazy() if lazy else frame, "1h")


def test_two_readings_of_one_month_are_named_though_they_come_in_other_batches(monkeypatch):
    monkeypatch.setattr(frame_rows, "BATCH", 2)
    days = [datetime(2024, month, 1) for month in (1, 2, 3)] + [datetime(2024, 2, 5)]
    frame = pl.DataFrame({"series_id": ["a"] * 4, "timestamp": days, "target": [1.0, 2.0, 3.0, 4.0]})
    with pytest.raises(
        FrameError, match="series 'a': 2024-02-01 00:00:00 and 2024-02-05 00:00:00 fall in one step of 1mo"
    ):
        Panel.from_frame(frame.lazy(), "1mo")


@pytest.mark.parametrize("lengths", [(60,) * 11, (60, 90, 30, 70, 41, 80, 33, 90, 60, 50, 45)])
def test_a_file_is_forecast_in_groups_to_the_last_bit_as_the_whole_is(monkeypatch, tmp_path, lengths):
    frame = waves(lengths)
    model = untrained("lstm", task())
    monkeypatch.setattr(recurrent, "LANES", 2)
    monkeypatch.setattr(recurrent, "BLOCK", 4)
    monkeypatch.setattr(recurrent, "CHUNK", 32)
    monkeypatch.setattr(forecast, "BLOCK", 4)
    whole = forecast.forecast(model, frame)
    for number, part in enumerate(frame.sample(fraction=1, shuffle=True, seed=0).iter_slices(100)):
        part.write_parquet(tmp_path / f"in-{number:03}.parquet")
    for steps in (1, 300, 10_000):
        monkeypatch.setattr(forecast, "GROUP", steps)
        rows = forecast.forecast_file(model, tmp_path / "in-*.parquet", tmp_path / "out.parquet")
        assert pl.read_parquet(tmp_path / "out.parquet").equals(whole)
        assert rows == len(whole)


def test_a_file_that_cannot_be_forecast_leaves_no_file_behind(tmp_path):
    model = untrained("gru", rich_task())
    rich((60, 50)).write_parquet(tmp_path / "in.parquet")
    with pytest.raises(forecast.ForecastError, match="known covariates reach 0 of 6 steps"):
        forecast.forecast_file(model, tmp_path / "in.parquet", tmp_path / "out.parquet")
    with pytest.raises(forecast.ForecastError, match="forecasts 1 to 6 steps, asked for 7"):
        forecast.forecast_file(model, tmp_path / "in.parquet", tmp_path / "out.parquet", horizon=7)
    assert [file.name for file in tmp_path.iterdir()] == ["in.parquet"]


@pytest.mark.parametrize("steps", [1, 64, 1_000])
def test_what_is_worked_out_some_rows_or_series_at_a_time_is_what_it_is_at_once(monkeypatch, steps):
    frame = holes(rich((50, 80, 20, 60)), 4)
    panel = Panel.from_frame(frame, "1h", **LAYOUT)
    ends = torch.tensor([20, 30, 10, 60])
    expected = panel.lengths, backtest.long_frame(panel, ends)
    result = backtest.run(untrained("gru", rich_task()), panel, Cutoffs(torch.arange(4), ends - 7), label="m")
    scores = backtest.by_series([result], panel, ends, season_length=1)
    monkeypatch.setattr(panels, "STEPS_AT_ONCE", steps)
    again = replace(panel)
    assert again.lengths.tolist() == expected[0].tolist()
    assert backtest.long_frame(again, ends).equals(expected[1])
    assert backtest.by_series([result], again, ends, season_length=1).equals(scores)
    actual = result.scored.join(backtest.long_frame(panel), on=["series_id", "timestamp"], how="left")
    assert actual["target"].equals(actual["target_right"])
