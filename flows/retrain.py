"""The retrain flow: every candidate trained and scored on the same cutoffs, logged, and the best promoted."""

import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
from prefect import flow

from rnnforecast import backtest, baselines, combination, config, promotion, registry
from rnnforecast.columns import MODEL
from rnnforecast.config import Candidate, Pipeline
from rnnforecast.fitted import FittedError, FittedModel
from rnnforecast.flows import artifacts, pages, study
from rnnforecast.flows.jobs import Until, log, plural, run_name, step
from rnnforecast.flows.study import Study
from rnnforecast.registry import Logged
from rnnforecast.runs import TrainedOn
from rnnforecast.store import RegistryError, open_store


@flow(name="retrain", flow_run_name=run_name, persist_result=False)
def retrain(pipeline: str, project: str | None = None, until: Until = None, force: bool = False) -> dict[str, Any]:
    """Train all candidates of the pipeline file `pipeline`, compare them and the champion, promote the best.

    Where nothing is new since the last retrain (rows, settings, library), nothing is done, unless `force`.
    Returns champion, decision, leaderboard (rows) and report. Raises TableError, FrameError, WindowError,
    RegistryError.
    """
    work = plan(pipeline, project, until)
    if is_known(work, force):
        return pages.standing(work.loaded)
    labels = [each.label for each in sorted(work.loaded.models, key=lambda each: each.kind == "combination")]
    fitted = [label for label in labels if train(work, label)]
    if not fitted:
        raise FittedError(f"{work.loaded.name}: none of {labels} could be trained; the log above says why of each")
    score_champion(work)
    compare(work)
    logged = [register(work, label) for label in fitted]
    decision = promote(work, logged)
    report(work, logged, decision)
    return pages.standing(work.loaded)


@step("plan")
def plan(pipeline: str, project: str | None, until: Until) -> Study:
    """Fix the table version that everything after this reads; make sure of the store before any work is done."""
    open_store(config.load(pipeline, project=project))
    return Study.of(pipeline, project, until)


@step("look up")
def is_known(work: Study, force: bool) -> bool:
    """Whether this very retrain has come to its end before; with `force`, what it kept is thrown away instead."""
    pipeline = work.loaded
    version = registry.version_of(pipeline, registry.CHAMPION)
    if version is None or study.finished(pipeline) is None or not registry.known(pipeline, work.key):
        return False
    if force:
        shutil.rmtree(work.folder, ignore_errors=True)
        return False
    since = study.finished(pipeline) or {}
    log.info(
        "%s: retrain: nothing new since table v%s: champion v%s stands",
        pipeline.name,
        since.get("table_version", work.table_version),
        version,
    )
    return True


@step("train", run_name="train {label}")
def train(work: Study, label: str) -> bool:
    """Fit one candidate, forecast from every cutoff of the backtest, and keep both on disk.

    False where this data is not for it (a logarithm of -3, a training that diverges): the others compete without it.
    """
    pipeline = work.loaded
    candidate = work.candidate(label)
    folder = work.place(candidate)
    if (folder / study.FACTS).exists():
        log.info("%s: retrain: %s: kept from the retrain that was interrupted", pipeline.name, label)
        return True
    setting = study.setting(work)
    started = time.monotonic()
    unfinished = folder.with_name(f"{folder.name}.training")  # a training that is killed goes on from here
    try:
        if candidate.kind == "combination":
            model, result = combine(work, candidate)
            history: list[dict[str, float]] = []
        else:
            model, history = fit(pipeline, candidate, setting, unfinished)
            seconds = time.monotonic() - started
            result = backtest.run(model, setting.panel, setting.cutoffs, label=label, seconds=seconds)
    except FittedError as error:
        log.warning("%s: retrain: %s is left out: %s", pipeline.name, label, error)
        return False
    study.keep(folder, model, result.scored, {"label": label, "seconds": round(result.seconds, 2), "history": history})
    shutil.rmtree(unfinished, ignore_errors=True)
    took = time.monotonic() - started
    log.info("%s: retrain: %s: fitted, %s, %.1f s", pipeline.name, label, plural(len(setting.cutoffs), "cutoff"), took)
    return True


def fit(
    pipeline: Pipeline, candidate: Candidate, setting: study.Setting, checkpoints: Path
) -> tuple[FittedModel, list[dict[str, float]]]:
    """A candidate as a fitted model, and its history of training; `checkpoints`: a folder for the time of it."""
    if not candidate.is_network:
        return baselines.BaselineModel(setting.task, candidate), []
    from rnnforecast import training  # Lightning takes seconds to import, and a retrain with nothing new needs none

    trained = training.fit(
        setting.task,
        candidate,
        setting.panel,
        setting.parts,
        training=pipeline.training,
        progress=sys.stderr.isatty(),
        checkpoints=checkpoints,
    )
    return trained.model, trained.history


