"""A search for better choices: what is drawn, how it is judged, what is refused, what is written down."""

import json
import signal
from contextlib import contextmanager
from dataclasses import replace

import optuna
import polars as pl
import pytest
import torch
from builders import START, task, waves
from combinations import covering

from rnnforecast import config, search_journal, training, windows
from rnnforecast.config import PRESETS, Backtest, Candidate, ConfigError, Parts, Search, Training, checked
from rnnforecast.config_search import SPACE, lines, network
from rnnforecast.panel import Panel
from rnnforecast.search import FAILED, FINISHED, REFUSED, Ground, search
from rnnforecast.search_journal import SearchError
from rnnforecast.windows import WindowError

TRAINING = Training(max_steps=6, validate_every=3, batch_size=4, segment_length=24, accelerator="cpu")
SMALL = Candidate(model="gru", hidden_size=8)
RATES = {"low": 1e-3, "high": 1e-2, "log": True}
SPAN = 18  # of validation and of test


def ground(frame=None, *, metric="mae", seed=1):
    panel = Panel.from_frame(waves((150, 120)) if frame is None else frame, "1h")
    chosen = TRAINING.model_copy(update={"seed": seed})
    return Ground(task(), panel, windows.split(panel, SPAN, SPAN), chosen, Backtest(metric=metric))


def plan(trials, **space):
    return checked(Search, {"trials": trials, "space": space})


def told(found):
    return [(trial.number, dict(trial.choices), trial.state, trial.value) for trial in found.trials]


def test_the_first_trial_is_the_candidate_as_it_stands_judged_on_the_validation_span():
    on = ground()
    found = search(plan(2, hidden_size=[4, 8], learning_rate=RATES), SMALL, ground=on)
    first = next(trial for trial in found.trials if trial.number == 0)
    assert dict(first.choices) == {"hidden_size": 8, "learning_rate": 4e-3}
    # The same by hand: every origin, three steps apart, whose horizon lies in the last 18 steps before the test span,
    # which begins at step 132 of the longer series; the shorter one has ended by then.
    model = training.fit(on.task, SMALL, on.panel, on.parts, training=on.training, progress=False).model
    errors = []
    for series, end in enumerate((132, 120)):
        places = torch.arange(end - 7, end - SPAN - 2, -3)
        assert len(places) == 5
        forecasts = model.forecast_at(on.panel, windows.Cutoffs(torch.full_like(places, series), places))
        actual = waves((150, 120)).with_columns(pl.col("timestamp").cast(forecasts["timestamp"].dtype))
        both = forecasts.join(actual, on=["series_id", "timestamp"]).drop_nulls("target")
        errors.append((both["q0.5"] - both["target"]).abs().mean())
    assert first.value == pytest.approx(sum(errors) / 2, rel=1e-6)
    assert [trial.value for trial in found.trials] == sorted(trial.value for trial in found.trials)
    assert found.best.candidate.hidden_size == found.best.choices["hidden_size"]
    assert found.best.training.learning_rate == found.best.choices["learning_rate"]


def test_a_trial_that_learns_without_a_holdout_does_not_learn_what_it_is_judged_on(monkeypatch):
    """The span that it is judged on is changed: the weights stay what they were; with the span before, they do not."""
    frame, fitted, fit = waves((150, 120)), [], training.fit
    monkeypatch.setattr(training, "fit", lambda *given, **more: fitted.append(fit(*given, **more)) or fitted[-1])
    for spans in (0, 2, 3):  # before the end: nothing is changed; from the judged span on; from the one before it on
        late = pl.col("timestamp") >= START + pl.duration(hours=150 - SPAN * spans)
        on = ground(frame.with_columns(target=pl.col("target") + pl.when(late).then(5.0).otherwise(0.0)))
        chosen = on.training.model_copy(update={"holdout": False})
        search(plan(1, hidden_size=[8]), SMALL, ground=Ground(on.task, on.panel, on.parts, chosen, on.backtest))
    plain, same, other = (each.model.network.mix.weight for each in fitted)
    assert torch.equal(plain, same)
    assert not torch.equal(plain, other)


def test_nothing_of_the_test_span_is_looked_at():
    frame, tried = waves((150, 120)), plan(2, hidden_size=[4, 8])
    late = pl.col("timestamp") >= START + pl.duration(hours=150 - SPAN)
    other = frame.with_columns(pl.when(late).then(pl.col("target") * 50).otherwise(pl.col("target")).alias("target"))
    assert not frame.equals(other)
    results = [told(search(tried, SMALL, ground=ground(each))) for each in (frame, other)]
    assert results[0] == results[1]


