"""MQTT topics, against a real broker."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface.verify import verifyObject

from oda.errors import EventRejected, OutboxFull
from oda.interfaces import IDatastreamSource, IPlugin
from oda.model import Event
from oda.plugins.mqtt import MAX_BYTES, RETRY_S, matched, mqtt
from tests.plugins.broker import SessionBroker
from tests.plugins.loop import LIMIT_S, AsyncioThread, Loop, free_port

pytest.importorskip("paho.mqtt")


class Broker:
    """An MQTT broker on the loopback interface."""

    def __init__(self) -> None:
        self.port = free_port()
        self._asyncio = AsyncioThread()
        self._broker = self._asyncio.run(self._begin())

    async def _begin(self) -> Any:
        from amqtt.broker import Broker as RealBroker

        logging.getLogger("amqtt").setLevel(logging.CRITICAL)
        broker = RealBroker(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}},
                "plugins": {
                    "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
                },
            }
        )
        await broker.start()
        return broker

    def close(self) -> None:
        self._asyncio.run(self._broker.shutdown())
        self._asyncio.stop()

    def send(self, topic: str, payload: bytes, qos: int = 1, retain: bool = False) -> None:
        """Publish a message as some other client; returns when the broker has it."""
        from paho.mqtt.client import CallbackAPIVersion, Client

        client = Client(CallbackAPIVersion.VERSION2)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        client.publish(topic, payload, qos, retain).wait_for_publish(LIMIT_S)
        client.disconnect()
        client.loop_stop()


class Agent:
    """Takes what the source publishes. ``answers`` are given first; later ones succeed."""

    def __init__(
        self, broker: Broker | SessionBroker, *answers: Deferred[None], **lines: str
    ) -> None:
        self.loop = Loop()
        self.events: list[Event] = []
        self._answers = list(answers)
        options = {"broker.b": f"host:127.0.0.1, port:{broker.port}, clientId:test"}
        for name, line in lines.items():
            options[f"datastream.{name.replace('_', ';')}"] = f"broker:b, {line}"
        (self.source,) = mqtt.create(options, self.loop)
        verifyObject(IDatastreamSource, self.source)
        self.source.start(self._publish)
        self.loop.until(lambda: self.source.is_subscribed)

    def _publish(self, events: Sequence[Event]) -> Deferred[None]:
        self.events += events
        return self._answers.pop(0) if self._answers else succeed(None)

    def wait(self, number: int) -> list[tuple[str, str, Any]]:
        """So many events have come: their datastreams, devices and values."""
        self.loop.until(lambda: len(self.events) >= number)
        return [(one.datastream_id, one.device_id, one.value) for one in self.events]

    def stop(self) -> None:
        self.loop.result(self.source.stop())


@pytest.fixture(params=["own", "amqtt"])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker | SessionBroker]:
    if request.param == "amqtt":
        pytest.importorskip("amqtt")
    running = SessionBroker() if request.param == "own" else Broker()
    yield running
    running.close()


def test_it_keeps_the_contract() -> None:
    """The plugin."""
    verifyObject(IPlugin, mqtt)


def test_messages_become_events(broker: Broker | SessionBroker) -> None:
    """Numbers, texts, JSON and a part of a JSON document; the device is the host, that of the line,
    or that of the topic."""
    agent = Agent(
        broker,
        number="topic:n, type:NUMBER",
        text_dev="topic:t/#, type:TEXT",
        **{"part_*": "topic:sensors/+/state, member:values.1.t"},
        json="topic:j, qos:0",
    )
    for payload in (b"7", b" -1.5 "):
        broker.send("n", payload)
    broker.send("t/a/b", "ä".encode())
    broker.send("sensors/s-1/state", b'{"values": [1, {"t": 21.5}]}')
    broker.send("j", b'{"a": [true, null]}')
    assert agent.wait(5) == [
        ("number", "", 7),
        ("number", "", -1.5),
        ("text", "dev", "ä"),
        ("part", "s-1", 21.5),
        ("json", "", {"a": [True, None]}),
    ]
    agent.stop()


def test_what_is_no_value_is_left_out(broker: Broker | SessionBroker) -> None:
    """Rubbish is told in the log and acknowledged: it must not come for ever. What follows is
    taken."""
    agent = Agent(broker, number="topic:n, type:NUMBER", part="topic:j, member:a")
    broker.send("n", b"rubbish")
    broker.send("j", b'{"b": 1}')
    broker.send("j", b"{")
    broker.send("j", b"[" * 100_000)
    broker.send("n", b"1" * (MAX_BYTES + 1))
    broker.send("n", b"\xff")
    broker.send("n", b"1")
    assert agent.wait(1) == [("number", "", 1)]
    agent.stop()


def test_a_message_is_acknowledged_when_it_is_accepted() -> None:
    """A message whose datapoint is not accepted stays with the broker, and comes again with the
    next connection; one that was accepted, or can never be, does not."""
    broker = SessionBroker()
    slow: Deferred[None] = Deferred()
    agent = Agent(
        broker,
        slow,
        fail(OutboxFull("full")),
        fail(EventRejected("n", "bad")),
        n="topic:n, type:NUMBER",
    )
    for number in (1, 2, 3):
        broker.send("n", str(number).encode())
    agent.wait(3)
    slow.callback(None)
    agent.stop()
    assert broker.unacknowledged("test") == [b"2"]
    broker.send("n", b"4")  # while nobody is there
    agent = Agent(broker, n="topic:n, type:NUMBER")
    assert [value for _, _, value in agent.wait(2)] == [2, 4]
    agent.stop()
    assert broker.unacknowledged("test") == []
    broker.close()


def test_a_message_that_is_not_accepted_is_tried_again() -> None:
    """A broker stops sending while many messages are not acknowledged: once there is room again,
    they are accepted without another connection."""
    broker = SessionBroker()
    agent = Agent(broker, fail(OutboxFull("full")), n="topic:n, type:NUMBER")
    broker.send("n", b"1")
    agent.wait(1)
    agent.loop.clock.advance(RETRY_S)
    assert [value for _, _, value in agent.wait(2)] == [1, 1]
    agent.stop()
    assert broker.unacknowledged("test") == []
    broker.close()


def test_a_topic_without_a_device_is_none_of_the_agent(broker: Broker | SessionBroker) -> None:
    """Where the level for the device is empty, the value is nobody's."""
    agent = Agent(broker, **{"t_*": "topic:s/+/t, type:NUMBER"})
    broker.send("s//t", b"1")
    broker.send("s/x/t", b"2")
    assert agent.wait(1) == [("t", "x", 2)]
    agent.stop()


