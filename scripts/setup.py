"""Make .venv with the locked versions. `make setup`, `demo`, `test` and `check` call it; standard library only.

Where a stamp says that .venv is current, this returns at once. Otherwise: pip, torch, the locked rest,
rnnforecast itself (editable), a check. The stamp is written last, so a set-up that was killed is begun anew.

torch comes first because only it differs between machines: with an NVIDIA GPU it brings its CUDA packages,
without one no CUDA package is installed, and where pip would bring some, this stops before downloading them.

Environment: RNNFORECAST_TORCH_INDEX (a package index for torch alone), RNNFORECAST_GPU (1 or 0: there is one,
or none, whatever the machine says). pip's own settings (PIP_FIND_LINKS, pip.conf, ...) hold as always.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "setup.stamp"
UNFINISHED = VENV / "setup.unfinished"  # there from the first step to the last
CUDA = re.compile(r"(nvidia|cuda|triton|pytorch[-_]triton)\b", re.IGNORECASE)
NOISE = re.compile(r"^WARNING: Location .* is ignored|^\[notice\]|^\s*$")


class SetupError(Exception):
    """The set-up cannot go on; the message says what to do."""


def main() -> int:
    """Bring .venv up to date; 0 if it is, 1 with a message if it cannot be."""
    if sys.version_info < (3, 11):  # noqa: UP036 (an older Python is to be told so)
        print(f"setup: needs Python 3.11 or newer, this is {version()}; try: make PYTHON=python3.11", file=sys.stderr)
        return 1
    found = STAMP.read_text(encoding="utf-8").splitlines() if STAMP.exists() and PYTHON.exists() else []
    if found == [place(), digest()]:
        return 0
    started = time.monotonic()
    try:
        prepare(stale=UNFINISHED.exists() or (bool(found) and found[0] != place()))
        install()
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsetup: stopped; the next run begins anew", file=sys.stderr)
        return 130
    STAMP.write_text(f"{place()}\n{digest()}\n", encoding="utf-8")
    UNFINISHED.unlink()
    print(f"setup: .venv is ready, in {time.monotonic() - started:.0f} s")
    return 0


def version() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def place() -> str:
    """What an environment cannot outlive: its Python and its folder."""
    return f"{version()} {ROOT}"


def digest() -> str:
    """A hash of all that decides what is installed."""
    content = b"\0".join(file.read_bytes() for file in (LOCK, ROOT / "pyproject.toml", Path(__file__).resolve()))
    return hashlib.sha256(content).hexdigest()


def prepare(*, stale: bool) -> None:
    """An empty environment, or the one that is there; `stale`: half made, of another Python, or moved."""
    if stale:
        shutil.rmtree(VENV)
    fresh = not PYTHON.exists()
    VENV.mkdir(exist_ok=True)
    UNFINISHED.touch()
    STAMP.unlink(missing_ok=True)
    pip = f"pip=={pinned('pip')}"
    with step(f"{'new' if fresh else 'renewing'} .venv, Python {version()}, {pip}"):
        if not fresh:
            run_pip("install", pip)
            return
        base = getattr(sys, "_base_executable", sys.executable)  # never the environment that was just removed
        if ran([base, "-m", "venv", str(VENV)]):
            run_pip("install", pip)
        elif not ran([base, "-m", "venv", "--without-pip", str(VENV)]) or not ran(
            # Debian's python3 comes without ensurepip; a pip outside can still install one.
            [base, "-m", "pip", "--python", str(PYTHON), "install", pip]
        ):
            raise SetupError(f"{base} cannot make a virtual environment; on Debian or Ubuntu: install python3-venv")


def install() -> None:
    """Everything into .venv, torch first."""
    torch, gpu = f"torch=={pinned('torch')}", has_gpu()
    index = os.environ.get("RNNFORECAST_TORCH_INDEX")
    source = ["--index-url", index] if index else []
    if not gpu:
        refuse_cuda(torch, source)
    with step(f"{torch}, {'for the NVIDIA GPU' if gpu else 'without CUDA (no NVIDIA GPU here)'}"):
        run_pip("install", "--no-deps", torch, *source)
    with step(f"the other packages of {LOCK.name}"):
        run_pip("install", "--no-deps", "--requirement", str(LOCK))
    if gpu:
        with step("torch's CUDA packages"):
            run_pip("install", torch, *source)
    with step("rnnforecast, editable"):
        run_pip("install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    with step("check"):
        check(gpu)


def refuse_cuda(torch: str, source: list[str]) -> None:
    """Raise if pip would bring a torch that needs CUDA packages; reads torch's metadata, not its wheel."""
    if sys.platform != "linux":  # wheels for macOS and Windows name CUDA only for Linux
        return
    report = run_pip("install", "--dry-run", "--no-deps", "--ignore-installed", "--quiet",
                     "--use-feature=fast-deps", "--report=-", torch, *source)  # fmt: skip
    needs = json.loads(report)["install"][0]["metadata"].get("requires_dist", [])
    cuda = [name for name in needs if CUDA.match(name) and "extra ==" not in name]
    if cuda:
        raise SetupError(
            f"this machine has no NVIDIA GPU, but the {torch} that pip finds brings {len(cuda)} CUDA packages (several"
            f" GB), such as {cuda[0].split(';')[0].strip()}. Nothing of it was installed.\n"
            "  Name a package index with CPU builds of torch, then run make again:\n"
            "    export RNNFORECAST_TORCH_INDEX=...   # the --index-url that pytorch.org (Get Started) shows for CPU\n"
            "  or let pip itself find such a build (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL).\n"
            "  RNNFORECAST_GPU=1 takes the CUDA packages all the same."
        )


