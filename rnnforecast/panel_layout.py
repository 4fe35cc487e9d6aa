"""Where each series of a long frame lies in a panel, found in one pass over the rows; a second one puts them there.

Neither holds more than a batch of rows beside what it makes: memory is that of the panel, whatever the frame's. The
panel can also be made in groups of series, each as if it were the whole.

Shapes: N all steps of all series, S series, P past, K known, Z static covariates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from torch import Tensor

from rnnforecast.columns import ORDINAL, SERIES_ID, TARGET, TIMESTAMP
from rnnforecast.frame import FrameError, in_one_step, twice
from rnnforecast.frame_rows import Frame, Rows
from rnnforecast.frequency import Frequency

KEPT: Final = 1 << 20  # partial spans that are held before they are summed up
NOWHERE: Final = np.iinfo(np.int64).max  # where a series without readings begins


@dataclass(frozen=True)
class Layout:
    """The series of a frame in their order, and the rows that they are to be filled from."""

    rows: Rows
    spans: pl.DataFrame  # series_id, start and stop (ordinals), readings
    past: tuple[str, ...]
    known: tuple[str, ...]
    static: tuple[str, ...]
    channels: tuple[str, ...]
    whole: bool = True  # all series of the rows, not some

    @classmethod
    def of(
        cls,
        frame: Frame,
        frequency: Frequency | str = "auto",
        *,
        past: Sequence[str] = (),
        known: Sequence[str] = (),
        static: Sequence[str] = (),
        channels: Sequence[str] = (),
        resample: str = "none",
    ) -> "Layout":
        """Look at every row of a long frame; see `Panel.from_frame`. Raises FrameError."""
        rows = Rows.of(frame, frequency, covariates=(*past, *known, *static), resample=resample)
        spans = _spans(rows)
        empty = spans.filter(pl.col("start").is_null())[SERIES_ID].to_list()
        spans = spans.drop_nulls("start")
        if spans.is_empty():
            raise FrameError(f"series {empty[:5]}: every target is missing; check `null_values` and the target column")
        if channels:
            spans = grouped(spans, channels)
        return cls(rows, spans, tuple(past), tuple(known), tuple(static), tuple(channels))

    def groups(self, steps: int, *, entities: int = 1) -> Iterator["Layout"]:
        """The layout in parts of about so many steps, each but the last of a multiple of `entities`."""
        unit = entities * (len(self.channels) or 1)
        places = pl.int_range(pl.len()) // unit
        sizes = (
            self.spans.group_by(places.alias("unit")).agg(steps=(pl.col("stop") - pl.col("start")).sum()).sort("unit")
        )
        group = ((sizes["steps"].cum_sum() - 1) // steps).alias("group")
        ends = sizes.with_columns(group).group_by("group").agg(pl.col("unit").min(), pl.len()).sort("group")
        for _, first, count in ends.iter_rows():
            yield replace(self, spans=self.spans.slice(first * unit, count * unit), whole=len(ends) == 1 and self.whole)

    def fields(self) -> dict[str, Any]:
        """The fields of a Panel. Raises FrameError where a step stands twice."""
        lengths = (self.spans["stop"] - self.spans["start"]).to_torch()
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        bases = self.spans.select(SERIES_ID, "start", base=pl.Series(offsets[:-1].numpy()) - pl.col("start"))
        total = int(offsets[-1])
        taken, placed = torch.zeros(total, dtype=torch.bool), 0
        values = torch.full((total,), torch.nan)
        past, known = (torch.full((total, len(names)), torch.nan) for names in (self.past, self.known))
        constants: list[pl.DataFrame] = []
        rows = self._rows()
        for batch in rows.batches():
            batch, place = _placed(batch, bases)
            taken[place] = True
            placed += len(place)
            values[place] = numbers(batch[TARGET])
            for out, names in ((past, self.past), (known, self.known)):
                for index, name in enumerate(names):
                    out[place, index] = numbers(batch[name])
            if self.static:
                constants.append(_firsts(batch, self.static))
        if int(taken.sum()) != placed:
            raise _repeated(rows, bases, offsets)
        del taken
        return {
            "series_ids": tuple(self.spans[SERIES_ID]),
            "frequency": rows.frequency,
            "dtype": rows.time,
            "offsets": offsets,
            "starts": self.spans["start"].to_torch(),
            "mask": values.isnan().logical_not_(),
            "values": values.nan_to_num_(0.0),
            "past": past,
            "known": known,
            "static": _constants(constants, self.static, self.spans),
            "channels": len(self.channels) or 1,
        }

    def _rows(self) -> Rows:
        names = self.spans[SERIES_ID]
        return self.rows if self.whole else self.rows.only(str(names.min()), str(names.max()))


def _spans(rows: Rows) -> pl.DataFrame:
    """First and last step of each series, sorted by name: series_id, start (of its first reading; null if it has none),
    stop, readings."""
    total = [pl.col("start").min(), pl.col("stop").max(), pl.col("readings").sum()]
    found: list[pl.DataFrame] = []
    for batch in rows.checked():
        found.append(_of_runs(batch))
        if sum(map(len, found)) > KEPT:
            found = [pl.concat(found).group_by(SERIES_ID).agg(total)]
    return pl.concat(found).group_by(SERIES_ID).agg(total).sort(SERIES_ID)


def _of_runs(batch: pl.DataFrame) -> pl.DataFrame:
    """The same of each run of one series in a batch of some rows: sorted by series, a million rows make a few runs."""
    runs = batch[SERIES_ID].rle().struct.unnest()
    first = (runs["len"].cast(pl.Int64).cum_sum() - runs["len"]).to_numpy()
    ordinal, read = batch[ORDINAL].to_numpy(), batch[TARGET].is_not_null().to_numpy()
    start = np.minimum.reduceat(np.where(read, ordinal, NOWHERE), first)
    return runs.select(
        pl.col("value").alias(SERIES_ID),
        start=pl.when(pl.Series(start) < NOWHERE).then(pl.Series(start)),
        stop=pl.Series(np.maximum.reduceat(ordinal, first) + 1),
        readings=pl.Series(np.add.reduceat(read.astype(np.int64), first)),
    )


def _placed(batch: pl.DataFrame, bases: pl.DataFrame) -> tuple[pl.DataFrame, Tensor]:
    """The rows of a batch that have a place, and it; none have those before a series' first reading."""
    # Names are looked up run by run: rows sorted by series make a few runs of a million.
    runs = batch[SERIES_ID].rle().struct.unnest()
    runs = runs.join(bases, left_on="value", right_on=SERIES_ID, how="left", maintain_order="left")
    lengths = runs["len"].cast(pl.Int64).to_torch()
    ordinal = batch[ORDINAL].to_torch()
    start = runs["start"].fill_null(NOWHERE).to_torch()
    kept = ordinal >= start.repeat_interleave(lengths)
    place = ordinal + runs["base"].fill_null(0).to_torch().repeat_interleave(lengths)
    if not kept.all():
        batch, place = batch.filter(pl.Series(kept.numpy())), place[kept]
    return batch, place


