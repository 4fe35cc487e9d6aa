"""rnnforecast: streaming forecasts with recurrent networks, from source to registered champion."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rnnforecast.forecaster import Forecaster as Forecaster

__version__ = "0.1.0"

# GNU's OpenMP lets waiting threads spin. Beside a busy neighbour that makes a training step twenty times slower
# (measured on two cores: 0.08 to 1.7 s); a short spin costs nothing on a quiet machine. Read when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def __getattr__(name: str) -> Any:
    """`from rnnforecast import Forecaster` loads torch; `import rnnforecast` alone does not."""
    if name != "Forecaster":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rnnforecast.forecaster import Forecaster

    return Forecaster
