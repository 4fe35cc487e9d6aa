"""What the recurrence remembers: the last values (gaps filled with what was known), covariates, hidden states."""

from typing import NamedTuple

import torch
from torch import Tensor


class State(NamedTuple):
    """Everything a forecast needs from the past. Passed and returned, never kept on a module."""

    filled: Tensor  # [R, M] last values, missing ones as the value before them; NaN before the first reading
    observed: Tensor  # [R, M] bool, True where there was a reading
    seen: Tensor  # [B, W, F] last covariates, of models that look at several steps at once; W may be 0
    hidden: Tensor  # [S, B, n, D] of n interleaved recurrences (segments of n steps); n is 1 mostly
    cell: Tensor  # [S, B, n, D] of an LSTM, [S, B, n, 0] of others
    contexts: Tensor  # [B, A, D] last outputs of the encoder, for attention; NaN before the first; A is 0 mostly

    def detach(self) -> "State":
        return State(*(part.detach() for part in self))

    def where(self, keep: Tensor, other: "State") -> "State":
        """This state in the lanes where `keep` [B] is true, `other` in the rest."""
        rows = keep.repeat_interleave(len(self.filled) // len(keep))[:, None]
        flat, lanes = keep[:, None, None], keep[None, :, None, None]
        masks = (rows, rows, flat, lanes, lanes, flat)
        return State(*(torch.where(mask, mine, theirs) for mask, mine, theirs in zip(masks, self, other, strict=True)))


def extend(state: State, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The remembered values followed by new ones, gaps filled forward: filled [R, M + T], observed [R, M + T]."""
    observed = torch.cat([state.observed, mask], dim=1)
    last = filled_forward(torch.cat([state.filled[:, -1:], values.masked_fill(~mask, torch.nan)], dim=1))
    return torch.cat([state.filled[:, :-1], last], dim=1), observed


def filled_forward(values: Tensor) -> Tensor:
    """Values [R, T], each NaN as the last number before it; those before the first stay."""
    steps = torch.arange(values.shape[1], device=values.device)
    return values.gather(1, torch.where(values.isnan(), 0, steps).cummax(dim=1).values)


def since_reading(observed: Tensor, most: int) -> Tensor:
    """Steps since the last reading, 0 where there is one, `most` at most: as [R, M + T]."""
    places = torch.arange(observed.shape[1], device=observed.device)
    newest = torch.where(observed, places, -most).cummax(dim=1).values
    return (places - newest).clamp(max=most)


def pick(values: Tensor, places: Tensor) -> Tensor:
    """values [R, X] at places [R, ...] of the second dimension: [R, ...]."""
    return values.gather(1, places.flatten(1)).view(places.shape)


def newest(values: Tensor, count: int) -> Tensor:
    """The last `count` steps [.., count, ..] of values [B, T, ...]; none if count is 0."""
    return values[:, values.shape[1] - count :]
