"""The flows of pipeline files on the schedules that these files name, until stopped."""

import asyncio
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, cast

from prefect import Flow
from prefect.runner import Runner
from prefect.types.entrypoint import EntrypointType

from rnnforecast import config
from rnnforecast.config import Pipeline
from rnnforecast.flows.forecast import forecast
from rnnforecast.flows.ingest import ingest
from rnnforecast.flows.retrain import retrain
from rnnforecast.flows.upkeep import upkeep

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

JOBS: dict[str, Flow[..., dict[str, object]]] = {
    "ingest": ingest,
    "retrain": retrain,
    "forecast": forecast,
    "upkeep": upkeep,
}


def deployments(file: str | Path, *, project: str | None = None) -> list["RunnerDeployment"]:
    """One deployment per job of a pipeline file, such as climate-ingest; without a schedule it runs when asked to."""
    pipeline = config.load(file, project=project)
    parameters = {"pipeline": str(Path(file).expanduser().resolve()), "project": project}
    made = [
        job.to_deployment(
            name=f"{pipeline.name}-{name}",
            cron=getattr(pipeline.schedules, name),
            parameters=parameters,
            description=pipeline.description or None,
            tags=[pipeline.name],
            concurrency_limit=1,  # a job that takes longer than its interval waits for itself
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        for name, job in JOBS.items()
    ]
    return cast(list["RunnerDeployment"], made)  # coroutines only where an event loop runs


def schedule_rows(pipeline: Pipeline) -> list[dict[str, str]]:
    """What will run when, for people."""
    return [
        {"deployment": f"{pipeline.name}-{name}", "schedule (UTC)": getattr(pipeline.schedules, name) or "none"}
        for name in JOBS
    ]


def run(files: list[str], *, project: str | None = None) -> None:
    """Serve the jobs of all pipeline files until SIGINT or SIGTERM; their schedules stay active for the next time."""
    every = [each for file in files for each in deployments(file, project=project)]
    asyncio.run(_serve(every))


async def _serve(every: list["RunnerDeployment"]) -> None:
    """As `prefect.serve` does, but a SIGTERM ends it as a SIGINT does: jobs that run are cancelled, nothing is left."""
    runner = Runner(pause_on_shutdown=False, limit=max(2, os.cpu_count() or 2))
    for each in every:
        await runner.aadd_deployment(each)
    serving = asyncio.ensure_future(runner.start())
    while not runner.started and not serving.done():  # its start puts a handler of its own in place
        await asyncio.sleep(0.1)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    stopping = asyncio.ensure_future(stopped.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if runner.started:
        await runner.astop()
    stopping.cancel()
    await serving
