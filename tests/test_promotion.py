"""Who serves: only the strictly better takes the alias, and the sentence gives the numbers."""

import math

import pytest

from rnnforecast.config import Pipeline, parse
from rnnforecast.promotion import promote, rollback
from rnnforecast.registry import Logged, aliases, history
from rnnforecast.store import RegistryError, client, open_store

KINDS = {"gru": "network", "lstm": "network", "together": "combination"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("project")


@pytest.fixture
def pipeline(folder, request) -> Pipeline:
    """A pipeline of the test's own in one store."""
    text = f"name: p{abs(hash(request.node.name))}\nsources: [{{kind: dataset, name: co2}}]\nhorizon: 4"
    return parse(text, file=folder / "p.yaml")


def log(pipeline: Pipeline, **scores: float) -> list[Logged]:
    """Versions in the real registry, without the weight of a model."""
    store, experiment = client(pipeline), open_store(pipeline)
    if not aliases(pipeline) and history(pipeline).is_empty():
        store.create_registered_model(pipeline.name)
    entries = []
    for label, score in scores.items():
        run = store.create_run(experiment).info.run_id
        tags = {"candidate": label, "mase": score, "kind": KINDS.get(label, "baseline")}
        version = store.create_model_version(pipeline.name, f"/models/{run}", run_id=run, tags=tags).version
        kind = KINDS.get(label, "baseline")
        entries.append(Logged(label, str(version), run, {"model": label, "mase": score}, kind))
    return entries


def test_the_first_best_becomes_champion(pipeline):
    decision = promote(pipeline, log(pipeline, lstm=0.95, gru=0.91, naive=1.2), champion_row=None, cutoffs=12)
    assert aliases(pipeline) == {"champion": "2"}
    assert (decision.champion_version, decision.challenger_version, decision.promoted) == ("2", None, True)
    assert decision.reason == "gru: mase 0.91 is the best of 3 on the same 12 cutoffs; the first champion"


def test_a_contender_that_is_not_better_stays_challenger_and_its_run_says_why(pipeline):
    promote(pipeline, log(pipeline, lstm=0.5), champion_row=None, cutoffs=3)
    logged = log(pipeline, gru=0.91, naive=1.2)
    decision = promote(pipeline, logged, champion_row={"mase": 0.89}, cutoffs=12)
    assert aliases(pipeline) == {"champion": "1", "challenger": "2"}
    assert (decision.champion_version, decision.challenger_version, decision.promoted) == ("1", "2", False)
    sentence = "gru: mase 0.91 does not beat champion v1 lstm 0.89 on the same 12 cutoffs"
    assert decision.reason == sentence
    tags = client(pipeline).get_run(logged[0].run_id).data.tags
    assert tags["decision"] == tags["mlflow.note.content"] == sentence
    assert client(pipeline).get_model_version(pipeline.name, "2").tags["decision"] == sentence


def test_the_champion_is_judged_on_todays_cutoffs_not_on_its_old_score(pipeline):
    promote(pipeline, log(pipeline, lstm=0.5), champion_row=None, cutoffs=3)
    decision = promote(pipeline, log(pipeline, gru=0.91), champion_row={"mase": 0.95}, cutoffs=1)
    assert decision.reason == "gru: mase 0.91 beats champion v1 lstm 0.95 on the same 1 cutoff"
    assert aliases(pipeline) == {"champion": "2", "previous": "1"}


def test_a_tie_moves_nothing(pipeline):
    promote(pipeline, log(pipeline, naive=0.5), champion_row=None, cutoffs=3)
    assert not promote(pipeline, log(pipeline, naive=0.5), champion_row={"mase": 0.5}, cutoffs=3).promoted
    assert aliases(pipeline)["champion"] == "1"


def test_a_hair_is_enough_and_the_sentence_shows_it(pipeline):
    promote(pipeline, log(pipeline, gru=1.0), champion_row=None, cutoffs=3)
    decision = promote(pipeline, log(pipeline, lstm=0.99999991), champion_row={"mase": 1.0}, cutoffs=3)
    assert decision.promoted
    assert "mase 0.9999999 beats champion v1 gru 1 on" in decision.reason


def test_a_baseline_may_win_and_the_sentence_says_so(pipeline):
    decision = promote(pipeline, log(pipeline, gru=1.2, naive=0.9), champion_row=None, cutoffs=3)
    assert decision.reason.endswith("the first champion (a baseline: no network did better)")
    assert promote(pipeline, log(pipeline, naive=0.8), champion_row={"mase": 0.9}, cutoffs=3).reason.endswith(
        "(a baseline)"
    )


def test_a_champion_that_cannot_be_scored_any_more_gives_way(pipeline):
    promote(pipeline, log(pipeline, gru=0.1), champion_row=None, cutoffs=3)
    decision = promote(pipeline, log(pipeline, gru=0.9), champion_row=None, cutoffs=3)
    assert decision.promoted
    assert "takes over from champion v1 gru, which cannot be scored now" in decision.reason


@pytest.mark.parametrize("nothing", [math.nan, None])
def test_what_has_no_score_loses_to_what_has_one(pipeline, nothing):
    decision = promote(pipeline, log(pipeline, gru=nothing, naive=3.0), champion_row=None, cutoffs=3)
    assert decision.champion_version == "2"
    assert not promote(pipeline, log(pipeline, gru=nothing), champion_row={"mase": 3.0}, cutoffs=3).promoted
    assert promote(pipeline, log(pipeline, gru=3.0), champion_row={"mase": nothing}, cutoffs=3).promoted


def test_a_promotion_ends_the_challenge(pipeline):
    promote(pipeline, log(pipeline, gru=0.5), champion_row=None, cutoffs=3)
    promote(pipeline, log(pipeline, lstm=0.6), champion_row={"mase": 0.5}, cutoffs=3)
    promote(pipeline, log(pipeline, lstm=0.4), champion_row={"mase": 0.5}, cutoffs=3)
    assert aliases(pipeline) == {"champion": "3", "previous": "1"}


def test_rollback_puts_the_former_champion_back_and_forth(pipeline):
    promote(pipeline, log(pipeline, gru=0.5), champion_row=None, cutoffs=3)
    with pytest.raises(RegistryError, match=r"has no previous champion to go back to \(champion: version 1\)"):
        rollback(pipeline)
    promote(pipeline, log(pipeline, lstm=0.4), champion_row={"mase": 0.5}, cutoffs=3)
    assert rollback(pipeline).champion_version == "1"
    assert aliases(pipeline) == {"champion": "1", "previous": "2"}
    assert "v1 serves again in place of v2" in history(pipeline).filter(version=1)["decision"].item()
    assert rollback(pipeline).champion_version == "2"


def test_nothing_logged_is_an_error(pipeline):
    with pytest.raises(RegistryError, match="no candidate was logged"):
        promote(pipeline, [], champion_row=None, cutoffs=3)


def test_history_shows_versions_with_their_aliases_newest_first(pipeline):
    assert history(pipeline).is_empty()
    promote(pipeline, log(pipeline, gru=0.5, naive=0.75), champion_row=None, cutoffs=3)
    table = history(pipeline)
    assert table.select("version", "candidate", "alias", "mase").rows() == [
        (2, "naive", "", 0.75),
        (1, "gru", "champion", 0.5),
    ]
    assert table.columns == [
        "version", "candidate", "alias", "mase", "table_version", "cutoff", "created", "decision", "run_id"
    ]  # fmt: skip


def test_a_combination_is_chosen_within_five_percent_of_the_best_and_stays_so(pipeline):
    first = promote(pipeline, log(pipeline, gru=0.9, naive=1.2, together=0.94), champion_row=None, cutoffs=5)
    said = "together: mase 0.94 is within 5 % of the best, 0.9, of 3 on the same 5 cutoffs; the first champion"
    assert (aliases(pipeline)["champion"], first.reason) == ("3", said)
    second = promote(pipeline, log(pipeline, gru=0.9), champion_row={"mase": 0.94}, cutoffs=5)
    assert second.reason == "gru: mase 0.9 does not beat champion v3 together 0.94 on the same 5 cutoffs"
    third = promote(pipeline, log(pipeline, gru=0.7), champion_row={"mase": 0.94}, cutoffs=5)
    assert third.promoted
    fourth = promote(pipeline, log(pipeline, together=0.73), champion_row={"mase": 0.7}, cutoffs=5)
    assert fourth.promoted
    assert "together: mase 0.73 takes over from champion v5 gru 0.7 on the same 5 cutoffs" in fourth.reason
