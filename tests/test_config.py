"""The pipeline file: what it may say, and what is answered to what it may not."""

import json

import pytest

from rnnforecast import config
from rnnforecast.config import ConfigError

GOOD = """
name: plant
horizon: 24
sources:
  - {kind: file, path: readings.csv, columns: {timestamp: time, target: value, series_id: sensor}}
models: [naive, {model: gru, hidden_size: 32}, {model: gru, name: wide_gru, hidden_size: 128}]
storage: {lake: s3://bucket/lake, options: {aws_secret_access_key: "${PLANT_KEY}"}}
"""


def parsed(tmp_path, text=GOOD):
    file = tmp_path / "plant.yaml"
    file.write_text(text)
    return config.load(file)


def test_a_good_file_is_read_with_its_defaults(tmp_path, monkeypatch):
    monkeypatch.setenv("PLANT_KEY", "hush")
    pipeline = parsed(tmp_path)
    assert [c.label for c in pipeline.models] == ["naive", "gru", "wide_gru"]
    assert [c.is_network for c in pipeline.models] == [False, True, True]
    assert pipeline.training.gradient_clip_val == 1.0
    assert pipeline.table("observations") == "s3://bucket/lake/plant/observations"
    assert pipeline.mlflow_uri == f"sqlite:///{tmp_path}/mlflow/mlflow.db"


def test_relative_paths_count_from_the_project_never_from_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PLANT_KEY", "hush")
    (tmp_path / "deep" / "files").mkdir(parents=True)
    monkeypatch.chdir("/")
    pipeline = parsed(tmp_path / "deep" / "files", GOOD + "project: ../..\n")
    assert pipeline.resolve("data/x") == str(tmp_path / "data/x")
    assert config.load(tmp_path / "deep/files/plant.yaml", project=tmp_path / "deep").root == tmp_path / "deep"


def test_a_secret_is_used_but_never_kept_in_the_text_or_the_digest(tmp_path, monkeypatch):
    monkeypatch.setenv("PLANT_KEY", "hush")
    pipeline = parsed(tmp_path)
    assert pipeline.storage.options["aws_secret_access_key"] == "hush"
    assert "hush" not in pipeline.text
    monkeypatch.setenv("PLANT_KEY", "other")
    assert parsed(tmp_path).digest == pipeline.digest


def test_an_absent_secret_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("PLANT_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"\$\{PLANT_KEY\} is not set in the environment; export PLANT_KEY"):
        parsed(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("horizon: 24", "horizn: 24"), r"horizn: unknown key; did you mean `horizon`\?"),
        (("horizon: 24", "horizn: 24"), "horizon: this key is needed and absent"),
        (("path:", "pth:"), r"sources.0.file.pth: unknown key; did you mean `path`\?"),
        (
            ("kind: file", "kind: fil"),
            r"kind: expected one of \['file', .*, 'dataset'\]; found 'fil'; did you mean `file`",
        ),
        (("[naive,", "[naiv,"), r"found 'naiv'; did you mean `naive`\?"),
        (("name: wide_gru", "name: gru"), "two candidates of one name"),
        (("horizon: 24", "horizon: 0"), "horizon: .*greater than or equal to 1; found 0"),
        (("horizon: 24", "horizon: 24\nquantile_levels: [0.9, 0.1]"), r"ascending levels.*found \[0.9, 0.1\]"),
        (("horizon: 24", "horizon: 24\nquantile_levels: [0.1, 0.9]"), r"expected 0.5 \(the median\)"),
        (("horizon: 24", "horizon: 24\nfrequency: 1z"), "frequency: expected a count and a unit.*'1z'"),
        (("horizon: 24", "horizon: 24\nseason_length: 0"), "seasons of at least 1 step; found 0"),
        (("horizon: 24", "horizon: 24\nschedules: {ingest: hourly}"), "cron line of five fields.*found 'hourly'"),
        (("horizon: 24", "horizon: 24\npast_covariates: [a]\nknown_covariates: [a]"), "a column is declared twice"),
        (("name: plant", "name: 'plant one'"), "name: .*found 'plant one'"),
        (("hidden_size: 32", "hiden_size: 32"), r"models.1.hiden_size: unknown key; did you mean `hidden_size`\?"),
        (
            ("hidden_size: 32", "decoder: attentive"),
            r"models.1.decoder: .*found 'attentive'; did you mean `attention`\?",
        ),
        (("[naive,", "[LSTM,"), r"models.0.model: .*found 'LSTM'; did you mean `lstm`\?"),
        (("[naive,", "[{model: deepr},"), r"models.0.model: .*found 'deepr'; did you mean `deepar`\?"),
        (("[naive,", "[{model: deepar, decodr: x},"), r"models.0.decodr: unknown key; did you mean `decoder`\?"),
        (("hidden_size: 32", "learning_rate: 1"), "models.1.learning_rate: unknown key here; .* under `training:`"),
        (("horizon: 24", "horizon: 24\nlake: x"), "lake: unknown key here; it belongs under `storage:`"),
        (
            ("hidden_size: 32", "bidirectional: true"),
            "models.1: bidirectional: true with context_length: absent: .*; give",
        ),
        (("[naive,", "[{model: naive, cell: lstm},"), "models.0: cell: a key of networks; `naive` is a baseline"),
        (("hidden_size: 32", "start: static"), "models.1: start: static without static_covariates"),
        (("hidden_size: 32", "lags: [1, x]"), "models.1.lags.1: expected an integer; found 'x'"),
        (("horizon: 24", "horizon: 24\ntraining: {learning_rate: fast}"), "expected a number or auto; found 'fast'"),
        (("horizon: 24", "horizon: 24\nseason_length: week"), "expected an integer or a list or auto; found 'week'"),
        (("horizon: 24", "horizon: 24\nchannels: [x, a/y]"), "channels: expected distinct names without a slash"),
        (("horizon: 24", "horizon: 24\nsearch: {trails: 3}"), r"search.trails: unknown key; did you mean `trials`\?"),
    ],
)
def test_a_mistake_is_answered_with_file_key_and_remedy(tmp_path, monkeypatch, change, message):
    monkeypatch.setenv("PLANT_KEY", "hush")
    with pytest.raises(ConfigError, match=message) as error:
        parsed(tmp_path, GOOD.replace(*change))
    assert all(line.startswith(f"{tmp_path}/plant.yaml: ") for line in str(error.value).splitlines())


