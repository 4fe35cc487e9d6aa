"""The command `search`: try choices for a network, show the best, and print the lines that keep them."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from rnnforecast import cli_show, cli_values
from rnnforecast.cli_options import AsOf, Json, PipelineFile, Project, flows

SHOWN: Final = 10


def search(
    pipeline: PipelineFile,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Networks to train; absent: the file's `search:`.", show_default=False)
    ] = None,
    candidate: Annotated[
        str | None, typer.Option(help="Name of a network of the file; absent: its first.", show_default=False)
    ] = None,
    project: Project = None,
    until: AsOf = None,
    json: Json = False,
) -> None:
    """Try other choices for a network (the file's `search:`), judged on the validation span; a killed one goes on."""
    from rnnforecast.config_search import network

    network(cli_values.load(pipeline, project=project).models, candidate)  # a wrong name is told before anything starts
    with flows() as ready:
        from rnnforecast.flows.search import search as flow

        ready()
        done = flow(cli_values.path(pipeline), project, cli_values.moment(until), candidate, trials)
    cli_show.as_json(done) if json else show(done)


def show(done: Mapping[str, Any]) -> None:
    """The best trials as a table, and what to write into the pipeline file."""
    finished = [trial for trial in done["trials"] if trial["state"] == "finished"]
    rows = [
        {key: cell(value) for key, value in trial.items() if key not in ("state", "reason")}
        for trial in finished[:SHOWN]
    ]
    cli_show.table(rows, title=f"{done['pipeline']}: search for {done['candidate']} (validation {done['metric']})")
    print(
        f"\n{len(finished)} finished, {done['refused']} refused, {done['failed']} failed; MLflow run {done['run_id']}"
    )
    print(f"the best, for the pipeline file:\n\n{done['lines']}", end="")


def cell(value: Any) -> Any:
    """A number as it is, anything else in the words of the pipeline file."""
    from rnnforecast.config_rules import spell

    return value if isinstance(value, int | float) and not isinstance(value, bool) else spell(value)
