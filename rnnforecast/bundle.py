"""The model as MLflow carries it: this file travels with the weights (models from code), and nothing is pickled.

`mlflow.pyfunc.load_model("models:/NAME@champion").predict(long_frame, params={"horizon": 24})`, and what
`mlflow models serve` answers. The library itself does not travel: it must be installed where the model is loaded.
"""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import polars as pl
from mlflow.pyfunc import PythonModel, PythonModelContext

from rnnforecast.columns import CUTOFF, TIMESTAMP
from rnnforecast.fitted import FittedModel
from rnnforecast.forecast import forecast, load_model
from rnnforecast.packing import MODEL


class Forecaster(PythonModel):
    """A long frame in, a forecast frame out."""

    model: FittedModel

    def load_context(self, context: PythonModelContext) -> None:
        self.model = load_model(Path(context.artifacts[MODEL]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Forecast every series from its last reading.

        `model_input`: series_id, timestamp (datetimes, naive ones are UTC; ISO texts; integer steps), target and
        covariates. `params`: horizon and quantile_levels, by default the pipeline's. Times come back as they came
        in: naive for naive ones, in UTC for all others.
        """
        asked = params or {}
        answer = forecast(
            self.model,
            long_frame(model_input),
            horizon=asked.get("horizon"),
            quantile_levels=asked.get("quantile_levels"),
        )
        if getattr(model_input[TIMESTAMP].dtype, "kind", "") == "M" and model_input[TIMESTAMP].dt.tz is None:
            answer = answer.with_columns(pl.col(CUTOFF, TIMESTAMP).dt.replace_time_zone(None))
        return answer.to_pandas()


def long_frame(data: pd.DataFrame) -> pl.DataFrame:
    """pandas' or JSON's long frame as ours: timestamps in UTC microseconds, or integer steps."""
    times = data[TIMESTAMP]
    if not pd.api.types.is_integer_dtype(times):
        times = pd.to_datetime(times, utc=True).astype("datetime64[us, UTC]")
    return pl.from_pandas(data.assign(**{TIMESTAMP: times}).reset_index(drop=True))


mlflow.models.set_model(Forecaster())
