"""What the recurrence remembers: the last values (gaps filled with what was known), covariates, hidden states."""

from typing import NamedTuple

import torch
from torch import Tensor


class State(NamedTuple):
    """Everything a forecast needs from the past. Passed and returned, never kept on a module."""

    filled: Tensor  # [R, M] last values, gaps as the value before (NaN after `remember`, until a pass)
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


def extend(state: State, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The remembered steps followed by new ones [R, T]: values, each gap as the last reading before it (NaN before the
    first), which were read, and the steps since the last reading: [R, M + T] each."""
    observed = torch.cat([state.observed, mask], dim=1)
    known = torch.cat([state.filled, values], dim=1)
    since = torch.zeros_like(observed, dtype=torch.int64)
    rows: slice | Tensor = slice(None)
    most = state.filled.shape[1]
    if not observed.is_cuda:  # (to ask a GPU would hold it up)
        blank = 0 if state.observed.any() else most  # steps before anything was read are as they should be
        since[:, :blank] = most
        rows = observed[:, blank:].all(dim=1).logical_not_().nonzero()[:, 0]
    with_gaps = observed[rows]
    if len(with_gaps):
        places, last = _last_reading(with_gaps)
        known[rows] = pick(known[rows], last.clamp(min=0))
        since[rows] = (places - last).clamp_(max=most)
    return known, observed, since


def since_reading(observed: Tensor, most: int) -> Tensor:
    """Steps since the last reading, 0 where there is one, `most` at most: as [R, X]."""
    places, last = _last_reading(observed)
    return (places - last).clamp_(max=most)


def _last_reading(observed: Tensor) -> tuple[Tensor, Tensor]:
    """The places [X], and of the last reading up to each, [R, X]; far before the first where there is none."""
    places = torch.arange(observed.shape[1], device=observed.device)
    return places, torch.where(observed, places, -len(places)).cummax(dim=1).values


def pick(values: Tensor, places: Tensor) -> Tensor:
    """values [R, X] at places [R, ...] of the second dimension: [R, ...]."""
    first = torch.arange(0, values.numel(), values.shape[1], device=values.device)
    return values.take(places + first.view(-1, *[1] * (places.dim() - 1)))  # three times faster than to gather


def newest(values: Tensor, count: int) -> Tensor:
    """The last `count` steps [.., count, ..] of values [B, T, ...]; none if count is 0."""
    return values[:, values.shape[1] - count :]
