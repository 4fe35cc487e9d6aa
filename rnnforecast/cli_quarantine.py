"""The commands `quarantine list` and `quarantine replay`."""

from dataclasses import asdict
from typing import Annotated, Final

import typer

from rnnforecast import cli_show, cli_values
from rnnforecast.cli_options import Json, PipelineFile, Project

app = typer.Typer(no_args_is_help=True, help="Rows that were refused: look them through, take them again after a fix.")

Reason = Annotated[str | None, typer.Option(help="Only rows whose reason has this text in it.", show_default=False)]
COLUMNS: Final = ("id", "file", "row", "column", "reason", "content", "seen_at")
SHORT: Final = 12  # characters of an id that tell rows apart


@app.command("list")
def show(
    pipeline: PipelineFile,
    reason: Reason = None,
    rows: Annotated[int, typer.Option(min=0, help="So many of the rows.")] = 20,
    everything: Annotated[bool, typer.Option("--all", help="Also rows that have been replayed.")] = False,
    project: Project = None,
    json: Json = False,
) -> None:
    """What was refused, by reason, and the rows."""
    from rnnforecast import quarantine

    loaded = cli_values.load(pipeline, project=project)
    found = quarantine.held(loaded, reason=reason, replayed=everything)
    if json:
        cli_show.as_json(found.to_dicts())
        return
    cli_show.table(quarantine.summary(found).to_dicts(), title=f"{loaded.name}: quarantine, {len(found):,} rows")
    if rows and len(found):
        columns = [*COLUMNS, *(["replayed_at"] if everything else [])]
        columns += ["obstacle"] if found["obstacle"].is_not_null().any() else []
        shown = [{**row, "id": row["id"][:SHORT]} for row in found.tail(rows).to_dicts()]
        cli_show.table(shown, title=f"the newest {len(shown):,}" if len(shown) < len(found) else "", columns=columns)


@app.command()
def replay(
    pipeline: PipelineFile,
    reason: Reason = None,
    ids: Annotated[
        list[str] | None, typer.Option("--id", help="Only the row of this id, or of one that begins so; repeatable.")
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Take rows that fail checks, come late, or are superseded, as they are.")
    ] = False,
    project: Project = None,
    json: Json = False,
) -> None:
    """Take refused rows again, through the pipeline file as it is now."""
    from rnnforecast import quarantine

    loaded = cli_values.load(pipeline, project=project)
    done = quarantine.replay(loaded, reason=reason, ids=ids or (), accept=accept)
    if json:
        cli_show.as_json(asdict(done))
        return
    counts = {name: value for name, value in asdict(done).items() if name != "reasons"}
    cli_show.table([counts], title=f"{loaded.name}: replay")
    if done.reasons:
        still = [{"still refused for": reason, "rows": count} for reason, count in done.reasons.items()]
        cli_show.table(still)