def test_the_same_seed_and_table_give_the_same_trials_and_another_seed_others():
    tried = plan(3, hidden_size=[4, 8], learning_rate=RATES)
    first, again, other = (search(tried, SMALL, ground=ground(seed=seed)) for seed in (1, 1, 2))
    assert told(first) == told(again)
    assert told(first) != told(other)
    assert {trial.choices["learning_rate"] for trial in first.trials} != {
        trial.choices["learning_rate"] for trial in other.trials
    }


def test_a_search_that_was_killed_goes_on_to_what_it_would_have_found(tmp_path):
    tried = plan(4, hidden_size=[4, 8], bidirectional=[False, True], learning_rate=RATES)
    whole, journal, begun = search(tried, SMALL, ground=ground()), tmp_path / "search.journal", []

    @contextmanager
    def killed(trial):
        begun.append(trial.number)
        yield lambda ended: None
        if len(begun) == 3:
            raise KeyboardInterrupt

    for _ in range(2):  # in the third trial, and at once when it goes on
        with pytest.raises(KeyboardInterrupt):
            search(tried, SMALL, ground=ground(), journal=journal, watch=killed)
        begun[:] = [0, 0]
    resumed = search(tried, SMALL, ground=ground(), journal=journal)
    assert [each[1:] for each in told(resumed)] == [each[1:] for each in told(whole)]
    states = [trial.state for trial in search_journal.study_of(journal).trials]
    assert states.count(optuna.trial.TrialState.FAIL) == 2
    assert told(search(tried, SMALL, ground=ground(), journal=journal)) == told(resumed)  # nothing is left to do


def test_a_trial_that_was_told_in_part_when_the_process_died_keeps_its_score(tmp_path, monkeypatch):
    journal, tried = tmp_path / "search.journal", plan(2, hidden_size=[4, 8])
    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "tell", lambda *_, **__: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            search(tried, SMALL, ground=ground(), journal=journal)
    found = search(tried, SMALL, ground=ground(), journal=journal)
    assert told(found) == told(search(tried, SMALL, ground=ground()))
    assert [trial.number for trial in sorted(found.trials, key=lambda trial: trial.number)] == [0, 1]


def test_two_processes_cannot_search_by_one_journal(tmp_path):
    journal = tmp_path / "search.journal"
    with search_journal.alone(journal), pytest.raises(SearchError, match="another process is at this search"):
        search(plan(1, hidden_size=[8]), SMALL, ground=ground(), journal=journal)


def test_choices_that_do_not_go_together_are_refused_before_any_training_and_not_counted(monkeypatch):
    fitted, fit = [], training.fit
    monkeypatch.setattr(
        training,
        "fit",
        lambda task, candidate, *rest, **more: fitted.append(candidate) or fit(task, candidate, *rest, **more),
    )
    found = search(plan(9, num_layers=[1, 2], residual=[False, True]), SMALL, ground=ground())
    tried = {(trial.choices["num_layers"], trial.choices["residual"]): trial for trial in found.trials}
    assert {key: trial.state for key, trial in tried.items()} == {
        (1, False): FINISHED,
        (2, False): FINISHED,
        (2, True): FINISHED,
        (1, True): REFUSED,
    }
    assert "residual: true with num_layers: 1" in tried[1, True].reason
    assert len(fitted) == found.count(FINISHED) == 3  # each once, though nine were asked for
    assert found.count(REFUSED) == 1
    assert found.is_used_up


def test_a_training_that_raises_is_a_failed_trial_and_the_search_goes_on():
    negative = waves((150, 120)).with_columns(pl.col("target") - 10)
    found = search(plan(2, transform=["none", "log"]), SMALL, ground=ground(negative))
    assert [(trial.choices["transform"], trial.state) for trial in found.trials] == [
        ("none", FINISHED),
        ("log", FAILED),
    ]
    assert "has no logarithm" in found.trials[1].reason


def test_a_search_that_finds_nothing_says_why():
    with pytest.raises(SearchError, match=r"none of 1 draws came to a score \(0 failed, 1 refused\).*num_layers: 1"):
        search(plan(2, residual=[True]), SMALL, ground=ground())
    negative = waves((150, 120)).with_columns(pl.col("target") - 10)
    with pytest.raises(SearchError, match=r"1 failed, 0 refused\); the first: .* has no logarithm"):
        search(plan(1, transform=["log"]), SMALL, ground=ground(negative))


