"""500 cutoffs on each of the 414 M4 Hourly series: one pass, windows encoded anew, and darts' `historical_forecasts`.

One LSTM layer of 64, horizon 48; the weights do not matter here. `network` is the passes and the decoding alone, up to
means and quantiles as tensors; `frame` makes the table of 9.9 million rows of it. Encoding anew takes the same
network over the 168 steps before each cutoff, 1,024 windows at a time, up to the same tensors. It and darts go over a
few series, ours over all: the rates are per cutoff.
"""

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks import rounds, series
from benchmarks.rounds import Apart, Figures, Side
from benchmarks.training import SETTINGS, installed, peer_side

CUTOFFS: Final = 500
AT_ONCE: Final = 1_024  # windows that are encoded anew side by side
TRAIN, TEST = "parquet/m4_hourly_train.parquet", "parquet/m4_hourly_test.parquet"


def backtest(given: list[str]) -> dict[str, Any]:
    """Cutoffs per second of each side, and the ratios."""
    parser = rounds.options("backtest", __doc__)
    parser.add_argument("--series", type=int, default=414, help="series of ours, 414")
    parser.add_argument("--few", type=int, default=8, help="series of the others, 8")
    parser.add_argument("--networks", nargs="+", default=["plain", "defaults"], help="see `training`")
    options = parser.parse_args(given)
    data = rounds.data_file(options.data, TRAIN).parents[1]
    done: dict[str, Any] = rounds.machine(options.threads)
    for network in options.networks:
        with ExitStack() as open_:
            sides: dict[str, Side] = {}
            for side, count in (("one_pass", options.series), ("encoded_anew", options.few)):
                settings = {"data": str(data), "network": network, "count": count, "threads": options.threads}
                apart = Apart(f"benchmarks.backtest:{side}", settings, threads=options.threads)
                sides[side] = open_.enter_context(apart)
            if network == "plain" and "darts" in installed():
                file = open_.enter_context(tempfile.NamedTemporaryFile(suffix=".npy"))
                _save(data, options.few, file.name)
                for name, (environment, flush) in SETTINGS.items():
                    settings = {"file": file.name, "cutoffs": CUTOFFS, "flush": flush}
                    darts = peer_side("darts", "backtest", settings, environment, options.threads)
                    sides[f"darts, {name}"] = open_.enter_context(darts)
            found = rounds.take_turns(sides, options.rounds)
        done[network] = _summary(found)
    return done


def _summary(found: dict[str, list[Figures]]) -> dict[str, Any]:
    ours, anew = found["one_pass"], found["encoded_anew"]
    rates = {name: round(median(rounds.pick(each, "per second"))) for name, each in found.items()}
    network = rounds.ratio(rounds.pick(ours, "network per second"), rounds.pick(anew, "per second"))
    seconds = {key: round(median(rounds.pick(ours, key)), 2) for key in ("seconds", "network", "frame")}
    done: dict[str, Any] = {
        "cutoffs per second": rates | {"one pass, network": round(median(rounds.pick(ours, "network per second")))},
        "seconds of one pass (all, network, frame)": list(seconds.values()),
        "network to windows encoded anew": list(network.values()),
    }
    for name in found:
        if name.startswith("darts"):
            whole = rounds.ratio(rounds.pick(ours, "per second"), rounds.pick(found[name], "per second"))
            done[f"frame and all to {name}"] = list(whole.values())
    return done


def one_pass(data: str, network: str, count: int, threads: int) -> Side:
    """Our backtest from cutoffs to a frame."""
    import torch

    from rnnforecast import recurrent

    model, panel, cutoffs = _fitted(Path(data), network, count, threads)
    spent: list[float] = []
    make_frame = recurrent.forecast_frame

    def timed(*arguments: Any, **keywords: Any) -> Any:
        started = time.perf_counter()
        frame = make_frame(*arguments, **keywords)
        spent.append(time.perf_counter() - started)
        return frame

    recurrent.forecast_frame = timed

    def side() -> Figures:
        spent.clear()
        started = time.perf_counter()
        frame = model.forecast_at(panel, cutoffs)
        seconds = time.perf_counter() - started
        assert len(frame) == len(cutoffs) * series.HORIZON
        assert torch.isfinite(torch.tensor(frame["mean"].sum()))
        alone = seconds - sum(spent)
        return {
            "seconds": seconds,
            "network": alone,
            "frame": sum(spent),
            "per second": len(cutoffs) / seconds,
            "network per second": len(cutoffs) / alone,
        }

    return side


def encoded_anew(data: str, network: str, count: int, threads: int) -> Side:
    """The same network over the window before each cutoff."""
    import torch

    from rnnforecast.batches import gather
    from rnnforecast.nn.sampling import predict

    model, panel, cutoffs = _fitted(Path(data), network, count, threads)
    codes, horizon, last = model.codes(panel), model.task.horizon, series.CONTEXT - 1

    def side() -> Figures:
        started = time.perf_counter()
        with torch.inference_mode():
            for which in torch.arange(len(cutoffs)).split(AT_ONCE):
                entity, start = cutoffs.series[which], cutoffs.position[which] - last
                inputs = gather(panel, entity, start, series.CONTEXT, horizon, codes)
                state = model.network.initial_state(panel.static[entity], codes[entity])
                encoding, _ = model.network.encode(inputs, state)
                predict(model.network, encoding, torch.full((len(which), 1), last))
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "per second": len(cutoffs) / seconds}

    return side


def _fitted(data: Path, network: str, count: int, threads: int) -> tuple[Any, Any, Any]:
    """A network of one training step, the panel of the first series and their last cutoffs that have an actual."""
    import torch

    from benchmarks.ours import NETWORKS
    from rnnforecast.forecaster import Forecaster
    from rnnforecast.panel import Cutoffs

    torch.set_num_threads(threads)
    frame = _series(data, count)
    choices: dict[str, Any] = {"cell": "lstm", "hidden_size": series.HIDDEN, "season_length": (24, 168)}
    model = Forecaster(series.HORIZON, **choices, **NETWORKS[network], max_steps=1).fit(frame).model
    panel = model.task.panel(frame)
    which = torch.arange(len(panel)).repeat_interleave(CUTOFFS)
    back = torch.arange(CUTOFFS).repeat(len(panel))
    return model, panel, Cutoffs(which, panel.lengths[which] - series.HORIZON - CUTOFFS + back)


def _series(data: Path, count: int) -> Any:
    """The first series of M4 Hourly, training and test one after the other: a long frame."""
    import polars as pl

    parts = [pl.read_parquet(data / name).with_columns(part=number) for number, name in enumerate((TRAIN, TEST))]
    rows = pl.concat(parts).sort("unique_id", "part", "ds")
    names = rows["unique_id"].unique(maintain_order=True).head(count)
    rows = rows.filter(pl.col("unique_id").is_in(names.implode()))
    step = pl.int_range(pl.len()).over("unique_id").cast(pl.Int64)
    return rows.select(pl.col("unique_id").alias("series_id"), step.alias("timestamp"), pl.col("y").alias("target"))


def _save(data: Path, count: int, file: str) -> None:
    """The last steps of each of the first series that darts needs, [S, T], as a .npy file."""
    import numpy as np

    steps = series.CONTEXT + CUTOFFS + series.HORIZON
    rows = _series(data, count).group_by("series_id", maintain_order=True).tail(steps)
    np.save(file, rows["target"].to_numpy().reshape(count, steps).astype(np.float32))
