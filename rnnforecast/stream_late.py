"""What came late: rows at or before the newest step of their lane that say something else than what is held."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rnnforecast.nn import transform
from rnnforecast.nn.lanes import Lanes
from rnnforecast.stream_rows import Rows


@dataclass(frozen=True)
class Change:
    """Values in place of others, and how many steps before the newest they count from."""

    name: str  # of the buffer
    row: Tensor  # [m] which of the rows
    channel: Tensor  # [m]
    back: Tensor  # [m]
    values: Tensor  # [m]

    def __getitem__(self, some: Tensor) -> "Change":
        return Change(self.name, self.row[some], self.channel[some], self.back[some], self.values[some])


def changes(lanes: Lanes, rows: Rows) -> list[Change]:
    """The readings and covariates among rows of lanes that have begun which differ from what is held."""
    back = lanes.kept.newest[rows.lane] - rows.ordinal
    found = [_differing(lanes, rows, "filled", rows.channel, back, rows.target, rows.read & (back >= 0))]
    # What is known of a step is seen one step before it. Covariates from before the first step count for nothing.
    for name, values, behind in (("past", rows.past, back), ("known", rows.known, back + 1)):
        for column in range(values.shape[1]):
            inside = lanes.kept.newest[rows.lane] - behind >= lanes.kept.first[rows.lane]
            where = (rows.channel == 0) & (behind >= 0) & inside  # covariates are those of the first channel
            place = torch.full_like(rows.channel, column)
            found.append(_differing(lanes, rows, name, place, behind, values[:, column], where))
    return [each for each in found if len(each.row)]


def _differing(
    lanes: Lanes, rows: Rows, name: str, channel: Tensor, back: Tensor, values: Tensor, where: Tensor
) -> Change:
    row = torch.nonzero(where & ~values.isnan())[:, 0]
    change = Change(name, row, channel[row], back[row], values[row])
    if not len(row):
        return change
    told = transform.forward(lanes.config.parts.transform, change.values) if name == "filled" else change.values
    held = lanes.held(name, rows.lane[row], change.channel, back=change.back)
    return change[(held != told) | (change.back >= lanes.needed)]


def apply(lanes: Lanes, rows: Rows, found: list[Change]) -> None:
    """Put the changes in, and run their lanes again from the earliest of them."""
    if not found:
        return
    deepest = torch.full((lanes.count,), -1)
    for change in found:
        lane = rows.lane[change.row]
        lanes.correct(change.name, lane, change.channel, back=change.back, values=change.values)
        deepest.scatter_reduce_(0, lane, change.back, "amax")
    some = torch.nonzero(deepest >= 0)[:, 0]
    first = lanes.kept.newest[some] - deepest[some]
    sooner = first < lanes.kept.first[some]
    if sooner.any():
        lanes.begin_earlier(some[sooner], first[sooner])
    lanes.again(some, deepest[some])


def remember_before(lanes: Lanes, rows: Rows) -> None:
    """Covariates of steps before the first one: they count if a reading of that time comes late."""
    kept = lanes.kept
    if not kept.past.shape[1] + kept.known.shape[1]:
        return
    back = kept.newest[rows.lane] - rows.ordinal
    for name, values, behind in (("past", rows.past, back), ("known", rows.known, back + 1)):
        early = (rows.channel == 0) & (kept.newest[rows.lane] - behind < kept.first[rows.lane])
        row = torch.nonzero(early & (behind < lanes.needed))[:, 0]
        for column in range(values.shape[1]):
            some = row[~values[row, column].isnan()]
            place = torch.full_like(some, column)
            lanes.correct(name, rows.lane[some], place, back=behind[some], values=values[some, column])
