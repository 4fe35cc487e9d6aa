"""The learning rate range test (Smith 2017, "Cyclical learning rates for training neural networks")."""

import math
from collections.abc import Iterable
from copy import deepcopy
from itertools import accumulate, islice

import torch

from rnnforecast.batches import Segment
from rnnforecast.config import Training
from rnnforecast.learner import Learner
from rnnforecast.nn.network import Network

LOWEST, HIGHEST, STEPS = 1e-5, 1.0, 100
SMOOTHED = 9  # steps, half of them to each side
SHARE = 0.8  # of the largest gain
FALL = 0.25  # of it: what is lost again where a training diverges


def find_rate(network: Network, training: Training, segments: Iterable[Segment]) -> float:
    """The peak for the one-cycle schedule: the lowest rate at which a short training with ever higher rates has made
    four fifths of what it gains before it diverges.

    `network` stays as it is, and so do the random numbers. Where no rate gains anything, the default.
    """
    with torch.random.fork_rng():
        rates, gains = range_test(network, training, segments)
    pad = SMOOTHED // 2
    smooth = [sum(part) / len(part) for part in (gains[max(0, at - pad) : at + pad + 1] for at in range(len(gains)))]
    highest = list(accumulate(smooth, max, initial=0.0))[1:]
    falls = (at for at, gain in enumerate(smooth) if gain < highest[at] - FALL * highest[-1])
    most = highest[next(falls, len(smooth)) - 1] if highest else 0.0
    if most == 0:
        return float(Training.model_fields["learning_rate"].default)
    return next(rate for rate, gain in zip(rates, smooth, strict=True) if gain >= SHARE * most)


def range_test(network: Network, training: Training, segments: Iterable[Segment]) -> tuple[list[float], list[float]]:
    """Rates, ascending, and by how much the loss of a segment that is kept aside has fallen after a step with each."""
    batches = iter(segments)
    aside = next(batches)
    ours = Learner(deepcopy(network).to(aside.fresh.device).train(), training)
    optimiser = torch.optim.AdamW(ours.parameters(), lr=LOWEST, weight_decay=training.weight_decay)
    by_norm = training.gradient_clip_algorithm == "norm"
    clip = torch.nn.utils.clip_grad_norm_ if by_norm else torch.nn.utils.clip_grad_value_
    rates: list[float] = []
    gains: list[float] = []
    first = ours.loss_afresh(aside)
    for number, batch in enumerate(islice(batches, STEPS)):
        rate = LOWEST * (HIGHEST / LOWEST) ** (number / (STEPS - 1))
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        ours.segment_loss(batch, number).backward()
        clip(ours.parameters(), training.gradient_clip_val)
        optimiser.step()
        gain = first - ours.loss_afresh(aside)
        if not math.isfinite(gain):
            break
        rates.append(rate)
        gains.append(gain)
    return rates, gains
