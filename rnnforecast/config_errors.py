"""What is answered to a mistake in settings: one line each with its place, what was expected, the nearest word."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar, get_args

from pydantic import ValidationError

from rnnforecast.config_parts import Parts
from rnnforecast.config_rules import refusals
from rnnforecast.config_section import Section
from rnnforecast.secrets import DiscreetError

# Where a value may be of several kinds, pydantic puts the kind that it tried into the place of the finding.
KIND: Final = re.compile(r"(int|float|bool|str)|(tuple|list|dict|literal)\[.*")
# Its words in ours.
PYDANTIC: Final = {
    "Input should be a valid": "expected a",
    "Input should be": "expected a number",
    ", unable to .*": "",
    "a tuple": "a list",
    "a dictionary.*": "keys and values",
    "a boolean": "true or false",
    "a integer": "an integer",
}
Place = tuple[int | str, ...]
Settings = TypeVar("Settings", bound=Section)


class ConfigError(DiscreetError):
    """The settings cannot be used; the message names the place (file, key) and the remedy, and holds no secret."""


def checked(cls: type[Settings], values: Mapping[str, Any]) -> Settings:
    """A section made from plain values, as Python gives them; raises ConfigError in the words of the pipeline file."""
    try:
        section = cls.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(explain(error, cls)) from None
    if isinstance(section, Parts) and (lines := refusals(section)):  # a candidate has refused them itself
        raise ConfigError("\n".join(lines))
    return section


def explain(error: ValidationError, cls: type[Section], *, prefix: str = "") -> str:
    """Pydantic's findings on a section of kind `cls` as one line each; all lines begin with `prefix`."""
    places: dict[Place, list[Any]] = {}
    for finding in error.errors():
        places.setdefault(_place(finding["loc"]), []).append(finding)
    lines = []
    for place, found in places.items():
        if place and any(other != place and other[: len(place)] == place for other in places):
            continue  # the echo of something within that was refused itself
        where = ".".join(str(part) for part in place)
        lines += [f"{prefix}{where}: {line}" if where else f"{prefix}{line}" for line in _told(found, cls, place)]
    return "\n".join(lines)


def nearest(word: str, known: Iterable[str], *, likeness: float = 0.6) -> str:
    """`; did you mean ...?`, or nothing where no known word is near."""
    close = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=likeness)
    return f"; did you mean `{close[0]}`?" if close else ""


def _place(loc: Place) -> Place:
    return tuple(part for index, part in enumerate(loc) if not index or not KIND.fullmatch(str(part)))


def _told(findings: list[Any], cls: type[Section], place: Place) -> list[str]:
    """What is said of one place; several findings there are the kinds of value that it might have been."""
    first = findings[0]
    kind, value = first["type"], first["input"]
    if kind == "value_error":
        return str(first["msg"]).removeprefix("Value error, ").splitlines()
    if kind == "extra_forbidden":
        return [_unknown_key(cls, place)]
    if kind == "missing":
        return ["this key is needed and absent"]
    if kind == "union_tag_invalid":
        tags = re.findall(r"'([^']+)'", str(first["ctx"]["expected_tags"]))
        tag = str(first["ctx"]["tag"])
        return [f"kind: expected one of {tags}; found {tag!r}{nearest(tag, tags)}"]
    wanted = " or ".join(dict.fromkeys(_wanted(finding) for finding in findings))
    words = [word for finding in findings for word in _words(finding)]
    found = "" if isinstance(value, dict | list | tuple) else f"; found {value!r}"
    return [f"{wanted}{found}{nearest(value, words) if isinstance(value, str) else ''}".replace("or expected", "or")]


def _wanted(finding: Mapping[str, Any]) -> str:
    if words := _words(finding):
        return f"expected {', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else f"expected {words[0]}"
    if finding["type"] == "too_short":
        return f"expected at least {finding['ctx']['min_length']} item; found none"
    text = str(finding["msg"])
    for found, said in PYDANTIC.items():
        text = re.sub(found, said, text)
    return text


def _words(finding: Mapping[str, Any]) -> list[str]:
    """The words that might have been chosen."""
    expected = str(finding.get("ctx", {}).get("expected", "")) if finding["type"] == "literal_error" else ""
    return re.findall(r"'([^']+)'", expected)


def _unknown_key(cls: type[Section], place: Place) -> str:
    """The nearest key of the same section; else where this key belongs."""
    key, here = str(place[-1]), _at(cls, place[:-1])
    if near := nearest(key, here.model_fields):
        return f"unknown key{near}"
    for name, section in _all(cls):
        if key in section.model_fields:
            return f"unknown key here; it belongs {f'under `{name}:`' if name else 'at the top of the file'}"
    known = {field for _, section in _all(cls) for field in section.model_fields}
    return f"unknown key{nearest(key, known, likeness=0.75) or '; `rnnforecast schema` prints the known ones'}"


def _at(cls: type[Section], place: Place) -> type[Section]:
    """The section that stands at `place`; where a list holds several kinds, the place names the kind."""
    here = [cls]
    for part in place:
        deeper = [found for each in here if part in each.model_fields for found in _inside(each, str(part))]
        tagged = [each for each in here if (kind := each.model_fields.get("kind")) and kind.default == part]
        here = deeper or tagged or here
    return here[0]


def _all(cls: type[Section], name: str = "") -> Iterator[tuple[str, type[Section]]]:
    """A section and all within it, each with the key it stands under."""
    yield name, cls
    for field in cls.model_fields:
        for section in _inside(cls, field):
            yield from _all(section, field)


def _inside(cls: type[Section], field: str) -> list[type[Section]]:
    """The kinds of section that a field holds."""

    def sections(annotation: Any) -> list[type[Section]]:
        if isinstance(annotation, type) and issubclass(annotation, Section):
            return [annotation]
        return [found for argument in get_args(annotation) for found in sections(argument)]

    return sections(cls.model_fields[field].annotation)
