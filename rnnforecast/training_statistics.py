"""What a network learns without gradients: the units of target and covariates before training, errors after it."""

from collections.abc import Iterable

import torch
from torch import Tensor

from rnnforecast.batches import Segment
from rnnforecast.learner import following, validation_cutoffs
from rnnforecast.nn import transform
from rnnforecast.nn.head_point import PointHead
from rnnforecast.nn.network import Network
from rnnforecast.nn.places import Places
from rnnforecast.nn.sampling import predict
from rnnforecast.panel import Panel

SMALLEST = 1e-6


def standardise(network: Network, panel: Panel, train_end: Tensor) -> None:
    """Target and covariates in units of the training span's mean and deviation."""
    series, place = panel.places()
    inside = place < train_end[series]
    values = transform.forward(network.config.parts.transform, panel.values).masked_fill(~panel.mask, torch.nan)
    channel = series % panel.channels
    target = torch.stack([_moments(values[inside & (channel == c), None])[:, 0] for c in range(panel.channels)], dim=1)
    network.target_stats.copy_(target)
    network.past_stats.copy_(_moments(panel.past[inside]))
    network.known_stats.copy_(_moments(panel.known[inside]))
    network.static_stats.copy_(_moments(panel.static))


def _moments(values: Tensor) -> Tensor:
    """Mean and deviation [2, P] of values [N, P], NaN left out; 0 and 1 where there is nothing."""
    mean = values.nanmean(dim=0)
    spread = (values - mean).square().nanmean(dim=0).sqrt()
    return torch.stack([mean.nan_to_num(0.0), spread.nan_to_num(1.0).clamp(min=SMALLEST)])


def calibrate(network: Network, batches: Iterable[Segment]) -> None:
    """Give a point forecast its interval: the errors that it makes on the validation span, step by step."""
    if not isinstance(network.head, PointHead):
        return
    network.eval()
    errors, masks = [], []
    bend = network.config.parts.transform
    with torch.inference_mode():
        for batch in batches:
            encoding, _ = network.encode(batch.inputs, network.remember(batch.before))
            at = validation_cutoffs(batch)
            actual, weight = following(batch, at, network.config.horizon, bent=bend)
            mean, _ = predict(network, encoding, at)
            scale = encoding.units.at(Places(batch.first.shape[1], at)).scale
            miss = (actual - transform.forward(bend, mean)) / scale[..., None]
            errors.append(miss.flatten(0, 1))
            masks.append(weight.flatten(0, 1))
    network.head.set_residuals(torch.cat(errors), torch.cat(masks))
