"""The networks: one causal recurrence, `state, forecast = step(state, observation)`.

Shapes, in every file of this package: B series (lanes), T steps, M remembered steps, K cutoffs, H horizon,
Q quantiles, D hidden units, L layers, P past and C known covariates, F features of one step, S bases.
"""

import torch

from rnnforecast.nn.recurrence import Recurrence as Recurrence
from rnnforecast.nn.recurrence import initialise as initialise

# A gradient that goes back through a hundred steps of a forgetting network falls below 1e-38, and a processor takes
# a hundred times longer over such a number (measured: the backward pass of 168 steps, six times longer). Zero does as
# well. It holds for this thread and those it starts: hence at import, before torch has started its own.
torch.set_flush_denormal(True)
