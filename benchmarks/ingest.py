"""How fast readings come into the table: a hundred million at once, and ten thousand into a hundred million."""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from benchmarks.ingest_rows import HOUR, ORDERS, frame, pipeline_file, write_files

GIB: Final = 2**30
FOLDER: Final = Path(tempfile.gettempdir()) / "bench-ingest"
HERE: Final = Path(__file__).resolve().parents[1]


def ingest_bulk(given: list[str]) -> dict[str, Any]:
    """The rate of an ingest of Parquet files against `frame.sort(series, time).write_parquet()` of the same rows.

    Each side in a process of its own, in turn. Peak memory: the most the process of the ingest ever held, less what
    it held before the ingest began.
    """
    options = _options(given, rows=10_000_000, rounds=5)
    done: dict[str, Any] = {"rows": options.rows, "series": options.series, "rounds": options.rounds, **_machine()}
    for order in options.orders:
        folder = _fresh(options.folder)
        write_files(folder / "in", rows=options.rows, series=options.series, order=order)
        ours: list[dict[str, float]] = []
        theirs: list[dict[str, float]] = []
        for number in range(options.rounds):
            sides = [("table", ours), ("polars", theirs)]
            for side, kept in sides if number % 2 == 0 else reversed(sides):
                kept.append(_apart(side, folder))
        ratios = sorted(b["seconds"] / a["seconds"] for a, b in zip(ours, theirs, strict=True))
        done[f"by {order}"] = {
            "rows per second": round(options.rows / statistics.median(a["seconds"] for a in ours)),
            "polars rows per second": round(options.rows / statistics.median(b["seconds"] for b in theirs)),
            "ratio": round(statistics.median(ratios), 2),
            "least and greatest ratio": [round(ratios[0], 2), round(ratios[-1], 2)],
            "GiB above start": round(max(a["peak"] - a["before"] for a in ours) / GIB, 2),
            "polars GiB at most": round(max(b["peak"] for b in theirs) / GIB, 2),
        }
    _remove(options.folder)
    return done


def ingest_increment(given: list[str]) -> dict[str, Any]:
    """The time of an ingest of 10,000 rows into tables of several sizes, and how much longer the largest takes."""
    options = _options(given, rows=100_000_000, rounds=5)
    sizes = [options.rows // 100, options.rows // 10, options.rows]
    folder = _fresh(options.folder)
    for size in sizes:
        write_files(folder / str(size) / "in", rows=size, series=options.series, order=options.orders[0])
        _apart("table", folder / str(size), keep=True)
        shutil.rmtree(folder / str(size) / "in")
    done = {"rows": sizes, "batch": options.series, "loaded by": options.orders[0], **_machine()}
    done |= _apart("batches", folder, str(options.rounds), str(options.series))
    _remove(options.folder)
    return done


# --- each in a process of its own -----------------------------------------------------------------------------------


def table(folder: Path) -> dict[str, Any]:
    """Ingest what lies in the folder's `in`."""
    from rnnforecast.config import load
    from rnnforecast.ingest import ingest

    shutil.rmtree(folder / "data", ignore_errors=True)
    built = load(pipeline_file(folder))
    before, started = _held(), time.perf_counter()
    report = ingest(built)
    seconds = time.perf_counter() - started
    assert report.read == report.inserted
    return {"seconds": seconds, "before": before, "peak": _peak(), "rows": report.read}


def polars(folder: Path) -> dict[str, Any]:
    """Sort the same rows in memory, and write them to one Parquet file."""
    rows = pl.read_parquet(folder / "in" / "*.parquet")
    before, started = _held(), time.perf_counter()
    rows.sort("sensor", "time").write_parquet(folder / "sorted.parquet")
    seconds = time.perf_counter() - started
    (folder / "sorted.parquet").unlink()
    return {"seconds": seconds, "before": before, "peak": _peak(), "rows": len(rows)}


def batches(folder: Path, rounds: str, series: str) -> dict[str, Any]:
    """Ingest batches of one row per series into each table in turn: all new, half revised, some a year late."""
    from rnnforecast.config import load
    from rnnforecast.ingest import ingest
    from rnnforecast.upkeep import upkeep

    count = int(series)
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
        for number in range(-1, int(rounds)):  # the first is not counted
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


def _apart(side: str, folder: Path, *more: str, keep: bool = False) -> dict[str, Any]:
    """Run one side in a process of its own; its figures."""
    command = [sys.executable, "-m", "benchmarks.ingest", side, str(folder), *more]
    found = subprocess.run(command, cwd=HERE, stdout=subprocess.PIPE, text=True, check=True)
    if side == "table" and not keep:
        shutil.rmtree(folder / "data")
    return dict(json.loads(found.stdout.splitlines()[-1]))


def _options(given: list[str], *, rows: int, rounds: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks NAME")
    parser.add_argument("--rows", type=int, default=rows, help=f"readings, {rows:,} if nothing is said")
    parser.add_argument("--series", type=int, default=10_000, help="series, 10,000 if nothing is said")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"how often, {rounds} if nothing is said")
    parser.add_argument("--orders", nargs="+", choices=ORDERS, default=list(ORDERS), help="which of two changes slowly")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where, removed after")
    return parser.parse_args(given)


def _fresh(folder: Path) -> Path:
    _remove(folder)
    folder.mkdir(parents=True)
    return folder


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _machine() -> dict[str, Any]:
    return {"cores": os.cpu_count(), "load before": round(os.getloadavg()[0], 2)}


def _held() -> int:
    """Bytes of memory that this process holds."""
    return _of_status("VmRSS")


def _peak() -> int:
    """The most it ever held; not `ru_maxrss`, which counts what the parent held when it started this one."""
    return _of_status("VmHWM")


def _of_status(name: str) -> int:
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]) * 1_024


if __name__ == "__main__":
    side, folder, *more = sys.argv[1:]
    print(json.dumps({"table": table, "polars": polars, "batches": batches}[side](Path(folder), *more)))  # type: ignore[operator]
