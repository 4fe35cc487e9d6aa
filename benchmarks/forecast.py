"""Batch forecast of Parquet files into a Parquet file: how much of the time is the network's own."""

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks import rounds, series

SERIES: Final = (5_000, 100_000)  # rounds of the first, then the second once
SERIES_PER_FILE: Final = 5_000
TARGET: Final = 0.7
LANES: Final = 512  # of the bare network: ours goes over fewer, which costs the bare one more on several threads


def forecast(given: list[str]) -> dict[str, Any]:
    """`forecast_file` of a default network (LSTM 1x64, horizon 48) against the bare `nn.LSTM` over inputs of the same
    width, with a linear layer on its last outputs. In one process, in turn."""
    parser = rounds.options("forecast", forecast.__doc__)
    parser.add_argument(
        "--series", type=int, nargs=2, default=SERIES, help="how many in the rounds, and once after them"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "bench-forecast", help="removed after"
    )
    options = parser.parse_args(given)
    done: dict[str, Any] = rounds.machine(options.threads)
    few, many = options.series
    try:
        for count, times in ((few, options.rounds), (many, 1)):
            shutil.rmtree(options.folder, ignore_errors=True)
            _write(options.folder / "in", count)
            settings = {"folder": str(options.folder), "count": count, "threads": options.threads}
            with rounds.Apart("benchmarks.forecast:both", settings, threads=options.threads) as side:
                found = [side() for _ in range(times)]
            done[f"{count:,} series of {series.STEPS:,} steps"] = _said(found)
    finally:
        shutil.rmtree(options.folder, ignore_errors=True)
    return done


def _said(found: list[rounds.Figures]) -> dict[str, Any]:
    ours, bare = rounds.pick(found, "ours"), rounds.pick(found, "bare")
    return {
        "seconds": {name: rounds.rounded(each) for name, each in rounds.spread(ours).items()},
        "the bare network's share": rounds.ratio(bare, ours),
        "the same of processor time": rounds.ratio(rounds.pick(found, "bare cpu"), rounds.pick(found, "ours cpu")),
        "target": TARGET,
        "GiB above start": round(max(rounds.pick(found, "above")) / rounds.GIB, 2),
    }


def _write(folder: Path, count: int) -> None:
    """Series in files of 5,000, sorted by series and time."""
    import polars as pl

    folder.mkdir(parents=True)
    rows = series.frame(min(SERIES_PER_FILE, count))
    for number in range(-(-count // SERIES_PER_FILE)):
        names = pl.col("series_id").str.replace("s", f"f{number:03}-s")
        rows.with_columns(names).write_parquet(folder / f"{number:03}.parquet")


def both(folder: str, count: int, threads: int) -> Callable[[], dict[str, Any]]:
    """The two sides in one process: each call runs first the one, then the other."""
    import torch

    from rnnforecast.allocator import keep_memory
    from rnnforecast.forecaster import Forecaster

    torch.set_num_threads(threads)
    keep_memory()
    model = Forecaster(
        series.HORIZON, cell="lstm", season_length=(24, 168), frequency="1h", max_steps=1, validate_every=1
    )
    model.fit(series.frame(20))
    width = next(part.input_size for part in model.model.network.modules() if isinstance(part, torch.nn.LSTM))
    lstm = torch.nn.LSTM(width, series.HIDDEN, batch_first=True)
    head = torch.nn.Linear(series.HIDDEN, series.HORIZON * len(model.settings.quantile_levels))
    inputs = torch.randn(LANES, series.STEPS, width)

    def bare() -> None:
        with torch.inference_mode():
            for first in range(0, count, LANES):
                outputs, _ = lstm(inputs[: min(LANES, count - first)])
                head(outputs[:, -1])

    def run() -> dict[str, Any]:
        before = rounds.held()
        theirs = _timed(bare)
        ours = _timed(lambda: model.forecast_file(f"{folder}/in", f"{folder}/out.parquet"))
        above = rounds.peak() - before
        return {"bare": theirs[0], "bare cpu": theirs[1], "ours": ours[0], "ours cpu": ours[1], "above": above}

    bare()
    return run


def _timed(job: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and seconds of the processor."""
    started, spent = time.perf_counter(), time.process_time()
    job()
    return time.perf_counter() - started, time.process_time() - spent
