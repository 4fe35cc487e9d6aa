"""Where the time of a training step and of a batch forecast goes: self time of every part, forwards and backwards.

Every function of ours that runs in a step becomes a range of torch's profiler, so that each operation can be told
where it was called; but not one that its own part calls, as a range costs some microseconds itself. An operation of
the backward pass belongs to the part whose operation it undoes. What is in no range is Lightning's. `kernels` is the
time inside torch's operations, `python` what lies between them.
"""

import inspect
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import wraps
from threading import local
from typing import Any, Final

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks import rounds, series
from benchmarks.ours import MODES, NETWORKS, Fits
from rnnforecast.forecaster import Forecaster

MARK: Final = "ours:"
PACKAGE: Final = "rnnforecast."
STEP: Final = MARK + "learner.Learner.training_step"
# Which part a module is; the network's kernels are the first two.
PARTS: Final = {
    "nn.recurrence": "recurrence",
    "nn.encoder": "recurrence",
    "nn.decoder": "decoder and head",
    "nn.head": "decoder and head",
    "nn.quantile_loss": "decoder and head",
    "nn.features": "features",
    "nn.memory": "features",
    "nn.places": "features",
    "nn.scaling": "units",
    "nn.running": "units",
    "nn.median": "units",
    "nn.base": "base",
    "nn.network": "rest of the network",
    "batches": "gather",
    "panel": "gather",
    "learner": "learner (loss, log)",
    "fitted": "forecast frame",
    "forecast": "forecast frame",
}
NETWORK: Final = ("recurrence", "decoder and head")
FORECAST_SERIES: Final = 5_000


def overhead(given: list[str]) -> dict[str, Any]:
    """A table for each way of training, and one for a batch forecast: the share of each part in the whole."""
    parser = rounds.options("overhead", __doc__)
    parser.add_argument("--steps", type=int, default=20, help="training steps that are looked at, 20")
    parser.add_argument("--only", nargs="+", default=[], help="words that the names of what is profiled hold")
    parser.add_argument("--functions", action="store_true", help="each function for itself")
    options = parser.parse_args(given)
    torch.set_num_threads(options.threads)
    part_of = _function if options.functions else _part
    mark_functions(part_of)
    jobs: dict[str, Callable[[], dict[str, Any]]] = {}
    for mode in MODES:
        for network in NETWORKS:
            jobs[f"training, {mode}, {network}"] = lambda mode=mode, network=network: _training(  # type: ignore[misc]
                mode, network, options.steps, part_of
            )
    jobs["batch forecast, defaults"] = lambda: _forecast(part_of)
    done = {name: job() for name, job in jobs.items() if all(word in name for word in options.only)}
    return {**rounds.machine(options.threads), **done}


def _training(mode: str, network: str, steps: int, part_of: Callable[[str], str]) -> dict[str, Any]:
    """The steps of one training but the first few, up to the last."""
    fits = Fits(mode, network)
    fits(3)
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as found:
        fits(steps + 4)
    events = _main_thread(found.events())
    starts = [event.time_range.start for event in events if event.name == STEP]
    return _table(events, starts[3], starts[-1], times=len(starts) - 4, part_of=part_of)


def _forecast(part_of: Callable[[str], str]) -> dict[str, Any]:
    """A forecast of each of some thousand series, from a frame to a frame."""
    frame = series.frame(FORECAST_SERIES)
    forecaster = Forecaster(series.HORIZON, cell="lstm", season_length=(24, 168), max_steps=1, validate_every=1)
    forecaster.fit(frame.head(20 * series.STEPS))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # blocks of series on threads of their own would not be seen
    forecaster.forecast(frame)
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as found:
        forecaster.forecast(frame)
    torch.set_num_threads(threads)
    events = _main_thread(found.events())
    ours = [event for event in events if event.name.startswith(MARK)]
    start, stop = min(event.time_range.start for event in ours), max(event.time_range.end for event in ours)
    return _table(events, start, stop, times=1, part_of=part_of)


