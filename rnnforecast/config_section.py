"""What every part of the pipeline file is."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the pipeline file: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
