"""Values that the environment gave to a pipeline file: used, and never shown.

`config` remembers each `${NAME}` that it filled in; whoever words an error or a line of the log asks `hidden`.
"""

from typing import Final

SHORTEST: Final = 4  # hiding shorter values would tear holes into every message
_known: dict[str, str] = {}


def remember(name: str, value: str) -> None:
    """Hide `value` from now on: `${name}` is shown in its place."""
    if len(value) >= SHORTEST:
        _known[value] = name


def hidden(text: str) -> str:
    """The text with `${NAME}` in place of every remembered value, the longest first."""
    for value in sorted(_known, key=len, reverse=True):
        text = text.replace(value, f"${{{_known[value]}}}")
    return text


class DiscreetError(ValueError):
    """An error whose message shows no remembered value."""

    def __init__(self, message: str) -> None:
        super().__init__(hidden(message))
