"""From the long frame to tensors: every series end to end in one array, no padding, no copy per window.

Shapes: N all steps of all series, S series, E entities of C channels each (S = E * C; C is 1 mostly), P past, K known,
Z static covariates, M cutoffs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Final, NamedTuple

import polars as pl
import torch
from torch import Tensor

from rnnforecast.frame_rows import Frame
from rnnforecast.frequency import Frequency
from rnnforecast.panel_layout import Layout

STEPS_AT_ONCE: Final = 1 << 22


@dataclass(frozen=True)
class Cutoffs:
    """Places where a forecast is made: series [M] and the position in the series of the last step seen [M]."""

    series: Tensor
    position: Tensor

    def __len__(self) -> int:
        return len(self.series)


class Block(NamedTuple):
    """Steps that lie side by side: their rows in the panel, the series of each and its position there."""

    rows: slice
    series: Tensor  # [n]
    place: Tensor  # [n]


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
        frame: Frame,
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
        are read from the first of them. A lazy frame is gone through batch by batch, twice (once more where the step or
        its phase is to be found). Raises FrameError.
        """
        layout = Layout.of(
            frame, frequency, past=past, known=known, static=static, channels=channels, resample=resample
        )
        return cls.of(layout)

    @classmethod
    def of(cls, layout: Layout) -> "Panel":
        """The panel that a layout describes. Raises FrameError where a step stands twice."""
        return cls(**layout.fields())

    def __len__(self) -> int:
        return len(self.series_ids)

    @cached_property
    def lengths(self) -> Tensor:
        """Steps from the first to the last reading of each series, [S]."""
        lengths = self.offsets.diff()
        if self.mask[self.offsets[1:] - 1].all():  # nothing but known covariates stands behind the last reading
            return lengths
        last = torch.zeros_like(lengths)
        for block in self.blocks():
            last.scatter_reduce_(0, block.series, torch.where(self.mask[block.rows], block.place + 1, 0), "amax")
        return last

    def blocks(self) -> Iterator["Block"]:
        """All rows, some at a time: what is worked out for each step needs no room for all of them."""
        for first in range(0, len(self.values), STEPS_AT_ONCE):
            stop = min(first + STEPS_AT_ONCE, len(self.values))
            low, high = (int(torch.searchsorted(self.offsets, row, right=True)) - 1 for row in (first, stop - 1))
            inside = self.offsets[low : high + 2].clamp(first, stop).diff()
            series = torch.arange(low, high + 1).repeat_interleave(inside)
            yield Block(slice(first, stop), series, torch.arange(first, stop) - self.offsets[series])

    def parts(self) -> Iterator[tuple[slice, "Panel"]]:
        """The panel a few whole series at a time, as views of it, and which series they are."""
        number = (self.offsets[1:] - 1) // STEPS_AT_ONCE
        ends = number.unique_consecutive(return_counts=True)[1].cumsum(0).tolist()
        for first, last in pairwise([0, *ends]):
            series, rows = slice(first, last), slice(int(self.offsets[first]), int(self.offsets[last]))
            yield (
                series,
                replace(
                    self,
                    series_ids=self.series_ids[series],
                    offsets=self.offsets[first : last + 1] - self.offsets[first],
                    **{name: getattr(self, name)[series] for name in ("starts", "static")},
                    **{name: getattr(self, name)[rows] for name in ("values", "mask", "past", "known")},
                ),
            )

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
        return self.frequency.stamps(pl.Series(ordinals.flatten().cpu().numpy()), self.dtype)
