"""Live changes as server-sent events: one endless answer, fed from the event log."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from oda.platform.events import EventLog, LiveEvent

#: How many events are written before the transport is asked whether it keeps up.
_BATCH = 100
#: A comment this often keeps proxies and browsers from closing a quiet stream.
_HEARTBEAT_S = 15.0


@implementer(IPushProducer)
class EventStream:
    """Writes the events after ``last_number`` to a request until the reader goes away.

    It has no queue. While the transport is full it writes nothing, and continues in the log where
    it stopped. Events that the log has lost meanwhile are reported by an event of kind ``lost``.
    """

    def __init__(self, reactor: Any, request: Any, events: EventLog, last_number: int) -> None:
        self._reactor = reactor
        self._request = request
        self._events = events
        self._number = last_number
        self._is_paused = False
        self._is_over = False
        self._wake_call: Any = None
        self._heartbeat = LoopingCall(self._beat)
        self._heartbeat.clock = reactor

    def start(self) -> None:
        """Answer the request; the answer never ends by itself."""
        request = self._request
        request.setHeader("Content-Type", "text/event-stream; charset=utf-8")
        request.setHeader("Cache-Control", "no-store")
        request.setHeader("X-Content-Type-Options", "nosniff")
        request.notifyFinish().addBoth(self._over)
        request.write(b"retry: 1000\n\n")
        request.registerProducer(self, True)
        self._unsubscribe = self._events.subscribe(self._wake)
        self._heartbeat.start(_HEARTBEAT_S, now=False)
        self._wake()

    def pauseProducing(self) -> None:
        self._is_paused = True

    def resumeProducing(self) -> None:
        self._is_paused = False
        self._wake()

    def stopProducing(self) -> None:
        self._over(None)

    def _wake(self) -> None:
        """Write soon: events of one turn of the reactor are sent together."""
        if self._wake_call is None and not self._is_paused and not self._is_over:
            self._wake_call = self._reactor.callLater(0, self._write)

    def _write(self) -> None:
        self._wake_call = None
        if self._is_paused or self._is_over:
            return
        if self._number > self._events.last_number:
            self._number = 0  # the number is from an earlier run of the platform
        lost, events = self._events.after(self._number, _BATCH)
        parts: list[bytes] = []
        if lost:
            self._number += lost
            parts.append(_format(LiveEvent(self._number, "lost", b'{"events":%d}' % lost)))
        for event in events:
            self._number = event.number
            parts.append(_format(event))
        if parts:
            self._request.write(b"".join(parts))
        if self._number < self._events.last_number:
            self._wake()

    def _beat(self) -> None:
        if not self._is_paused:
            self._request.write(b":\n\n")

    def _over(self, _: Any) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._unsubscribe()
        if self._heartbeat.running:
            self._heartbeat.stop()
        if self._wake_call is not None:
            self._wake_call.cancel()
            self._wake_call = None
        self._request.unregisterProducer()


def _format(event: LiveEvent) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.number, event.kind.encode(), event.data)
