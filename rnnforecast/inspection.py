"""Looking inside a trained network: what its attention weighs."""

import polars as pl
import torch

from rnnforecast.batches import gather
from rnnforecast.columns import CUTOFF, SERIES_ID, STEP, TIMESTAMP
from rnnforecast.fitted import FittedError
from rnnforecast.nn.committee import each
from rnnforecast.panel import Cutoffs, Panel
from rnnforecast.recurrent import RecurrentModel

WEIGHT = "weight"


def attention_weights(model: RecurrentModel, panel: Panel, cutoffs: Cutoffs) -> pl.DataFrame:
    """The weight of each step read for each step forecast: series_id, cutoff, step, timestamp, weight.

    Channels of one entity share their weights; a committee's are the mean of its members'. Raises FittedError where the
    decoder has no attention.
    """
    network, parts = model.network, model.network.config.parts
    if parts.decoder != "attention":
        raise FittedError(
            f"{model.candidate.label}: the decoder is {parts.decoder!r} and weighs nothing; use attention"
        )
    codes, frames = model.codes(panel), []
    for series, position in zip(cutoffs.series, cutoffs.position.tolist(), strict=True):
        entity = series[None] // panel.channels
        with torch.inference_mode():
            state = network.initial_state(panel.static[entity * panel.channels], codes[entity])
            inputs = gather(panel, entity, torch.zeros_like(entity), position + 1, model.task.horizon, codes)
            encoding, _ = network.encode(inputs, state)
            looked = [member.decode(own, torch.tensor([[position]])).weights for member, own in each(network, encoding)]
        found = torch.stack([weights[0, 0] for weights in looked if weights is not None]).mean(dim=0)  # [H, A]
        back = parts.patch_length * torch.arange(found.shape[1]).flip(0)
        read = position - back
        steps = torch.arange(1, len(found) + 1)[:, None].expand_as(found)
        origin = panel.starts[series]
        frames.append(
            pl.DataFrame(
                {
                    STEP: pl.Series(steps.flatten().numpy(), dtype=pl.Int32),
                    TIMESTAMP: panel.stamps((origin + read).expand_as(found)),
                    WEIGHT: found.flatten().numpy(),
                }
            )
            .with_columns(
                pl.lit(panel.series_ids[int(series)]).alias(SERIES_ID),
                pl.lit(panel.stamps((origin + position)[None])[0]).cast(panel.dtype).alias(CUTOFF),
                pl.Series("read", read.expand_as(found).flatten().numpy()),
            )
            .filter(pl.col("read") >= 0)
            .select(SERIES_ID, CUTOFF, STEP, TIMESTAMP, WEIGHT)
        )
    return pl.concat(frames)
