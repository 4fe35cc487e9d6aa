"""A pipeline of two short series in a folder of its own, for the tests of flows and command."""

from datetime import UTC, datetime, timedelta

import numpy as np

START = datetime(2024, 1, 1, tzinfo=UTC)
TEXT = """
name: tiny
sources:
  - {kind: file, path: readings.csv, columns: {timestamp: time, target: value, series_id: sensor}}
horizon: 6
season_length: 24
models: [naive, seasonal_naive, {model: gru, hidden_size: 8}]
training: {max_steps: 30, validate_every: 15, batch_size: 4, segment_length: 24}
"""


def write_rows(folder, *, since=0, until=200, series=("a", "b")):
    """Hourly readings with a daily season; every call with the same bounds writes the same rows."""
    rows = []
    for index, name in enumerate(series):
        noise = np.random.default_rng(index).normal(0, 0.2, 1_000)
        for step in range(since, until):
            value = 10 * (index + 1) + 3 * np.sin(2 * np.pi * step / 24) + noise[step]
            rows.append((name, (START + timedelta(hours=step)).strftime("%Y-%m-%d %H:%M:%S"), f"{value:.3f}"))
    text = "".join(f"{name},{time},{value}\n" for name, time, value in rows)
    file = folder / "readings.csv"
    with file.open("a" if since else "w") as out:
        out.write(text if since else f"sensor,time,value\n{text}")
    return len(rows)


def project(folder, text=TEXT):
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "tiny.yaml"
    file.write_text(text)
    write_rows(folder)
    return file
