"""The documents: what they show can be used as it stands."""

import re
from pathlib import Path

import pytest
import yaml

from rnnforecast import config_sources
from rnnforecast.config import parse
from rnnforecast.sources import open_source

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", SOURCES, flags=re.DOTALL)
WHOLE = yaml.safe_load(BLOCKS[0])


def kinds():
    """The models of all kinds of source."""
    for model in vars(config_sources).values():
        kind = getattr(model, "model_fields", {}).get("kind")
        if kind is not None and kind.default and model is not config_sources.Paging:
            yield kind.default, model


@pytest.mark.parametrize("text", BLOCKS)
def test_every_pipeline_of_the_page_on_sources_loads_and_opens(text, tmp_path, monkeypatch):
    for name in re.findall(r"\$\{(\w+)\}", text):
        monkeypatch.setenv(name, "hush-hush")
    pipeline = parse(yaml.safe_dump(WHOLE | yaml.safe_load(text)), file=tmp_path / "plant.yaml")
    for source in pipeline.sources:
        reader = open_source(pipeline, source)
        assert "hush" not in reader.key + reader.label
        reader.close()


def test_the_page_on_sources_shows_every_kind_and_tells_every_key():
    shown = {source["kind"] for block in BLOCKS for source in yaml.safe_load(block).get("sources", ())}
    assert shown == set(dict(kinds()))
    prose = re.sub(r"```.*?```", "", SOURCES, flags=re.DOTALL)
    words = {word for code in re.findall(r"`([^`]+)`", prose) for word in re.findall(r"\w+", code)}
    for kind, model in kinds():
        assert set(model.model_fields) - {"kind", "name"} <= words, f"docs/sources.md has no line on a key of {kind}"
    assert set(config_sources.Columns.model_fields) | set(config_sources.Paging.model_fields) <= words
