"""How much memory a training takes, from the table of observations to the trained network, as `retrain` goes."""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks import rounds
from benchmarks.ingest_rows import pipeline_file, write_files

SERIES: Final = 10_000
OBSERVATIONS: Final = (10_000_000, 100_000_000)
TARGET: Final = 1.5  # GiB above the raw float32 values and the interpreter's own use
HORIZON: Final = 48
# Ways to make more forecasts from the same observations.
WAYS: Final[dict[str, dict[str, Any]]] = {
    "20 steps": {},
    "200 steps": {"training": {"max_steps": 200}},
    "20 steps of segments of 1,024": {"training": {"segment_length": 1_024}},
    "20 steps of 128 lanes": {"training": {"batch_size": 128}},
}


def memory(given: list[str]) -> dict[str, Any]:
    """Peak memory of a training on tables of several sizes, above that of a process that trained on next to nothing.

    Each in a process of its own: the study's digest of the table, the panel, the training, the backtest.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks memory", description=memory.__doc__)
    parser.add_argument("--observations", type=int, nargs="+", default=list(OBSERVATIONS), help="sizes of the tables")
    parser.add_argument("--series", type=int, default=SERIES, help=f"series, {SERIES:,}")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="which trainings")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "bench-memory", help="removed after"
    )
    options = parser.parse_args(given)
    done: dict[str, Any] = rounds.machine()
    try:
        own = _measured(_table(options.folder / "small", 20_000, 20), {})["peak"]
        done["interpreter and a tiny training, GiB"] = round(own / rounds.GIB, 2)
        for size in options.observations:
            folder = _table(options.folder / str(size), size, options.series)
            raw = 4 * size
            lines: dict[str, Any] = {"raw values, GiB": round(raw / rounds.GIB, 3)}
            for name in options.ways:
                found = _measured(folder, WAYS[name])
                above = (found["peak"] - own - raw) / rounds.GIB
                stages = ", ".join(
                    f"{stage} {(peak - own - raw) / rounds.GIB:.2f}" for stage, peak in found["at"].items()
                )
                lines[name] = f"{above:.2f} GiB above (by then: {stages}; {found['seconds']:.0f} s; target {TARGET})"
            done[f"{size:,} observations"] = lines
            shutil.rmtree(folder)
    finally:
        shutil.rmtree(options.folder, ignore_errors=True)
    return done


def _measured(folder: Path, way: dict[str, Any]) -> rounds.Figures:
    return rounds.once("benchmarks.memory:training", {"folder": str(folder), "way": way})


def _table(folder: Path, size: int, series: int) -> Path:
    """A pipeline whose table holds so many observations; the files that they came from are removed."""
    write_files(folder / "in", rows=size, series=series, order="time")
    rounds.once("benchmarks.memory:ingest", {"folder": str(folder)})
    shutil.rmtree(folder / "in")
    return folder


# --- each in a process of its own -----------------------------------------------------------------------------------


def ingest(folder: str) -> Callable[[], dict[str, Any]]:
    """Bring the folder's files into its table."""
    from rnnforecast.config import load
    from rnnforecast.ingest import ingest

    return lambda: {"rows": ingest(load(_pipeline(Path(folder), {}))).inserted}


def training(folder: str, way: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Plan, train and backtest one candidate, as the flow `retrain` does."""
    from rnnforecast import backtest
    from rnnforecast.flows import retrain, study

    def run() -> dict[str, Any]:
        started, at = time.perf_counter(), {}
        work = study.Study.of(str(_pipeline(Path(folder), way)), None, None)
        at["digest"] = rounds.peak()
        setting = study.setting(work)
        at["panel"] = rounds.peak()
        candidate = work.loaded.models[0]
        model, _ = retrain.fit(work.loaded, candidate, setting, Path(folder) / f"training-{time.time_ns()}")
        at["training"] = rounds.peak()
        backtest.run(model, setting.panel, setting.cutoffs, label=candidate.label)
        at["backtest"] = rounds.peak()
        return {"peak": rounds.peak(), "at": at, "seconds": time.perf_counter() - started}

    return run


def _pipeline(folder: Path, way: dict[str, Any]) -> Path:
    training = {"max_steps": 20, "validate_every": 20, "learning_rate": 1e-3} | way.get("training", {})
    candidates = [{"model": "lstm", "hidden_size": 64}]
    keys = {"horizon": HORIZON, "season_length": 24, "frequency": "1h", "models": candidates, "training": training}
    return pipeline_file(folder, **keys)
