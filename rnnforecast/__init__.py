"""rnnforecast: streaming forecasts with recurrent networks, from source to registered champion."""

__version__ = "0.1.0"