def _table(
    events: list[FunctionEvent], start: float, stop: float, *, times: int, part_of: Callable[[str], str]
) -> dict[str, Any]:
    """Milliseconds and share of each part between two moments (microseconds)."""
    spent: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for owner, backward, python, microseconds in _self_times(events, start, stop):
        kind = "python" if python else "backward" if backward else "forward"
        spent[part_of(owner)][kind] += microseconds
    covered = sum(sum(kinds.values()) for kinds in spent.values())
    spent["Lightning and Python"]["python"] += max(stop - start - covered, 0.0)
    whole = stop - start
    lines: dict[str, str] = {}
    shares = {part: sum(kinds.values()) / whole for part, kinds in spent.items()}
    for part, share in sorted(shares.items(), key=lambda pair: -pair[1]):
        kinds = spent[part]
        columns = "  ".join(f"{kind} {kinds[kind] / times / 1e3:8.2f}" for kind in ("forward", "backward", "python"))
        lines[part] = f"{share:6.1%}   ms: {columns}"
    others = {part: share for part, share in shares.items() if part not in NETWORK}
    worst = max(others, key=lambda part: others[part], default="")
    return {
        "milliseconds": round(whole / times / 1e3, 2),
        **lines,
        "the network's kernels": f"{sum(shares.get(part, 0.0) for part in NETWORK):.1%}",
        "largest of the rest": f"{worst} {others.get(worst, 0.0):.1%} (target: none above 10 %)",
    }


def _self_times(events: Iterable[FunctionEvent], start: float, stop: float) -> Iterable[tuple[str, bool, bool, float]]:
    """Owner, backward?, python?, microseconds not spent in an event inside it: for each event between two moments."""
    owners: dict[int, str] = {}  # of a forward operation, by its sequence number: what undoes it has the same
    stack: list[tuple[FunctionEvent, str, bool, list[float]]] = []

    def close(until: float) -> Iterable[tuple[str, bool, bool, float]]:
        while stack and stack[-1][0].time_range.end <= until:
            event, owner, backward, inside = stack.pop()
            lasted = event.time_range.end - event.time_range.start
            if stack:
                stack[-1][3][0] += lasted
            if start <= event.time_range.start < stop:
                yield owner, backward, event.name.startswith(MARK), lasted - inside[0]

    for event in sorted(events, key=lambda each: (each.time_range.start, -each.time_range.end)):
        yield from close(event.time_range.start)
        owner, backward = (stack[-1][1], stack[-1][2]) if stack else ("", False)
        if event.name.startswith(MARK):
            owner = event.name.removeprefix(MARK)
        elif event.name.startswith("Optimizer."):
            owner = "optimiser"
        elif event.name.startswith("autograd::engine::evaluate_function"):
            owner, backward = owners.get(event.sequence_nr, "unknown"), True
            if "AccumulateGrad" in event.name:
                owner = "optimiser"
        elif event.sequence_nr >= 0 and not backward:
            owners[event.sequence_nr] = owner  # several may have it: the last of them made the node
        stack.append((event, owner, backward, [0.0]))
    yield from close(float("inf"))


def _main_thread(events: Iterable[FunctionEvent]) -> list[FunctionEvent]:
    """The events of the thread that trains."""
    found = list(events)
    thread = next(event.thread for event in found if event.name.startswith(MARK))
    return [event for event in found if event.thread == thread]


def _part(owner: str) -> str:
    """The part that a function (module.name) belongs to."""
    if not owner:
        return "Lightning and Python"
    for module, part in PARTS.items():
        if owner.startswith((module + ".", module + "_")):
            return part
    return owner if owner in ("optimiser", "unknown") else f"other ({owner.split('.')[0]})"


def _function(owner: str) -> str:
    return owner or "Lightning and Python"


def mark_functions(part_of: Callable[[str], str]) -> None:
    """Make every function and method of the modules of ours that are loaded a range of the profiler."""
    modules = {name: module for name, module in sys.modules.items() if name.startswith(PACKAGE)}
    changed: dict[int, Callable[..., Any]] = {}
    for name, module in modules.items():
        for holder in (module, *(each for each in vars(module).values() if inspect.isclass(each))):
            if holder is not module and holder.__module__ != name:
                continue
            for key, item in list(vars(holder).items()):
                if inspect.isfunction(item) and item.__module__ == name and not inspect.isgeneratorfunction(item):
                    owner = f"{name.removeprefix(PACKAGE)}.{item.__qualname__}"
                    marked = _marked(item, MARK + owner, part_of(owner))
                    changed[id(item)] = marked
                    setattr(holder, key, marked)
    for module in modules.values():  # what others have imported by name
        for key, item in list(vars(module).items()):
            if inspect.isfunction(item) and id(item) in changed:
                setattr(module, key, changed[id(item)])


class _Inside(local):
    """The part that a thread is in."""

    part = ""


_inside = _Inside()


def _marked(function: Callable[..., Any], name: str, part: str) -> Callable[..., Any]:
    @wraps(function)
    def marked(*arguments: Any, **keywords: Any) -> Any:
        caller = _inside.part
        if caller == part and name != STEP:
            return function(*arguments, **keywords)
        _inside.part = part
        try:
            with record_function(name):
                return function(*arguments, **keywords)
        finally:
            _inside.part = caller

    return marked
