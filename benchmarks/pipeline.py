"""`rnnforecast demo` by phase, and how long commands take that train nothing."""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from datetime import datetime
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parents[1]
FILE: Final = "small.yaml"
SMALL: Final = "{name: small, sources: [{kind: dataset, name: co2}], horizon: 13, models: [naive, seasonal_naive]}"
IDLE: Final = ("--help", "--version", "schema", "models")
# On a new folder, in turn: without networks, so that what is left is start-up, servers, stores and pages.
JOBS: Final = ("ingest", "run", "run", "versions", "forecast")

# What the tasks of the flows do, by the beginning of their names. What no task does is Prefect's own.
PHASES: Final = {
    "divide": "read the data",
    "check places": "MLflow: store",
    "store rows": "ingest",
    "plan": "MLflow: store",
    "look up": "MLflow: store",
    "train naive": "baselines",
    "train seasonal_naive": "baselines",
    "train auto_theta": "baselines",
    "train auto_ets": "baselines",
    "train": "networks",
    "score champion": "compare",
    "compare": "compare",
    "register": "MLflow: runs, versions",
    "promote": "MLflow: runs, versions",
    "report": "report",
    "refresh report": "report",
    "issue forecasts": "forecasts",
    "score": "score",
}


def pipeline(given: list[str]) -> dict[str, Any]:
    """Seconds of the three shipped pipelines by phase, in one command as `make demo` runs them, and of commands that
    train nothing; of these also, with `--against`, how many times faster they are than in another checkout."""
    options = _options(given)
    done: dict[str, Any] = {"cores": os.cpu_count(), "load before": round(os.getloadavg()[0], 2)}
    done["commands, in seconds"] = commands(options.rounds, options.against)
    if not options.commands_only:
        done["demo, in seconds"] = demo(options.names)
    return done


# --- commands that train nothing ----------------------------------------------------------------------------------


def commands(rounds: int, other: Path | None) -> dict[str, Any]:
    """Median seconds (wall, and of the processor, servers included) of commands; both checkouts in turn."""
    sides = {"here": HERE, **({"there": other} if other else {})}
    took: dict[str, list[dict[str, tuple[float, float]]]] = {side: [] for side in sides}
    for number in range(rounds + 1):
        for side in sides if number % 2 else reversed(sides):
            found = _round(sides[side])
            if number:  # the first fills the disk's cache
                took[side].append(found)
    told: dict[str, Any] = {}
    for name in took["here"][0]:
        here = [found[name] for found in took["here"]]
        row: dict[str, Any] = {
            "wall": round(statistics.median(wall for wall, _ in here), 2),
            "processor": round(statistics.median(cpu for _, cpu in here), 2),
        }
        if other:
            there = [found[name] for found in took["there"]]
            for place, what in enumerate(("wall", "processor")):
                ratios = sorted(b[place] / a[place] for a, b in zip(here, there, strict=True))
                row[f"times faster, {what}"] = [
                    round(each, 2) for each in (statistics.median(ratios), ratios[0], ratios[-1])
                ]
        told[name] = row
    return told


def _round(checkout: Path) -> dict[str, tuple[float, float]]:
    """Each command once, the jobs on a new folder."""
    with tempfile.TemporaryDirectory(prefix="bench-pipeline-") as folder:
        file = Path(folder) / FILE
        file.write_text(SMALL, encoding="utf-8")
        found = {word: _took(checkout, [word]) for word in IDLE}
        for job in JOBS:
            name = f"{job}, nothing new" if job in found else job
            found[name] = _took(checkout, [job, str(file)])
    return found


def _took(checkout: Path, words: Sequence[str]) -> tuple[float, float]:
    """Wall seconds and processor seconds of a command."""
    before, started = _used(), time.perf_counter()
    command = [sys.executable, "-c", "import sys; from rnnforecast.cli import main; sys.exit(main())", *words]
    env = {**os.environ, "PYTHONPATH": str(checkout)}
    subprocess.run(command, cwd=checkout, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started, _used() - before


def _used() -> float:
    """Processor seconds of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# --- the demonstration ----------------------------------------------------------------------------------------------


def demo(names: Sequence[str]) -> dict[str, Any]:
    """A demonstration in a new folder, in a process of its own, by phase."""
    with tempfile.TemporaryDirectory(prefix="bench-pipeline-") as folder:
        started = time.time()
        command = [sys.executable, "-m", "benchmarks.pipeline", str(started), folder, *names]
        found = subprocess.run(command, cwd=HERE, stdout=subprocess.PIPE, text=True, check=True)
        ended = time.time()
    told = dict(json.loads(found.stdout.splitlines()[-1]))
    told["once"]["Prefect: end"] = round(ended - told.pop("ended"), 1)
    phases = dict.fromkeys(phase for part in told.values() for phase in part)
    total = {phase: round(sum(part.get(phase, 0.0) for part in told.values()), 1) for phase in phases}
    networks = total.get("networks", 0.0) + total.get("baselines", 0.0)
    return {
        "all": {**total, "sum": round(ended - started, 1), "share of fitting": round(networks / (ended - started), 2)},
        **told,
    }


def play(started: float, folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """What `rnnforecast demo` does, and the seconds of each phase; `started`: when the process was asked for."""
    from rnnforecast.cli_demo import shipped
    from rnnforecast.cli_options import flows

    told: dict[str, Any] = {"once": {"Python, the command": _since(started)}}
    now = time.time()
    with flows() as ready:
        told["once"]["Prefect: import"] = _since(now)
        now = time.time()
        from rnnforecast.flows.replay import replay

        told["once"]["import of the flows"] = _since(now)
        now = time.time()
        ready()
        told["once"]["Prefect: server"] = _since(now)
        for file in shipped(names):
            now = time.time()
            replay(str(file), str(folder))
            told[file.stem] = _by_phase(now, time.time())
    told["ended"] = time.time()
    return told


def _by_phase(started: float, ended: float) -> dict[str, float]:
    """The seconds of the tasks that ran between two times, as Prefect noted them, summed by phase."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        runs: list[Any] = []
        while page := client.read_task_runs(limit=200, offset=len(runs)):
            runs += page
    seconds: dict[str, float] = dict.fromkeys(PHASES.values(), 0.0)
    for run in runs:
        phase = next((phase for word, phase in PHASES.items() if run.name.startswith(word)), None)
        if phase and run.start_time and run.end_time and started <= _stamp(run.start_time) <= ended:
            seconds[phase] += _stamp(run.end_time) - _stamp(run.start_time)
    seconds["Prefect: flows, tasks"] = ended - started - sum(seconds.values())
    return {phase: round(taken, 1) for phase, taken in seconds.items()}


def _stamp(moment: datetime) -> float:
    return moment.timestamp()


def _since(moment: float) -> float:
    return round(time.time() - moment, 1)


def _options(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks pipeline")
    parser.add_argument("names", nargs="*", help="climate, finance, signal; all three if nothing is said")
    parser.add_argument(
        "--rounds", type=int, default=5, help="of the commands that train nothing, 5 if nothing is said"
    )
    parser.add_argument("--against", type=Path, help="another checkout, to compare the commands with")
    parser.add_argument("--commands-only", action="store_true", help="without the demonstration")
    return parser.parse_args(given)


if __name__ == "__main__":
    begun, place, *wanted = sys.argv[1:]
    with redirect_stdout(sys.stderr):
        figures = play(float(begun), Path(place), wanted)
    print(json.dumps(figures))
