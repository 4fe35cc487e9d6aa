"""Files in an object store, by URL: s3://, gs://, az:// and whatever else `obstore` knows.

An object is written at once, so nobody waits for its end; it is fetched by ranges, each only as long as the object
is the one that was looked at.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, Final
from urllib.parse import urlsplit

from rnnforecast.sources.base import SourceError
from rnnforecast.sources.pieces import Entry
from rnnforecast.sources.places import WILD, File, taken
from rnnforecast.sources.rows import MIB, one_line

WINDOW: Final = 4 * MIB  # fetched at a time
SCHEMES: Final = ("s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss")
RETRIES: Final = {"max_retries": 4, "retry_timeout": timedelta(seconds=30)}
# Options of the connection, not of the store; object_store's own keys, which polars and deltalake take in one mapping.
CLIENT: Final = ("allow_http", "allow_invalid_certificates", "proxy_url", "timeout", "connect_timeout", "user_agent")


@dataclass(frozen=True)
class Bucket:
    """A store that is asked for objects; `root` is what its keys are shown with: s3://bucket."""

    root: str
    options: dict[str, str]

    @cached_property
    def store(self) -> Any:
        """The client; raises SourceError where the package is not installed or the options are none."""
        try:
            from obstore.store import from_url
        except ImportError:
            raise SourceError(
                f"{self.root}: needs a package that is not installed (obstore); pip install 'rnnforecast[object-store]'"
            ) from None
        client = {name: _flag(value) for key, value in self.options.items() if (name := _client(key))}
        config: dict[str, Any] = {key: value for key, value in self.options.items() if not _client(key)}
        try:
            opener: Any = from_url  # its types know the options of one store at a time
            return opener(self.root, config=config, client_options=client, retry_config=RETRIES)
        except Exception as error:  # obstore raises its own for each store
            raise SourceError(f"{self.root}: no such store ({self.hidden(error)}); check `options:`") from None

    def hidden(self, error: BaseException) -> str:
        """What went wrong, on one line, without the options' values: some of them are keys."""
        text = one_line(error)
        for value in self.options.values():
            text = text.replace(value, "***") if len(value) > 3 else text
        return text

    def asked(self, request: str, *arguments: Any, **keywords: Any) -> Any:
        """A request's answer; raises FileNotFoundError for an object that is not there, SourceError for no answer."""
        import obstore
        from obstore.exceptions import PreconditionError

        try:
            return getattr(obstore, request)(self.store, *arguments, **keywords)
        except (FileNotFoundError, PreconditionError) as error:
            raise FileNotFoundError(one_line(error)) from None
        except SourceError:
            raise
        except Exception as error:
            raise SourceError(
                f"{self.root}: {request} failed ({self.hidden(error)}); check the address, the keys and the network"
            ) from None


@dataclass(frozen=True)
class ObjectFile:
    """An object as a file."""

    name: str
    key: str
    bucket: Bucket
    listed: Any = None  # what the list said of it, so that not every object is asked for every time
    watched: bool = False
    far: bool = True

    def stat(self) -> Entry:
        """Size, time of change and tag; raises FileNotFoundError, SourceError."""
        return _stat(self.listed or self.bucket.asked("head", self.key))

    def open(self) -> io.BufferedReader:
        """Its bytes, fetched as they are read; FileNotFoundError also where it was written again meanwhile."""
        return io.BufferedReader(_Ranges(self, _stat(self.bucket.asked("head", self.key))), MIB)


def _stat(meta: Any) -> Entry:
    changed = int(meta["last_modified"].timestamp() * 1e9)
    return {"size": meta["size"], "mtime_ns": changed, "etag": meta["e_tag"]}


class _Ranges(io.RawIOBase):
    def __init__(self, file: ObjectFile, stat: Entry) -> None:
        self._file, self._size, self._tag = file, int(stat["size"]), stat["etag"]
        self._position, self._begin, self._window = 0, 0, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._position >= self._size:
            return 0
        within = self._position - self._begin
        if not 0 <= within < len(self._window):
            last = min(self._position + WINDOW, self._size)
            wanted: dict[str, Any] = {"range": (self._position, last)}
            if self._tag:
                wanted["if_match"] = self._tag
            answer = self._file.bucket.asked("get", self._file.key, options=wanted)
            self._begin, within, self._window = self._position, 0, bytes(answer.bytes())
        part = self._window[within : within + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)


def object_files(pattern: str, options: dict[str, str], *, any_format: bool) -> list[File]:
    """The objects that a URL stands for: a key, a glob over keys or, with a slash at its end, a watched folder.

    Sorted by name; none is no error here. Raises SourceError for a store that cannot be asked.
    """
    url = urlsplit(pattern)
    if url.scheme not in SCHEMES:
        raise SourceError(
            f"{url.scheme}://...: expected a path or a URL of an object store ({', '.join(SCHEMES[:4])}); "
            f"for http take a source of `kind: http`"
        )
    if url.username or url.password or url.query:
        raise SourceError(f"{url.scheme}://{url.hostname}: keys in a URL are shown everywhere; put them in `options:`")
    bucket, key = Bucket(f"{url.scheme}://{url.netloc}", options), pattern.split(url.netloc, 1)[1].lstrip("/")
    if not WILD.search(key) and key and not key.endswith("/"):
        try:
            found = ObjectFile(pattern, key, bucket)
            found.stat()
        except FileNotFoundError:
            return []
        return [found]
    fixed = WILD.split(key, maxsplit=1)[0].rpartition("/")[0]
    form = _form(key if WILD.search(key) else f"{key}*")
    mask = key if WILD.search(key) else ""
    found_there = {meta["path"]: meta for meta in _listed(bucket, fixed) if form.fullmatch(meta["path"])}
    return [
        ObjectFile(f"{bucket.root}/{each}", each, bucket, listed=meta, watched=True)
        for each, meta in sorted(found_there.items())
        if taken(each.rsplit("/", 1)[-1], mask, any_format=any_format)
    ]


def _listed(bucket: Bucket, prefix: str) -> Iterator[Any]:
    try:
        for page in bucket.asked("list", prefix or None, chunk_size=1000):
            yield from (meta for meta in page if meta["size"] or not meta["path"].endswith("/"))
    except (SourceError, FileNotFoundError):
        raise
    except Exception as error:
        raise SourceError(
            f"{bucket.root}: list failed ({bucket.hidden(error)}); check the address, the keys and the network"
        ) from None


def _form(mask: str) -> re.Pattern[str]:
    """A glob over keys as a regular expression: * and ? stop at a slash, **/ goes through all folders."""
    parts = re.split(r"(\*\*/|\*+|\?|\[[^\]]+\])", mask)
    known = {"**/": "(?:[^/]+/)*", "?": "[^/]"}
    regex = ""
    for part in parts:
        if part.startswith("[") and part.endswith("]"):
            regex += "[" + part[1:-1].replace("\\", "\\\\").replace("!", "^", 1 if part[1] == "!" else 0) + "]"
        else:
            regex += known.get(part, "[^/]*" if part.startswith("*") and part else re.escape(part))
    return re.compile(regex)


def _client(key: str) -> str | None:
    """The name that the connection has for an option, such as `allow_http` for AWS_ALLOW_HTTP; None if it has none."""
    bare = re.sub(r"^(aws|google|azure)_", "", key.lower())
    return bare if bare in CLIENT else None


def _flag(value: str) -> str | bool:
    return value.lower() == "true" if value.lower() in ("true", "false") else value
