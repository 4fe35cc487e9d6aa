"""Measurements of rnnforecast, run by hand: see README.md in this folder."""

import rnnforecast as rnnforecast  # before torch: it sets how long waiting threads spin
