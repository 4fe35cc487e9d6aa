"""A trained network as a model: forecasts from any cutoffs of a panel in one pass over its series."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from rnnforecast.batches import gather
from rnnforecast.config import Candidate
from rnnforecast.fitted import FittedError, forecast_frame, read_settings, write_settings
from rnnforecast.nn.committee import Committee
from rnnforecast.nn.network import Encoding, Network
from rnnforecast.nn.sampling import predict
from rnnforecast.nn.shape import NetworkConfig
from rnnforecast.panel import Cutoffs, Panel
from rnnforecast.task import Task
from rnnforecast.threads import blocks, side_by_side

WEIGHTS = "weights.safetensors"
LANES = 64  # entities per pass, of which every thread makes one: enough for the recurrence, and near the processor
LEAST_LANES = 16  # in a pass that is made smaller, so that each thread has one
BLOCK = 128 * LANES  # neighbours that are divided into passes by their lengths
CHUNK = 1024  # steps of a pass at once: memory stays flat however long the series are, the state carries over
DECODED = 2_000_000  # numbers that one decoding may hold at once: they stay in the processor's caches


def network_config(task: Task, candidate: Candidate, *, entities: int = 0) -> NetworkConfig:
    """The network that a candidate of this task is; `entities`: how many it may know by name."""
    return NetworkConfig(
        parts=candidate,
        horizon=task.horizon,
        quantile_levels=task.quantile_levels,
        seasons=task.seasons,
        periods=task.periods,
        past=len(task.past),
        known=len(task.known),
        static=len(task.static),
        channels=len(task.channels) or 1,
        series=entities if candidate.embedding_size else 0,
    )


class RecurrentModel:
    """A network with its task, and the names of the entities it has embeddings for; see `FittedModel`."""

    def __init__(self, task: Task, candidate: Candidate, network: Network, *, entities: tuple[str, ...] = ()) -> None:
        self.task, self.candidate = task, candidate
        self.network = network.eval().cpu()
        self.entities = entities if candidate.embedding_size else ()

    def codes(self, panel: Panel) -> Tensor:
        """Which embedding each entity of a panel has, [E]; 0, the common one, for those that training did not see."""
        places = {name: place + 1 for place, name in enumerate(self.entities)}
        return torch.tensor([places.get(name, 0) for name in panel.entities])

    def forecast_at(self, panel: Panel, cutoffs: Cutoffs) -> pl.DataFrame:
        """A forecast frame from each cutoff: all cutoffs of a series come from one pass over it."""
        mean, quantiles = self.tensors_at(panel, cutoffs)
        return forecast_frame(panel, cutoffs, mean.numpy(), quantiles.numpy(), levels=self.task.quantile_levels)

    def tensors_at(self, panel: Panel, cutoffs: Cutoffs) -> tuple[Tensor, Tensor]:
        """The same as numbers alone: means [M, H] and quantiles [M, H, Q] of the M cutoffs, in their order."""
        require_positive(panel, self.candidate.transform)
        channels, horizon = panel.channels, self.task.horizon
        # The channels of an entity share its passes: each (entity, position) is decoded once.
        longest = int(panel.offsets.diff().max())
        asked = cutoffs.series // channels * longest + cutoffs.position
        in_order = channels == 1 and bool((asked.diff() > 0).all())  # as those of a backtest are
        keys, which = (asked, None) if in_order else torch.unique(asked, return_inverse=True)
        places = torch.stack([keys // longest, keys % longest])
        # The mean and each quantile apart, as a frame has them.
        out = torch.empty(1 + len(self.task.quantile_levels), len(keys), channels, horizon)
        needed = torch.zeros(len(panel) // channels, dtype=torch.int64)
        needed.scatter_reduce_(0, places[0], places[1] + 1, "amax")
        codes = self.codes(panel)

        def run(lanes: Tensor) -> None:
            self._pass(panel, lanes, int(needed[lanes].max()), codes=codes, places=places, out=out)

        side_by_side(run, list(_passes(needed)))
        if which is not None:
            out = out[:, which, cutoffs.series % channels, None]
        return out[0, :, 0], out[1:, :, 0].movedim(0, -1)

    def _pass(self, panel: Panel, lanes: Tensor, length: int, *, codes: Tensor, places: Tensor, out: Tensor) -> None:
        """Run the recurrence over `lanes` in chunks, decoding at the `places` [2, M] (entity, position) in each."""
        first, stop = (torch.searchsorted(places[0], lanes, right=right) for right in (False, True))
        counts = stop - first
        lane = torch.arange(len(lanes)).repeat_interleave(counts)
        row = torch.arange(len(lane)) + (first - counts.cumsum(0) + counts)[lane]
        state = self.network.initial_state(panel.static[lanes * panel.channels], codes[lanes])
        for start in range(0, length, CHUNK):
            steps = min(CHUNK, length - start)
            at_start = torch.full((len(lanes),), start)
            inputs = gather(panel, lanes, at_start, steps, self.task.horizon, codes)
            encoding, state = self.network.encode(inputs, state)
            place = places[1, row] - start
            here = (place >= 0) & (place < steps)
            if here.any():
                self._decode(encoding, lane[here], place[here], rows=row[here], out=out)

    def _decode(self, encoding: Encoding, lane: Tensor, place: Tensor, *, rows: Tensor, out: Tensor) -> None:
        """Forecasts at (lane, place) pairs [M], lane by lane, into these rows [M] of `out` [1 + Q, .., C, H]: the mean,
        then the quantiles; lanes have unlike numbers."""
        config, lanes = self.network.config, len(encoding.inputs.code)
        counts = torch.bincount(lane, minlength=lanes)
        rank = torch.arange(len(lane)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        at = torch.zeros(lanes, int(counts.max()), dtype=torch.int64)
        row = torch.full_like(at, -1)
        at[lane, rank], row[lane, rank] = place, rows
        columns = max(1, DECODED // (lanes * config.numbers_per_cutoff))
        for some, its in zip(at.split(columns, dim=1), row.split(columns, dim=1), strict=True):
            mean, quantiles = predict(self.network, encoding, some)
            told = its >= 0
            where, every = its[told], bool(told.all())
            for plane, numbers in zip(out, (mean, *quantiles.unbind(dim=-1)), strict=True):
                by_cutoff = numbers.unflatten(0, (lanes, -1)).transpose(1, 2)  # [B, K, C, H]
                plane[where] = by_cutoff.flatten(0, 1) if every else by_cutoff[told]

    def save(self, folder: Path) -> None:
        """Weights as safetensors, everything else as JSON."""
        members = {"members": len(self.network.members)} if isinstance(self.network, Committee) else {}
        write_settings(folder, self.task, self.candidate, entities=list(self.entities), **members)
        save_file(self.network.state_dict(), folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path) -> "RecurrentModel":
        """A stored model. Raises FittedError where its weights are of another version of the library."""
        task, candidate, settings = read_settings(folder)
        entities = tuple(settings.get("entities", ()))
        config = network_config(task, candidate, entities=len(entities))
        members = settings.get("members")
        network = Committee([Network(config) for _ in range(members)]) if members else Network(config)
        try:
            network.load_state_dict(load_file(folder / WEIGHTS))
        except RuntimeError as error:
            raise FittedError(
                f"{folder}: the weights do not fit the network that {candidate.label!r} is now; they were stored by "
                f"another version of rnnforecast: retrain ({str(error).splitlines()[-1].strip()})"
            ) from None
        return cls(task, candidate, network, entities=entities)


def _passes(needed: Tensor) -> Iterator[Tensor]:
    """Which entities are run side by side, those of about equal length [E]; neighbours first, so that what is made in
    groups of whole blocks is what is made at once, to the last bit."""
    for block in torch.arange(len(needed)).split(BLOCK):
        wanted = block[needed[block] > 0]
        by_length = wanted[needed[wanted].argsort(stable=True, descending=True)]  # a long one begun last is waited for
        yield from (by_length[part] for part in blocks(len(wanted), LANES, least=LEAST_LANES))


def require_positive(panel: Panel, transform: str) -> None:
    """Refuse readings that have no logarithm. Raises FittedError."""
    if transform != "log":
        return
    bad = panel.mask & (panel.values <= 0)
    if bad.any():
        first = int(bad.int().argmax())
        series = int(torch.searchsorted(panel.offsets, first, right=True)) - 1
        when = panel.stamps((panel.starts[series] + first - panel.offsets[series])[None])[0]
        raise FittedError(
            f"series {panel.series_ids[series]!r}, {when}: {float(panel.values[first]):g} has no logarithm "
            f"({int(bad.sum())} readings in all are not positive); choose transform: asinh, or none"
        )
