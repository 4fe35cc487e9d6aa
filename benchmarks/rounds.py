"""What every measurement shares: sides that take turns, processes of their own, ratios with their spread, the data.

A side is a callable that returns its figures, {"seconds": 1.2, ...} for instance. `Apart` makes one of a function in
a process of its own, with the environment (allocator, threads) and the Python that are asked for; the process stays,
so that its set-up is paid once and the sides can take turns in short rounds. Standard library only: the
environments of the peers run this file too.
"""

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
DATA: Final = ROOT.parent / "shared" / "data"
GIB: Final = 2**30
# glibc gives large blocks back to the system at once, and takes them again at the next step; so told, it keeps them.
KEEP_MEMORY: Final = {"MALLOC_MMAP_THRESHOLD_": str(GIB), "MALLOC_TRIM_THRESHOLD_": str(GIB)}
# What a side's process does not inherit: it has these only where the side names them.
OWN: Final = (*KEEP_MEMORY, "MALLOC_TOP_PAD_", "MALLOC_ARENA_MAX", "LD_PRELOAD", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
OWN_THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")

Figures = Mapping[str, Any]
Side = Callable[[], Figures]


def take_turns(sides: Mapping[str, Side], rounds: int) -> dict[str, list[Figures]]:
    """The figures of each side in each round; every other round goes through the sides backwards."""
    found: dict[str, list[Figures]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides) if number % 2 == 0 else reversed(list(sides)):
            found[name].append(sides[name]())
    return found


def pick(figures: Sequence[Figures], key: str) -> list[float]:
    """One figure of every round."""
    return [float(each[key]) for each in figures]


def ratio(over: Sequence[float], under: Sequence[float]) -> dict[str, float]:
    """The median of the rounds' ratios, the least and the greatest."""
    found = [a / b for a, b in zip(over, under, strict=True)]
    return {name: rounded(each) for name, each in spread(found).items()}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def rounded(value: float, digits: int = 3) -> float:
    """To so many significant digits; whole above them."""
    return round(value) if abs(value) >= 10**digits else float(f"{value:.{digits}g}")


class Apart:
    """A side in a process of its own: `target(**settings)` makes there the callable that each call here runs.

    target: "benchmarks.training:bare", or "FILE.py:function" for a file that imports nothing of ours. `environment`:
    what the process has beyond ours (KEEP_MEMORY, OMP_NUM_THREADS, ...); the allocator's and OpenMP's settings are
    not inherited. Each call returns the callable's figures. To be closed, or used in a `with`.
    """

    def __init__(
        self,
        target: str,
        settings: Mapping[str, Any] | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        threads: int | None = None,
        python: str | Path = sys.executable,
    ) -> None:
        self.target = target
        inherited = {name: value for name, value in os.environ.items() if name not in OWN}
        if threads is not None:
            inherited |= dict.fromkeys(OWN_THREADS, str(threads))
        self.said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
        self.process = subprocess.Popen(
            [str(python), "-P", __file__, target, json.dumps(dict(settings or {}))],
            cwd=ROOT,
            env=inherited | dict(environment or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
        )

    def __call__(self) -> Figures:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(b"\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            self.said.seek(0)
            raise RuntimeError(f"{self.target} ended:\n{self.said.read().decode(errors='replace')[-2_000:]}")
        found: Figures = json.loads(line)
        return found

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(60)
        self.said.close()

    def __enter__(self) -> "Apart":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def once(target: str, settings: Mapping[str, Any] | None = None, **how: Any) -> Figures:
    """The figures of one call in a new process (a peak of memory, a start-up); `how` as in `Apart`."""
    with Apart(target, settings, **how) as side:
        return side()


def options(name: str, text: str | None, *, rounds: int = 5) -> argparse.ArgumentParser:
    """A parser with the options that measurements share: --rounds, --threads, --data."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {name}", description=text)
    parser.add_argument("--rounds", type=int, default=rounds, help=f"how often each side runs, {rounds}")
    parser.add_argument("--threads", type=int, default=2, help="threads of each side, 2")
    parser.add_argument("--data", type=Path, default=DATA, help=f"the folder of public data, {DATA}")
    return parser


def data_file(folder: Path, name: str) -> Path:
    """A file of the public data, such as "parquet/m4_hourly_train.parquet"; says so and ends where it is absent."""
    if not (folder / name).exists():
        raise SystemExit(
            f"benchmarks: {folder / name} is absent, so this was not measured; the public data (INDEX.md, parquet/, "
            f"raw/) is looked for in {DATA} (beside the checkout), another place: --data FOLDER"
        )
    return folder / name


def machine(threads: int | None = None) -> dict[str, Any]:
    """What the figures depend on."""
    facts: dict[str, Any] = {"cores": os.cpu_count(), "load before": round(os.getloadavg()[0], 2)}
    facts["python"] = ".".join(map(str, sys.version_info[:3]))
    with suppress(importlib.metadata.PackageNotFoundError):
        facts["torch"] = importlib.metadata.version("torch")
    return facts if threads is None else facts | {"threads": threads}


def held() -> int:
    """Bytes of memory that this process holds."""
    return _of_status("VmRSS")


def peak() -> int:
    """The most it ever held; not `ru_maxrss`, which counts what the parent held when it started this one."""
    return _of_status("VmHWM")


def _of_status(name: str) -> int:
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]) * 1_024


def _serve(target: str, settings: str) -> None:
    """The process of an `Apart`: a line of figures for every line that comes; what is printed goes to stderr."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    place, function = target.rsplit(":", 1)
    if place.endswith(".py"):
        sys.path.append(str(Path(place).parent))  # last: a file may be called as a library
        spec = importlib.util.spec_from_file_location("side", place)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        sys.path.insert(0, str(ROOT))
        module = importlib.import_module(place)
    side = getattr(module, function)(**json.loads(settings))
    for _ in sys.stdin:
        answer.write(json.dumps(side()) + "\n")
        answer.flush()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
