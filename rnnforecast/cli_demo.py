"""The shipped pipelines, and what their replay showed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rnnforecast import cli_show

SCORES: Final = ("until", "model", "forecasts", "mae", "mase", "skill", "coverage")


def shipped(names: Sequence[str]) -> list[Path]:
    """The shipped pipeline files of these names; all of them if none is given. Raises ConfigError."""
    found = {file.stem: file for file in sorted((_flows() / "pipelines").glob("*.yaml"))}
    unknown = [name for name in names if name not in found]
    if unknown:
        from rnnforecast.config import ConfigError

        raise ConfigError(f"demo: expected one of {', '.join(found)}; found {unknown[0]!r}")
    return [found[name] for name in names] or list(found.values())


def place(project: str | None) -> str | None:
    """The project of the demonstration: as given, else the source checkout (None), else the present folder."""
    if project is not None:
        return str(Path(project).expanduser().resolve())
    return None if (_flows().parent / "pyproject.toml").exists() else str(Path.cwd())


def show(done: Sequence[dict[str, Any]]) -> None:
    """Scores of the streams, leaderboards, champions, and where to look."""
    for each in done:
        print()
        title = f"{each['pipeline']}: each forecast scored by the readings that came after it"
        cli_show.table(each["scores"], title=title, columns=SCORES)
    for each in done:
        print()
        cli_show.table(each["leaderboard"], title=f"{each['pipeline']}: leaderboard of the backtest")
        print(f"champion  {each['pipeline']}/{each['champion']}: {each['decision']}")
    print()
    for each in done:
        print(f"{each['pipeline']}\n  report    {each['report']}\n  forecasts {each['forecasts']}")
    print("\nMLflow's and Prefect's pages: rnnforecast ui")


def _flows() -> Path:
    from rnnforecast import flows

    return Path(str(flows.__file__)).parent
