"""What a pipeline stands at: its leaderboard, champion and forecasts, for the command, and as the report page."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from rnnforecast import backtest, ledger, quarantine, registry, report, table
from rnnforecast.columns import MODEL
from rnnforecast.config import Pipeline
from rnnforecast.flows import study
from rnnforecast.flows.jobs import Until, observations
from rnnforecast.flows.study import Study
from rnnforecast.registry import Registered

CHAMPION = "champion"  # sub-folder of a study: the champion from before, scored on the same cutoffs
BOARD = "leaderboard.parquet"
BY_SERIES = "by_series.parquet"


def results(work: Study) -> list[backtest.Result]:
    """The backtests that a study has kept: all candidates, and the champion from before."""
    folders = [work.place(candidate) for candidate in work.loaded.models] + [work.folder / CHAMPION]
    kept = [folder for folder in folders if (folder / study.FACTS).exists()]
    return [study.kept_result(folder, study.kept_facts(folder)["label"]) for folder in kept]


def boards(work: Study) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The leaderboard of a study, overall and by series."""
    return pl.read_parquet(work.folder / BOARD), pl.read_parquet(work.folder / BY_SERIES)


def page_of(pipeline: Pipeline) -> Path:
    return Path(pipeline.resolve(pipeline.storage.reports)) / f"{pipeline.name}.html"


def standing(pipeline: Pipeline) -> dict[str, Any]:
    """Champion, decision, leaderboard and the places of report and forecasts, JSON-able; before a retrain: nulls."""
    last = study.finished(pipeline)
    work = study.recall(last) if last else None
    has_board = work is not None and (work.folder / BOARD).exists()
    return {
        "pipeline": pipeline.name,
        "champion": registry.version_of(pipeline, registry.CHAMPION),
        "decision": last["decision"]["reason"] if last else None,
        "table_version": last["table_version"] if last else None,
        "leaderboard": boards(work)[0].to_dicts() if work and has_board else [],
        "report": str(page_of(pipeline)) if page_of(pipeline).exists() else None,
        "forecasts": pipeline.table("forecasts"),
    }


def write(pipeline: Pipeline, *, until: Until = None) -> Path | None:
    """Write the report page as things stand now; None before the first retrain."""
    last, champion = study.finished(pipeline), registry.champion(pipeline)
    if last is None or champion is None:
        return None
    work = study.recall(last)
    if not (work.folder / BOARD).exists():
        return None
    frame = observations(pipeline, until=until)
    board, series = boards(work)
    setting = champion.model.task
    data = report.ReportData(
        name=pipeline.name,
        description=pipeline.description,
        metric=backtest.decisive(pipeline.backtest.metric, board[pipeline.backtest.metric]),
        horizon=setting.horizon,
        frequency=str(setting.frequency),
        season_length=setting.season_length,
        history=frame,
        forecasts=ledger.make(champion.model, frame)[0],
        backtests={result.label: result.scored for result in results(work)},
        leaderboard=board,
        by_series=series,
        champion=_label(champion, last, board),
        decision=last["decision"]["reason"],
        facts=_facts(pipeline, champion, last),
        quarantine=_quarantine(pipeline),
        config_text=pipeline.text,
        live=ledger.scored(pipeline, frame),
    )
    return report.write(page_of(pipeline), data)


def _label(champion: Registered, last: dict[str, Any], board: pl.DataFrame) -> str:
    """What the champion is called on the leaderboard."""
    labels = {version: label for label, version in last["versions"].items()}
    label = labels.get(champion.version, former(champion))
    return label if label in board[MODEL] else champion.model.candidate.label


def former(champion: Registered) -> str:
    """What a champion from an earlier retrain is called on the leaderboard."""
    return f"champion v{champion.version} ({champion.model.candidate.label})"


def _facts(pipeline: Pipeline, champion: Registered, last: dict[str, Any]) -> dict[str, str]:
    return {
        "model version": f"{pipeline.name}/{champion.version} ({champion.model.candidate.label})",
        "table version": str(table.version(pipeline.table("observations"), pipeline.storage.options)),
        "trained on table version": f"{champion.tags.get('table_version', '')}",
        "its digest": champion.tags.get("table_digest", ""),
        "trained on readings to": champion.tags.get("cutoff", ""),
        "compared on": f"{last['cutoffs']} cutoffs",
        "MLflow run": champion.run_id,
        "git commit": champion.tags.get("git_commit", ""),
        "packages": ", ".join(f"{name} {version(name)}" for name in ("rnnforecast", "torch", "polars", "mlflow")),
        "observations": pipeline.table("observations"),
        "forecasts": pipeline.table("forecasts"),
    }


def _quarantine(pipeline: Pipeline) -> dict[str, int]:
    """Refused rows by reason."""
    return dict(quarantine.summary(quarantine.held(pipeline)).select("reason", "rows").rows())
