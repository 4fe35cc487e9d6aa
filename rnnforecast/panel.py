"""From the long frame to tensors: every series end to end in one array, no padding, no copy per window.

Shapes: N all steps of all series, S series, E entities of C channels each (S = E * C; C is 1 mostly), P past, K known,
Z static covariates, M cutoffs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import polars as pl
import torch
from torch import Tensor

from rnnforecast.columns import ORDINAL, SERIES_ID, TARGET, TIMESTAMP
from rnnforecast.frame import FrameError, normalise, validate
from rnnforecast.frequency import Frequency


@dataclass(frozen=True)
class Cutoffs:
    """Places where a forecast is made: series [M] and the position in the series of the last step seen [M]."""

    series: Tensor
    position: Tensor

    def __len__(self) -> int:
        return len(self.series)


@dataclass(frozen=True)
class Panel:
    """Ragged series on one grid: step i of series s is row `offsets[s] + i`, its ordinal `starts[s] + i`."""

    series_ids: tuple[str, ...]
    frequency: Frequency
    dtype: pl.DataType  # of the timestamps
    offsets: Tensor  # [S + 1] int64
    starts: Tensor  # [S] int64, ordinals
    values: Tensor  # [N] float32, 0 where there is no reading
    mask: Tensor  # [N] bool, True where there is one
    past: Tensor  # [N, P] float32, NaN where missing
    known: Tensor  # [N, K] float32, NaN where missing
    static: Tensor  # [S, Z] float32, NaN where missing
    channels: int = 1  # series e * C ... e * C + C - 1 are the channels of entity e: equally long, on one grid

    @classmethod
    def from_frame(
        cls,
        frame: pl.DataFrame,
        frequency: Frequency | str = "auto",
        *,
        past: Sequence[str] = (),
        known: Sequence[str] = (),
        static: Sequence[str] = (),
        channels: Sequence[str] = (),
        resample: str = "none",
    ) -> "Panel":
        """Check a long frame and lay it out; every series starts at its first reading.

        Rows after a series' last reading are kept (they carry known covariates). `channels` names series that belong
        together, as CHANNEL or ENTITY/CHANNEL: they are laid out over the same steps, and past and known covariates
        are read from the first of them. Raises FrameError.
        """
        validate(frame, covariates=(*past, *known, *static))
        frame, step = normalise(frame, frequency, covariates=(*past, *known, *static), resample=resample)
        read = pl.col(ORDINAL).filter(pl.col(TARGET).is_not_null())
        spans = frame.group_by(SERIES_ID).agg(start=read.min(), stop=pl.col(ORDINAL).max() + 1).sort(SERIES_ID)
        empty = spans.filter(pl.col("start").is_null())[SERIES_ID].to_list()
        spans = spans.drop_nulls("start")
        if spans.is_empty():
            raise FrameError(f"series {empty[:5]}: every target is missing; check `null_values` and the target column")
        if channels:
            spans = grouped(spans, channels)
        lengths = (spans["stop"] - spans["start"]).to_torch()
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        spans = spans.with_columns(base=pl.Series(offsets[:-1].numpy()) - pl.col("start"))
        rows = frame.join(spans, on=SERIES_ID, how="inner").filter(pl.col(ORDINAL) >= pl.col("start"))
        place = rows.select(pl.col("base") + pl.col(ORDINAL)).to_series().to_torch()
        total = int(offsets[-1])
        target = _scatter(rows, [TARGET], place, total)[:, 0]
        return cls(
            series_ids=tuple(spans[SERIES_ID]),
            frequency=step,
            dtype=rows[TIMESTAMP].dtype,
            offsets=offsets,
            starts=spans["start"].to_torch(),
            values=target.nan_to_num(0.0),
            mask=~target.isnan(),
            past=_scatter(rows, past, place, total),
            known=_scatter(rows, known, place, total),
            static=_constants(rows, static, spans),
            channels=len(channels) or 1,
        )

    def __len__(self) -> int:
        return len(self.series_ids)

    @cached_property
    def lengths(self) -> Tensor:
        """Steps from the first to the last reading of each series, [S]."""
        series, place = self.places()
        last = torch.zeros(len(self), dtype=torch.int64)
        return last.scatter_reduce_(0, series, torch.where(self.mask, place + 1, 0), "amax")

    def places(self) -> tuple[Tensor, Tensor]:
        """The series of every row, and its position there: [N] each."""
        series = torch.repeat_interleave(torch.arange(len(self)), self.offsets.diff())
        return series, torch.arange(len(self.values)) - self.offsets[series]

    @property
    def entities(self) -> tuple[str, ...]:
        """The names of what has a state of its own, [E]: the series, or the part of their names before the channel."""
        if self.channels == 1:
            return self.series_ids
        return tuple(name.rpartition("/")[0] for name in self.series_ids[:: self.channels])

    def members(self, entity: Tensor) -> Tensor:
        """The series of entities [B], channel by channel: [B * C]."""
        return (entity[:, None] * self.channels + torch.arange(self.channels, device=entity.device)).flatten()

    @property
    def last(self) -> Cutoffs:
        """The newest cutoff of every series: its last reading."""
        return Cutoffs(torch.arange(len(self)), self.lengths - 1)

    def gather(self, rows: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Values and mask at `rows`, nothing read where not `valid`."""
        rows = rows.clamp(0, len(self.values) - 1)
        mask = self.mask[rows] & valid
        return torch.where(mask, self.values[rows], 0.0), mask

    def to(self, device: torch.device | str) -> "Panel":
        """The same panel with its tensors on `device`."""
        fields = ("offsets", "starts", "values", "mask", "past", "known", "static")
        return replace(self, **{name: getattr(self, name).to(device) for name in fields})

    def stamps(self, ordinals: Tensor) -> pl.Series:
        """Ordinals [any] to timestamps, flat."""
        frame = pl.DataFrame({ORDINAL: ordinals.flatten().cpu().numpy()})
        return frame.select(self.frequency.timestamp(ORDINAL, self.dtype).alias(TIMESTAMP)).to_series()