def check(gpu: bool) -> None:
    """The packages fit each other, the main ones can be imported, and CUDA came only for a GPU."""
    try:
        run_pip("check")
    except SetupError as error:
        raise SetupError(f"{error}\n  If pyproject.toml asks for more than {LOCK.name} has: make lock") from None
    run([str(PYTHON), "-c", "import rnnforecast, rnnforecast.flows, torch, polars, deltalake, pydantic, typer"])
    listed = json.loads(run_pip("list", "--format=json"))
    cuda = [item["name"] for item in listed if CUDA.match(item["name"])]
    if cuda and not gpu:
        raise SetupError(f"CUDA packages in .venv on a machine without a GPU: {', '.join(cuda)}; make clean, try again")


def has_gpu() -> bool:
    """Whether an NVIDIA GPU can be used here; RNNFORECAST_GPU overrides."""
    forced = os.environ.get("RNNFORECAST_GPU")
    if forced in ("0", "1"):
        return forced == "1"
    return Path("/proc/driver/nvidia").exists() or ran(["nvidia-smi", "--list-gpus"])


def pins() -> dict[str, str]:
    """Name and version of every package of the lock (the last one, where it depends on the Python)."""
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE))


def pinned(name: str) -> str:
    if name not in pins():
        raise SetupError(f"{LOCK.name} pins no {name}; restore the file from git")
    return pins()[name]


def run_pip(*arguments: str) -> str:
    """Run the environment's pip; its standard output."""
    return run([str(PYTHON), "-I", "-m", "pip", *arguments, "--no-input", "--disable-pip-version-check"])


def run(command: list[str]) -> str:
    """Run quietly, from the checkout; a failure is shown in full."""
    outcome = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if outcome.returncode:
        lines = f"{outcome.stdout}\n{outcome.stderr}".splitlines()
        shown = "\n".join(f"  {line}" for line in lines if not NOISE.match(line))
        raise SetupError(f"failed (exit code {outcome.returncode}): {' '.join(command)}\n{shown}")
    return outcome.stdout


def ran(command: list[str]) -> bool:
    """Whether a command exists and succeeds."""
    try:
        return not subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode
    except OSError:
        return False


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Print a line when something begins, and its seconds when it has ended."""
    print(f"setup: {title} ...", end="", flush=True)
    started = time.monotonic()
    try:
        yield
    except BaseException:
        print(" failed", flush=True)
        raise
    print(f" {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
