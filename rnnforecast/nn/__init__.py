"""The networks: one causal recurrence, `state, forecast = step(state, observation)`.

Shapes, in every file of this package: B series (lanes), T steps, M remembered steps, K cutoffs, H horizon,
Q quantiles, D hidden units, L layers, P past and C known covariates, F features of one step, S bases.
"""

import torch

from rnnforecast.nn.recurrence import Recurrence as Recurrence
from rnnforecast.nn.recurrence import initialise as initialise

# See denormals.py. What is set in a thread holds for the threads that it starts: `flushed` in a training comes too late
# for those that torch has started at its first parallel operation (measured on two: half of the gain is lost).
torch.set_flush_denormal(True)
