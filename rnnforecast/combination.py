"""The mean of a network's forecasts and a baseline's, as a model of its own.

What two methods of different kinds miss is seldom the same, and their mean misses less than most methods do by
themselves (Bates and Granger 1969; all but one of the best in the M4 competition: Makridakis et al. 2020).
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from rnnforecast.columns import MEAN, levels_of, quantiles
from rnnforecast.config import Candidate
from rnnforecast.fitted import FittedError, FittedModel, write_settings
from rnnforecast.panel import Cutoffs, Panel


class CombinedModel:
    """Fitted models of one task as one: the mean of what they forecast; see `FittedModel`."""

    def __init__(self, candidate: Candidate, members: Sequence[FittedModel]) -> None:
        self.task, self.candidate, self.members = members[0].task, candidate, tuple(members)

    def forecast_at(self, panel: Panel, cutoffs: Cutoffs) -> pl.DataFrame:
        """A forecast frame from each cutoff."""
        return average([member.forecast_at(panel, cutoffs) for member in self.members])

    def save(self, folder: Path) -> None:
        """Each member in a sub-folder of its own."""
        places = [f"{place}-{member.candidate.model}" for place, member in enumerate(self.members)]
        write_settings(folder, self.task, self.candidate, members=places)
        for place, member in zip(places, self.members, strict=True):
            member.save(folder / place)


def average(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The mean of forecast frames of the same rows: of their means, and of each quantile."""
    names = [MEAN, *quantiles(levels_of(frames[0].columns))]
    return frames[0].with_columns(
        sum((frame[name] for frame in frames[1:]), frames[0][name]) / len(frames) for name in names
    )


def members(ranked: Sequence[Candidate]) -> tuple[Candidate, Candidate]:
    """The first network and the first baseline of candidates, best first. Raises FittedError where one is missing."""
    found = [next((each for each in ranked if each.kind == kind), None) for kind in ("network", "baseline")]
    if found[0] is None or found[1] is None:
        raise FittedError("a combination is of a network and a baseline; of one kind there is none")
    return found[0], found[1]
