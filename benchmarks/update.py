"""One new observation for each of N series, and a fresh forecast of each: the stream against a bare recurrent step."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import torch
from torch import nn

from benchmarks import rounds
from benchmarks.training import installed, peer_side
from rnnforecast.allocator import keep_memory
from rnnforecast.config import Candidate
from rnnforecast.frequency import Frequency
from rnnforecast.nn.lanes import Lanes
from rnnforecast.nn.network import Inputs, Network
from rnnforecast.nn.sampling import predict
from rnnforecast.recurrent import RecurrentModel, network_config
from rnnforecast.stream import Stream
from rnnforecast.stream_feed import LANES_OF_A_THREAD
from rnnforecast.task import Task
from rnnforecast.threads import blocks, side_by_side

SERIES = (1, 1_000, 10_000, 100_000)
HORIZON, HIDDEN, HISTORY = 48, 64, 200
START = datetime(2024, 1, 1)
# Its predict after one new observation of each, by the bare step beside it: measured once, on two quiet cores.
NEURALFORECAST_TO_BARE = {1_000: 233, 10_000: 242}
MOST_OF_PEER = 10_000  # series; more take it minutes
SIDES = {", bare": "bare", "": "tensors", ", frames": "frames"}
SEASONS, PERIODS = (24, 168), (24.0, 168.0)


def update(given: list[str]) -> dict[str, Any]:
    """Seconds of a step and forecast of every series, and what it is of the bare step's."""
    parser = rounds.options("update", __doc__, rounds=9)
    parser.add_argument("--series", type=int, nargs="*", default=list(SERIES), help=f"how many, {list(SERIES)}")
    asked = parser.parse_args(given)
    found: dict[str, Any] = {"machine": rounds.machine(asked.threads)}
    for count in asked.series:
        names = {f"{head}{how}": side for how, side in SIDES.items() for head in ("point", "quantiles")}
        sides = {
            name: rounds.Apart(
                f"benchmarks.update:{side}",
                {"count": count, "head": name.split(",")[0]},
                environment=rounds.KEEP_MEMORY,
                threads=asked.threads,
            )
            for name, side in names.items()
        }
        if "neuralforecast" in installed() and count <= MOST_OF_PEER:
            sides["neuralforecast"] = peer_side(
                "neuralforecast", "update", {"count": count}, rounds.KEEP_MEMORY, asked.threads
            )
        for side in sides.values():
            side()  # the first calls are not counted
        taken = rounds.take_turns(sides, asked.rounds)
        seconds = {name: rounds.pick(figures, "seconds") for name, figures in taken.items()}
        for side in sides.values():
            side.close()
        figures: dict[str, Any] = {f"seconds, {name}": rounds.rounded(min(each)) for name, each in seconds.items()}
        for name in names:
            own = f"{name.split(',')[0]}, bare"
            if name != own:
                figures[f"{name} / bare"] = rounds.ratio(seconds[name], seconds[own])
        figures["quantiles / bare of a point"] = rounds.ratio(seconds["quantiles"], seconds["point, bare"])
        if "neuralforecast" in seconds:
            for name in ("point", "point, frames", "quantiles, frames"):
                figures[f"neuralforecast / {name}"] = rounds.ratio(seconds["neuralforecast"], seconds[name])
        elif count in NEURALFORECAST_TO_BARE:
            over = rounds.ratio(seconds["quantiles, frames"], seconds["point, bare"])["median"]
            told = rounds.rounded(NEURALFORECAST_TO_BARE[count] / over)
            figures["neuralforecast / quantiles, frames (by the bare step of both; make bench-peers measures it)"] = (
                told
            )
        found[f"{count:,} series"] = figures
    return found


def model_of(head: str) -> RecurrentModel:
    """An untrained LSTM of one layer of 64: what it costs does not depend on its weights."""
    task = Task(HORIZON, (0.1, 0.5, 0.9), Frequency(1, "h"), SEASONS, periods=PERIODS)
    candidate = Candidate(model="lstm", hidden_size=HIDDEN, head=head)
    torch.manual_seed(0)
    return RecurrentModel(task, candidate, Network(network_config(task, candidate)))


