"""One set through the untouched default pipeline, in a process of its own: `init`, ingest, candidates, champion; then
the champion, seasonal naive and AutoETS on a last span that no choice has seen."""

import hashlib
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import polars as pl
import torch

from benchmarks.defaults_sets import SETS, rows
from rnnforecast import backtest, combination, config, table, windows
from rnnforecast.baselines import BaselineModel
from rnnforecast.combination import chosen_by
from rnnforecast.config import Candidate, Pipeline
from rnnforecast.fitted import FittedError, FittedModel
from rnnforecast.flows import retrain, study
from rnnforecast.guess import guess
from rnnforecast.ingest import ingest
from rnnforecast.metrics import overall, per_series
from rnnforecast.panel import Cutoffs, Panel

REFERENCES: Final = ("seasonal_naive", "auto_ets")
FORECASTS: Final = 100  # about so many are judged, over all series of a set, half a horizon apart or more
HORIZONS_HELD: Final = 10  # the last span: so many horizons, more where series are few ...
SHARE_HELD: Final = 6  # ... but no more than this part of a series, and no less than one horizon
CACHE: Final = Path(tempfile.gettempdir()) / "bench-defaults"  # forecasts of AutoETS: slow, and always the same


def judge(name: str, data: Path, seed: int) -> dict[str, Any]:
    """What a user gets who changes nothing, and how good it is after the last reading that any choice has seen."""
    started = time.perf_counter()
    full = rows(name, data)
    with tempfile.TemporaryDirectory(prefix="bench-defaults-") as folder:
        pipeline, before, after = tables(name, full, Path(folder))
        seeded = pipeline.training.model_copy(update={"seed": seed})
        pipeline = pipeline.model_copy(update={"training": seeded})
        setting = study.divided(pipeline, before)
        models, board = fitted(pipeline, setting, Path(folder))
    task, panel = setting.task, setting.panel
    late, later = held_out(panel, task.panel(after), task.horizon)
    season, metric = SETS[name].season, pipeline.backtest.metric
    known = replace(task, seasons=(season,))
    references = {label: BaselineModel(known, Candidate(model=label)) for label in REFERENCES}
    candidates, judged = (
        {label: score(model, late, later, history=panel, season=season) for label, model in part.items()}
        for part in (models, references)
    )
    champion = min(board, key=lambda row: chosen_by(models[row["model"]].candidate.kind, row[metric]))["model"]
    return {
        "series": len(panel),
        "steps": int(panel.lengths.median()),
        "frequency": str(task.frequency),
        "horizon": task.horizon,
        "seasons": list(task.seasons),
        "forecasts": len(later),
        "champion": champion,
        "scores": {"champion": candidates[champion], **judged},
        "candidates": candidates,
        "chosen by": {row["model"]: {key: row[key] for key in ("mase", "wql", "coverage")} for row in board},
        "seconds": round(time.perf_counter() - started, 1),
    }


def tables(name: str, full: pl.DataFrame, folder: Path) -> tuple[Pipeline, pl.DataFrame, pl.DataFrame]:
    """The pipeline that `init` proposes for the rows without the last span; what it ingests of those, and of all."""
    horizon = proposed(name, full, folder / "full")[0].horizon
    place, length = pl.int_range(pl.len()).over("unique_id"), pl.len().over("unique_id")
    horizons = max(HORIZONS_HELD, FORECASTS // (2 * full["unique_id"].n_unique()))
    held = pl.max_horizontal(pl.min_horizontal(horizons * horizon, length // SHARE_HELD), horizon)
    pipeline, text = proposed(name, full.filter(place < length - held), folder / "history")
    frames = []
    for part in ("history", "full"):
        each = config.parse(text, file=folder / part / "pipeline.yaml")
        ingest(each)
        frames.append(table.read(each.table("observations")))
    return pipeline, frames[0], frames[1]


def proposed(name: str, frame: pl.DataFrame, folder: Path) -> tuple[Pipeline, str]:
    """What `rnnforecast init` writes for a file of these rows."""
    folder.mkdir()
    frame.write_parquet(folder / "rows.parquet")
    text = guess(folder / "rows.parquet", name=name, project=folder)
    return config.parse(text, file=folder / "pipeline.yaml"), text


def fitted(
    pipeline: Pipeline, setting: study.Setting, folder: Path
) -> tuple[dict[str, FittedModel], list[dict[str, Any]]]:
    """All candidates of the pipeline, as its retrain fits them, without those that this data is not for; and the
    leaderboard that it chooses by, best first."""
    panel, metric = setting.panel, pipeline.backtest.metric
    models: dict[str, FittedModel] = {}
    results: list[backtest.Result] = []

    def leaderboard() -> list[dict[str, Any]]:
        series = backtest.by_series(results, panel, setting.parts.valid_end, season_length=setting.task.season_length)
        return backtest.leaderboard(results, series, metric=metric).to_dicts()

    for candidate in pipeline.models:
        try:
            if candidate.kind == "combination":
                scores = {row["model"]: row[metric] for row in leaderboard()}
                model: FittedModel = combination.combine(candidate, models, scores)
            else:
                model = retrain.fit(pipeline, candidate, setting, folder / candidate.label)[0]
            results.append(backtest.run(model, panel, setting.cutoffs, label=candidate.label))
            models[candidate.label] = model
        except FittedError as error:
            print(f"{candidate.label}: {error}", file=sys.stderr)
    return models, leaderboard()


def held_out(before: Panel, after: Panel, horizon: int) -> tuple[Panel, Cutoffs]:
    """The panel with the last span, and about `FORECASTS` rolling origins over it, evenly thinned."""
    assert before.series_ids == after.series_ids
    assert before.starts.equal(after.starts)
    found = windows.rolling(before.lengths, after.lengths, horizon, max(1, horizon // 2))
    each = max(1, FORECASTS // len(after))
    kept = []
    for series in range(len(after)):
        mine = torch.nonzero(found.series == series)[:, 0]
        kept.append(mine[torch.linspace(0, len(mine) - 1, min(each, len(mine))).round().long()])
    at = torch.cat(kept)
    return after, Cutoffs(found.series[at], found.position[at])


def score(
    model: FittedModel, panel: Panel, cutoffs: Cutoffs, *, history: Panel, season: int
) -> dict[str, float | None]:
    """MASE (mean over series), WQL (all series together) and coverage of a model on the last span."""
    scored = backtest.with_actuals(forecasts(model, panel, cutoffs), panel, cutoffs)
    series = per_series(scored, backtest.long_frame(history), season_length=season)
    found = overall(scored, series)
    return {name: found[name] for name in ("mase", "wql", "coverage")}


def forecasts(model: FittedModel, panel: Panel, cutoffs: Cutoffs) -> pl.DataFrame:
    """A model's forecasts; those of AutoETS are kept, keyed by all that decides them."""
    if model.candidate.model != "auto_ets":
        return model.forecast_at(panel, cutoffs)
    found = hashlib.sha256(json.dumps(model.task.to_dict()).encode())
    for tensor in (panel.values, panel.mask, panel.offsets, cutoffs.series, cutoffs.position):
        found.update(tensor.numpy().tobytes())
    file = CACHE / f"{found.hexdigest()[:24]}.parquet"
    if not file.exists():
        CACHE.mkdir(exist_ok=True)
        draft = file.with_suffix(f".{os.getpid()}")
        model.forecast_at(panel, cutoffs).write_parquet(draft)
        draft.replace(file)
    return pl.read_parquet(file)


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    print(json.dumps(judge(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
