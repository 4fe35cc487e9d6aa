"""Small series and models that several tests build on."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import torch

from rnnforecast.batches import gather
from rnnforecast.config import Candidate
from rnnforecast.frequency import Frequency
from rnnforecast.nn.network import Network
from rnnforecast.recurrent import RecurrentModel, network_config
from rnnforecast.task import Task

START = datetime(2024, 1, 1)
NETWORKS = ("gru", "lstm", "seq2seq")


def waves(lengths=(120, 90), *, season=12, seed=0, gaps=0.05, trend=0.01):
    """Hourly series of unequal length: a season, a trend, noise and some gaps."""
    random = np.random.default_rng(seed)
    frames = []
    for index, length in enumerate(lengths):
        steps = np.arange(length)
        values = 10 * (index + 1) + np.sin(2 * np.pi * steps / season) + trend * steps + random.normal(0, 0.1, length)
        missing = random.random(length) < gaps
        missing[[0, -1]] = False
        frames.append(
            pl.DataFrame(
                {
                    "series_id": [f"s{index}"] * length,
                    "timestamp": [START + timedelta(hours=int(step)) for step in steps],
                    "target": np.where(missing, np.nan, values),
                }
            ).with_columns(pl.col("target").fill_nan(None))
        )
    return pl.concat(frames)


def task(*, horizon=6, seasons=(12,), past=(), known=(), static=(), channels=(), periods=()):
    return Task(
        horizon,
        (0.1, 0.5, 0.9),
        Frequency(1, "h"),
        seasons,
        past=past,
        known=known,
        static=static,
        channels=channels,
        periods=periods,
    )


def untrained(name="gru", of=None, *, seed=0, entities=(), **choices):
    """A network with random weights everywhere (the zero-initialised output layers too): any property must hold."""
    of = of or task()
    candidate = Candidate(model=name, **{"hidden_size": 16, "num_layers": 2, **choices})
    torch.manual_seed(seed)
    network = Network(network_config(of, candidate, entities=len(entities)))
    with torch.no_grad():
        for part in filter(None, (network.decoder, network.local)):
            for parameter in part.parameters():
                parameter.copy_(torch.randn_like(parameter) * 0.3)
        if network.encoder.first is not None:
            network.encoder.first.normal_()
        for name in ("past_stats", "known_stats", "static_stats", "target_stats"):
            stats = getattr(network, name)
            stats.copy_(torch.stack([torch.randn(stats.shape[1]), torch.rand(stats.shape[1]) + 0.5]))
    return RecurrentModel(of, candidate, network, entities=tuple(entities))


def whole_pass(model, panel, steps):
    """The encoding of the first entity's first `steps` steps."""
    first, codes, net = torch.tensor([0]), model.codes(panel), model.network
    inputs = gather(panel, first, first, steps, model.task.horizon, codes)
    return net.encode(inputs, net.initial_state(panel.static[:1], codes[:1]))[0]


def rich(lengths=(120, 90), channels=(), seed=0):
    """The waves with everything beside them that a network may look at: load, price (known ahead), size."""
    frame = waves(lengths, seed=seed)
    if channels:
        parts = [waves(lengths, seed=seed + place) for place in range(len(channels))]
        names = zip(parts, channels, strict=True)
        frame = pl.concat(part.with_columns(series_id=pl.col("series_id") + "/" + name) for part, name in names)
    random = np.random.default_rng(seed + 100)
    return frame.with_columns(
        load=pl.Series(random.normal(size=len(frame))),
        price=pl.Series(random.normal(size=len(frame))),
        size=pl.col("series_id").str.slice(1, 1).cast(pl.Float64),
    )


def rich_task(channels=()):
    return task(past=("load",), known=("price",), static=("size",), channels=channels, periods=(24.0,))


def before_each_step(monkeypatch, look):
    """Call `look` with the whole gradient, flat and as it is after clipping, before each optimiser step."""
    step = torch.optim.AdamW.step

    def watched(self, closure=None):
        result = closure() if closure else None
        parameters = [p for group in self.param_groups for p in group["params"]]
        look(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))
        step(self)
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
