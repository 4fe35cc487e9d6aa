"""The query of a pipeline file: one that only reads, and can be asked for its later rows.

It is read word by word, no further: what a database would do with it the database decides, in a transaction that
cannot write. Here is refused what could not stand inside `SELECT ... FROM (query) WHERE ...`.
"""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from rnnforecast.sources.base import SourceError

TOKEN: Final = re.compile(
    r"""
    (?P<space>\s+ | --[^\n]* | /\*.*?\*/)
  | (?P<text>[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | \$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$)
  | (?P<name>"(?:[^"]|"")*" | `[^`]*`)
  | (?P<word>[^\W\d]\w*)
  | (?P<mark>.)
    """,
    re.DOTALL | re.VERBOSE,
)
CUTS: Final = ("limit", "offset", "fetch")


@dataclass(frozen=True)
class Query:
    """A query that can stand in parentheses: its text, and the table that it reads first (for people)."""

    text: str
    table: str


def checked(text: str, *, watermark: str | None) -> Query:
    """The query without its semicolon.

    Raises SourceError for anything but one SELECT (or WITH ... SELECT), and for a LIMIT together with a watermark.
    """
    tokens = [(found.lastgroup or "", found.group(), found.end()) for found in TOKEN.finditer(text)]
    tokens = [token for token in tokens if token[0] not in ("space", "tag")]
    while tokens and tokens[-1][1] == ";":
        tokens.pop()
    first = tokens[0][1] if tokens else "nothing"
    if first.lower() not in ("select", "with"):
        raise SourceError(f"query: expected one SELECT (or WITH ... SELECT); found {first[:40]!r} at its start")
    depth = 0
    for kind, token, _ in tokens:
        if kind == "mark" and token in ";'\"`":
            what = "a second statement after ';'" if token == ";" else f"a {token} that is not closed"
            raise SourceError(f"query: expected one SELECT; found {what}; keep one statement, with its quotes closed")
        depth += (token == "(") - (token == ")")
        if depth < 0:
            break
        if watermark is not None and kind == "word" and depth == 0 and token.lower() in CUTS:
            raise SourceError(
                f"query: {token.upper()} together with `watermark:` would leave rows out for good; take it out, "
                f"`batch_rows:` bounds how many are read at a time"
            )
    if depth != 0:
        raise SourceError("query: parentheses do not match; close each one that is opened")
    return Query(text[: tokens[-1][2]], _table(tokens))


def quoted(name: str) -> str:
    """A column's name as SQL takes it, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def _table(tokens: list[tuple[str, str, int]]) -> str:
    """What stands after the first FROM, if it is a name."""
    for (_, word, _), (kind, token, _) in pairwise(tokens):
        if word.lower() == "from" and kind in ("word", "name"):
            return token.strip('"`')
    return "query"
