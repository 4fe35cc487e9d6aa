"""The networks: one causal recurrence, `state, forecast = step(state, observation)`.

Shapes, in every file of this package: B series (lanes), T steps, M remembered steps, K cutoffs, H horizon,
Q quantiles, D hidden units, L layers, P past and C known covariates, F features of one step, S bases.
"""

from rnnforecast.denormals import start_threads
from rnnforecast.nn.recurrence import Recurrence as Recurrence
from rnnforecast.nn.recurrence import initialise as initialise

start_threads()
