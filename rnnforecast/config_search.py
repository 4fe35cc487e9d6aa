"""What a search for better settings may try: values or a range for any key of a network or of its training."""

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from rnnforecast.config_errors import explain, nearest
from rnnforecast.config_parts import Parts
from rnnforecast.config_section import Section
from rnnforecast.config_sections import Training


class Range(Section):
    """Numbers from `low` to `high`, both included."""

    low: float = Field(allow_inf_nan=False, description="Smallest value.")
    high: float = Field(allow_inf_nan=False, description="Largest value.")
    log: bool = Field(False, description="Try orders of magnitude evenly, as a learning rate wants it.")

    @model_validator(mode="after")
    def _ascends(self) -> "Range":
        if not self.low < self.high:
            raise ValueError(f"expected low below high; found low: {self.low:g}, high: {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"expected low above 0, for log: true; found {self.low:g}")
        return self


def _kind(value: Any) -> str:
    return "range" if isinstance(value, dict | Range) else "values"


Values = Annotated[
    Annotated[tuple[Any, ...], Field(min_length=1), Tag("values")] | Annotated[Range, Tag("range")],
    Discriminator(_kind),
]


class Search(Section):
    """A search over the choices of every network that competes, judged on the validation span alone."""

    trials: int = Field(20, ge=1, description="Networks trained at most, for each candidate.")
    max_seconds: float | None = Field(None, gt=0, description="Wall-clock limit for one search; absent: none.")
    space: dict[str, Values] = Field(
        default_factory=dict,
        description="Key of a network or of training: a list of values, or {low, high, log}. Empty: no search.",
    )

    @field_validator("space", mode="after")
    @classmethod
    def _known_keys_and_values(cls, value: dict[str, Any]) -> dict[str, Any]:
        lines = [line for key, values in value.items() for line in _wrong(key, values)]
        if lines:
            raise ValueError("\n".join(lines))
        return value


def _wrong(key: str, values: Any) -> list[str]:
    """What is wrong with one entry: the key, or a value that the key does not take."""
    section = next((each for each in (Parts, Training) if key in each.model_fields), None)
    if section is None:
        return [f"{key}: unknown key{nearest(key, [*Parts.model_fields, *Training.model_fields])}"]
    found = []
    for tried in values if isinstance(values, tuple) else (_number(values.low), _number(values.high)):
        try:
            section.model_validate({key: tried})
        except ValidationError as error:
            found += explain(error, section).splitlines()
    return found


def _number(value: float) -> float:
    return int(value) if value == int(value) else value