def combine(work: Study, candidate: Candidate) -> tuple[FittedModel, backtest.Result]:
    """The combination of the candidates that are kept; its backtest is the mean of theirs."""
    metric = work.loaded.backtest.metric
    places = {each.label: work.place(each) for each in work.loaded.models if each.kind != "combination"}
    kept = {label: place for label, place in places.items() if (place / study.FACTS).exists()}
    results = {label: study.kept_result(place, label) for label, place in kept.items()}
    board, _ = boards(work, list(results.values()))
    scores = dict(board.select(MODEL, backtest.decisive(metric, board[metric])).iter_rows())
    model = combination.combine(candidate, {label: study.kept_model(place) for label, place in kept.items()}, scores)
    members = [results[each.candidate.label] for each in model.members]
    scored = combination.average([result.scored for result in members], model.weights)
    return model, backtest.Result(candidate.label, scored, sum(result.seconds for result in members))


def boards(work: Study, results: list[backtest.Result]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The leaderboard of these backtests, overall and by series."""
    pipeline, setting = work.loaded, study.setting(work)
    series = backtest.by_series(
        results, setting.panel, setting.parts.valid_end, season_length=setting.task.season_length
    )
    return backtest.leaderboard(results, series, metric=pipeline.backtest.metric), series


@step("score champion")
def score_champion(work: Study) -> None:
    """Score the present champion on the same cutoffs; one that cannot be (another horizon or grid) is passed over."""
    pipeline, setting = work.loaded, study.setting(work)
    try:
        present = registry.champion(pipeline)
    except RegistryError as error:  # a damaged champion must not stand in the way of a new one
        log.warning("%s: retrain: %s", pipeline.name, error)
        return
    if present is None or (work.folder / pages.CHAMPION / study.FACTS).exists():
        return
    theirs, ours = present.model.task, setting.task
    if theirs.horizon != ours.horizon or str(theirs.frequency) != str(ours.frequency):
        log.warning("%s: retrain: champion v%s has another horizon or step", pipeline.name, present.version)
        return
    if theirs.quantile_levels != ours.quantile_levels:
        log.warning("%s: retrain: champion v%s has other quantiles", pipeline.name, present.version)
        return
    label = pages.former(present)
    panel = setting.panel if theirs.reads_like(ours) else theirs.panel(setting.frame)
    result = backtest.run(present.model, panel, setting.cutoffs, label=label)
    facts = {"label": label, "seconds": 0.0, "version": present.version, "history": []}
    study.keep(work.folder / pages.CHAMPION, present.model, result.scored, facts)
    log.info("%s: retrain: %s scored on the same cutoffs", pipeline.name, label)


@step("compare")
def compare(work: Study) -> None:
    """The leaderboard of all that was kept, overall and by series; also as an artifact of the run."""
    pipeline, setting = work.loaded, study.setting(work)
    board, series = boards(work, pages.results(work))
    series.write_parquet(work.folder / pages.BY_SERIES)
    board.write_parquet(work.folder / pages.BOARD)
    artifacts.table(pipeline, "leaderboard", board, f"on {plural(len(setting.cutoffs), 'cutoff')}, best first")
    best = board.row(0, named=True)
    metric = backtest.decisive(pipeline.backtest.metric, board[pipeline.backtest.metric])
    log.info("%s: retrain: best of %d: %s, %s %.4g", pipeline.name, len(board), best[MODEL], metric, best[metric])


@step("register", run_name="register {label}", retried=True)
def register(work: Study, label: str) -> Logged:
    """One candidate as an MLflow run and a registered version."""
    pipeline, setting = work.loaded, study.setting(work)
    candidate = work.candidate(label)
    board, series = pages.boards(work)
    return registry.log_candidate(
        pipeline,
        study.kept_model(work.place(candidate)),
        row=board.row(by_predicate=pl.col(MODEL) == label, named=True),
        trained_on=TrainedOn(work.table_version, work.table_digest, setting.trained_until),
        key=work.key,
        example=setting.frame,
        history=study.kept_facts(work.place(candidate))["history"],
        tables={"leaderboard": board, "by_series": series},
    )


@step("promote")
def promote(work: Study, logged: list[Logged]) -> dict[str, Any]:
    """Give the alias `champion` to the best, if it beats the present one on the same cutoffs."""
    pipeline, setting = work.loaded, study.setting(work)
    board, _ = pages.boards(work)
    present = work.folder / pages.CHAMPION
    label = study.kept_facts(present)["label"] if (present / study.FACTS).exists() else None
    row = next((row for row in board.to_dicts() if row[MODEL] == label), None)
    decision = promotion.promote(pipeline, logged, champion_row=row, cutoffs=len(setting.cutoffs))
    log.info("%s: retrain: champion v%s: %s", pipeline.name, decision.champion_version, decision.reason)
    return asdict(decision)


@step("report")
def report(work: Study, logged: list[Logged], decision: dict[str, Any]) -> None:
    """Write the report page, put it among the artifacts, and mark the retrain as finished, last of all."""
    pipeline = work.loaded
    run_ids = [entry.run_id for entry in logged]
    versions = {entry.label: entry.version for entry in logged}
    study.finish(work, decision=decision, versions=versions, cutoffs=len(study.setting(work).cutoffs))
    page = pages.write(pipeline, until=work.until)
    if page is not None:
        registry.log_report(pipeline, run_ids, page)
        artifacts.links(pipeline, page)
        log.info("%s: report: %s", pipeline.name, page)
    registry.finish(pipeline, work.key, run_ids)
