"""What networks are put together from: the parts with their choices, the presets, and what does not go together."""

import sys
from collections.abc import Mapping
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from rnnforecast import cli_show
from rnnforecast.config import BASELINES, PRESETS, TRAININGS, Parts
from rnnforecast.config_choices import pairs, words
from rnnforecast.config_parts import DEFAULTS
from rnnforecast.config_rules import RULES, spell


def listed() -> dict[str, Any]:
    """All of it as plain values."""
    return {
        "parts": parts(),
        "presets": [
            {"model": word, "parts": dict(chosen), "training": dict(TRAININGS.get(word, {}))}
            for word, chosen in PRESETS.items()
        ],
        "baselines": list(BASELINES),
        "refused": [
            {"choice": rule.choice, "fields": rule.fields, "why": rule.why, "instead": rule.instead} for rule in RULES
        ],
        "pairs_apart": [
            {**dict([pair.first, pair.second]), "because": [rule.choice for rule in pair.because]}
            for pair in pairs()
            if not pair.allowed
        ],
    }


def parts() -> list[dict[str, Any]]:
    """One row for each part: key, choices, default, meaning."""
    schema = Parts.model_json_schema()["properties"]
    return [
        {
            "key": name,
            "choices": " | ".join(map(spell, words(name))) or bounds(schema[name]),
            "default": spell(DEFAULTS[name]),
            "meaning": schema[name]["description"],
        }
        for name in DEFAULTS
    ]


def bounds(schema: Mapping[str, Any]) -> str:
    """The values of a key that takes no word from a list, from its JSON schema."""
    if "anyOf" in schema:
        return " | ".join(bounds(each) for each in schema["anyOf"])
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema["type"] in ("null", "array"):
        return {"null": "absent", "array": "[1, 24, ...]"}[schema["type"]]
    least, most = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMaximum" in schema:
        return f"{least} to below {schema['exclusiveMaximum']}"
    if least is None:
        return "any number"
    return f"{least} or more" if most is None else f"{least} to {most}"


def show() -> None:
    """All of it for people."""
    out = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    cli_show.table(parts(), title="Parts of a network (keys of an entry under `models:`, arguments in Python)")
    presets = [
        {
            "model": word,
            "parts": ", ".join(f"{k}: {spell(v)}" for k, v in {**chosen, **TRAININGS.get(word, {})}.items()),
        }
        for word, chosen in PRESETS.items()
    ]
    out.print()
    cli_show.table(presets, title="Presets (a word for some parts; a key beside it wins)")
    out.print("\nWhat does not go together (all else does)")
    for rule in RULES:
        out.print(f"[bold]{escape(rule.choice)}[/bold]")
        out.print(Padding(escape(f"{rule.why}; {rule.instead}"), (0, 0, 0, 4), expand=False))
    out.print("\nAnd so these do not either")
    for line in consequences():
        out.print(Padding(escape(line), (0, 0, 0, 4), expand=False))


def consequences() -> list[str]:
    """The words that several rules together keep apart: a line for each first word and second field."""
    apart = [pair for pair in pairs() if len(pair.because) > 1 and words(pair.first[0]) and words(pair.second[0])]
    return [
        f"{name}: {spell(value)} with {other}: {' | '.join(spell(pair.second[1]) for pair in group)}"
        for (name, value, other), group in groupby(apart, key=lambda pair: (*pair.first, pair.second[0]))
    ]