def bare(count: int, head: str) -> Callable[[], dict[str, float]]:
    """An LSTMCell with as many inputs as ours, and one linear layer to as many numbers for each step of the horizon."""
    network = model_of(head).network
    inputs, outputs = network.encoder.recurrence.layers[0].input_size, HORIZON * network.head.outputs
    cell, linear = nn.LSTMCell(int(inputs), HIDDEN), nn.Linear(HIDDEN, outputs)  # type: ignore[arg-type]
    seen, state = torch.randn(count, int(inputs)), (torch.zeros(count, HIDDEN), torch.zeros(count, HIDDEN))  # type: ignore[arg-type]

    def run() -> torch.Tensor:
        nonlocal state
        state = cell(seen, state)
        return linear(state[0])

    return _timed(run, count)


def tensors(count: int, head: str) -> Callable[[], dict[str, float]]:
    """New values [N] in; means [n, 1, H] and quantiles [n, 1, H, Q] of each block of lanes out."""
    net = model_of(head).network
    lanes = Lanes(net, HORIZON)
    found: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    at, none = HISTORY, torch.zeros(count, HORIZON, 0)
    lanes.begin(torch.zeros(count, 0), torch.zeros(count, dtype=torch.int64))

    def forecast(which: slice) -> None:
        encoding = lanes.encoding(which, none[which])
        found[which.start] = predict(net, encoding, torch.zeros(which.stop - which.start, 1, dtype=torch.int64))

    parts = blocks(count, LANES_OF_A_THREAD, least=LANES_OF_A_THREAD)
    new: dict[int, Inputs] = {}

    def before() -> None:
        nonlocal at
        new.update({which.start: _inputs(which.stop - which.start, 1, at) for which in parts})
        at += 1

    def block(which: slice) -> None:
        lanes.advance(which, new[which.start])
        forecast(which)

    def run() -> None:
        side_by_side(block, parts)

    with torch.inference_mode():
        for which in blocks(count, 512, least=1):
            lanes.advance(which, _inputs(which.stop - which.start, HISTORY, 0))
    return _timed(run, count, before)


def frames(count: int, head: str) -> Callable[[], dict[str, float]]:
    """A long frame of N new rows in; the long forecast frame of N * H rows out."""
    names = pl.Series("series_id", [f"s{number:06}" for number in range(count)])
    values = pl.Series("target", torch.randn(count).add(10).numpy()).cast(pl.Float64)

    def rows(step: int) -> pl.DataFrame:
        return pl.DataFrame(
            [names, pl.repeat(START + timedelta(hours=step), count, eager=True).alias("timestamp"), values]
        )

    stream = Stream.start(model_of(head), pl.concat([rows(step) for step in range(HISTORY if count <= 10_000 else 30)]))
    at = HISTORY
    update = rows(at)

    def before() -> None:
        nonlocal at, update
        update = rows(at)
        at += 1

    def run() -> None:
        stream.update(update)
        stream.forecast()

    return _timed(run, count, before)


def _inputs(count: int, steps: int, first: int) -> Inputs:
    values, none = torch.randn(count, steps) + 10, torch.zeros(count, steps, 0)
    ordinals = (torch.arange(steps) + first).expand(count, -1)
    code = torch.zeros(count, dtype=torch.int64)
    return Inputs(values, torch.ones(count, steps, dtype=torch.bool), ordinals, none, none, none[:, 0], code)


def _timed(
    run: Callable[[], Any], count: int, before: Callable[[], None] = lambda: None
) -> Callable[[], dict[str, float]]:
    """The least time of a few runs: other work on the machine only adds to it."""
    keep_memory()
    times = max(3, min(20, 20_000 // count))

    def side() -> dict[str, float]:
        taken = []
        with torch.inference_mode():
            for _ in range(times):
                before()
                begun = time.perf_counter()
                run()
                taken.append(time.perf_counter() - begun)
        return {"seconds": min(taken)}

    return side