def test_a_constant_series_has_no_mase_and_is_judged_by_its_absolute_error():
    flat = waves((150, 120)).with_columns(target=pl.lit(5.0))
    found = search(plan(1, hidden_size=[8]), SMALL, ground=ground(flat, metric="mase"))
    assert (found.metric, found.best.value) == ("mae", found.best.scores["mae"])


def test_a_series_without_a_validation_span_is_told():
    on = ground()
    empty = replace(on, parts=windows.Split(on.parts.valid_end, on.parts.valid_end, on.parts.test_end))
    with pytest.raises(WindowError, match=r"search: no series has 6 steps \(the horizon\) in the validation span"):
        search(plan(1, hidden_size=[8]), SMALL, ground=empty)


# --- what is tried, and what is written down -------------------------------------------------------------------------


def test_the_default_space_leaves_alone_what_the_candidate_itself_chooses():
    assert set(Search().of(Candidate(model="gru"))) == set(SPACE)
    assert set(Search().of(Candidate(model="deepar"))) == {"hidden_size", "learning_rate"}
    assert set(Search().of(Candidate(model="lstm", hidden_size=100))) == set(SPACE) - {"cell", "hidden_size"}
    assert Search(space={"cell": ("rnn",)}).of(Candidate(model="deepar")) == {"cell": ("rnn",)}
    assert checked(Search, {"space": SPACE}).space == dict(SPACE)  # each key and value is one that the file takes
    said = json.dumps(config.json_schema()["$defs"]["Search"]["properties"]["space"]["description"])
    assert all(key in said for key in SPACE)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"residual": {"low": 0, "high": 1}}, r"space: residual: expected a list of values, such as \[false, true\]"),
        ({"hidden_sizes": [8]}, r"space: hidden_sizes: unknown key; did you mean `hidden_size`\?"),
        ({"decoder": ["seqtoseq"]}, r"space: decoder: .*; found 'seqtoseq'; did you mean `seq2seq`\?"),
    ],
)
def test_a_wrong_space_is_answered_with_the_right_word(space, message):
    with pytest.raises(ConfigError, match=message):
        checked(Search, {"space": space})


def test_the_network_that_is_searched_is_the_first_or_the_named_one():
    models = [Candidate(model=word) for word in ("naive", "lstm", "gru")]
    assert network(models).model == "lstm"
    assert network(models, "gru").model == "gru"
    with pytest.raises(ConfigError, match=r"expected a network, one of \['lstm', 'gru'\]; found 'naive'"):
        network(models, "naive")
    with pytest.raises(ConfigError, match=r"found 'lstn'; did you mean `lstm`\?"):
        network(models, "lstn")
    with pytest.raises(ConfigError, match="no network competes, so there is nothing to search; add one, such as gru"):
        network(models[:1])


def test_the_lines_of_any_network_make_the_pipeline_file_have_it(tmp_path):
    head = "name: plant\nhorizon: 6\nsources: [{kind: dataset, name: co2}]\nstatic_covariates: [size]\n"
    for parts in covering():
        candidate = Candidate(model="segrnn", **parts.model_dump())
        written = lines(candidate, {"learning_rate": 1.23e-5, "max_seconds": None, "batch_size": "auto"})
        loaded = config.parse(head + written, file=tmp_path / "plant.yaml")
        assert [Parts.model_validate({k: getattr(m, k) for k in Parts.model_fields}) for m in loaded.models] == [parts]
        assert loaded.models[0].label == "segrnn_searched"
        assert loaded.training == Training(learning_rate=1.23e-5)
    assert lines(Candidate(model="gru", name="mine", cell="lstm", hidden_size=32), {}) == (
        "models:\n  - {model: lstm, name: mine_searched, hidden_size: 32}\n"
    )
    assert lines(Candidate(model="seq2seq", decoder="direct", scaling="ewm"), {}) == (
        "models:\n  - {model: gru, name: seq2seq_searched, scaling: ewm}\n"
    )
    assert "name: mine_searched}" in lines(Candidate(model="gru", name="mine_searched"), {})
    # A preset that says how it is trained is not another word for the same parts.
    assert "model: m4-hourly" not in lines(Candidate(model="gru", **PRESETS["m4-hourly"]), {})
    plain = {key: Parts.model_fields[key].default for key in PRESETS["m4-hourly"]}
    assert "model: m4-hourly" in lines(Candidate(model="m4-hourly", **plain), {})
