"""The steps of a pass that forecasts are made from: every one of them, as training does, or some."""

from typing import NamedTuple

import torch
from torch import Tensor


class Places(NamedTuple):
    """A stretch of steps of a pass, by default every one, or the steps `at`. What lies on a stretch, or in windows
    around its steps, is a view of the pass: nothing is copied.

    Shapes: X rows or lanes (X = B, or B * C), T steps of the pass, K places of each lane.
    """

    steps: int  # T
    at: Tensor | None = None  # [B, K] steps 0..T-1; None: the stretch
    start: int = 0
    stop: int | None = None  # None: to the end of the pass

    @classmethod
    def among(cls, steps: int, at: Tensor | None) -> "Places":
        """Steps `at` [B, K] (None: every one), as a stretch where they are the same one in each lane."""
        if at is None or at.shape[1] == steps == 1:
            return cls(steps)
        if at.is_cuda or not at.numel():  # (to ask a GPU for these numbers would hold it up)
            return cls(steps, at)
        start, stop = int(at[0, 0]), int(at[0, 0]) + at.shape[1]
        alike = int(at[0, -1]) == stop - 1 and bool((at == torch.arange(start, stop)).all())
        return cls(steps, None, start, stop) if alike else cls(steps, at)

    def of(self, values: Tensor, *, back: int = 0) -> Tensor:
        """What values [X, .. + T, ...], which end with the pass, hold at the places, or so many steps before them:
        [X, K, ...]."""
        first = values.shape[1] - self.steps - back
        if self.at is None:
            return values[:, first + self.start : first + self._stop]
        at = self._of_rows(len(values)) + first
        return values[torch.arange(len(values), device=at.device)[:, None], at]

    def spread(self, part: Tensor) -> Tensor:
        """What is told of each place, [R, K], for each of what `of` finds."""
        return part

    def windows(self, values: Tensor, first: int, length: int) -> Tensor:
        """From values [X, Y, ...] so many steps after each place, at which values[:, first] lies for step 0:
        [X, K, length, ...]."""
        if self.at is None:
            some = values[:, first + self.start : first + self._stop + length - 1]
            return some.unfold(1, length, 1).movedim(-1, 2)
        at = self._of_rows(len(values))[..., None] + torch.arange(first, first + length, device=values.device)
        return values[torch.arange(len(values), device=at.device)[:, None, None], at]

    @property
    def _stop(self) -> int:
        return self.steps if self.stop is None else self.stop

    def _of_rows(self, rows: int) -> Tensor:
        assert self.at is not None
        return self.at.repeat_interleave(rows // len(self.at), dim=0)


class Ends(NamedTuple):
    """The ends of the last J segments of so many steps up to each place, oldest first: K * J places of each lane."""

    places: Places
    number: int  # J
    length: int

    def of(self, values: Tensor, *, back: int = 0) -> Tensor:
        """What values [X, .. + T, ...], which end with the pass, hold there, or so many steps before them:
        [X, K * J, ...]."""
        reach = (self.number - 1) * self.length
        first = values.shape[1] - self.places.steps - back - reach
        return self.places.windows(values, first, reach + 1)[:, :, :: self.length].flatten(1, 2)

    def spread(self, part: Tensor) -> Tensor:
        """What is told of each place, [R, K], for each segment before it, [R, K * J]."""
        return part[..., None].expand(-1, -1, self.number).flatten(1)
