"""Readings that come by themselves: lines ``datastream number`` from programs on this machine.

Each line is answered by ``ok``, or by ``error`` and the reason, once the agent has accepted it or
not. Until then the connection is not read: a program that is faster than the agent has to wait.
Option: ``port``, on the loopback interface.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, connectionDone
from twisted.plugin import IPlugin as ITwistedPlugin
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from oda.interfaces import IDatastreamSource, IPlugin
from oda.model import Event


class Lines(LineReceiver):
    """One program's connection; ``connections`` holds all that are open."""

    delimiter = b"\n"
    MAX_LENGTH = 1000

    def __init__(
        self,
        publish: Callable[[Sequence[Event]], Deferred[None]],
        connections: set[Lines],
    ) -> None:
        self._publish = publish
        self._connections = connections

    def connectionMade(self) -> None:
        self._connections.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._connections.discard(self)

    def lineReceived(self, line: bytes) -> None:
        try:
            datastream_id, number = line.decode().split()
            event = Event(datastream_id, float(number))
        except ValueError:
            self._answer("error: a line is a datastream and a number")
            return
        self.pauseProducing()
        accepting = self._publish([event])
        accepting.addCallbacks(lambda _: "ok", lambda failure: f"error: {failure.value}")
        accepting.addCallback(self._answer)
        accepting.addCallback(lambda _: self.resumeProducing())

    def _answer(self, text: str) -> None:
        self.sendLine(text.encode())


@implementer(IDatastreamSource)
class LineListener:
    """Listens for programs that send lines."""

    def __init__(self, reactor: Any, port: int) -> None:
        self._reactor = reactor
        self._port = port
        self._listening: Any = None
        self._connections: set[Lines] = set()

    def start(self, publish: Callable[[Sequence[Event]], Deferred[None]]) -> None:
        factory = Factory.forProtocol(lambda: Lines(publish, self._connections))
        self._listening = self._reactor.listenTCP(self._port, factory, interface="127.0.0.1")

    def stop(self) -> Any:
        """Nothing is published once the connections are gone."""
        for connection in list(self._connections):
            connection.transport.abortConnection()
        return self._listening and self._listening.stopListening()


@implementer(ITwistedPlugin, IPlugin)
class LineListenerPlugin:
    """Found by ``twisted.plugin``, because this module is in a directory ``oda/plugins``."""

    name = "line-listener"

    def create(self, options: Mapping[str, str], reactor: Any) -> Iterable[object]:
        return [LineListener(reactor, int(options["port"]))]


line_listener = LineListenerPlugin()
