"""What a file says of itself: the pipeline file that `rnnforecast init` proposes for it.

Columns are told by what they hold and, where that leaves a choice, by their names; frequency, resampling,
season and horizon by reading the file just as an ingest would. What was guessed stands in the text to be seen.
"""

import math
from pathlib import Path
from statistics import median
from typing import Any, Final

import polars as pl
import yaml

from rnnforecast.columns import SERIES_ID, TARGET, TIMESTAMP
from rnnforecast.config import DEFAULT_MODELS, ConfigError, parse
from rnnforecast.frame import FrameError, normalise
from rnnforecast.frequency import Frequency, infer
from rnnforecast.guess_columns import Found, GuessError, roles
from rnnforecast.guess_rows import ENOUGH, first_rows
from rnnforecast.guess_zone import Clock, clock
from rnnforecast.quality_sentinels import SENTINELS, stands_out
from rnnforecast.sources import SourceError, open_source
from rnnforecast.sources.times import MONTH_NUMBERS

SERIES: Final = 100  # looked at for a season, evenly spaced
WEAKEST: Final = 0.1  # correlation of changes a season apart: below it, a season is worth nothing
STANDARD_ERRORS: Final = 3  # of a correlation of so many changes, that it must exceed too
STEP_SEASONS: Final = (4, 5, 7, 12, 24, 48, 52, 60, 96, 144, 168)  # tried where steps are integers
ETS_SEASON: Final = 12  # steps: AutoETS is fitted anew at each cutoff, in time that grows with the season ...
ETS_SEASONS: Final = 1_200  # ... and with the number of series: the most of both together
HORIZONS: Final = {"s": 60, "m": 60, "h": 24, "d": 7, "bd": 5, "w": 13, "mo": 12, "q": 4, "y": 4, "i": 12}


__all__ = ["GuessError", "guess"]


def guess(file: Path, *, name: str, project: Path | None = None) -> str:
    """The text of a pipeline file for `file`, with short comments; it loads and ingests as it stands.

    The file's path is written from `project` where it lies inside, else whole. Raises GuessError.
    """
    try:
        rows, extra = first_rows(file)
        found = roles(rows, file.name)
    except SourceError as error:
        raise GuessError(f"{error}; then try again, or write the pipeline file by hand") from None
    inside = project is not None and file.resolve().is_relative_to(project.resolve())
    path = file.resolve().relative_to(project.resolve()) if inside and project else file.resolve()
    columns = {"timestamp": found.timestamp, "target": found.target, "series_id": found.series_id}
    if found.source.get("layout") == "year_month":
        del columns["target"]
    source = {"kind": "file", "path": path.as_posix(), "columns": {k: v for k, v in columns.items() if v is not None}}
    source |= extra | found.source
    sentinels = _sentinels(rows, found)
    if sentinels:
        source["null_values"] = sentinels
    project = project or file.resolve().parent
    frame = _read(source, name, project)
    step = _step(frame, file.name)
    seen = clock(frame, step)
    if seen and _read(source | {"timezone": seen.zone}, name, project)[TIMESTAMP].equals(frame[TIMESTAMP]):
        seen = None  # the stamps carry their own zone
    if seen:
        source |= {"timezone": seen.zone} | ({"ending": str(step)} if seen.ending else {})
        frame = _read(source, name, project)
    frame = frame.unique([SERIES_ID, TIMESTAMP], keep="last", maintain_order=True)
    return _write(source, frame, step, _told(source, found, seen), name=name)


def _sentinels(rows: pl.DataFrame, found: Found) -> list[str]:
    """Constants that stand for no reading: usual ones, repeated, far from all else in each column that has them."""
    targets = found.target if isinstance(found.target, list) else [found.target]
    if found.source.get("layout") == "year_month":
        targets = [column for column in rows.columns if column.lower() in MONTH_NUMBERS]
    numbers = [rows[column].cast(pl.Float64, strict=False).drop_nulls() for column in targets]
    found_in = {value: [cells for cells in numbers if (cells == value).any()] for value in SENTINELS}
    return [f"{value:g}" for value, cells in found_in.items() if cells and all(stands_out(value, c) for c in cells)]


def _read(source: dict[str, Any], name: str, project: Path) -> pl.DataFrame:
    """The long frame as an ingest would read it, repeats included; the first rows of a very large file."""
    looked = {**source, "settle": 0}  # a file is looked at as it is, unfinished or not
    text = yaml.safe_dump({"name": name, "horizon": 1, "sources": [looked], "allow_future": True})
    parts: list[pl.DataFrame] = []
    try:
        pipeline = parse(text, file=project.resolve() / "guess.yaml", project=project)
        for batch in open_source(pipeline, pipeline.sources[0]).read(None):
            parts.append(batch.frame.select(SERIES_ID, TIMESTAMP, TARGET))
            if sum(map(len, parts)) >= ENOUGH:
                break
    except (SourceError, ConfigError) as error:
        raise GuessError(f"{error} (guessed: {source['columns']}); write the pipeline file by hand") from None
    full = [part for part in parts if len(part)] or parts[:1]
    return pl.concat(full)


