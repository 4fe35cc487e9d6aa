"""Where rows come from: a model for each kind of source, and what all that hold columns have in common."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator

from rnnforecast.config_section import Section
from rnnforecast.frequency import span

OnChange = Literal["ignore", "add", "quarantine", "stop"]


class Columns(Section):
    """Which columns of the source hold what."""

    timestamp: str | list[str] = Field(
        "timestamp", description="Column of the time; several (year, month, day, hour) are put together."
    )
    target: str | list[str] = Field(
        "target", description="Column of the value to forecast; several make a wide file, one series each."
    )
    series_id: str | None = Field(None, description="Column that tells the series apart; absent: one series.")
    revision: str | None = Field(
        None,
        description="Column (a number or a time) that says which of two rows for one time is the newer, in whatever "
        "order they arrive; absent: the one that arrives later.",
    )


class RowSource(Section):
    """What all sources have in common whose rows have named columns."""

    columns: Columns = Field(default_factory=Columns, description="Which columns hold what.")
    layout: Literal["auto", "long", "wide", "year_month"] = Field(
        "auto", description="`wide`: one column per series; `year_month`: one row per year, twelve month columns."
    )
    series: str | None = Field(None, description="Name of the one series, where no column names it.")
    timestamp_format: str | None = Field(
        None, description="Such as '%d %B %Y', or integer, epoch_s, epoch_ms; absent: found."
    )
    timezone: str | None = Field(None, description="Zone of stamps without one, such as Europe/Berlin; absent: UTC.")
    ending: str | None = Field(
        None,
        description="Stamps say when their interval ended, and it was so long: 1h, 15m, 1d; each reading is stamped "
        "with its begin, on the clock of its own zone; absent: stamps say when it begins.",
    )
    null_values: tuple[str, ...] = Field(
        (), description="Texts and sentinels (-999) that mean: no reading, besides the usual ones (NA, NaN, null, ...)."
    )
    rename: dict[str, str] = Field(
        default_factory=dict, description="Covariate columns: name in the file to name here."
    )
    on_change: dict[str, OnChange] = Field(
        default_factory=dict,
        description="What to do when a column appears, vanishes, changes its type or its unit: a column's name, or "
        "new, missing, type, unit for all columns, to ignore, add (store a new numeric one), quarantine or stop. "
        "Absent: new: ignore, missing: stop for a column that is used, type: quarantine, unit: ignore; every change "
        "is reported.",
    )

    @model_validator(mode="after")
    def _an_interval(self) -> "RowSource":
        if self.ending is None:
            return self
        if not span(self.ending) or "." in self.ending:
            raise ValueError(
                f"ending: expected the length of an interval in s, m, h, d or w, such as 1h, 15m or 1d; "
                f"found {self.ending!r}"
            )
        if self.timestamp_format == "integer":
            raise ValueError(
                f"ending: {self.ending} with timestamp_format: integer: steps that only count have no intervals; "
                f"leave `ending:` out"
            )
        return self

    @model_validator(mode="after")
    def _changes_and_what_can_be_done(self) -> "RowSource":
        for key in ("missing", "type", "unit"):
            if self.on_change.get(key) == "add":
                raise ValueError(
                    f"on_change: {key}: add: only a new column can be added; choose ignore, quarantine or stop"
                )
        if self.on_change.get("new") == "quarantine":
            raise ValueError(
                "on_change: new: quarantine: a new column has no readings yet that could be held back; choose ignore, "
                "add or stop"
            )
        return self


class FileSource(RowSource):
    """Files on a disk or in an object store: CSV, Parquet, JSON lines or Arrow; plain paths, globs or folders."""

    kind: Literal["file"] = "file"
    path: str | list[str] = Field(
        description="Path, glob, folder that files drop into, or URL (s3://bucket/*.csv), or several; relative ones "
        "count from the project."
    )
    format: Literal["auto", "csv", "parquet", "jsonl", "arrow"] = Field(
        "auto", description="Told from the suffix if auto."
    )
    separator: str = Field(",", description="Field separator of CSV files.")
    settle: float = Field(
        2.0, ge=0, le=3600, description="Seconds without change after which a file is taken to be written whole."
    )
    options: dict[str, SecretStr] = Field(
        default_factory=dict, description="Object store options (keys, endpoint); secrets as ${NAME}."
    )


class SqlSource(RowSource):
    """A query on a database: SQLite or PostgreSQL."""

    kind: Literal["sql"] = "sql"
    uri: SecretStr = Field(description="sqlite:///path or postgresql://user:${PASSWORD}@host/name.")
    query: str = Field(description="A SELECT; its columns are those under `columns:`.")
    watermark: str | None = Field(
        None, description="Column that only grows (an id, an update time): rows from its last value on are read."
    )
    lookback: str | int | float | None = Field(
        None, description="Read again so far before the watermark, for rows committed late: 10m, 1h, or a number."
    )
    batch_rows: int = Field(500_000, ge=1, le=1_000_000, description="Rows read at a time.")


class Paging(Section):
    """How a REST endpoint is asked for the next page."""

    kind: Literal["none", "page", "offset", "token", "link"] = Field(
        "none", description="A page number, an offset in rows, a token of the last answer, or its link to the next."
    )
    parameter: str | None = Field(
        None, description="Name of the query parameter that carries it; absent: page, offset or token, as `kind` says."
    )
    start: int = Field(1, ge=0, description="First page number.")
    size: int | None = Field(None, ge=1, description="Rows asked for in a page.")
    size_parameter: str | None = Field(None, description="Name of the query parameter of the size.")
    token: str | None = Field(
        None,
        description="Where a JSON answer has the token or the link: a path such as meta.next; a link may also come "
        "in the header `Link`.",
    )

    @model_validator(mode="after")
    def _complete(self) -> "Paging":
        if self.kind == "token" and self.token is None:
            raise ValueError("kind token needs `token:`, the path to it in the answer, such as meta.next")
        if self.size_parameter is not None and self.size is None:
            raise ValueError("size_parameter needs `size:`, the number of rows to ask for")
        return self


class HttpSource(RowSource):
    """JSON or CSV from a paged REST endpoint."""

    kind: Literal["http"] = "http"
    url: str = Field(description="Address of the endpoint.")
    format: Literal["json", "csv", "jsonl"] = Field("json", description="What the answer is.")
    records: str | None = Field(
        None,
        description="Where a JSON answer has its rows (a list of objects, or an object with a list for each column): "
        "a path such as data.items.",
    )
    parameters: dict[str, str | int | float] = Field(default_factory=dict, description="Fixed query parameters.")
    headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="Request headers, such as Authorization: Bearer ${TOKEN}."
    )
    paging: Paging = Field(default_factory=Paging, description="How to ask for the next page.")
    since: str | None = Field(None, description="Query parameter that asks for rows from a time on.")
    since_format: str = Field("iso", description="How that time is written: iso, epoch_s, epoch_ms or strftime.")
    lookback: str | int | None = Field(
        None, description="Ask again so far before the last time, for revisions: 2d, 1h, or integer steps."
    )
    separator: str = Field(",", description="Field separator of CSV answers.")
    timeout: float = Field(30.0, gt=0, description="Seconds to wait for an answer.")
    attempts: int = Field(6, ge=1, description="Tries of a request that fails for a passing reason (429, 5xx).")
    backoff: float = Field(0.5, gt=0, le=60, description="Seconds before the second try, doubled from try to try.")
    most_bytes: int = Field(
        32 * 2**20, ge=1, description="Size of one answer at most, unpacked; a larger one is refused."
    )

    @model_validator(mode="after")
    def _paging_of_this_format(self) -> "HttpSource":
        if self.format != "json" and (self.paging.token is not None or self.records is not None):
            raise ValueError(f"format {self.format} has no paths: leave `records:` and `token:` out, or choose json")
        return self


class KafkaSource(RowSource):
    """Topics of a Kafka cluster; the offsets are kept with the rows, not in the broker.

    Beside the fields of a message, `columns:` and `rename:` may name "#key" (text), "#topic", "#partition", "#offset"
    and "#time" (the broker's time of it).
    """

    kind: Literal["kafka"] = "kafka"
    brokers: str = Field(description="host:port, several by comma.")
    topics: tuple[str, ...] = Field(min_length=1, description="Topics to read.")
    group: str | None = Field(
        None,
        description="Consumer group whose members share the partitions; absent: an ingest reads all of them, and "
        "rnnforecast-PIPELINE is where monitors see how far.",
    )
    format: Literal["json", "avro"] = Field("json", description="How values are written.")
    avro_schema: str | dict[int, str] | None = Field(
        None, description="File of the Avro schema, or one for each number that a schema registry gave."
    )
    avro_framing: Literal["confluent", "single_object", "none"] = Field(
        "confluent",
        description="What stands before an Avro value: a zero byte and the schema's number, "
        "the standard's mark, or nothing.",
    )
    start: Literal["earliest", "latest"] = Field("earliest", description="Where to begin without a cursor.")
    options: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="Further options of librdkafka (security.protocol, sasl.*); secrets as ${NAME}.",
    )
    batch_messages: int = Field(100_000, ge=1, description="Messages of one batch at most.")
    timeout: float = Field(30.0, gt=0, description="Seconds to wait for the cluster.")


class MqttSource(RowSource):
    """Topics of an MQTT broker, QoS 1 in a persistent session; topics become series.

    Beside the fields of a message, `columns:` may name "#topic", a level of it ("#topic[1]" is the first, "#topic[-1]"
    the last), "#time" (of arrival) and "#retained" (1 or 0).
    """

    kind: Literal["mqtt"] = "mqtt"
    broker: str = Field(description="host:port.")
    topics: tuple[str, ...] = Field(min_length=1, description="Topic filters, such as plant/+/temperature.")
    client_id: str | None = Field(
        None, description="Name of the session; absent: rnnforecast-PIPELINE and a mark of the topics."
    )
    username: SecretStr | None = Field(None, description="User.")
    password: SecretStr | None = Field(None, description="Password, as ${NAME}.")
    payload: Literal["json", "number"] = Field(
        "json", description="An object with columns, or a bare number whose time is that of its arrival."
    )
    version: Literal["auto", "5", "3.1.1"] = Field(
        "auto", description="Of MQTT; auto: 5, or else 3.1.1, in which most brokers send few messages at a time."
    )
    session_days: int = Field(30, ge=1, le=40_000, description="Days that the broker keeps messages for this source.")
    tls: bool = Field(False, description="Encrypt, and check the broker's certificate.")
    ca_file: str | None = Field(None, description="Certificates to trust; absent: the system's.")
    listen: float = Field(5.0, gt=0, description="Seconds without a message after which an ingest ends.")
    lasts: float = Field(300.0, gt=0, description="Seconds after which an ingest ends though messages still come.")
    most: int = Field(100_000, ge=1, description="Messages of one ingest at most.")
    timeout: float = Field(30.0, gt=0, description="Seconds to wait for the broker.")


class DatasetSource(Section):
    """A data set that comes inside an installed package, for demonstrations without a network."""

    kind: Literal["dataset"] = "dataset"
    name: Literal["co2", "markets", "water_flow"] = Field(description="Which set.")


Source = Annotated[
    FileSource | SqlSource | HttpSource | KafkaSource | MqttSource | DatasetSource, Field(discriminator="kind")
]
