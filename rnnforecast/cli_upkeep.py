"""The command `upkeep`: merge the small files of a pipeline's tables, and delete what no kept version needs."""

from typing import Annotated

import typer

from rnnforecast import cli_show, cli_values
from rnnforecast.cli_options import Json, PipelineFile, Project, flows


def upkeep(
    pipeline: PipelineFile,
    keep_days: Annotated[
        int | None, typer.Option(min=1, help="Keep all versions of so many days.", show_default="storage.keep_days")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    project: Project = None,
    json: Json = False,
) -> None:
    """Merge small files, and delete old ones that neither the last days nor a registered model needs."""
    cli_values.load(pipeline, project=project)
    with flows() as ready:
        from rnnforecast.flows.upkeep import upkeep as flow

        ready()
        done = flow(cli_values.path(pipeline), project, keep_days, dry_run)
    if json:
        cli_show.as_json(done)
        return
    cli_show.table(done["tables"], title="upkeep" + (" (nothing was done: --dry-run)" if dry_run else ""))
    kept = ", ".join(f"v{version}" for version in done["kept"]) or "none"
    cli_show.say(f"kept: the versions of {done['keep_days']} days, and of registered models: {kept}")
