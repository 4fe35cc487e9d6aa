"""The untouched default pipeline on every regular public set, against seasonal naive and AutoETS."""

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from benchmarks.defaults_sets import LEFT_OUT, SETS

HERE: Final = Path(__file__).resolve().parents[1]
METRICS: Final = ("mase", "wql")
REFERENCES: Final = ("seasonal_naive", "auto_ets")
ALLOWED: Final = 1.05  # of the better reference, on any set


def defaults(given: list[str]) -> dict[str, Any]:
    """Each set through `init`, ingest and the default candidates, its champion judged on a span that no choice saw.

    Raises SystemExit where the data is not there.
    """
    options = _options(given)
    if not (options.data / "parquet").is_dir():
        raise SystemExit(f"defaults: {options.data}: no folder parquet/ there; name the shared data with --data")
    with ThreadPoolExecutor(options.jobs) as pool:
        found = dict(zip(options.sets, pool.map(lambda name: _apart(name, options), options.sets), strict=True))
    done = {name: each for name, each in found.items() if each}
    return {
        "left out": LEFT_OUT,
        "failed": [name for name, each in found.items() if not each],
        "sets": {name: _row(each) for name, each in done.items()},
        **summary(done),
    }


def summary(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Geometric means of the ratios over the sets, and the sets that are too far behind the better reference."""
    told: dict[str, Any] = {}
    for metric in METRICS:
        ratios = {name: against(each, metric) for name, each in found.items()}
        told[metric] = {
            f"against {side}": geometric([each[side] for each in ratios.values() if side in each])
            for side in (*REFERENCES, "better")
        }
        behind = {name: each["better"] for name, each in ratios.items() if each.get("better", 0) > ALLOWED}
        told[metric][f"above {ALLOWED}"] = dict(sorted(behind.items(), key=lambda item: -item[1]))
    return told


def against(found: Mapping[str, Any], metric: str) -> dict[str, float]:
    """The champion's score in units of each reference's, and of the better one's; below 1 is better."""
    scores = {label: each[metric] for label, each in found["scores"].items()}
    ours = scores["champion"]
    kept = {name: scores[name] for name in REFERENCES if scores[name]}
    if ours is None or not kept:
        return {}
    ratios = {name: round(ours / theirs, 3) for name, theirs in kept.items()}
    return {**ratios, "better": round(ours / min(kept.values()), 3)}


def geometric(ratios: Sequence[float]) -> float | None:
    """The geometric mean of positive numbers."""
    return round(math.exp(sum(map(math.log, ratios)) / len(ratios)), 3) if ratios else None


def _row(found: Mapping[str, Any]) -> dict[str, Any]:
    shown = {key: found[key] for key in ("series", "steps", "frequency", "horizon", "seasons", "forecasts", "champion")}
    for metric in METRICS:
        shown[metric] = {
            label: each[metric] and float(f"{each[metric]:.4g}") for label, each in found["scores"].items()
        }
        shown[metric]["to the better"] = against(found, metric).get("better")
    best = {label: each["mase"] for label, each in found["candidates"].items() if each["mase"] is not None}
    return shown | {"best candidate": min(best, key=lambda label: best[label]) if best else None}


def _apart(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of a set, made in a process of its own on one thread; empty where it failed."""
    file: Path | None = options.keep / f"{name}.json" if options.keep else None
    if file and file.exists() and file.stat().st_size:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    command = [sys.executable, "-m", "benchmarks.defaults_run", name, str(options.data), str(options.seed)]
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    ran = subprocess.run(command, cwd=HERE, env={**os.environ, **threads}, capture_output=True, text=True, check=False)
    if ran.returncode:
        print(f"{name}: {(ran.stderr.strip().splitlines() or ['failed'])[-1]}", file=sys.stderr)
        return {}
    told = ran.stdout.splitlines()[-1]
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(told, encoding="utf-8")
    return dict(json.loads(told))


def _options(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks defaults")
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"{', '.join(SETS)}; all of them if nothing is said")
    parser.add_argument("--data", type=Path, default=HERE.parent / "shared" / "data", help="the shared data")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="sets at once, each on one thread")
    parser.add_argument("--seed", type=int, default=1, help="of all networks; 1 is the default of a pipeline")
    parser.add_argument("--keep", type=Path, help="a folder for each set's figures; what is there is not made again")
    options = parser.parse_args(given)
    unknown = [name for name in options.sets if name not in SETS]
    if unknown:
        parser.error(f"expected some of {', '.join(SETS)}; found {unknown[0]!r}")
    options.sets = options.sets or list(SETS)
    return options
