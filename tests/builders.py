"""Small series and models that several tests build on."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import torch

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


def task(*, horizon=6, seasons=(12,), past=(), known=()):
    return Task(horizon, (0.1, 0.5, 0.9), Frequency(1, "h"), seasons, past=past, known=known)


def untrained(name, of=None, *, seed=0):
    """A network with random weights everywhere (the zero-initialised output layers too): any property must hold."""
    of = of or task()
    torch.manual_seed(seed)
    candidate = Candidate(model=name, hidden_size=16, num_layers=2)
    network = Network(network_config(of, candidate))
    with torch.no_grad():
        for parameter in network.decoder.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return RecurrentModel(of, candidate, network)