@pytest.mark.parametrize(
    "change",
    [
        ("[naive,", "[naiv,"),
        ("hidden_size: 32", "lags: [1, x]"),
        ("hidden_size: 32", "residual: true"),
        ("horizon: 24", "horizon: 24\nseason_length: [24, x]"),
        ("horizon: 24", "horizon: 24\nseason_length: week"),
    ],
)
def test_one_mistake_is_one_line(tmp_path, monkeypatch, change):
    monkeypatch.setenv("PLANT_KEY", "hush")
    with pytest.raises(ConfigError) as error:
        parsed(tmp_path, GOOD.replace(*change))
    assert len(str(error.value).splitlines()) == 1


def test_a_search_names_keys_of_networks_and_of_training(tmp_path, monkeypatch):
    monkeypatch.setenv("PLANT_KEY", "hush")
    space = "{cell: [gru, lstm], context_length: [null, 96], learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}}"
    search = parsed(tmp_path, GOOD + f"search: {{trials: 5, space: {space}}}\n").search
    assert search.trials == 5
    assert search.space["cell"] == ("gru", "lstm")
    assert search.space["context_length"] == (None, 96)
    assert search.space["learning_rate"] == config.Range(low=1e-4, high=1e-2, log=True)
    assert parsed(tmp_path).search.space == {}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("hiden_size: [8]", r"hiden_size: unknown key; did you mean `hidden_size`\?"),
        ("learning_rte: [1]", r"learning_rte: unknown key; did you mean `learning_rate`\?"),
        ("cell: [gru, lsmt]", r"cell: expected rnn, lstm or gru; found 'lsmt'; did you mean `lstm`\?"),
        ("cell: gru", "cell.values: expected a list; found 'gru'"),
        ("cell: []", "cell.values: expected at least 1 item; found none"),
        ("hidden_size: {low: 0, high: 8}", "hidden_size: .*greater than or equal to 1; found 0"),
        ("cell: {low: 0, high: 8}", "cell: expected rnn, lstm or gru; found 0"),
        ("dropout: {low: 0.5, high: 0.1}", "dropout.range: expected low below high; found low: 0.5, high: 0.1"),
        ("dropout: {low: 0, high: 0.1, log: true}", "dropout.range: expected low above 0, for log: true; found 0"),
        ("dropout: {low: 0, hgh: 0.1}", r"dropout.range.hgh: unknown key; did you mean `high`\?"),
    ],
)
def test_a_search_over_what_does_not_exist_is_refused(tmp_path, monkeypatch, space, message):
    monkeypatch.setenv("PLANT_KEY", "hush")
    with pytest.raises(ConfigError, match=f"plant.yaml: search.space[.:] ?{message}"):
        parsed(tmp_path, GOOD + f"search: {{space: {{{space}}}}}\n")


@pytest.mark.parametrize(("text", "message"), [("a: [", "not YAML"), ("- 1", "expected keys and values"), ("", "keys")])
def test_what_is_no_mapping_is_refused(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        parsed(tmp_path, text)


def test_an_absent_file_is_named():
    with pytest.raises(ConfigError, match=r"nowhere.yaml: cannot read the pipeline file .No such file"):
        config.load("nowhere.yaml")


def test_the_digest_follows_what_decides_a_model_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("PLANT_KEY", "hush")
    base = parsed(tmp_path).digest
    assert (
        parsed(tmp_path, GOOD + "schedules: {ingest: '5 * * * *'}\ndescription: x\nsearch: {trials: 3}\n").digest
        == base
    )
    assert parsed(tmp_path, GOOD.replace("horizon: 24", "horizon: 25")).digest != base
    assert parsed(tmp_path, GOOD + "training: {seed: 2}\n").digest != base
    assert parsed(tmp_path, GOOD.replace("hidden_size: 32", "cell: lstm, hidden_size: 32")).digest != base


def test_every_key_is_documented_in_the_schema():
    schema = json.loads(json.dumps(config.json_schema()))
    sections = [schema, *schema["$defs"].values()]
    for section in sections:
        for name, key in section["properties"].items():
            assert key.get("description") or "const" in key, f"{section['title']}.{name} is not documented"
