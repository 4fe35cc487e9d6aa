"""The bundle of a fitted model: weights and settings as written by `FittedModel.save`, the code of bundle.py, a schema.

It loads with pickle forbidden (`MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false`). The library is named in its
requirements but is on no package index: serve with `mlflow models serve --env-manager local`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import mlflow.pyfunc
import polars as pl
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType

from rnnforecast import __version__, columns
from rnnforecast.config import Pipeline
from rnnforecast.frame_rows import Frame

if TYPE_CHECKING:  # whose module loads torch
    from rnnforecast.fitted import FittedModel

MODEL: Final = "model"  # the artifact's name: the folder that FittedModel.save wrote
WEIGHTS: Final = f"artifacts/{MODEL}"  # where MLflow puts it inside the bundle
EXAMPLE_ROWS: Final = 500


def pack(pipeline: Pipeline, model: "FittedModel", example: Frame, *, folder: Path, record: Model) -> None:
    """Write the bundle into `folder`, which must not exist; `record` is MLflow's entry (run and model id).

    `example`: a long frame, of which the newest rows of the first series are kept as the example of an input.
    """
    saved = folder.with_name(MODEL)
    model.save(saved)
    mlflow.pyfunc.save_model(
        folder,
        python_model=str(Path(__file__).with_name("bundle.py")),
        artifacts={MODEL: str(saved)},
        signature=signature(pipeline),
        input_example=_short(pipeline, example).to_pandas(),
        pip_requirements=[f"rnnforecast=={__version__}"],
        mlflow_model=record,
    )


def signature(pipeline: Pipeline) -> ModelSignature:
    """Long frame in, forecast frame out; `horizon` and `quantile_levels` default to the pipeline's.

    Timestamps are of any type in MLflow's schema, because its `datetime` refuses times that carry a zone.
    """
    values = (columns.TARGET, *pipeline.covariates)
    steps = [(columns.STEP, "long"), (columns.MEAN, "double")]
    return ModelSignature(
        inputs=Schema(
            [
                ColSpec("string", columns.SERIES_ID),
                ColSpec(AnyType(), columns.TIMESTAMP),
                *(ColSpec("double", name) for name in values),
            ]
        ),
        outputs=Schema(
            [
                ColSpec("string", columns.SERIES_ID),
                ColSpec(AnyType(), columns.CUTOFF),
                ColSpec(AnyType(), columns.TIMESTAMP),
                *(ColSpec(kind, name) for name, kind in steps),
                *(ColSpec("double", name) for name in columns.quantiles(pipeline.quantile_levels)),
            ]
        ),
        params=ParamSchema(
            [
                ParamSpec("horizon", DataType.long, pipeline.horizon),
                ParamSpec("quantile_levels", DataType.double, list(pipeline.quantile_levels), shape=(-1,)),
            ]
        ),
    )


def _short(pipeline: Pipeline, example: Frame) -> pl.DataFrame:
    wanted = example.lazy().select(*columns.KEY, columns.TARGET, *pipeline.covariates)
    name = wanted.select(pl.col(columns.SERIES_ID).min()).collect().item()
    short = wanted.filter(pl.col(columns.SERIES_ID) == name).collect().sort(columns.TIMESTAMP).tail(EXAMPLE_ROWS)
    if short.schema[columns.TIMESTAMP].is_temporal():
        short = short.with_columns(pl.col(columns.TIMESTAMP).dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    return short
