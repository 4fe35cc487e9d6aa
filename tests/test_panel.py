"""Frame to tensors and back: nothing lost, nothing invented."""

from datetime import datetime, timedelta

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnforecast.backtest import long_frame
from rnnforecast.frame import FrameError
from rnnforecast.panel import Panel

START = datetime(2024, 1, 1)

series = st.lists(st.one_of(st.none(), st.floats(-1e3, 1e3, width=32)), min_size=2, max_size=30)


@settings(deadline=None, max_examples=40)
@given(values=st.lists(series, min_size=1, max_size=4), missing=st.sets(st.integers(0, 30)))
def test_every_reading_stands_at_its_place_and_gaps_are_masked(values, missing):
    rows = [
        (f"s{i}", START + timedelta(hours=h + 5 * i), value)
        for i, column in enumerate(values)
        for h, value in enumerate(column)
        if h not in missing
    ]
    kept = [row for row in rows if row[2] is not None]
    if not kept:
        return
    frame = pl.DataFrame(rows, schema=["series_id", "timestamp", "target"], orient="row", strict=False)
    panel = Panel.from_frame(frame.with_columns(pl.col("target").cast(pl.Float64)), "1h")
    back = long_frame(panel)
    assert back.drop_nulls("target").rows() == sorted(kept)
    assert (
        back.group_by("series_id")
        .agg(pl.col("timestamp").diff().max())
        .to_series(1)
        .drop_nulls()
        .le(timedelta(hours=1))
        .all()
    )


def test_series_begin_at_their_first_reading_and_keep_known_rows_after_their_last():
    frame = pl.DataFrame(
        {
            "series_id": ["a"] * 6,
            "timestamp": [0, 1, 2, 3, 4, 5],
            "target": [None, 1.0, None, 3.0, None, None],
            "price": [9.0, 8.0, 7.0, 6.0, 5.0, 4.0],
        }
    )
    panel = Panel.from_frame(frame, known=("price",))
    assert panel.starts.tolist() == [1]
    assert panel.lengths.tolist() == [3]
    assert panel.mask.tolist() == [True, False, True, False, False]
    assert panel.known[:, 0].tolist() == [8.0, 7.0, 6.0, 5.0, 4.0]
    assert panel.last.position.tolist() == [2]


def test_a_series_without_any_reading_is_left_out_and_all_such_are_refused():
    rows = {"series_id": ["a", "a", "b", "b"], "timestamp": [0, 1, 0, 1]}
    panel = Panel.from_frame(pl.DataFrame(rows | {"target": [1.0, 2.0, None, None]}))
    assert panel.series_ids == ("a",)
    with pytest.raises(FrameError, match=r"series \['a', 'b'\]: every target is missing"):
        Panel.from_frame(pl.DataFrame(rows | {"target": pl.Series([None] * 4, dtype=pl.Float64)}))


def test_gather_reads_nothing_outside_of_what_is_valid():
    panel = Panel.from_frame(
        pl.DataFrame({"series_id": ["a", "b"] * 2, "timestamp": [0, 0, 1, 1], "target": [1.0, 2, 3, 4]})
    )
    values, mask = panel.gather(torch.tensor([[-1, 0, 1, 2]]), torch.tensor([[False, True, True, False]]))
    assert values.tolist() == [[0.0, 1.0, 3.0, 0.0]]
    assert mask.tolist() == [[False, True, True, False]]


def channels_frame(names, lengths=None):
    """Series of unlike starts: the i-th begins i steps later."""
    frames = []
    for place, name in enumerate(names):
        steps = list(range(place, 10))
        frames.append(
            pl.DataFrame(
                {"series_id": [name] * len(steps), "timestamp": steps, "target": [place * 100.0 + s for s in steps]}
            )
        )
    return pl.concat(frames)


def test_channels_of_an_entity_lie_side_by_side_over_the_same_steps():
    panel = Panel.from_frame(channels_frame(["b/y", "a/x", "b/x", "a/y"]), "1i", channels=("x", "y"))
    assert panel.series_ids == ("a/x", "a/y", "b/x", "b/y")
    assert panel.entities == ("a", "b")
    assert panel.channels == 2
    assert panel.starts.tolist() == [1, 1, 0, 0]
    assert panel.offsets.tolist() == [0, 9, 18, 28, 38]
    for series, (place, start) in enumerate([(1, 1), (3, 1), (2, 0), (0, 0)]):
        base = int(panel.offsets[series])
        expected = [place * 100.0 + step if step >= place else 0.0 for step in range(start, 10)]
        assert panel.values[base : int(panel.offsets[series + 1])].tolist() == expected
        assert panel.mask[base : int(panel.offsets[series + 1])].tolist() == [
            step >= place for step in range(start, 10)
        ]


def test_channels_without_an_entity_belong_to_one_and_keep_the_order_they_are_named_in():
    panel = Panel.from_frame(channels_frame(["open", "close", "volume"]), "1i", channels=("open", "volume", "close"))
    assert panel.series_ids == ("open", "volume", "close")
    assert panel.entities == ("",)


def test_an_entity_that_lacks_a_channel_and_a_series_that_is_none_are_named():
    with pytest.raises(FrameError, match=r"entity 'b' has no readings of the channels \['y'\]; each needs all"):
        Panel.from_frame(channels_frame(["a/x", "a/y", "b/x"]), "1i", channels=("x", "y"))
    with pytest.raises(
        FrameError, match=r"series 'a/z' is none of the channels \['x', 'y'\]; name series ENTITY/CHANNEL"
    ):
        Panel.from_frame(channels_frame(["a/x", "a/y", "a/z"]), "1i", channels=("x", "y"))


def test_a_static_covariate_is_the_first_value_of_its_series():
    frame = channels_frame(["a", "b"]).with_columns(
        size=pl.when(pl.col("timestamp") < 3).then(None).otherwise(pl.col("timestamp") * 1.0),
        kind=pl.lit(None, pl.Float64),
    )
    panel = Panel.from_frame(frame, "1i", static=("size", "kind"))
    assert panel.static[:, 0].tolist() == [3.0, 3.0]
    assert panel.static[:, 1].isnan().all()
