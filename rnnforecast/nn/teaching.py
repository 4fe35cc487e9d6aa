"""Scheduled sampling (Bengio et al. 2015): how often a decoder in training is fed the actual value, not its own."""

from typing import Literal

Schedule = Literal["constant", "linear", "exponential", "inverse_sigmoid"]
LAST_SHARE = 0.01  # of the start, where the exponential and the inverse sigmoid end
STEEPNESS = 1 / LAST_SHARE  # the k of the paper's k / (k + exp(i / k)); i runs to 2 k ln k, so that the middle is half


def teacher_forcing_ratio(schedule: Schedule, start: float, progress: float) -> float:
    """The share of decoder steps that are fed the actual value, at `progress` (0..1) of the training.

    `linear` falls from `start` to 0; `exponential` and `inverse_sigmoid` fall to a hundredth of it, the first at once,
    the second around the middle of the training.
    """
    shares = {
        "constant": 1.0,
        "linear": 1.0 - progress,
        "exponential": LAST_SHARE**progress,
        "inverse_sigmoid": (STEEPNESS + 1) / (STEEPNESS + STEEPNESS ** (2 * progress)),
    }
    return start * shares[schedule]
