"""Records of an endpoint."""

from datetime import UTC, datetime, timedelta

START = datetime(2024, 1, 1, tzinfo=UTC)
QUICK = {"backoff": 0.01}


def record(hour, value=None):
    return {"time": (START + timedelta(hours=hour)).isoformat(), "value": hour + 0.5 if value is None else value}


def records(first, last):
    return [record(hour) for hour in range(first, last)]


def numbered(asked, rows, size=10):
    """A page by its number."""
    page = int(asked.query["page"])
    return rows[(page - 1) * size : page * size]


ROWS = records(0, 25)


def by_number(asked):
    return numbered(asked, ROWS)
