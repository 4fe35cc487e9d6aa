"""New rows as a stream takes them: checked at the door, each with the lane, channel and step that it belongs to."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import polars as pl
import torch
from torch import Tensor

from rnnforecast.columns import KEY, ORDINAL, SERIES_ID, TARGET, TIMESTAMP
from rnnforecast.frame import on_grid, validate
from rnnforecast.panel_layout import entity_and_channel, numbers
from rnnforecast.task import Task

LANE, CHANNEL, ENTITY = "lane", "channel", "entity"
PLACE = (ENTITY, CHANNEL, ORDINAL)


class StreamError(ValueError):
    """Rows that a stream cannot take, or a state that is another model's; the message says which and what to do."""


class Names:
    """Which lane each entity has, in the order in which they began."""

    def __init__(self, channels: tuple[str, ...] = ()) -> None:
        self.channels = channels
        self.entities = pl.Series(ENTITY, [], dtype=pl.String)

    def __len__(self) -> int:
        return len(self.entities)

    def add(self, names: pl.Series) -> None:
        """New lanes for these entities."""
        self.entities = pl.concat([self.entities, names.rename(ENTITY)]).rechunk()

    def series(self, lane: int, channel: int = 0) -> str:
        """The name of a series."""
        return "/".join(filter(None, [self.entities[lane], *self.channels[channel : channel + 1]]))

    @property
    def all_series(self) -> pl.Series:
        """The names of all series, lane by lane."""
        if not self.channels:
            return self.entities.rename(SERIES_ID)
        both = self.entities.to_frame().join(
            pl.DataFrame({CHANNEL: self.channels}), how="cross", maintain_order="left_right"
        )
        name = pl.concat_str(pl.col(ENTITY).replace("", None), pl.col(CHANNEL), separator="/", ignore_nulls=True)
        return both.select(name.alias(SERIES_ID)).to_series()

    def split(self, frame: pl.DataFrame) -> pl.DataFrame:
        """A frame with the entity and the number of the channel in place of the name of its series. Raises StreamError
        on an unknown one."""
        if not self.channels:
            whole = pl.lit(0, dtype=pl.Int64).alias(CHANNEL)
            return frame.select_seq(pl.exclude(SERIES_ID), pl.col(SERIES_ID).alias(ENTITY), whole)
        entity, channel = entity_and_channel(self.channels)
        found = frame.with_columns(entity.alias(ENTITY), channel.alias(CHANNEL))
        stray = found.filter(pl.col(CHANNEL).is_null())
        if len(stray):
            raise StreamError(
                f"series {stray[SERIES_ID][0]!r} is none of the channels {list(self.channels)} of this model"
            )
        return found.drop(SERIES_ID)

    def with_lanes(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
        """A frame that has an entity with its lane; entities that have none yet get the next ones, in the order of
        their names, and are returned."""
        lanes = pl.int_range(len(self), eager=True).alias(LANE)
        if frame[ENTITY].equals(self.entities):  # every one of them once, as in most updates
            return frame.with_columns(lanes), frame[ENTITY].clear()
        known = pl.DataFrame({ENTITY: self.entities, LANE: lanes})
        found = frame.join(known, on=ENTITY, how="left", maintain_order="left")
        new = found.filter(pl.col(LANE).is_null())[ENTITY].unique().sort()
        if len(new):
            begun = pl.DataFrame({ENTITY: new, "begun": pl.int_range(len(self), len(self) + len(new), eager=True)})
            found = found.join(begun, on=ENTITY, how="left", maintain_order="left")
            found = found.with_columns(pl.coalesce(LANE, "begun").alias(LANE)).drop("begun")
        return found, new


def read_rows(rows: pl.DataFrame, task: Task, names: Names) -> pl.DataFrame:
    """Rows of series_id, timestamp, target and covariates by entity, channel and ordinal; `timestamp` stays.

    A row that stands twice is one row, made of the later of what they fill in. Raises FrameError, StreamError.
    """
    covariates = (*task.past, *task.known, *task.static)
    complete = len(rows) and {*KEY, TARGET, *covariates} <= set(rows.columns)
    once = complete and rows[SERIES_ID].equals(names.entities)  # every series, as in most updates
    if complete and not once and rows.select(KEY).is_duplicated().any():
        rows = together(rows, KEY, (TARGET, *covariates))
    validate(rows, covariates=covariates, repeats=False)
    frame = on_grid(rows, task.frequency, covariates=covariates, resample=task.resample)
    return names.split(frame if once else frame.sort(SERIES_ID, ORDINAL))


def together(frame: pl.DataFrame, key: Sequence[str], values: Sequence[str]) -> pl.DataFrame:
    """One row for each key, with the last of each column that is not null."""
    last = [pl.col(name).fill_nan(None).drop_nulls().last() for name in values if frame[name].dtype.is_float()]
    rest = [pl.col(name).drop_nulls().last() for name in values if not frame[name].dtype.is_float()]
    return frame.group_by(key, maintain_order=True).agg(*last, *rest)


def require_type(frame: pl.DataFrame, dtype: pl.DataType) -> None:
    """Refuse timestamps of another type than the stream began with. Raises StreamError."""
    if frame[TIMESTAMP].dtype != dtype:
        raise StreamError(
            f"rows: expected `timestamp` of type {dtype}, as this stream began; found {frame[TIMESTAMP].dtype}; "
            "cast it, or give it the time zone"
        )


@dataclass(frozen=True)
class Rows:
    """Rows as tensors, one entry per (lane, channel, step)."""

    lane: Tensor  # [n]
    channel: Tensor  # [n]
    ordinal: Tensor  # [n]
    target: Tensor  # [n] NaN where there is no reading
    past: Tensor  # [n, P] NaN where missing
    known: Tensor  # [n, K] NaN where missing
    static: Tensor  # [n, Z] NaN where missing

    @classmethod
    def of(cls, frame: pl.DataFrame, task: Task) -> "Rows":
        """The rows of a frame that has lanes."""
        lane, channel, ordinal = (frame[name].to_torch() for name in (LANE, CHANNEL, ORDINAL))
        parts = (_columns(frame, names) for names in (task.past, task.known, task.static))
        return cls(lane, channel, ordinal, numbers(frame[TARGET]), *parts)

    @property
    def read(self) -> Tensor:
        """Where there is a reading, [n]."""
        return ~self.target.isnan()

    def __getitem__(self, some: Tensor) -> "Rows":
        if some.dtype == torch.bool and some.all():
            return self
        return Rows(*(getattr(self, field.name)[some] for field in fields(self)))


def _columns(frame: pl.DataFrame, names: Sequence[str]) -> Tensor:
    if not names:
        return torch.zeros(len(frame), 0)
    return torch.stack([numbers(frame[name]) for name in names], dim=1)
