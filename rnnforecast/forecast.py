"""Forecasts from a fitted model: one function for networks and baselines, for every series' newest reading."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import polars as pl
import torch

from rnnforecast.allocator import keep_memory
from rnnforecast.baselines import BaselineModel
from rnnforecast.columns import STEP, quantile, quantiles
from rnnforecast.combination import CombinedModel
from rnnforecast.fitted import FittedModel, read_settings
from rnnforecast.frame_rows import Frame
from rnnforecast.panel import Cutoffs, Panel
from rnnforecast.recurrent import BLOCK, RecurrentModel
from rnnforecast.threads import one_ahead

GROUP: Final = 1 << 24  # steps of the series that `forecast_file` forecasts at once, while it reads as many more


class ForecastError(ValueError):
    """A forecast that cannot be made as asked; the message says what can."""


def load_model(folder: Path) -> FittedModel:
    """A stored model, whatever its kind."""
    _, candidate, settings = read_settings(folder)
    if candidate.kind == "combination":
        members = [load_model(folder / place) for place in settings["members"]]
        return CombinedModel(candidate, members, settings["weights"])
    return RecurrentModel.load(folder) if candidate.is_network else BaselineModel.load(folder)


def forecast(
    model: FittedModel,
    data: Frame | Panel,
    *,
    horizon: int | None = None,
    quantile_levels: Sequence[float] | None = None,
) -> pl.DataFrame:
    """Forecast every series from its last reading: a long forecast frame with mean and quantiles.

    `horizon` and `quantile_levels` may ask for less than the model was trained for. Raises FrameError on a frame
    that cannot be read, ForecastError on more than the model can give.
    """
    steps, levels = _asked(model, horizon, quantile_levels)
    task = model.task
    panel = data if isinstance(data, Panel) else task.panel(data)
    require_known(panel, task.horizon)
    frame = model.forecast_at(panel, panel.last).filter(pl.col(STEP) <= steps)
    return frame.drop([quantile(level) for level in task.quantile_levels if level not in levels]).select(
        pl.exclude(quantiles(levels)), *quantiles(levels)
    )


def forecast_file(
    model: FittedModel,
    source: Path | str | pl.LazyFrame,
    target: Path | str,
    *,
    horizon: int | None = None,
    quantile_levels: Sequence[float] | None = None,
) -> int:
    """Forecast every series of Parquet files into a Parquet file, a group of series at a time; returns its rows.

    `source`: a long frame as a file, a folder, a pattern (`in/*.parquet`), or lazy. It may be larger than the memory:
    no more than twice GROUP steps are held at once. The files are read once, and then once for each group, of which
    only what can hold its series: sorted by series they are best. The same numbers as `forecast`, to the last bit,
    where every series has a reading. `target` appears when it is complete. Raises as `forecast` does, and OSError.
    """
    from pyarrow import parquet  # for files alone

    _asked(model, horizon, quantile_levels)
    keep_memory()
    frame = source if isinstance(source, pl.LazyFrame) else pl.scan_parquet(source)
    target, rows = Path(target), 0
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    with ExitStack() as stack:
        stack.callback(draft.unlink, missing_ok=True)
        writer: parquet.ParquetWriter | None = None
        for panel in one_ahead(Panel.of, model.task.layout(frame).groups(GROUP, entities=BLOCK)):
            made = forecast(model, panel, horizon=horizon, quantile_levels=quantile_levels).to_arrow()
            if writer is None:
                writer = stack.enter_context(parquet.ParquetWriter(draft, made.schema, compression="zstd"))
            writer.write_table(made)
            rows += made.num_rows
        assert writer is not None  # a layout has a series at least
        writer.close()
        draft.replace(target)
    return rows


def _asked(
    model: FittedModel, horizon: int | None, quantile_levels: Sequence[float] | None
) -> tuple[int, tuple[float, ...]]:
    """How many steps and which quantiles. Raises ForecastError on more than the model can give."""
    task = model.task
    steps = task.horizon if horizon is None else horizon
    levels = task.quantile_levels if quantile_levels is None else tuple(quantile_levels)
    if not 1 <= steps <= task.horizon:
        raise ForecastError(f"horizon: this model forecasts 1 to {task.horizon} steps, asked for {steps}; retrain")
    unknown = [level for level in levels if level not in task.quantile_levels]
    if unknown:
        raise ForecastError(f"quantile_levels: trained for {list(task.quantile_levels)}, asked for {unknown}; retrain")
    return steps, levels


def require_known(panel: Panel, horizon: int, cutoffs: Cutoffs | None = None) -> None:
    """Refuse a panel whose known covariates do not reach over the horizon after each cutoff (by default after each
    series' last reading). Raises ForecastError."""
    if panel.known.shape[1] == 0:
        return
    at = panel.last if cutoffs is None else cutoffs
    have = panel.offsets.diff()[at.series] - at.position - 1
    short = torch.nonzero(have < horizon)[:, 0]
    if len(short):
        series = int(at.series[short[0]])
        after = (
            "its last reading"
            if cutoffs is None
            else f"cutoff {panel.stamps(panel.starts[series] + at.position[short[0]])[0]}"
        )
        raise ForecastError(
            f"series {panel.series_ids[series]!r}: known covariates reach {int(have[short[0]])} of {horizon} steps "
            f"beyond {after} ({len(at.series[short].unique())} series in all); add rows for those steps with the "
            "target left empty"
        )
