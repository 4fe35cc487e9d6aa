"""Prefect inside a command: one server for the command's time, unless the user has one, and a quiet log."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final, Self

import prefect.context
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import get_current_settings, temporary_settings
from prefect.utilities.asyncutils import run_coro_as_sync

from rnnforecast.flows.servers import Server, environment, prefect_server

# Only where neither the environment nor the user's profile says anything.
DEFAULTS: Final = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "rnnforecast",  # our lines stand on the page of the run
}
QUIET: Final = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # Prefect's own lines stay on the page of the run
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}


@contextmanager
def prefect_for_command(*, verbose: bool = False, pages: bool = False) -> Iterator["Session"]:
    """Prefect's server for the time of one command; the user's own if PREFECT_API_URL or the profile names one.

    The server starts while the caller imports what it needs; `ready()` of what this yields waits for it.
    """
    chosen = get_current_settings().to_environment_variables(exclude_unset=True)
    values = {key: value for key, value in DEFAULTS.items() if key not in chosen}
    shown = {"PREFECT_LOGGING_LOGGERS_PREFECT_EXTRA_HANDLERS": "api,console"} if pages else {}  # of scheduled jobs
    more = shown if verbose or pages else QUIET
    values |= {key: value for key, value in more.items() if key not in os.environ}
    with ExitStack() as stack:
        server = None
        url = get_current_settings().api.url
        stack.callback(prefect.context.refresh_global_settings_context)  # last of all
        stack.enter_context(environment(values))
        if url is None:
            server = stack.enter_context(prefect_server(pages=pages))
            url = f"{server.address}/api"
            stack.enter_context(environment({"PREFECT_API_URL": url}))
        prefect.context.refresh_global_settings_context()
        if "PREFECT_FLOWS_HEARTBEAT_FREQUENCY" not in chosen and not pages:
            # A run ends up to a second late for each heartbeat; who waits at the command sees it die.
            stack.enter_context(temporary_settings({"flows.heartbeat_frequency": None}))
        session = Session(url, server)
        stack.callback(session.drain)
        yield session


class Session:
    """What a command has of Prefect: the address of its API, and the server if it is ours."""

    def __init__(self, api_url: str, server: Server | None) -> None:
        self.api_url, self.server = api_url, server

    def ready(self) -> Self:
        """Wait until the server answers. Raises ServerError."""
        if self.server is not None:
            self.server.ready()
        return self

    def drain(self) -> None:
        """Send what is left of logs and events before the server goes."""

        async def send() -> None:
            for waiting in (_drained(APILogWorker), EventsWorker.drain_all()):
                if waiting is not None and hasattr(waiting, "__await__"):
                    await waiting

        run_coro_as_sync(send())


def _drained(worker: Any) -> Any:
    try:
        return worker.instance().drain()
    except RuntimeError:  # never started
        return None
