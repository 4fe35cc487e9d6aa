"""Compressed text, unpacked as it is read, and refused where it swells beyond what text does."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from io import BufferedReader
from typing import BinaryIO, Final, cast

import pyarrow as pa

from rnnforecast.sources.base import SourceError
from rnnforecast.sources.rows import MIB, one_line

# Rows with a time in each come down to a tenth or a thirtieth; what swells more than this is made to do harm.
MOST_SWELLING: Final = 200
ALWAYS_TAKEN: Final = 16 * MIB


def _zstd(raw: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd"))


OPENERS: Final[dict[str, Callable[[BinaryIO], BinaryIO]]] = {
    ".gz": lambda raw: cast(BinaryIO, gzip.GzipFile(fileobj=raw)),
    ".bz2": lambda raw: cast(BinaryIO, bz2.BZ2File(raw)),
    ".xz": lambda raw: cast(BinaryIO, lzma.LZMAFile(raw)),  # noqa: SIM115
    ".zst": _zstd,
}


def packing(name: str) -> str:
    """The suffix of a file's name that says it is compressed, or nothing."""
    return next((suffix for suffix in OPENERS if name.lower().endswith(suffix)), "")


def unpacked(raw: BufferedReader, *, name: str, size: int) -> BufferedReader:
    """The text in a compressed file of `size` bytes, to be read from its start; `raw` itself if it is not compressed.

    Reading raises EOFError where the file breaks off, and SourceError where it is damaged or swells without end.
    """
    suffix = packing(name)
    return BufferedReader(_Unpacked(raw, suffix, name=name, size=size), MIB) if suffix else raw


class _Unpacked(io.RawIOBase):
    def __init__(self, raw: BufferedReader, suffix: str, *, name: str, size: int) -> None:
        self._raw, self._name, self._suffix = raw, name, suffix
        self._most = max(ALWAYS_TAKEN, MOST_SWELLING * size)
        self._read = 0
        self._text = OPENERS[suffix](raw)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            data = self._text.read(len(buffer))
        except (OSError, zlib.error, lzma.LZMAError) as error:
            if "truncated" in str(error).lower():
                raise EOFError from None
            raise SourceError(
                f"{self._name}: cannot be unpacked as {self._suffix} ({one_line(error)}); check what wrote it"
            ) from None
        self._read += len(data)
        if self._read > self._most:
            raise SourceError(
                f"{self._name}: swells to more than {self._most // MIB} MiB, {MOST_SWELLING} times its size: no text "
                f"of readings does; unpack it yourself if you trust it"
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._raw.close()
        super().close()
