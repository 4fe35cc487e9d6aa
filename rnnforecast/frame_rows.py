"""A long frame of any size, gone through batch by batch: from memory, or from files that are read each time anew.

Whatever the batches, the rows are the same: what is checked, and what is said of a row that is refused, is frame.py's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from rnnforecast.columns import SERIES_ID, TARGET, TIMESTAMP
from rnnforecast.frame import (
    FrameError,
    check_columns,
    check_keys,
    check_numbers,
    check_repeats,
    check_step,
    check_types,
    keys,
    no_rows,
    off_grid,
    resampled,
    time_type,
    with_ordinals,
)
from rnnforecast.frequency import Frequency, infer_in

BATCH: Final = 1 << 20  # rows at a time
WHOLE: Final = 4 << 20  # rows of whole series at a time, for what needs all of a series' rows side by side

Frame = pl.DataFrame | pl.LazyFrame


@dataclass(frozen=True)
class Rows:
    """The rows of a long frame on their grid; see `frame.normalise` for what is done to each."""

    source: Frame
    covariates: tuple[str, ...]
    frequency: Frequency
    resample: str

    @classmethod
    def of(
        cls,
        frame: Frame,
        frequency: Frequency | str = "auto",
        *,
        covariates: Sequence[str] = (),
        resample: str = "none",
    ) -> "Rows":
        """A long frame, its columns looked at and its step found (`auto`), its rows not yet. Raises FrameError."""
        schema = frame.collect_schema()
        check_columns(schema, covariates)
        if isinstance(frame, pl.DataFrame) and frame.is_empty():
            raise no_rows()
        check_types(schema, covariates)
        kept = frame.select(SERIES_ID, TIMESTAMP, TARGET, *covariates)
        try:
            step = frequency if isinstance(frequency, Frequency) else _step(kept, frequency, schema[TIMESTAMP])
        except ValueError as error:
            raise FrameError(str(error)) from None
        check_step(step, schema[TIMESTAMP])
        return cls(kept, tuple(covariates), step, resample)

    @property
    def time(self) -> pl.DataType:
        """The type of the timestamps in the batches."""
        return time_type(self.source.collect_schema()[TIMESTAMP])

    def only(self, first: str, last: str) -> "Rows":
        """Those of the series from one name to another, both included."""
        name = pl.col(SERIES_ID).cast(pl.String)
        return replace(self, source=self.source.filter(name.is_between(pl.lit(first), pl.lit(last))))

    def batches(self) -> Iterator[pl.DataFrame]:
        """Batches of rows: series_id, timestamp, target, the covariates and `ordinal`; a step of a series stands in
        one row where they are resampled. For rows that have been `checked` before."""
        if self.resample != "none":
            for part in whole_series(self.source):
                check_repeats(part)
                yield resampled(self._on_grid(part), self.covariates, self.resample)
        else:
            yield from map(self._on_grid, slices(self.source))

    def checked(self) -> Iterator[pl.DataFrame]:
        """The same, each row looked at. Raises FrameError; that no step stands twice is left to who lays them out."""
        rows = stray = 0
        first: pl.DataFrame | None = None
        for part in slices(self.source):
            check_keys(part, rows)
            check_numbers(part, self.covariates)
            rows += len(part)
            if self.resample == "none":
                batch = self._on_grid(part)
                off = batch.filter(~self.frequency.on_grid(TIMESTAMP))
                first = off if first is None and len(off) else first
                stray += len(off)
                yield batch
        if not rows:
            raise no_rows()
        if first is not None:
            raise off_grid(first, stray, rows, self.frequency)
        if self.resample != "none":
            yield from self.batches()

    def _on_grid(self, part: pl.DataFrame) -> pl.DataFrame:
        return with_ordinals(part, self.frequency, self.covariates)


def slices(frame: Frame) -> Iterator[pl.DataFrame]:
    """A frame in batches, in its order."""
    if isinstance(frame, pl.DataFrame):
        yield from frame.iter_slices(BATCH)
    else:
        yield from frame.collect_batches(chunk_size=BATCH, maintain_order=True)


def names_of(frame: Frame) -> list[str]:
    """The series of a frame, in order."""
    return frame.lazy().select(pl.col(SERIES_ID).unique().sort()).collect()[SERIES_ID].to_list()


def whole_series(frame: Frame) -> Iterator[pl.DataFrame]:
    """A frame in parts of whole series, in the order of their names; each part is looked for in all of it."""
    name = pl.col(SERIES_ID).cast(pl.String)
    counts = frame.lazy().group_by(name).agg(pl.len()).collect().drop_nulls().sort(SERIES_ID)
    if int(counts["len"].sum()) <= WHOLE:
        yield frame.lazy().collect()
        return
    part = (pl.col("len").cum_sum() - 1) // WHOLE
    ends = counts.group_by(part.alias("part"), maintain_order=True).agg(
        first=pl.col(SERIES_ID).first(), last=pl.col(SERIES_ID).last()
    )
    for _, first, last in ends.iter_rows():
        yield frame.lazy().filter(name.is_between(pl.lit(first), pl.lit(last))).collect()


def _step(frame: Frame, wanted: str, time: pl.DataType) -> Frequency:
    """The step that the pipeline file names, at the phase of the timestamps; `auto`: the one that they have."""
    times = frame.select(*keys(time))
    if wanted != "auto":
        return Frequency.parse(wanted).anchored_in(part[TIMESTAMP] for part in slices(times.select(TIMESTAMP)))
    return infer_in(lambda: ((part[TIMESTAMP], part[SERIES_ID]) for part in whole_series(times)))
