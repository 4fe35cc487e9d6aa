"""Files that are still being written: waited for while they move, left for another time while they are young."""

import time
from typing import Final

from rnnforecast.sources.pieces import Entry
from rnnforecast.sources.places import File
from rnnforecast.sources.rows import MIB
from rnnforecast.sources.unpack import packing, unpacked

YOUNG: Final = 3600.0  # seconds since its last change in which a file that breaks off may still be completed
LONGEST_WAIT: Final = 10  # times `settle`, for a file that never stands still
LOOKS: Final = 20  # at a file, in the time of `settle`
MAGIC: Final = {"parquet": b"PAR1", "arrow": b"ARROW1"}
STREAM_START: Final = b"\xff\xff\xff\xff"
STREAM_END: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"


def wait(file: File, kind: str, settle: float) -> bool:
    """Wait until a file is finished, or nothing has changed it for `settle` seconds; False if it never stands still.

    A finished one is not waited for. Raises FileNotFoundError where it goes away, SourceError where it cannot be read.
    """
    stat, begun = file.stat(), time.monotonic()
    changed = begun
    while not (file.far or _age(stat) >= settle or is_whole(file, kind)):
        now = time.monotonic()
        if now - changed >= settle:  # by our clock, where the file's own is ahead
            return True
        if now - begun >= LONGEST_WAIT * settle:
            return False
        time.sleep(settle / LOOKS)
        before, stat = stat, file.stat()
        changed = changed if stat == before else time.monotonic()
    return True


def is_whole(file: File, kind: str) -> bool:
    """Whether a file ends as one of its kind does; one that does not even begin so is another matter."""
    size = int(file.stat()["size"])
    with file.open() as stream:
        if packing(file.name):
            text, end = unpacked(stream, name=file.name, size=size), b""
            try:
                while part := text.read1(MIB):
                    end = part
            except EOFError:
                return False
            return end.endswith(b"\n")
        start = stream.read(8)
        stream.seek(max(0, size - 8))
        end = stream.read(8)
    if kind not in MAGIC:
        return end.endswith(b"\n")
    if kind == "arrow" and start.startswith(STREAM_START):
        return end == STREAM_END
    begins = MAGIC[kind].startswith(start[: len(MAGIC[kind])])
    return not begins or (end.endswith(MAGIC[kind]) and size > 2 * len(MAGIC[kind]))


def is_young(stat: Entry) -> bool:
    """Whether whoever writes a file may still be at it."""
    return _age(stat) < YOUNG


def _age(stat: Entry) -> float:
    """Seconds since a file was changed; negative where its clock is ahead."""
    return time.time() - float(stat["mtime_ns"]) / 1e9


def may_go_on(file: File, kind: str, *, broken: bool) -> bool:
    """Whether a file that cannot be read has no end yet (or is known to be `broken` off), and may be given one."""
    try:
        if broken or (kind in MAGIC and not packing(file.name) and not is_whole(file, kind)):
            return is_young(file.stat())
    except FileNotFoundError:
        return True
    return False
