"""How fast readings come into the table: a hundred million at once, and ten thousand into a hundred million."""

import argparse
import shutil
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from benchmarks import rounds
from benchmarks.ingest_rows import HOUR, ORDERS, frame, pipeline_file, write_files
from benchmarks.rounds import GIB, Figures, Side, once

FOLDER: Final = Path(tempfile.gettempdir()) / "bench-ingest"


def ingest_bulk(given: list[str]) -> dict[str, Any]:
    """The rate of an ingest of Parquet files against `frame.sort(series, time).write_parquet()` of the same rows.

    Each side in a process of its own, in turn. Peak memory: the most the process of the ingest ever held, less what
    it held before the ingest began.
    """
    options = _options(given, rows=10_000_000, times=5)
    done: dict[str, Any] = {
        "rows": options.rows,
        "series": options.series,
        "rounds": options.rounds,
        **rounds.machine(),
    }
    for order in options.orders:
        folder = _fresh(options.folder)
        write_files(folder / "in", rows=options.rows, series=options.series, order=order)
        sides: dict[str, Side] = {name: partial(_apart, name, folder) for name in ("table", "polars")}
        taken = rounds.take_turns(sides, options.rounds)
        ours, theirs = (rounds.pick(taken[name], "seconds") for name in sides)
        ratio = rounds.ratio(theirs, ours)
        done[f"by {order}"] = {
            "rows per second": round(options.rows / statistics.median(ours)),
            "polars rows per second": round(options.rows / statistics.median(theirs)),
            "ratio": ratio["median"],
            "least and greatest ratio": [ratio["least"], ratio["greatest"]],
            "GiB above start": round(max(a["peak"] - a["before"] for a in taken["table"]) / GIB, 2),
            "polars GiB at most": round(max(b["peak"] for b in taken["polars"]) / GIB, 2),
        }
    _remove(options.folder)
    return done


def ingest_increment(given: list[str]) -> dict[str, Any]:
    """The time of an ingest of 10,000 rows into tables of several sizes, and how much longer the largest takes."""
    options = _options(given, rows=100_000_000, times=5)
    sizes = [options.rows // 100, options.rows // 10, options.rows]
    folder = _fresh(options.folder)
    for size in sizes:
        write_files(folder / str(size) / "in", rows=size, series=options.series, order=options.orders[0])
        _apart("table", folder / str(size), keep=True)
        shutil.rmtree(folder / str(size) / "in")
    done = {"rows": sizes, "batch": options.series, "loaded by": options.orders[0], **rounds.machine()}
    done |= once("benchmarks.ingest:batches", {"folder": str(folder), "times": options.rounds, "count": options.series})
    _remove(options.folder)
    return done


# --- each in a process of its own -----------------------------------------------------------------------------------


def table(folder: str) -> Side:
    """Ingest what lies in the folder's `in`."""
    return lambda: _table(Path(folder))


def polars(folder: str) -> Side:
    """Sort the same rows in memory, and write them to one Parquet file."""
    return lambda: _polars(Path(folder))


def batches(folder: str, times: int, count: int) -> Side:
    """Ingest batches of one row per series into each table in turn: all new, half revised, some a year late."""
    return lambda: _batches(Path(folder), times, count)


def _table(folder: Path) -> Figures:
    from rnnforecast.config import load
    from rnnforecast.ingest import ingest

    shutil.rmtree(folder / "data", ignore_errors=True)
    built = load(pipeline_file(folder))
    before, started = rounds.held(), time.perf_counter()
    report = ingest(built)
    seconds = time.perf_counter() - started
    assert report.read == report.inserted
    return {"seconds": seconds, "before": before, "peak": rounds.peak(), "rows": report.read}


def _polars(folder: Path) -> Figures:
    rows = pl.read_parquet(folder / "in" / "*.parquet")
    before, started = rounds.held(), time.perf_counter()
    rows.sort("sensor", "time").write_parquet(folder / "sorted.parquet")
    seconds = time.perf_counter() - started
    (folder / "sorted.parquet").unlink()
    return {"seconds": seconds, "before": before, "peak": rounds.peak(), "rows": len(rows)}


def _batches(folder: Path, times: int, count: int) -> Figures:
    from rnnforecast.config import load
    from rnnforecast.ingest import ingest
    from rnnforecast.upkeep import upkeep

    places = sorted((place for place in folder.iterdir() if place.is_dir()), key=lambda place: int(place.name))
    built = {place: load(pipeline_file(place)) for place in places}
    steps = {place: int(place.name) // count for place in places}
    tidied = {}
    for place in places:
        started = time.perf_counter()
        upkeep(built[place])
        tidied[place.name] = round(time.perf_counter() - started, 2)
    done: dict[str, Any] = {"seconds of upkeep": tidied}
    everyone, half = np.arange(count), count // 2
    for kind in ("new", "half revised", "a tenth a year late", "a tenth revised at the start"):
        seconds: dict[str, list[float]] = {place.name: [] for place in places}
        for number in range(-1, times):  # the first is not counted
            for place in places:
                step, shift, which = np.full(count, steps[place]), np.zeros(count, dtype=np.int64), everyone
                if kind == "half revised":
                    step[half:] -= 1 + number % 3
                elif kind == "a tenth a year late":
                    step[: count // 10] -= 8_766
                    shift[: count // 10] = HOUR // 2 + number
                elif kind == "a tenth revised at the start":
                    step[: count // 10] = 2 + number
                rows = frame(step, which, seed=steps[place])
                rows = rows.with_columns(pl.col("time") + pl.Series(shift).cast(pl.Duration("us")))
                (place / "in").mkdir(exist_ok=True)
                rows.write_parquet(place / "in" / f"rows-{steps[place]:06}.parquet")
                started = time.perf_counter()
                report = ingest(built[place])
                if number >= 0:
                    seconds[place.name].append(time.perf_counter() - started)
                assert report.read == count == report.inserted + report.updated + report.unchanged
                steps[place] += 1
        medians = {name: round(statistics.median(taken), 3) for name, taken in seconds.items()}
        largest, smallest = medians[places[-1].name], medians[places[0].name]
        done[kind] = {"median seconds": medians, "largest to smallest": round(largest / smallest, 2)}
        done[kind]["least and greatest"] = {
            name: [round(min(taken), 3), round(max(taken), 3)] for name, taken in seconds.items()
        }
    return done


def _apart(side: str, folder: Path, *, keep: bool = False) -> Figures:
    """Run one side in a process of its own; its figures."""
    found = once(f"benchmarks.ingest:{side}", {"folder": str(folder)})
    if side == "table" and not keep:
        shutil.rmtree(folder / "data")
    return found


def _options(given: list[str], *, rows: int, times: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks NAME")
    parser.add_argument("--rows", type=int, default=rows, help=f"readings, {rows:,} if nothing is said")
    parser.add_argument("--series", type=int, default=10_000, help="series, 10,000 if nothing is said")
    parser.add_argument("--rounds", type=int, default=times, help=f"how often, {times} if nothing is said")
    parser.add_argument("--orders", nargs="+", choices=ORDERS, default=list(ORDERS), help="which of two changes slowly")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where, removed after")
    return parser.parse_args(given)


def _fresh(folder: Path) -> Path:
    _remove(folder)
    folder.mkdir(parents=True)
    return folder


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
