"""The command `rnnforecast`: from a file to forecasts, and everything to look at on the way."""

import json
import signal
import sys
import traceback
from contextlib import redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from rnnforecast import __version__, cli_quarantine, cli_search, cli_show, cli_upkeep, cli_values
from rnnforecast.cli_options import ANYWHERE, AsOf, Force, Json, PipelineFile, Project, flows
from rnnforecast.cli_show import as_json, say
from rnnforecast.secrets import hidden

app = typer.Typer(
    name="rnnforecast",
    help="Streaming time-series forecasts with recurrent networks, from source to registered champion.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show Prefect's own log too.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """See the commands below; each has a --help of its own."""


@app.command(rich_help_panel="A pipeline")
def init(
    pipeline: PipelineFile,
    file: Annotated[Path, typer.Option(help="The data: CSV, Parquet or JSON lines.", show_default=False)],
    name: Annotated[str | None, typer.Option(help="Name of the pipeline; absent: the file's.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a pipeline file that is there.")] = False,
) -> None:
    """Look at a data file and write a pipeline file for it."""
    from rnnforecast import config
    from rnnforecast.guess import guess

    target = Path(pipeline).expanduser()
    if target.exists() and not force:
        raise config.ConfigError(f"{target}: is there already; choose another name, or --force to write over it")
    text = guess(file.expanduser(), name=name or cli_values.name(target.stem), project=target.resolve().parent)
    config.parse(text, file=target.resolve())
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise config.ConfigError(f"{target}: cannot be written ({error.strerror})") from None
    sys.stdout.write(text)
    say(f"wrote {target}; look through it, then: rnnforecast run {target}")


@app.command(rich_help_panel="A pipeline")
def run(
    pipeline: PipelineFile,
    project: Project = None,
    until: AsOf = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Ingest, train, compare, promote, forecast, report: all of it; a second time, only what is new."""
    _bring_up("pipeline", pipeline, project=project, until=until, force=force, json=json)


@app.command(rich_help_panel="A pipeline")
def ingest(pipeline: PipelineFile, project: Project = None, until: AsOf = None, json: Json = False) -> None:
    """Bring the table of observations up to date with the sources."""
    from rnnforecast import cli_table

    cli_values.load(pipeline, project=project)
    with flows() as ready:
        from rnnforecast.flows.ingest import ingest as flow

        ready()
        done = flow(cli_values.path(pipeline), project, cli_values.moment(until))
    as_json(done) if json else cli_table.ingested(done)


@app.command(rich_help_panel="A pipeline")
def retrain(
    pipeline: PipelineFile,
    project: Project = None,
    until: AsOf = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Train all candidates, compare them with the champion on the same cutoffs, promote the best."""
    _bring_up("retrain", pipeline, project=project, until=until, force=force, json=json)


app.command(rich_help_panel="A pipeline")(cli_search.search)
app.command(rich_help_panel="A pipeline")(cli_upkeep.upkeep)
app.add_typer(cli_quarantine.app, name="quarantine", rich_help_panel="A pipeline")


@app.command(rich_help_panel="A pipeline")
def forecast(
    pipeline: PipelineFile,
    output: Annotated[str | None, typer.Option(help="A .parquet or .csv file for the forecasts.")] = None,
    project: Project = None,
    until: AsOf = None,
    json: Json = False,
) -> None:
    """Forecast every series with the champion; nothing is written twice."""
    cli_values.load(pipeline, project=project)
    with flows() as ready:
        from rnnforecast.flows.forecast import forecast as flow

        ready()
        done = flow(cli_values.path(pipeline), project, cli_values.moment(until), output)
    as_json(done) if json else cli_show.table([done], title="forecast", columns=_FORECAST)


_FORECAST = ("model", "candidate", "table_version", "cutoff", "series", "rows", "written", "forecasts")


@app.command(rich_help_panel="Servers")
def serve(
    pipelines: Annotated[list[str], typer.Argument(metavar="PIPELINE.yaml ...", show_default=False)],
    project: Project = None,
    json: Json = False,
) -> None:
    """Run the jobs of pipeline files on the schedules that they name, until stopped."""
    loaded = [cli_values.load(file, project=project) for file in pipelines]
    with flows(pages=True) as ready:
        from rnnforecast.flows import serve as serving

        session = ready()
        rows = [row for each in loaded for row in serving.schedule_rows(each)]
        address = session.api_url.removesuffix("/api")
        with redirect_stdout(sys.__stdout__):
            as_json({"prefect": address, "deployments": rows}) if json else cli_show.table(rows, title="serving")
            sys.stdout.flush()
        say(f"Prefect's page: {address}; Ctrl-C stops")
        serving.run([cli_values.path(file) for file in pipelines], project=project)
    say("stopped")


@app.command(rich_help_panel="Servers")
def ui(
    pipeline: Annotated[str | None, typer.Argument(metavar="[PIPELINE.yaml]", show_default=False)] = None,
    project: Project = None,
    json: Json = False,
) -> None:
    """Serve MLflow's and Prefect's pages on this machine, until stopped."""
    from rnnforecast.flows import servers

    uri, artifacts = _store(pipeline, project)
    with flows(pages=True) as ready, servers.mlflow_server(uri, artifacts) as mlflow:
        session = ready()
        addresses = {"mlflow": mlflow.ready().address, "prefect": session.api_url.removesuffix("/api")}
        with redirect_stdout(sys.__stdout__):
            _addresses(addresses, json)
        with suppress(KeyboardInterrupt):
            servers.wait([mlflow, *([session.server] if session.server else [])])


@app.command(rich_help_panel="A pipeline")
def demo(
    names: Annotated[list[str] | None, typer.Argument(help="climate, finance, signal; absent: all three.")] = None,
    project: Project = None,
    json: Json = False,
) -> None:
    """Play the three shipped pipelines as streams of real data: train, then forecast, score, forecast ..."""
    from rnnforecast import cli_demo

    files = cli_demo.shipped(names or [])
    place = cli_demo.place(project)
    done = []
    with flows() as ready:
        from rnnforecast.flows.replay import replay

        ready()
        for file in files:
            done.append(replay(str(file), place))
    as_json(done) if json else cli_demo.show(done)


@app.command(rich_help_panel="Look")
def leaderboard(pipeline: PipelineFile, project: Project = None, json: Json = False) -> None:
    """The leaderboard of the newest retrain."""
    loaded = cli_values.load(pipeline, project=project)
    from rnnforecast.flows import pages

    done = pages.standing(loaded)
    as_json(done["leaderboard"]) if json else cli_show.standing(loaded.backtest.metric, done)


@app.command(rich_help_panel="Look")
def models(json: Json = False) -> None:
    """The parts of networks, their presets, what does not combine and why; `versions` lists a pipeline's models."""
    from rnnforecast import cli_models

    as_json(cli_models.listed()) if json else cli_models.show()


@app.command(rich_help_panel="Look")
def versions(pipeline: PipelineFile, project: Project = None, json: Json = False) -> None:
    """All registered versions of the pipeline's model, newest first."""
    from rnnforecast import registry

    loaded = cli_values.load(pipeline, project=project)
    rows = registry.history(loaded).to_dicts()
    columns = [name for name in rows[0] if name != "run_id"] if rows else []
    as_json(rows) if json else cli_show.table(rows, title=f"{loaded.name}: versions", columns=columns)


@app.command(rich_help_panel="Look")
def table(
    pipeline: PipelineFile,
    name: Annotated[
        str, typer.Argument(help="observations, quarantine, forecasts, ingests, or stale (forecasts to be made anew).")
    ] = "observations",
    rows: Annotated[int, typer.Option(help="So many of the newest rows.", min=1)] = 20,
    series: Annotated[str | None, typer.Option(help="Of this series only.")] = None,
    as_of: Annotated[str | None, typer.Option(help="As it was at this version (a number) or time (ISO).")] = None,
    history: Annotated[bool, typer.Option("--history", help="What every ingest did instead.")] = False,
    project: Project = None,
    json: Json = False,
) -> None:
    """The newest rows of one of the pipeline's tables."""
    from rnnforecast import cli_table

    loaded = cli_values.load(pipeline, project=project)
    if history:
        title, found = cli_table.history(loaded, rows=rows)
    else:
        moment = cli_values.moment(as_of, option="--as-of")
        title, found = cli_table.newest(loaded, name, rows=rows, series=series, as_of=moment)
    as_json(found) if json else cli_show.table(found, title=title)


@app.command(rich_help_panel="Look")
def schema() -> None:
    """The JSON schema of the pipeline file, for editors."""
    from rnnforecast import config

    sys.stdout.write(json.dumps(config.json_schema(), indent=2) + "\n")


@app.command(rich_help_panel="A pipeline")
def rollback(pipeline: PipelineFile, project: Project = None, json: Json = False) -> None:
    """Put the former champion back."""
    from rnnforecast import promotion

    loaded = cli_values.load(pipeline, project=project)
    decision = promotion.rollback(loaded)
    done = {"champion": decision.champion_version, "decision": decision.reason}
    as_json(done) if json else say(f"{loaded.name}: {decision.reason}")


# --- what the commands share --------------------------------------------------------------------------------------


def _bring_up(job: str, file: str, *, project: str | None, until: str | None, force: bool, json: bool) -> None:
    """Run the flow `job` (the module and its flow have one name), and show what the pipeline stands at after it."""
    loaded = cli_values.load(file, project=project)
    with flows() as ready:
        flow = getattr(import_module(f"rnnforecast.flows.{job}"), job)
        ready()
        done = flow(cli_values.path(file), project, cli_values.moment(until), force)
    as_json(done) if json else cli_show.standing(loaded.backtest.metric, done)


def _addresses(addresses: dict[str, str], as_line: bool) -> None:
    if as_line:
        print(json.dumps(addresses), flush=True)
    else:
        print(f"MLflow   {addresses['mlflow']}\nPrefect  {addresses['prefect']}", flush=True)
        say("Ctrl-C stops both")


def _store(pipeline: str | None, project: str | None) -> tuple[str, str]:
    """MLflow's store and artifacts: those of a pipeline file, or the default ones of the project."""
    from rnnforecast import cli_demo, config

    if pipeline is not None:
        loaded = cli_values.load(pipeline, project=project)
    else:
        root = Path(project or cli_demo.place(None) or Path.cwd())
        text = "{name: ui, horizon: 1, sources: [{kind: dataset, name: co2}]}"
        loaded = config.parse(text, file=root.resolve() / "ui.yaml")
    return loaded.mlflow_uri, loaded.resolve(loaded.storage.artifacts)


def _is_ours(error: BaseException) -> bool:
    return isinstance(error, OSError) or (
        isinstance(error, ValueError) and type(error).__module__.split(".")[0] == "rnnforecast"
    )


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> int:
    """Run the command; an error of the user's is one line on standard error and exit code 1."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for flag in ANYWHERE:
        ANYWHERE[flag] = flag in given
    signal.signal(signal.SIGTERM, _stop)
    try:
        if given == ["--version"]:
            print(__version__)
            return 0
        return int(app([each for each in given if each not in ANYWHERE], standalone_mode=False) or 0)
    except (KeyboardInterrupt, SystemExit, typer.Abort):  # Lightning turns an interrupt into an exit
        say("stopped")
        return 130
    except Exception as error:
        if hasattr(error, "format_message"):  # a wrong option: typer's own words
            error.show()  # type: ignore[attr-defined]
            return int(getattr(error, "exit_code", 2))
        if ANYWHERE["--debug"] or not _is_ours(error):
            sys.stderr.write(hidden(traceback.format_exc()))
        cli_show.error(str(error) or type(error).__name__)
        return 1
    finally:
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
