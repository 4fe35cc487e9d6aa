"""What a run leaves on Prefect's page: tables and links."""

import math
import re
from pathlib import Path
from typing import Any

import polars as pl
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from rnnforecast.config import Pipeline

DIGITS = 4


def table(pipeline: Pipeline, name: str, frame: pl.DataFrame, description: str) -> None:
    """A frame as a table artifact `<pipeline>-<name>`."""
    rows = [{key: _plain(value) for key, value in row.items()} for row in frame.to_dicts()]
    create_table_artifact(rows, key=_key(pipeline, name), description=f"{pipeline.name}: {name} {description}")


def page(pipeline: Pipeline, name: str, text: str, description: str) -> None:
    """A text in Markdown as an artifact `<pipeline>-<name>`."""
    create_markdown_artifact(text, key=_key(pipeline, name), description=f"{pipeline.name}: {description}")


def links(pipeline: Pipeline, page: Path) -> None:
    """Where to look: the report page, the champion's run in MLflow, the tables."""
    from rnnforecast import registry  # MLflow and torch, which an ingest needs none of

    champion = registry.champion(pipeline)
    if champion is None:
        return
    uri = pipeline.mlflow_uri
    served = [uri] if uri.startswith("http") else []
    text = f"""# {pipeline.name}

Champion: version {champion.version} ({champion.model.candidate.label}). {champion.tags.get("decision", "")}

- Report: [{page}]({page.as_uri()})
- MLflow: [run {champion.run_id}]({registry.ui_link(pipeline, champion.run_id, *served)}) (`rnnforecast ui` serves it)
- Observations: `{pipeline.table("observations")}`
- Forecasts: `{pipeline.table("forecasts")}`
"""
    create_markdown_artifact(text, key=_key(pipeline, "report"), description=f"{pipeline.name}: where to look")


def _key(pipeline: Pipeline, name: str) -> str:
    """Prefect takes lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9-]+", "-", f"{pipeline.name}-{name}".lower())


def _plain(value: Any) -> Any:
    """A cell that JSON can hold and a person can read."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
