"""Values of a watermark column: kept with their type, as text, so that no digit is lost."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from math import floor, nextafter

from rnnforecast.frequency import span
from rnnforecast.sources.base import SourceError

NUMBERS = ("int", "float", "numeric")


@dataclass(frozen=True)
class Mark:
    """A value that rows have been read up to.

    kind: int, float, numeric, text, date, timestamp (without a zone) or timestamptz; text: the value, exact.
    """

    kind: str
    text: str

    @classmethod
    def of(cls, cursor: list[str] | None) -> "Mark | None":
        """What a cursor keeps."""
        return cls(*cursor) if cursor else None

    def as_cursor(self) -> list[str]:
        """Plain JSON."""
        return [self.kind, self.text]

    def before(self, lookback: str, label: str) -> "Mark":
        """The value that lies `lookback` (a number, or a length of time) before this one, or a little earlier.

        Raises SourceError where the two do not go together.
        """
        length = span(lookback)
        try:
            if self.kind in NUMBERS and length is None:
                return self._less(Decimal(lookback))
            if self.kind not in NUMBERS and length is not None:
                return self._earlier(length)
        except (InvalidOperation, ValueError):
            pass
        wanted = "a number, such as 1000" if self.kind in NUMBERS else "a length of time, such as 10m, 6h or 2d"
        if self.kind == "text":
            wanted += ", and a watermark whose text begins like 2024-01-31"
        raise SourceError(
            f"{label}: lookback: expected {wanted}; found {lookback!r}, the watermark being {self.text!r} ({self.kind})"
        )

    def _less(self, step: Decimal) -> "Mark":
        if self.kind == "int":
            return Mark("int", str(floor(Decimal(self.text) - step)))
        if self.kind == "float":
            return Mark("float", repr(nextafter(float(self.text) - float(step), float("-inf"))))
        return Mark("numeric", str(Decimal(self.text) - step))

    def _earlier(self, length: timedelta) -> "Mark":
        if self.kind == "text":
            # A date alone sorts before every time of its day, however that is written.
            return Mark("text", _back(datetime.fromisoformat(self.text[:10]), length).date().isoformat())
        if self.kind == "date":
            midnight = datetime.combine(date.fromisoformat(self.text), datetime.min.time())
            return Mark("date", _back(midnight, length).date().isoformat())
        return Mark(self.kind, _back(datetime.fromisoformat(self.text), length).isoformat())


def _back(moment: datetime, length: timedelta) -> datetime:
    try:
        return moment - length
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC if moment.tzinfo else None)
