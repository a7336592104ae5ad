"""Server-sent events and bounded bodies, without a network."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.web.test.requesthelper import DummyChannel
from zope.interface.verify import verifyObject

from oda.platform.events import EventLog
from oda.platform.stream import EventStream
from oda.platform.web import MAX_BODY_BYTES, JsonRequest


class Reader:
    """A request that writes down what it gets, and its stream."""

    def __init__(self, log: EventLog, is_slow: bool = False) -> None:
        self.is_slow = is_slow
        self.clock = Clock()
        self.written: list[bytes] = []
        self.finished: Deferred[None] = Deferred()
        self.producer: Any = None
        self.stream = EventStream(self.clock, self, log, 0)
        self.stream.start()
        self.clock.advance(0)

    def setHeader(self, name: str, value: str) -> None:
        pass

    def notifyFinish(self) -> Deferred[None]:
        return self.finished

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.written.append(data)
        if self.is_slow and self.producer is not None:
            self.producer.pauseProducing()

    def numbers(self) -> list[int]:
        text = b"".join(self.written).decode()
        return [int(line[4:]) for line in text.split("\n") if line.startswith("id: ")]


def fill(log: EventLog, count: int) -> None:
    for _ in range(count):
        log.publish("x", {})


def test_a_full_transport_gets_nothing_more() -> None:
    """While it is paused nothing is written or kept for the reader; afterwards it goes on, and
    what the log has lost meanwhile is counted."""
    log = EventLog(max_events=10)
    reader = Reader(log)
    assert verifyObject(IPushProducer, reader.stream)
    fill(log, 3)
    reader.clock.advance(0)
    reader.producer.pauseProducing()
    written = len(reader.written)
    fill(log, 20)
    reader.clock.advance(100)
    assert len(reader.written) == written
    reader.producer.resumeProducing()
    reader.clock.advance(0)
    assert reader.numbers() == [1, 2, 3, 13, *range(14, 24)]
    assert b'event: lost\ndata: {"events":10}\n\n' in b"".join(reader.written)


def test_a_long_log_is_written_in_batches() -> None:
    """No more than a hundred events go out before the transport is asked again."""
    log = EventLog()
    fill(log, 250)
    reader = Reader(log, is_slow=True)
    for expected in (100, 200, 250):
        reader.clock.advance(1)
        assert reader.numbers() == list(range(1, expected + 1))
        reader.producer.resumeProducing()


def test_a_quiet_stream_has_a_heartbeat_until_its_reader_leaves() -> None:
    """A comment every 15 seconds; nothing is left when the reader is gone."""
    log = EventLog()
    reader = Reader(log)
    reader.clock.advance(15)
    assert reader.written[-1] == b":\n\n"
    log.publish("x", {})
    reader.finished.callback(None)
    assert reader.clock.getDelayedCalls() == []
    assert not log.has_readers
    assert reader.producer is None


def test_the_rest_of_a_long_body_is_not_kept() -> None:
    """Beyond the limit a body costs no memory, whether its length was announced or not."""
    for length in (None, 10 * MAX_BODY_BYTES):
        request = JsonRequest(DummyChannel(), False)
        request.gotLength(length)
        for _ in range(10):
            request.handleContentChunk(bytes(MAX_BODY_BYTES // 4))
        content: Any = request.content
        assert content.tell() <= MAX_BODY_BYTES
        assert request.is_too_long
