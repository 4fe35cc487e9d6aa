"""A trained network as a model: forecasts from any cutoffs of a panel in one pass over its series."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rnnforecast.batches import gather
from rnnforecast.config import Candidate
from rnnforecast.fitted import forecast_frame, read_settings, write_settings
from rnnforecast.nn.head import mean_weights
from rnnforecast.nn.network import Encoding, Network, NetworkConfig
from rnnforecast.panel import Cutoffs, Panel
from rnnforecast.task import Task

WEIGHTS = "weights.safetensors"
LANES = 512  # series per pass
CHUNK = 1_024  # steps per pass: memory stays flat however long the series are, the state carries over

# Which recurrence stands behind each word of the pipeline file: (cell, decoder).
ARCHITECTURE = {"gru": ("gru", "direct"), "lstm": ("lstm", "direct"), "seq2seq": ("gru", "recurrent")}


def network_config(task: Task, candidate: Candidate) -> NetworkConfig:
    """The network that a candidate of this task is."""
    cell, decoder = ARCHITECTURE[candidate.model]
    return NetworkConfig(
        cell=cell,  # type: ignore[arg-type]
        decoder=decoder,  # type: ignore[arg-type]
        hidden_size=candidate.hidden_size,
        num_layers=candidate.num_layers,
        dropout=candidate.dropout,
        horizon=task.horizon,
        quantile_levels=task.quantile_levels,
        seasons=task.seasons,
        periods=task.periods,
        past=len(task.past),
        known=len(task.known),
    )


class RecurrentModel:
    """A network with its task; see `FittedModel`."""

    def __init__(self, task: Task, candidate: Candidate, network: Network) -> None:
        self.task, self.candidate = task, candidate
        self.network = network.eval().cpu()

    def forecast_at(self, panel: Panel, cutoffs: Cutoffs) -> pl.DataFrame:
        """A forecast frame from each cutoff: all cutoffs of a series come from one pass over it."""
        levels = self.task.quantile_levels
        out = torch.zeros(len(cutoffs), self.task.horizon, len(levels))
        wanted = torch.unique(cutoffs.series)
        needed = torch.zeros(len(panel), dtype=torch.int64)
        needed.scatter_reduce_(0, cutoffs.series, cutoffs.position + 1, "amax")
        by_length = wanted[needed[wanted].argsort()]  # series of one pass are about equally long
        with torch.inference_mode():
            for lanes in by_length.split(LANES):
                self._pass(panel, lanes, int(needed[lanes].max()), cutoffs=cutoffs, out=out)
        means = out @ torch.tensor(mean_weights(levels))
        return forecast_frame(panel, cutoffs, means.numpy(), out.numpy().astype(np.float64), levels=levels)

    def _pass(self, panel: Panel, lanes: Tensor, length: int, *, cutoffs: Cutoffs, out: Tensor) -> None:
        """Run the recurrence over `lanes` in chunks, decoding at the cutoffs that fall in each."""
        lane_of = torch.full((len(panel),), -1).scatter(0, lanes, torch.arange(len(lanes)))
        mine = torch.nonzero(lane_of[cutoffs.series] >= 0)[:, 0]
        state = self.network.initial_state(len(lanes))
        for start in range(0, length, CHUNK):
            steps = min(CHUNK, length - start)
            at_start = torch.full((len(lanes),), start)
            encoding, state = self.network.encode(gather(panel, lanes, at_start, steps, self.task.horizon), state)
            place = cutoffs.position[mine] - start
            here = mine[(place >= 0) & (place < steps)]
            if len(here):
                out[here] = self._decode(encoding, lane_of[cutoffs.series[here]], cutoffs.position[here] - start)

    def _decode(self, encoding: Encoding, lane: Tensor, place: Tensor) -> Tensor:
        """Quantiles [M, H, Q] at (lane, place) pairs, [M] each, which are ragged: lanes have unlike numbers of them."""
        order = lane.argsort(stable=True)
        counts = torch.bincount(lane, minlength=len(encoding.level))
        rank = torch.arange(len(lane)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        at = torch.zeros(len(counts), int(counts.max()), dtype=torch.int64)
        at[lane[order], rank] = place[order]
        quantiles = self.network.decode(encoding, at).quantiles
        found = torch.empty(len(lane), *quantiles.shape[2:])
        found[order] = quantiles[lane[order], rank]
        return found

    def save(self, folder: Path) -> None:
        """Weights as safetensors, everything else as JSON."""
        write_settings(folder, self.task, self.candidate, network=asdict(self.network.config))
        save_file(self.network.state_dict(), folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> "RecurrentModel":
        task, candidate, settings = read_settings(folder)
        stored: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings["network"].items()}
        network = Network(NetworkConfig(**stored))
        network.load_state_dict(load_file(folder / WEIGHTS))
        return cls(task, candidate, network)
