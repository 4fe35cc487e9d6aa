"""The search flow: better choices for one network, each trial a nested MLflow run, judged on the validation span."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from prefect import flow

from rnnforecast import registry, runs_search
from rnnforecast import search as searching
from rnnforecast.config import Pipeline
from rnnforecast.config_rules import spell
from rnnforecast.config_search import network
from rnnforecast.flows import study
from rnnforecast.flows.jobs import Until, log, plural, run_name, step
from rnnforecast.flows.retrain import plan
from rnnforecast.flows.study import Study
from rnnforecast.runs import TrainedOn
from rnnforecast.search import FAILED, FINISHED, REFUSED, Found, Ground, Trial


@flow(name="search", flow_run_name=run_name, persist_result=False)
def search(
    pipeline: str,
    project: str | None = None,
    until: Until = None,
    candidate: str | None = None,
    trials: int | None = None,
) -> dict[str, Any]:
    """Try other choices for one network of the pipeline file `pipeline`: `candidate`, or the first that it names.

    What is tried is the file's `search:`; `trials` overrides how often. A search that was killed goes on. Returns
    candidate, metric, trials (rows, best first), refused and failed (counts), lines (for the pipeline file), run_id
    and link. Raises TableError, FrameError, WindowError, RegistryError, SearchError, ConfigError.
    """
    work = plan(pipeline, project, until)
    return try_choices(work, candidate, trials)


@step("search")
def try_choices(work: Study, name: str | None, trials: int | None) -> dict[str, Any]:
    """Draw, train and judge, one trial after the other; the run of the search gets the best of them."""
    pipeline, setting = work.loaded, study.setting(work)
    candidate = network(pipeline.models, name)
    tried = pipeline.search if trials is None else pipeline.search.model_copy(update={"trials": trials})
    key = searching.key(pipeline, candidate, work.table_digest)
    journal = study.home(pipeline) / f"search-{key}.journal"
    ground = Ground(setting.task, setting.panel, setting.parts, pipeline.training, pipeline.backtest)
    known = runs_search.finished(pipeline, key)
    if known is not None and searching.is_over(tried, journal):
        log.info("%s: search: %s: nothing new to try since the last search", pipeline.name, candidate.label)
        found = searching.search(tried, candidate, ground=ground, journal=journal)
        return told(pipeline, candidate.label, found, known)
    trained_on = TrainedOn(work.table_version, work.table_digest, setting.trained_until)
    with runs_search.search_run(pipeline, candidate, task=setting.task, trained_on=trained_on, key=key) as run:
        watch = watched(run, pipeline)
        found = searching.search(tried, candidate, ground=ground, journal=journal, watch=watch)
        run.log_best(found)
    say(pipeline, found)
    return told(pipeline, candidate.label, found, run.run_id)


def watched(run: runs_search.SearchRun, pipeline: Pipeline) -> searching.Watch:
    """A nested MLflow run and a line of the log for every trial."""

    @contextmanager
    def watch(trial: Trial) -> Iterator[Callable[[Trial], None]]:
        with run.trial(trial) as ended:

            def end(trial: Trial) -> None:
                ended(trial)
                log.info("%s: search: trial %d: %s", pipeline.name, trial.number, line(trial, pipeline.backtest.metric))

            yield end

    return watch


def line(trial: Trial, metric: str) -> str:
    """What came of a trial, and what it tried."""
    choices = ", ".join(f"{key} {spell(value)}" for key, value in trial.choices.items())
    if trial.state != FINISHED:
        return f"{trial.state} ({choices}): {trial.reason.splitlines()[0]}"
    metric = metric if trial.scores.get(metric) is not None else "mae"
    return f"{metric} {trial.value:.4g} ({choices}), {trial.seconds:.1f} s"


def say(pipeline: Pipeline, found: Found) -> None:
    """How the search ended."""
    log.info(
        "%s: search: best of %s: trial %d, %s %.4g; %d refused, %d failed%s",
        pipeline.name,
        plural(found.count(FINISHED), "trial"),
        found.best.number,
        found.metric,
        found.best.value,
        found.count(REFUSED),
        found.count(FAILED),
        "; nothing else to try" if found.is_used_up else "",
    )


def told(pipeline: Pipeline, label: str, found: Found, run_id: str) -> dict[str, Any]:
    """A search's outcome as plain values."""
    rows = [
        {"trial": trial.number, found.metric: trial.value, **trial.choices, "seconds": trial.seconds}
        | {"state": trial.state, "reason": trial.reason}
        for trial in found.trials
    ]
    return {
        "pipeline": pipeline.name,
        "candidate": label,
        "metric": found.metric,
        "trials": rows,
        "refused": found.count(REFUSED),
        "failed": found.count(FAILED),
        "lines": runs_search.lines_of(found.best),
        "run_id": run_id,
        "link": registry.ui_link(pipeline, run_id),
    }
