"""What a user types, as values: paths, names, times."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rnnforecast.config import Pipeline


def load(file: str, *, project: str | None) -> "Pipeline":
    """The pipeline file of a command. Raises ConfigError."""
    from rnnforecast import config  # pydantic and polars, which a --help needs none of

    return config.load(file, project=project)


def path(file: str) -> str:
    """A path that does not depend on where the command runs."""
    return str(Path(file).expanduser().resolve())


def name(stem: str) -> str:
    """A file's stem as a pipeline's name."""
    kept = "".join(mark if mark.isascii() and (mark.isalnum() or mark in "_-") else "-" for mark in stem).strip("-_")
    return (kept if kept[:1].isalpha() else f"p-{kept}" if kept else "pipeline")[:63]


def moment(text: str | None, *, option: str = "--until") -> datetime | int | None:
    """What an option says as a time or an integer (a step, a version)."""
    if text is None:
        return None
    try:
        return int(text) if text.lstrip("-").isdigit() else datetime.fromisoformat(text)
    except ValueError:
        from rnnforecast.config import ConfigError

        raise ConfigError(
            f"{option} {text}: expected an ISO time such as 2024-05-01T12:00, or a whole number"
        ) from None
