"""`training` on a GPU: the recurrent call against raw `nn.LSTM`, synchronisations with the host, use and roofline.

float32 and bf16, hidden 64, 256 and 1,024. Where there is no GPU this says so.
"""

import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any, Final
from unittest.mock import patch

import torch
from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks import rounds
from benchmarks.ours import UNCOUNTED, Fits
from rnnforecast.batches import Segment
from rnnforecast.learner import Learner

DEVICE: Final = "cuda"
WAITS: Final = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")
HIDDEN: Final = (64, 256, 1_024)
PRECISIONS: Final = {"float32": "32-true", "bf16": "bf16-mixed"}
CALLS: Final = 20  # of the recurrence, timed together
PROBE: Final = 8_192  # rows of the product that shows what the device can do


def gpu(given: list[str]) -> dict[str, Any]:
    """For each size and precision: cutoffs per second, the recurrent call to the raw one, synchronisations, use."""
    parser = rounds.options("gpu", __doc__)
    parser.add_argument("--steps", type=int, default=50, help="training steps that are timed, 50")
    options = parser.parse_args(given)
    if not torch.cuda.is_available():
        return {"gpu": "none that torch can use on this machine: nothing was measured"}
    done: dict[str, Any] = {**rounds.machine(), "gpu": torch.cuda.get_device_name()}
    for precision in PRECISIONS:
        peak = _peak(precision)
        done[f"{precision}, TFLOP/s of a large product"] = rounds.rounded(peak / 1e12)
        for hidden in HIDDEN:
            done[f"{precision}, hidden {hidden}"] = _measured(precision, hidden, options, peak)
    return done


def _measured(precision: str, hidden: int, options: Any, peak: float) -> dict[str, Any]:
    fits = Fits("one pass", "plain", hidden_size=hidden, precision=PRECISIONS[precision], accelerator="gpu")
    cutoffs = fits.cutoffs_per_step()
    seconds = [fits.seconds_per_step(options.steps) for _ in range(options.rounds)]
    step = rounds.spread(seconds)["median"]
    network, batch = _kept(fits)
    lanes, steps = batch.first.shape
    recurrence = deepcopy(network.encoder.recurrence).to(DEVICE)  # a training hands its network back on the processor
    width = recurrence.layers[0].input_size
    raw = nn.LSTM(width, hidden, batch_first=True).to(DEVICE)
    told = torch.randn(lanes, steps, width, device=DEVICE)
    state = (torch.zeros(1, lanes, hidden, device=DEVICE), torch.zeros(1, lanes, hidden, device=DEVICE))
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    sides: dict[str, rounds.Side] = {
        "ours": lambda: {"seconds": _timed(lambda: recurrence(told, state)[0], kind)},
        "raw": lambda: {"seconds": _timed(lambda: raw(told, state)[0], kind)},
    }
    found = rounds.take_turns(sides, options.rounds)
    # Of the recurrence and the decoder: 2 operations for each weight and step forwards, twice that backwards.
    weights = sum(p.numel() for part in (network.encoder, network.decoder) for p in part.parameters())
    return {
        "cutoffs per second": round(cutoffs / step),
        "milliseconds of a step": rounds.rounded(step * 1e3),
        "recurrent call, ours to raw": list(
            rounds.ratio(*(rounds.pick(each, "seconds") for each in found.values())).values()
        ),
        **_on_the_device(fits),
        "of the device's rate (roofline)": f"{6 * weights * lanes * steps / step / peak:.1%}",
    }


def _kept(fits: Fits) -> tuple[Any, Segment]:
    """The network of a short training, and its last batch."""
    kept: list[tuple[Any, Segment]] = []

    def step(learner: Learner, batch: Segment, number: int) -> torch.Tensor:
        kept.append((learner.network, batch))
        return was(learner, batch, number)

    was: Callable[..., torch.Tensor] = Learner.training_step
    with patch.object(Learner, "training_step", step):
        fits(UNCOUNTED)
    return kept[-1]


def _on_the_device(fits: Fits) -> dict[str, Any]:
    """How often a step waits for the device, and the share of the time in which one of its kernels ran.

    Waits: what a training of 30 steps has more than one of 10 (the record reads the loss at every tenth step; that is
    counted). The rest, setting up and validating, is the same in both.
    """
    waits, busy = [], 0.0
    for steps in (10, 30):
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], acc_events=True) as found:
            fits(steps)
        events = list(found.events())
        waits.append(sum(event.name in WAITS for event in events))
        busy = _busy([event.time_range for event in events if event.device_type == DeviceType.CUDA])
    return {"waits for the device in a step": (waits[1] - waits[0]) / 20, "device busy (with set-up)": f"{busy:.0%}"}


def _busy(spans: list[Any]) -> float:
    """The share of the time from the first span's start to the last one's end that lies in any of them."""
    ran, until = 0.0, min((span.start for span in spans), default=0.0)
    first = until
    for span in sorted(spans, key=lambda each: float(each.start)):
        ran += max(span.end - max(span.start, until), 0.0)
        until = max(until, span.end)
    return ran / (until - first) if until > first else 0.0


def _timed(call: Callable[[], torch.Tensor], kind: torch.dtype) -> float:
    """Seconds of a call forwards and backwards."""
    seconds = 0.0
    for count in (UNCOUNTED, CALLS):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(count):
            with torch.autocast(DEVICE, kind, enabled=kind != torch.float32):
                loss = call().float().square().mean()
            loss.backward()
        torch.cuda.synchronize()
        seconds = (time.perf_counter() - started) / count
    return seconds


def _peak(precision: str) -> float:
    """Operations per second of a large product of matrices in this precision: what the device can do."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    left = torch.randn(PROBE, PROBE, device=DEVICE, dtype=kind)
    seconds = 0.0
    for count in (UNCOUNTED, CALLS):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(count):
            left @ left
        torch.cuda.synchronize()
        seconds = (time.perf_counter() - started) / count
    return float(2 * PROBE**3 / seconds)