def numbers(column: pl.Series) -> Tensor:
    """A column as float32, NaN where missing."""
    found = column.cast(pl.Float32)
    return (found.fill_null(torch.nan) if found.null_count() else found).to_torch()


def _repeated(rows: Rows, bases: pl.DataFrame, offsets: Tensor) -> FrameError:
    """What is said where a step of a series stands twice: found in a pass of its own."""
    count = torch.zeros(int(offsets[-1]), dtype=torch.int32)
    for batch in rows.batches():
        place = _placed(batch, bases)[1]
        count.index_add_(0, place, torch.ones(len(place), dtype=torch.int32))
    first = int(torch.nonzero(count > 1)[0, 0])
    series = int(torch.searchsorted(offsets, first, right=True)) - 1
    same = (pl.col(SERIES_ID) == bases[SERIES_ID][series]) & (pl.col(ORDINAL) + bases["base"][series] == first)
    both = pl.concat([batch.filter(same) for batch in rows.batches()])
    return twice(both) if both[TIMESTAMP][0] == both[TIMESTAMP][1] else in_one_step(both, rows.frequency)


def _firsts(batch: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """The first value of each column in each series of a batch, and where it stands."""
    found = []
    for name in columns:
        there = pl.col(name).is_not_null()
        found += [
            pl.col(name).filter(there).sort_by(pl.col(ORDINAL).filter(there)).first(),
            pl.col(ORDINAL).filter(there).min().alias(f"{ORDINAL} {name}"),
        ]
    return batch.group_by(SERIES_ID).agg(found)


def _constants(parts: list[pl.DataFrame], columns: Sequence[str], spans: pl.DataFrame) -> Tensor:
    """The first value of each column in each series, [S, columns]; NaN where it has none."""
    if not columns:
        return torch.zeros(len(spans), 0)
    first = [pl.col(name).sort_by(f"{ORDINAL} {name}", nulls_last=True).first() for name in columns]
    whole = pl.concat(parts).group_by(SERIES_ID).agg(first)
    found = spans.select(SERIES_ID).join(whole, on=SERIES_ID, how="left", maintain_order="left")
    return torch.stack([numbers(found[name]) for name in columns], dim=1)


def entity_and_channel(channels: Sequence[str]) -> tuple[pl.Expr, pl.Expr]:
    """Of series named ENTITY/CHANNEL, or CHANNEL alone: the entity, and which of the channels it is (null: none)."""
    name, places = pl.col(SERIES_ID), {channel: place for place, channel in enumerate(channels)}
    order = name.str.split("/").list.last().replace_strict(places, default=None, return_dtype=pl.Int64)
    return name.str.replace(r"/?[^/]*$", ""), order


def grouped(spans: pl.DataFrame, channels: Sequence[str]) -> pl.DataFrame:
    """Spans of series (series_id, start, stop, readings) entity by entity, channels in their order, all over the same
    steps.

    Raises FrameError where a series is none of the channels, or an entity lacks one.
    """
    entity, order = entity_and_channel(channels)
    parts = spans.with_columns(entity=entity, order=order)
    stray = parts.filter(pl.col("order").is_null())
    if len(stray):
        raise FrameError(
            f"series {stray[SERIES_ID][0]!r} is none of the channels {list(channels)}; name series ENTITY/CHANNEL (or "
            "CHANNEL alone, for one entity), or add it to `channels`"
        )
    found = parts.group_by("entity", maintain_order=True).agg("order")
    short = found.filter(pl.col("order").list.len() < len(channels))
    if len(short):
        missing = sorted(set(channels) - {channels[each] for each in short["order"][0]})
        raise FrameError(f"entity {short['entity'][0]!r} has no readings of the channels {missing}; each needs all")
    same = [pl.col("start").min().over("entity"), pl.col("stop").max().over("entity")]
    return parts.with_columns(same).sort("entity", "order").select(SERIES_ID, "start", "stop", "readings")