def _step(frame: pl.DataFrame, name: str) -> Frequency:
    try:
        return infer(frame[TIMESTAMP], frame[SERIES_ID])
    except ValueError as error:
        raise GuessError(f"{name}: {error}; found {len(frame)} readings; one series needs two at least") from None


def _told(source: dict[str, Any], found: Found, seen: Clock | None) -> list[str]:
    """Each guess about the source with its reason, as comments."""
    lines = []
    if isinstance(found.target, list):
        lines.append("One series for each column under `target:`; take out those you do not need.")
    if found.rest:
        lines.append(f"Other numeric columns, for `past_covariates:` or `known_covariates:`: {', '.join(found.rest)}")
    if "%" in source.get("timestamp_format", ""):
        lines.append("timestamp_format: this order of day and month makes the times follow each other; check it.")
    if seen:
        others = f"; as well: {', '.join(seen.others)}" if seen.others else ""
        lines.append(f"timezone: {seen.told}, as in this zone{others}; check it.")
    if seen and seen.ending:
        lines.append("ending: those hours fit stamps that say when their interval ended; check it.")
    if "null_values" in source:
        lines.append("null_values: repeated, and far from all other values, so they are taken to mean no reading.")
    return [f"# {line}" for line in lines]


def _write(source: dict[str, Any], frame: pl.DataFrame, step: Frequency, told: list[str], *, name: str) -> str:
    """The pipeline file."""
    count, times = frame[SERIES_ID].n_unique(), frame[TIMESTAMP].sort()
    lengths = frame.group_by(SERIES_ID).len()["len"].to_list()
    season = _step_season(frame) if step.is_integer else step.season_lengths()[0]
    horizon = max(1, min(_horizon(step, season), int(median(lengths)) // 5))
    lines = [
        f"# {len(frame)} readings in {count} series, {times[0]} to {times[-1]}.",
        f"name: {name}",
        _block({"sources": [source]}).rstrip("\n"),
        *told,
        f"frequency: {step}",
    ]
    if _needs_resampling(frame, step):
        lines.append("resample: mean  # readings do not stand on a regular grid: the mean of each step is taken")
    tried = ", ".join(str(length) for length in step.season_lengths())
    lines.append(f"season_length: {season}" if step.is_integer else f"season_length: auto  # tried: {tried} steps")
    lines.append(f"horizon: {horizon}  # steps to forecast")
    lines.append("backtest: {metric: both}  # the champion is best in the median (MASE) and the quantiles (WQL) alike")
    if count * season <= ETS_SEASONS and season <= ETS_SEASON:
        place = DEFAULT_MODELS.index("auto_theta")
        models = (*DEFAULT_MODELS[:place], "auto_ets", *DEFAULT_MODELS[place:])
        lines.append(f"models: [{', '.join(models)}]  # the usual ones, and auto_ets: seasons are short, series few")
    return "\n".join(lines) + "\n"


def _block(value: dict[str, Any]) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)


def _needs_resampling(frame: pl.DataFrame, step: Frequency) -> bool:
    try:
        normalise(frame, step)
    except FrameError:
        return True
    return False


def _step_season(frame: pl.DataFrame) -> int:
    """The season of integer steps: the shortest usual one at which changes repeat nearly as well as at the best.

    A weak one is believed where many readings show it, and only where changes one step off show less: what is smooth
    repeats at every short lag.
    """
    names = frame[SERIES_ID].unique().sort()
    looked_at = names.gather_every(max(1, len(names) // SERIES))
    chosen = frame.filter(pl.col(SERIES_ID).is_in(looked_at.implode())).sort(SERIES_ID, TIMESTAMP)
    changes = chosen.with_columns(pl.col(TARGET).diff().over(SERIES_ID).alias("change"))
    doubt = max(WEAKEST, STANDARD_ERRORS / math.sqrt(max(1, len(changes))))
    scores = {lag: _repeated(changes, lag) for lag in STEP_SEASONS}
    believed = (lag for lag, score in scores.items() if score > doubt and score >= 0.9 * max(scores.values()))
    return next((lag for lag in believed if scores[lag] > max(_repeated(changes, lag + off) for off in (-1, 1))), 1)


def _repeated(changes: pl.DataFrame, lag: int) -> float:
    """How changes correlate with those `lag` steps before, the median over series; too short a series has 0."""
    pairs = changes.with_columns(before=pl.col("change").shift(lag).over(SERIES_ID))
    both = pl.col("change").is_not_null() & pl.col("before").is_not_null()
    found = pl.corr(pl.col("change").filter(both), pl.col("before").filter(both))
    is_there = (both.sum() >= 2 * lag) & found.is_finite()
    each = pairs.group_by(SERIES_ID).agg(r=pl.when(is_there).then(found).otherwise(0.0))
    return float(each["r"].median() or 0.0)  # type: ignore[arg-type]


def _horizon(step: Frequency, season: int) -> int:
    """A horizon that people ask for at this step: an hour of minutes, a day of hours, a quarter of weeks."""
    if step.is_integer:
        return season if season > 1 else HORIZONS["i"]
    if step.unit == "m" and step.every >= 15:
        return max(1, 1_440 // step.every)
    return max(1, HORIZONS[step.unit] // step.every)
