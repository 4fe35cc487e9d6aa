"""The forecasts that a network must beat: naive, seasonal naive, AutoETS, AutoTheta, behind the same interface."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from rnnforecast.config import Candidate
from rnnforecast.fitted import forecast_frame, read_settings, write_settings
from rnnforecast.panel import Cutoffs, Panel
from rnnforecast.task import Task

# Each refits at every cutoff on so many seasons, within these steps: older readings change these models little, and
# their fitting time a lot.
HISTORY_SEASONS = 15
HISTORY_BOUNDS = (300, 1_000)
FEWEST_READINGS = 3


class BaselineModel:
    """A classical model; nothing is stored but its name, each cutoff is fitted on the history before it."""

    def __init__(self, task: Task, candidate: Candidate) -> None:
        self.task, self.candidate = task, candidate

    def forecast_at(self, panel: Panel, cutoffs: Cutoffs) -> pl.DataFrame:
        """A forecast frame from each cutoff; see `FittedModel`."""
        horizon, levels = self.task.horizon, self.task.quantile_levels
        low, high = HISTORY_BOUNDS
        steps = max(min(max(HISTORY_SEASONS * self.task.season_length, low), high), 2 * self.task.season_length)
        means = np.zeros((len(cutoffs), horizon))
        found = np.zeros((len(cutoffs), horizon, len(levels)))
        for row, (series, position) in enumerate(zip(cutoffs.series, cutoffs.position, strict=True)):
            history = _history(panel, int(series), int(position), steps=steps)
            means[row], found[row] = self._fit_and_forecast(history)
        return forecast_frame(panel, cutoffs, means, found, levels=levels)

    def _fit_and_forecast(self, history: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean [H] and quantiles [H, Q] after `history`; one that cannot be fitted repeats the last value."""
        levels = self.task.quantile_levels
        central: Any = sorted({round(100 * abs(1 - 2 * level), 6) for level in levels} - {0.0})
        season = self.task.season_length if len(history) >= 2 * self.task.season_length else 1
        name = self.candidate.model if len(history) >= FEWEST_READINGS and np.ptp(history) > 0 else "naive"
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                out = _built(name, season).forecast(history, h=self.task.horizon, level=central or None)
            except Exception:  # statsforecast's optimisers raise many kinds on degenerate series
                out = _built("naive", season).forecast(history, h=self.task.horizon, level=central or None)
        if not all(np.isfinite(values).all() for values in out.values()):
            mean = np.full(self.task.horizon, history[-1])
            return mean, np.repeat(mean[:, None], len(levels), axis=1)
        return out["mean"], np.stack([_quantile(out, level) for level in levels], axis=1)

    def save(self, folder: Path) -> None:
        """A baseline is its name and task: one JSON file."""
        write_settings(folder, self.task, self.candidate)

    @classmethod
    def load(cls, folder: Path) -> "BaselineModel":
        task, candidate, _ = read_settings(folder)
        return cls(task, candidate)


def _built(name: str, season: int) -> Any:
    """A classical model by its name in the pipeline file."""
    from statsforecast import models  # seconds, and whoever serves a network needs none of it

    if name == "naive":
        return models.Naive()
    words = {"seasonal_naive": models.SeasonalNaive, "auto_ets": models.AutoETS, "auto_theta": models.AutoTheta}
    return words[name](season_length=season)


def _history(panel: Panel, series: int, position: int, *, steps: int) -> np.ndarray:
    """The last `steps` readings of a series up to a cutoff, gaps filled straight between their edges."""
    start = int(panel.offsets[series])
    first = max(0, position + 1 - steps)
    values = panel.values[start + first : start + position + 1].double().numpy()
    mask = panel.mask[start + first : start + position + 1].numpy()
    places = np.arange(len(values))
    if not mask.any():  # a gap longer than that: the last reading before it is all there is
        earlier = np.flatnonzero(panel.mask[start : start + position + 1].numpy())
        return panel.values[start + earlier[-1:]].double().numpy()
    return np.ascontiguousarray(np.interp(places, places[mask], values[mask]))


def _quantile(out: dict[str, np.ndarray], level: float) -> np.ndarray:
    """The quantile of a symmetric interval: 0.1 is the lower end of the central 80 %."""
    if abs(level - 0.5) < 1e-9:
        return out["mean"]
    central = round(100 * abs(1 - 2 * level), 6)
    side = "lo" if level < 0.5 else "hi"
    named = {float(key.split("-", 1)[1]): key for key in out if key.startswith(side)}
    return out[named[central]]
