"""What a network learns without gradients: the units of target and covariates before training, errors after it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from rnnforecast.batches import Segment
from rnnforecast.learner import following, validation_cutoffs
from rnnforecast.nn import conformal, transform
from rnnforecast.nn.network import Network
from rnnforecast.nn.sampling import predict
from rnnforecast.panel import Panel

SMALLEST = 1e-6
CALIBRATED, FEWEST_OF_LANE = 4_096, 4  # cutoffs of the validation span that quantiles are moved by, about


def standardise(network: Network, panel: Panel, train_end: Tensor) -> None:
    """Target and covariates in units of the training span's mean and deviation."""

    def target() -> Iterator[tuple[Tensor, Tensor]]:
        """Readings [n, C], NaN where there is none or where it is another channel's, and which count."""
        for rows, series, place in panel.blocks():
            bent = transform.forward(network.config.parts.transform, panel.values[rows])
            own = (series % panel.channels)[:, None] == torch.arange(panel.channels)
            yield torch.where(panel.mask[rows, None] & own, bent[:, None], torch.nan), place < train_end[series]

    def covariates(values: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for rows, series, place in panel.blocks():
            yield values[rows], place < train_end[series]

    network.target_stats.copy_(_moments(target))
    for stats, values in ((network.past_stats, panel.past), (network.known_stats, panel.known)):
        if values.shape[1]:
            stats.copy_(_moments(partial(covariates, values)))
    network.static_stats.copy_(_moments(lambda: [(panel.static, torch.ones(len(panel), dtype=torch.bool))]))


def _moments(parts: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> Tensor:
    """Mean and deviation [2, P] of the values [n, P] that count [n], NaN left out; 0 and 1 where there is nothing.

    `parts` is called for twice. Sums run in float64, so that they hardly depend on how the values were divided.
    """

    def mean(of: Callable[[Tensor], Tensor]) -> Tensor:
        total = count = torch.zeros(1, dtype=torch.float64)
        for values, inside in parts():
            found = of(values[inside].double())
            total, count = total + found.nansum(dim=0), count + (~found.isnan()).sum(dim=0)
        return total / count

    middle = mean(lambda values: values)
    spread = mean(lambda values: (values - middle).square()).sqrt()
    return torch.stack([middle.nan_to_num(0.0), spread.nan_to_num(1.0).clamp(min=SMALLEST)]).float()


def calibrate(network: Network, batches: Sequence[Segment]) -> None:
    """Move a point's quantiles, and where the parts say so any other head's, by their errors on the validation span."""
    if network.head.offsets is None:
        return
    network.eval()
    errors, masks = [], []
    bend = network.config.parts.transform
    most = max(FEWEST_OF_LANE, CALIBRATED // sum(len(batch.fresh) for batch in batches))
    with torch.inference_mode():
        for batch in batches:
            encoding, _ = network.encode(batch.inputs, network.remember(batch.before))
            at = validation_cutoffs(batch, most)
            actual, weight = following(batch, at, network.config.horizon, bent=bend)
            _, quantiles = predict(network, encoding, at)
            scale = encoding.units.at(encoding.places(at)).scale[..., None, None]
            bent = transform.forward(bend, quantiles)
            errors.append(((actual[..., None] - bent) / scale / conformal.unit(bent / scale)).flatten(0, 1))
            masks.append(weight.flatten(0, 1))
    network.head.offsets = conformal.offsets(torch.cat(errors), torch.cat(masks), network.head.levels)
