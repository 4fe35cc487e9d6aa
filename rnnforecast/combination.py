"""The weighted mean of several models' forecasts, as a model of its own.

What methods of different kinds miss is seldom the same: their mean misses less than most of them do by themselves, and
is seldom far behind the best (Bates and Granger 1969; the M4 competition: Makridakis et al. 2020).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from rnnforecast.columns import MEAN, levels_of, quantiles
from rnnforecast.config import Candidate
from rnnforecast.fitted import FittedError, FittedModel, write_settings
from rnnforecast.panel import Cutoffs, Panel

MEMBERS: Final = {"network": 1, "baseline": 2}  # the best of each kind, so many
NEAR: Final = 2.0  # what errs more than so many times as much as the best has no part
SMALLEST: Final = 1e-12  # of a score that is divided by
SAFER: Final = 0.05  # a combination is taken though another is ahead by up to this share: so much is often chance


class CombinedModel:
    """Fitted models of one task as one: the mean of what they forecast, with `weights`; see `FittedModel`."""

    def __init__(self, candidate: Candidate, members: Sequence[FittedModel], weights: Sequence[float]) -> None:
        self.task, self.candidate = members[0].task, candidate
        self.members, self.weights = tuple(members), tuple(weights)

    def forecast_at(self, panel: Panel, cutoffs: Cutoffs) -> pl.DataFrame:
        """A forecast frame from each cutoff."""
        return average([member.forecast_at(panel, cutoffs) for member in self.members], self.weights)

    def save(self, folder: Path) -> None:
        """Each member in a sub-folder of its own."""
        places = [f"{place}-{member.candidate.model}" for place, member in enumerate(self.members)]
        write_settings(folder, self.task, self.candidate, members=places, weights=self.weights)
        for place, member in zip(places, self.members, strict=True):
            member.save(folder / place)


def average(frames: Sequence[pl.DataFrame], weights: Sequence[float]) -> pl.DataFrame:
    """The weighted mean of forecast frames of the same rows: of their means, and of each quantile."""
    names = [MEAN, *quantiles(levels_of(frames[0].columns))]
    mean = np.average([frame.select(names).to_numpy() for frame in frames], axis=0, weights=weights)
    return frames[0].with_columns(pl.Series(name, mean[:, place]) for place, name in enumerate(names))


def combine(
    candidate: Candidate, models: Mapping[str, FittedModel], scores: Mapping[str, float | None]
) -> CombinedModel:
    """The best network and the two best baselines of `models`, by their scores in a backtest (less is better); without
    those that err more than twice as much as the best.

    Their weights are as the inverses of the scores. Raises FittedError where fewer than two are left.
    """
    known = {label: score for label in models if (score := scores[label]) is not None}
    limit = NEAR * min(known.values(), default=0.0)
    ranked = [models[label] for label in sorted(known, key=lambda label: known[label]) if known[label] <= limit]
    found: list[FittedModel] = []
    for kind, most in MEMBERS.items():
        found += [model for model in ranked if model.candidate.kind == kind and not _is_repeated(model)][:most]
    if len(found) < 2:
        raise FittedError("nothing to combine: no network and baseline, or two baselines, are near the best")
    return CombinedModel(candidate, found, [1 / max(known[each.candidate.label], SMALLEST) for each in found])


def chosen_by(kind: str, score: float) -> float:
    """What a candidate is chosen by: its score, of which a combination is forgiven a twentieth."""
    return score / (1 + SAFER) if kind == "combination" else score


def _is_repeated(model: FittedModel) -> bool:
    """Without a season, the seasonal naive forecast is the naive one."""
    return model.candidate.model == "seasonal_naive" and model.task.season_length == 1