def grouped(spans: pl.DataFrame, channels: Sequence[str]) -> pl.DataFrame:
    """Spans of series (series_id, start, stop) entity by entity, channels in their order, all over the same steps.

    Raises FrameError where a series is none of the channels, or an entity lacks one.
    """
    name = pl.col(SERIES_ID)
    parts = spans.with_columns(
        channel=name.str.split("/").list.last(), entity=name.str.replace(r"/?[^/]*$", "")
    ).with_columns(order=pl.col("channel").replace_strict(list(channels), range(len(channels)), default=None))
    stray = parts.filter(pl.col("order").is_null())
    if len(stray):
        raise FrameError(
            f"series {stray[SERIES_ID][0]!r} is none of the channels {list(channels)}; name series ENTITY/CHANNEL (or "
            "CHANNEL alone, for one entity), or add it to `channels`"
        )
    found = parts.group_by("entity", maintain_order=True).agg("channel")
    short = found.filter(pl.col("channel").list.len() < len(channels))
    if len(short):
        missing = sorted(set(channels) - set(short["channel"][0]))
        raise FrameError(f"entity {short['entity'][0]!r} has no readings of the channels {missing}; each needs all")
    same = [pl.col("start").min().over("entity"), pl.col("stop").max().over("entity")]
    return parts.with_columns(same).sort("entity", "order").select(SERIES_ID, "start", "stop")


def _constants(rows: pl.DataFrame, columns: Sequence[str], spans: pl.DataFrame) -> Tensor:
    """The first value of each column in each series, [S, columns]; NaN where it has none."""
    first = [pl.col(name).sort_by(ORDINAL).drop_nulls().first().cast(pl.Float32) for name in columns]
    found = spans.select(SERIES_ID).join(
        rows.group_by(SERIES_ID).agg(first), on=SERIES_ID, how="left", maintain_order="left"
    )
    values = [found[name].fill_null(torch.nan).to_torch() for name in columns]
    return torch.stack(values, dim=1) if values else torch.zeros(len(spans), 0)


def _scatter(rows: pl.DataFrame, columns: Sequence[str], place: Tensor, total: int) -> Tensor:
    """Columns of `rows` at their places in an array [total, columns] of NaN."""
    out = torch.full((total, len(columns)), torch.nan)
    for index, name in enumerate(columns):
        out[place, index] = rows[name].cast(pl.Float32).fill_null(torch.nan).to_torch()
    return out
