"""From the sources into the table of observations: nothing twice, nothing lost, every refusal named.

What was read is stored in one commit with the cursors of all sources, a few million readings at a time: refused
rows go to the quarantine first, then the good rows and the cursors together. A kill at any point leaves either
the table from before or the one from after, and the next ingest ends with the same.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Final

from rnnforecast import table
from rnnforecast.config import Pipeline
from rnnforecast.ingest_record import IngestReport as IngestReport
from rnnforecast.ingest_record import history as history
from rnnforecast.ingest_record import recompute as recompute
from rnnforecast.ingest_record import settle
from rnnforecast.ingest_rows import CURSORS, IngestError, Overtaken, store
from rnnforecast.sources import Batch, Cursor, Source, open_source
from rnnforecast.sources.base import Until

__all__ = ["IngestError", "IngestReport", "history", "ingest", "recompute", "take"]

ROWS_PER_COMMIT: Final = 2_000_000
ROUNDS: Final = 20  # how often an ingest begins again because another one of the same pipeline was at work


def ingest(pipeline: Pipeline, *, until: Until = None) -> IngestReport:
    """Bring the pipeline's table up to date with its sources; `until` leaves later rows for another time.

    Two ingests of one pipeline at once both succeed: the one that comes second goes on from the other's cursors.
    Raises SourceError for a source that is not as described, TableError for a table that cannot be written,
    IngestError where sources disagree on what a timestamp is.
    """
    for name in ("quarantine", "observations", "ingests"):
        table.check_writable(pipeline.table(name))
    settle(pipeline)
    done = IngestReport()
    for left in reversed(range(ROUNDS)):
        try:
            for report in _rounds(pipeline, until):
                done = done.plus(report)
            break
        except Overtaken:
            if not left:
                raise
    settle(pipeline)
    path, options = pipeline.table("observations"), pipeline.storage.options
    return done.plus(IngestReport(version=table.version(path, options), watermark=table.latest(path, options)))


def take(
    pipeline: Pipeline,
    batches: Sequence[Batch],
    *,
    labels: Sequence[str] = (),
    checked: bool = True,
    again: bool = False,
) -> IngestReport:
    """Store batches that come from no cursor, such as a replay's, as an ingest would.

    `labels`: the source of each batch; `checked`: the checks and the lateness of the pipeline file hold; `again`: what
    stands in the quarantine is judged anew.
    Raises TableError and IngestError.
    """
    names = list(labels) or [batch.name for batch in batches]
    report = store(pipeline, list(zip(names, batches, strict=True)), checked=checked, again=again)
    settle(pipeline)
    return report


def _rounds(pipeline: Pipeline, until: Until) -> Iterator[IngestReport]:
    """Read the sources in turn from their cursors, and store what was read whenever it is much, and at the end."""
    before = _cursors(pipeline)
    cursors = dict(before)
    waiting: list[tuple[str, Batch]] = []
    with ExitStack() as stack:
        readers: list[Source] = []
        for source in pipeline.sources:
            reader = open_source(pipeline, source)
            stack.callback(reader.close)
            readers.append(reader)
            for batch in reader.read(cursors.get(reader.key), until=until):
                waiting.append((reader.label, batch))
                cursors[reader.key] = batch.cursor
                if batch.flush or _rows(waiting) >= ROWS_PER_COMMIT:
                    report = store(pipeline, waiting, cursors=cursors, before=before)
                    yield report
                    waiting = []
                    if report.version is not None:  # before the first good row there is no table to keep cursors
                        before = dict(cursors)
                    _tell(readers)
        if waiting:
            yield store(pipeline, waiting, cursors=cursors, before=before)
            _tell(readers)


def _rows(waiting: Sequence[tuple[str, Batch]]) -> int:
    return sum(len(batch.frame) + len(batch.rejected) for _, batch in waiting)


def _tell(readers: Sequence[Source]) -> None:
    for reader in readers:
        reader.stored()


def _cursors(pipeline: Pipeline) -> dict[str, Cursor]:
    found: dict[str, Any] = table.metadata(pipeline.table("observations"), pipeline.storage.options)
    return dict(found.get(CURSORS, {}))
