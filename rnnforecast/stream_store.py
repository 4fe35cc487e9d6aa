"""The states of a stream in a folder: tensors as safetensors, everything else as JSON. A row is one entity of one model
version at the timestamp of its newest step; no state is ever fed to another model version."""

import hashlib
import json
from pathlib import Path
from typing import Any

import polars as pl
from safetensors.torch import load_file, save_file
from torch import Tensor

from rnnforecast.recurrent import RecurrentModel
from rnnforecast.stream_rows import StreamError

STATES, SERIES = "states.safetensors", "stream.json"


def version_of(model: RecurrentModel) -> str:
    """The version of a model that a state belongs to: a digest of its settings and weights."""
    digest = hashlib.sha256()
    settings = {"task": model.task.to_dict(), "candidate": model.candidate.model_dump(), "entities": model.entities}
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, weight in sorted(model.network.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def write(folder: Path, model: RecurrentModel, states: dict[str, Tensor], settings: dict[str, Any]) -> None:
    """Write states [B, ...] and settings that JSON can hold, with the version of their model."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: part.contiguous() for name, part in states.items()}, folder / STATES)
    told = {"model": version_of(model), **settings}
    (folder / SERIES).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def read(folder: Path, model: RecurrentModel) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `write` wrote. Raises StreamError where it is the state of another model version."""
    settings: dict[str, Any] = json.loads((folder / SERIES).read_text(encoding="utf-8"))
    expected, found = version_of(model), settings.pop("model")
    if found != expected:
        raise StreamError(
            f"{folder}: these are the states of model version {found}, and the model given is version {expected}; load "
            "that model, or start a stream of this one from the history: Stream.start(model, frame)"
        )
    return load_file(folder / STATES), settings


def type_to_text(dtype: pl.DataType | None) -> list[str | None] | None:
    """The type of timestamps for JSON: name, unit and time zone."""
    if dtype is None:
        return None
    return [type(dtype).__name__, getattr(dtype, "time_unit", None), getattr(dtype, "time_zone", None)]


def text_to_type(text: list[str | None] | None) -> pl.DataType | None:
    """The type that `type_to_text` wrote."""
    if text is None:
        return None
    if text[0] == "Datetime":
        return pl.Datetime(text[1] or "us", text[2])  # type: ignore[arg-type]
    return pl.Int64()
