"""A session with an MQTT broker that outlives its connections: what was not acknowledged comes again.

MQTT 5 is asked for, as it lets the client say how many messages it takes before it acknowledges any; a broker
that does not speak it is asked again in 3.1.1.
"""

import queue
import ssl
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from rnnforecast.config import MqttSource
from rnnforecast.sources.base import SourceError

WINDOW: Final = 65_535  # messages that may wait for their acknowledgement: the most that MQTT 5 knows
NOTHING: Final = "rnnforecast/nothing"  # a topic filter that nobody asks for
DAY: Final = 24 * 3600
VERSIONS: Final = ("5", "3.1.1")
ABOUT_PASSWORDS: Final = ("Bad user name or password", "Not authorized")


@dataclass(frozen=True)
class Arrived:
    """A message, when it came, and how to acknowledge it (`number` is 0 where there is nothing to acknowledge)."""

    topic: str
    payload: bytes
    retained: bool
    number: int
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


class Session:
    """One connection to the session `name`; `close` keeps the session."""

    def __init__(self, source: MqttSource, *, name: str, ca_file: str | None) -> None:
        self._source, self._name, self._ca_file = source, name, ca_file
        self._place = f"mqtt {source.broker}"
        self._arrived: queue.SimpleQueue[Arrived | None] = queue.SimpleQueue()  # None: the connection is lost
        self._answered = threading.Event()
        self._answer: Any = None
        self._lost: str | None = None
        self._asked: dict[int, str] = {}  # number of a subscription to its topic filter
        self._told: dict[int, str] = {}  # and to what the broker has against it, nothing in most cases
        self.resumed = False  # the broker still knew the session
        self._modern = True
        self._client = self._connect()

    def subscribe(self, new: Iterable[str], gone: Iterable[str]) -> None:
        """Ask for the messages of topics; returns when the broker has answered, or sends older messages first.

        Raises SourceError where it refuses or is silent.
        """
        for topic in gone:
            self._client.unsubscribe(topic)
        for topic in new:
            try:  # what a topic retains is sent with a new subscription only
                options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
                number = self._client.subscribe(topic, **({"options": options} if self._modern else {"qos": 1}))[1]
            except ValueError as error:
                raise SourceError(f"{self._place}: topics: '{topic}' is no topic filter ({error})") from None
            if number is not None:
                self._asked[number] = topic
        end = time.monotonic() + self._source.timeout
        while self._asked.keys() - self._told.keys() and self._arrived.empty() and self._lost is None:
            if time.monotonic() > end:
                raise self._unreachable(f"no answer to the subscription within {self._source.timeout:g} s")
            time.sleep(0.01)
        self._check()

    def messages(self, most: int, seconds: float) -> list[Arrived]:
        """What comes, at most so many messages, until none came for `seconds`.

        Raises SourceError where the connection is lost.
        """
        found: list[Arrived] = []
        if self._arrived.empty():
            self._check()
        try:
            one = self._arrived.get(timeout=seconds)
            while one is not None:
                found.append(one)
                one = self._arrived.get_nowait() if len(found) < most else None
        except queue.Empty:
            pass
        return found

    def acknowledge(self, messages: Iterable[Arrived]) -> None:
        """The broker may forget these messages; returns when it knows, or after `timeout` (then some come again)."""
        for message in messages:
            if message.number:
                self._client.ack(message.number, 1)
        # A socket that is closed while messages come may take the last acknowledgements with it. So the broker is
        # asked something behind them; its answer says that it has read them.
        self._answered.clear()
        if self._lost is None and self._client.unsubscribe(NOTHING)[0] == mqtt.MQTT_ERR_SUCCESS:
            self._answered.wait(self._source.timeout)

    def close(self) -> None:
        """Send what is still to be sent, and leave."""
        self._client.disconnect()
        self._client.loop_stop()

    def _connect(self) -> mqtt.Client:
        """Connect in the version that is set, or in the newest that the broker answers to."""
        versions = VERSIONS if self._source.version == "auto" else (self._source.version,)
        for version in versions:
            self._modern, self._lost, self._answer = version == "5", None, None
            self._answered.clear()
            try:
                client = self._client_of()
                self._call(client)
            except (OSError, ValueError) as error:
                raise self._unreachable(getattr(error, "strerror", None) or str(error)) from None
            client.loop_start()
            answered = self._answered.wait(self._source.timeout / len(versions))
            if self._answer is not None and not self._answer.is_failure:
                return client
            why = str(self._answer) if self._answer is not None else (self._lost or "no answer")
            client.disconnect()
            client.loop_stop()
            if why in ABOUT_PASSWORDS:
                break
        if not answered:
            raise self._unreachable(f"no answer within {self._source.timeout:g} s")
        raise SourceError(f"{self._place}: connection refused by the broker: {why}; check `username:`, `password:`")

    def _call(self, client: mqtt.Client) -> None:
        host, _, port = self._source.broker.rpartition(":")
        if not host or not port.isdigit():
            raise SourceError(f"{self._place}: broker: expected host:port; found '{self._source.broker}'")
        client.connect_timeout = self._source.timeout
        if not self._modern:
            client.connect(host, int(port))
            return
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = self._source.session_days * DAY
        properties.ReceiveMaximum = WINDOW
        client.connect(host, int(port), clean_start=False, properties=properties)

    def _client_of(self) -> mqtt.Client:
        client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=self._name,
            clean_session=None if self._modern else False,
            protocol=mqtt.MQTTv5 if self._modern else mqtt.MQTTv311,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        if self._source.username is not None:
            password = self._source.password
            client.username_pw_set(
                self._source.username.get_secret_value(), password.get_secret_value() if password is not None else None
            )
        if self._source.tls:
            client.tls_set_context(ssl.create_default_context(cafile=self._ca_file))
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_subscribe = self._subscribed
        client.on_unsubscribe = self._unsubscribed
        client.on_message = self._received
        return client

    def _connected(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._answer, self.resumed = reason, bool(flags.session_present)
        self._answered.set()

    def _subscribed(self, client: Any, data: Any, number: int, reasons: Any, properties: Any) -> None:
        self._told[number] = next((str(reason) for reason in reasons if reason.is_failure), "")

    def _unsubscribed(self, client: Any, data: Any, number: int, reasons: Any, properties: Any) -> None:
        self._answered.set()

    def _disconnected(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._lost = self._lost or str(reason)  # the broker's own reason comes before that of the socket
        self._arrived.put(None)
        self._answered.set()

    def _received(self, client: Any, data: Any, message: mqtt.MQTTMessage) -> None:
        number = message.mid if message.qos else 0
        self._arrived.put(Arrived(message.topic, bytes(message.payload), message.retain, number))

    def _check(self) -> None:
        for number, why in self._told.items():
            if why:
                raise SourceError(f"{self._place}: the broker refuses topic filter '{self._asked.get(number)}' ({why})")
        if self._lost is not None:
            raise SourceError(
                f"{self._place}: connection: lost ({self._lost}); what was not stored yet comes again with the next "
                f"ingest; if that is lost as well, see that no other client is called '{self._name}'"
            )

    def _unreachable(self, why: str) -> SourceError:
        return SourceError(f"{self._place}: connection: {why}; check `broker:` and whether it runs")
