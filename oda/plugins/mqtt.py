"""Datastreams from the topics of an MQTT broker (version 3.1.1): see docs/field.md.

The library ``paho-mqtt`` is imported only where the plugin is used. Its client has a thread; what
comes is handed to the reactor. A message of QoS 1 is acknowledged once its datapoint is accepted,
which means on disk. The broker keeps what was not acknowledged, and sends it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.plugin import IPlugin as ITwistedPlugin
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.errors import EventRejected
from oda.field import Line, library_of, place_of, read_lines
from oda.interfaces import IDatastreamSource, IPlugin
from oda.log import Logger
from oda.model import Event
from oda.threads import in_own_thread

_log = Logger()

#: Larger messages are no values.
MAX_BYTES = 1 << 20
#: The pause before a message that was not accepted is tried again, in seconds. The broker sends it
#: again with the next connection only, and stops sending while too many are not acknowledged.
RETRY_S = 10.0
#: The device of a line that takes it from the topic.
_FROM_TOPIC = "*"


@implementer(ITwistedPlugin, IPlugin)
class MqttPlugin:
    """What the line ``plugins=mqtt`` loads."""

    name = "mqtt"

    def create(self, options: Mapping[str, str], reactor: Any) -> Iterable[object]:
        """See ``IPlugin.create``. Raises ``ValueError`` for a wrong option."""
        lines = read_lines(options, ("broker", "datastream"))
        topics: dict[str, list[Topic]] = {name: [] for name in lines["broker"]}
        for name, line in lines["datastream"].items():
            broker = line.text("broker")
            if broker not in topics:
                raise ValueError(
                    f"the option {line.option!r} names the broker {broker!r}, and there is no"
                    f" option 'broker.{broker}'"
                )
            topics[broker].append(_topic(name, line))
        return [
            MqttSource(name, _client(line), topics[name], reactor)
            for name, line in lines["broker"].items()
        ]


mqtt = MqttPlugin()


class Topic(NamedTuple):
    """A topic filter and what its messages are. ``member`` leads into a JSON document."""

    datastream_id: str
    device_id: str
    filter: str
    qos: int
    kind: str
    member: tuple[str, ...]
    takes_retained: bool


def _topic(name: str, line: Line) -> Topic:
    datastream_id, device_id = place_of(name)
    topic = Topic(
        datastream_id,
        device_id,
        line.text("topic"),
        line.number("qos", 0, 1, 1),
        line.choice("type", ("JSON", "NUMBER", "TEXT"), "JSON"),
        tuple(line.text("member").split(".")) if "member" in line else (),
        line.flag("retained"),
    )
    line.end()
    if device_id == _FROM_TOPIC and "+" not in topic.filter.split("/"):
        raise ValueError(f"the option {line.option!r}: the device * needs a + in the topic")
    return topic


def _client(line: Line) -> Callable[[], Any]:
    """Makes the client that ``line`` asks for, with its address; does not connect."""
    with library_of("mqtt"):
        from paho.mqtt.client import CallbackAPIVersion, Client, MQTTv311

    host = line.text("host")
    is_secure = line.flag("tls")
    port = line.number("port", 1, 65535, 8883 if is_secure else 1883)
    client_id = line.text("clientId", "oda")
    keep_alive_s = line.number("keepAlive", 5, 3600, 60)
    user = line.text("user", None)
    password = None if user is None else line.secret("password", None)
    ca_file = line.text("caFile", None) if is_secure else None
    line.end()

    def make() -> Any:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=False,
            protocol=MQTTv311,
            manual_ack=True,
        )
        if user is not None:
            client.username_pw_set(user, password)
        if is_secure:
            client.tls_set(ca_certs=ca_file)
        client.reconnect_delay_set(1, 120)
        client.connect_async(host, port, keep_alive_s)
        return client

    return make


@implementer(IDatastreamSource)
class MqttSource:
    """One broker and its topics. ``is_subscribed`` once the broker has answered for them."""

    def __init__(
        self, name: str, make: Callable[[], Any], topics: Sequence[Topic], reactor: Any
    ) -> None:
        self._name = name
        self._make = make
        self._topics = topics
        self._reactor = reactor
        self._client: Any = None
        self._faulty: set[str] = set()
        self._retries: set[IDelayedCall] = set()
        self.is_subscribed = False

    def start(self, publish: Callable[[Sequence[Event]], Deferred[None]]) -> None:
        """See ``IDatastreamSource.start``."""
        self._publish = publish
        client = self._client = self._make()
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_subscribe = self._subscribed
        client.on_message = self._message
        client.loop_start()

    def stop(self) -> Deferred[Any] | None:
        """See ``IDatastreamSource.stop``. What was not acknowledged stays with the broker."""
        client, self._client = self._client, None
        for retry in self._retries:
            retry.cancel()
        self._retries.clear()
        if client is None:
            return None

        def end() -> None:
            client.disconnect()
            client.loop_stop()

        return in_own_thread(self._reactor, end)

    # -- in the client's thread ----------------------------------------------------------------

    def _connected(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._say("the MQTT broker {broker} refuses the connection: {reason}", reason)
            return
        self._say("connected to the MQTT broker {broker}", reason)
        if self._topics:
            client.subscribe([(topic.filter, topic.qos) for topic in self._topics])

    def _disconnected(
        self, client: Any, data: Any, flags: Any, reason: Any, properties: Any
    ) -> None:
        if reason.is_failure:
            self._say("the connection to the MQTT broker {broker} is gone: {reason}", reason)

    def _subscribed(self, client: Any, data: Any, mid: Any, codes: Any, properties: Any) -> None:
        self._reactor.callFromThread(self._granted, [code.is_failure for code in codes])

    def _say(self, text: str, reason: Any) -> None:
        self._reactor.callFromThread(_log.info, text, broker=self._name, reason=str(reason))

    def _message(self, client: Any, data: Any, message: Any) -> None:
        self._reactor.callFromThread(self._came, client, message)

    # -- in the reactor's thread ---------------------------------------------------------------

    def _granted(self, refused: Sequence[bool]) -> None:
        self.is_subscribed = True
        for topic, is_refused in zip(self._topics, refused, strict=False):
            if is_refused:
                _log.error(
                    "the MQTT broker {broker} refuses the topic {topic}",
                    broker=self._name,
                    topic=topic.filter,
                )

    def _came(self, client: Any, message: Any) -> None:
        if client is not self._client:
            return  # stopped: the broker keeps it
        events = [
            event
            for topic in self._topics
            if (event := self._event(topic, message.topic, message)) is not None
        ]
        if not events:
            client.ack(message.mid, message.qos)
            return
        self._publish(events).addCallbacks(
            lambda _: self._accepted(client, message),
            lambda failure: self._not_accepted(failure, client, message),
        )

    def _accepted(self, client: Any, message: Any) -> None:
        if client is self._client:
            client.ack(message.mid, message.qos)

    def _not_accepted(self, failure: Failure, client: Any, message: Any) -> None:
        _log.warn(
            "a message of the topic {topic} is not accepted: {reason}",
            topic=message.topic,
            reason=failure.getErrorMessage(),
        )
        if failure.check(EventRejected):
            self._accepted(client, message)  # it never will be
        elif client is self._client:
            self._try_again(client, message)

    def _try_again(self, client: Any, message: Any) -> None:
        def again() -> None:
            self._retries.discard(retry)
            self._came(client, message)

        retry = self._reactor.callLater(RETRY_S, again)
        self._retries.add(retry)

    def _event(self, topic: Topic, name: str, message: Any) -> Event | None:
        if message.retain and not topic.takes_retained:
            return None  # its age is unknown
        part = matched(topic.filter, name)
        if part is None:
            return None
        try:
            if len(message.payload) > MAX_BYTES:
                raise ValueError(f"{len(message.payload)} bytes are more than {MAX_BYTES}")
            value = _value(topic, message.payload)
        except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
            if name not in self._faulty and len(self._faulty) < 1000:
                self._faulty.add(name)
                _log.warn(
                    "a message of the topic {topic} is not a value of {datastream_id}: {reason}",
                    topic=name,
                    datastream_id=topic.datastream_id,
                    reason=repr(error),
                )
            return None
        self._faulty.discard(name)
        if topic.device_id == _FROM_TOPIC and not part:
            return None  # "" would be the agent's own device
        device_id = part if topic.device_id == _FROM_TOPIC else topic.device_id
        return Event(topic.datastream_id, value, device_id)


def matched(topic_filter: str, topic: str) -> str | None:
    """The level of ``topic`` that the first + stands for ("" without one); None where the filter
    does not match."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    part: str | None = None
    for index, one in enumerate(wanted):
        if one == "#":
            return part or ""
        if index >= len(levels) or one not in ("+", levels[index]):
            return None
        if one == "+" and part is None:
            part = levels[index]
    return (part or "") if len(levels) == len(wanted) else None


def _value(topic: Topic, payload: bytes) -> Any:
    if topic.kind == "TEXT":
        return payload.decode()
    if topic.kind == "NUMBER":
        text = payload.decode().strip()
        try:
            return int(text)
        except ValueError:
            return float(text)
    value = msgspec.json.decode(payload)
    for name in topic.member:
        value = value[int(name)] if isinstance(value, list) else value[name]
    return value
