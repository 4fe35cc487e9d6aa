"""What the commands share: their arguments, and Prefect for the time of one command."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Annotated, Any

import typer

from rnnforecast import cli_show

ANYWHERE = {"--verbose": False, "--debug": False}  # flags that may stand anywhere on the command line

PipelineFile = Annotated[str, typer.Argument(metavar="PIPELINE.yaml", help="The pipeline file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables, and nothing else.")]
Project = Annotated[
    str | None, typer.Option(help="Folder that the file's relative paths count from.", show_default=False)
]
AsOf = Annotated[
    str | None, typer.Option("--until", help="See readings up to this time only (ISO, or an integer step).")
]
Force = Annotated[bool, typer.Option("--force", help="Train even if nothing is new.")]


@contextmanager
def flows(*, pages: bool = False) -> Iterator[Callable[[], Any]]:
    """Prefect for the time of a command; call what this yields once the flows are imported.

    Whatever libraries print meanwhile goes to standard error.
    """
    cli_show.steps()
    with redirect_stdout(sys.stderr):
        from rnnforecast.flows.embedded import prefect_for_command

        with prefect_for_command(verbose=ANYWHERE["--verbose"], pages=pages) as session:
            yield session.ready
