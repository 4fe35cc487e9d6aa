"""What the recurrence remembers besides its hidden state: the last M values, gaps filled with what was known."""

from typing import NamedTuple

import torch
from torch import Tensor


class State(NamedTuple):
    """Everything a forecast needs from the past. Passed and returned, never kept on a module."""

    filled: Tensor  # [B, M] last values, missing ones as the value before them; NaN before the first reading
    observed: Tensor  # [B, M] bool, True where there was a reading
    hidden: Tensor  # [L, B, D]
    cell: Tensor  # [L, B, D] of an LSTM, [L, B, 0] of a GRU

    def detach(self) -> "State":
        return State(*(part.detach() for part in self))

    def where(self, keep: Tensor, other: "State") -> "State":
        """This state in the lanes where `keep` [B] is true, `other` in the rest."""
        flat, lanes = keep[:, None], keep[None, :, None]
        return State(
            torch.where(flat, self.filled, other.filled),
            torch.where(flat, self.observed, other.observed),
            torch.where(lanes, self.hidden, other.hidden),
            torch.where(lanes, self.cell, other.cell),
        )


def extend(state: State, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The remembered values followed by new ones, gaps filled forward: filled [B, M + T], observed [B, M + T]."""
    history = torch.cat([state.filled, values.masked_fill(~mask, torch.nan)], dim=1)
    observed = torch.cat([state.observed, mask], dim=1)
    steps = torch.arange(history.shape[1], device=history.device)
    newest = torch.where(history.isnan(), 0, steps).cummax(dim=1).values
    return history.gather(1, newest), observed


def since_reading(observed: Tensor, steps: int) -> Tensor:
    """Steps since the last reading, 0 where there is one, for the newest `steps`: [B, T] float."""
    places = torch.arange(observed.shape[1], device=observed.device)
    newest = torch.where(observed, places, 0).cummax(dim=1).values
    return (places - newest)[:, -steps:].float()