def test_a_retained_message_is_old(broker: Broker | SessionBroker) -> None:
    """Nobody knows when a retained message was sent: it would get the time of the connection. It is
    taken only where the line says so."""
    broker.send("n", b"1", retain=True)
    agent = Agent(broker, n="topic:n, type:NUMBER")
    broker.send("n", b"2")
    assert agent.wait(1) == [("n", "", 2)]
    agent.stop()
    broker.send("m", b"3", retain=True)
    agent = Agent(broker, m="topic:m, type:NUMBER, retained:true")
    assert agent.wait(1) == [("m", "", 3)]
    agent.stop()


@pytest.mark.parametrize(
    ("topic_filter", "topic", "part"),
    [
        ("a", "a", ""),
        ("a", "a/b", None),
        ("a/b", "a", None),
        ("a/+/c", "a/b/c", "b"),
        ("+/+", "a/b", "a"),
        ("+/+", "a/b/c", None),
        ("a/#", "a/b/c", ""),
        ("a/#", "a", ""),
        ("+/#", "a/b", "a"),
        ("#", "a/b", ""),
        ("a/+", "a/", ""),
    ],
)
def test_filters(topic_filter: str, topic: str, part: str | None) -> None:
    """As MQTT 3.1.1 has them (4.7)."""
    assert matched(topic_filter, topic) == part


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"broker.b": "port:1"}, "needs the member 'host'"),
        ({"broker.b": "host:h, caFile:x"}, "unknown member 'caFile'"),
        ({"datastream.t": "broker:b, topic:x"}, r"there is no option 'broker\.b'"),
        ({"broker.b": "host:h", "datastream.t": "broker:b"}, "needs the member 'topic'"),
        ({"broker.b": "host:h", "datastream.t;*": "broker:b, topic:x"}, "needs a + in the topic"),
        ({"broker.b": "host:h", "datastream.t": "broker:b, topic:x, qos:2"}, "from 0 to 1"),
    ],
)
def test_a_wrong_option_is_told(options: dict[str, str], problem: str) -> None:
    """The agent does not start, and the text names the option."""
    with pytest.raises(ValueError, match=problem.replace("+", r"\+")):
        list(mqtt.create(options, Loop()))
