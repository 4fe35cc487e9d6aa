"""Rows of a table."""

from datetime import datetime, timedelta

START = datetime(2024, 1, 1)
COLUMNS = {"timestamp": "at", "target": "v", "series_id": "who"}
MAKE = "CREATE TABLE readings (id bigint, who text, at timestamp, v double precision)"


def row(number, *, v=None, hour=None, who="a"):
    at = START + timedelta(hours=number if hour is None else hour)
    return f"({number}, '{who}', '{at}', {number + 0.5 if v is None else v})"


def insert(*rows):
    return f"INSERT INTO readings (id, who, at, v) VALUES {', '.join(rows)}"
