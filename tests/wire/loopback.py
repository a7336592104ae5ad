"""A connector on the real reactor and the loopback interface."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import ClientFactory, Factory, Protocol, ServerFactory
from twisted.logger import globalLogPublisher

from oda.codecs import default_registry
from oda.connector.service import ConnectorService
from oda.model import ContentType
from oda.settings import ConnectorSettings, OutboxSettings
from tests.wire.fakes import FakeCounters, FakeDeviceInfo, FakeDispatcher, echo, memory_outbox
from tests.wire.platform import Platform
from tests.wire.world import Log

#: Nothing on the loopback interface takes longer, in seconds.
LIMIT_S = 10


class Loopback:
    """Ports and connectors of one test; ``close()`` ends them all."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.log = Log()
        globalLogPublisher.addObserver(self.log)
        globalLogPublisher.addObserver(self._look)
        self._expected: list[tuple[tuple[str, ...], Deferred[None]]] = []
        self._ports: list[Any] = []
        self._services: list[ConnectorService] = []
        self.platform = Platform(reactor)

    def listen(self, factory: Any, tls: Any = None) -> int:
        """Listen on a free port of 127.0.0.1; returns it."""
        if tls is None:
            port = self.reactor.listenTCP(0, factory, interface="127.0.0.1")
        else:
            port = self.reactor.listenSSL(0, factory, tls, interface="127.0.0.1")
        self._ports.append(port)
        return int(port.getHost().port)

    def start(self, **settings: Any) -> ConnectorService:
        """Start a connector with an echo dispatcher."""
        used = ConnectorSettings(**{"host": "127.0.0.1", "path": "/p", **settings})
        window = OutboxSettings()
        counters = FakeCounters()
        service = ConnectorService(
            used,
            window,
            memory_outbox(window, self.reactor, counters),
            FakeDeviceInfo(),
            FakeDispatcher(echo),
            default_registry(),
            counters,
            self.reactor,
            lambda: 0.9,
            os.urandom,
        )
        self._services.append(service)
        service.startService()
        return service

    def logged(self, *words: str) -> Deferred[None]:
        """Fires when a line holding all of ``words`` is logged, or has been."""
        done: Deferred[None] = Deferred()
        if self.log.has(*words):
            done.callback(None)
            return done
        self._expected.append((words, done))
        return done.addTimeout(LIMIT_S, self.reactor)

    def delivers(self, service: ConnectorService) -> Deferred[None]:
        """Send a message up, have it sent down, and get its echo; fires when that is done."""
        done: Deferred[None] = Deferred()

        def received(peer: Any, payload: bytes) -> None:
            if payload == b'{"up":1}':
                peer.sendMessage(b'{"down":1}')
            elif not done.called:
                done.callback(None)

        self.platform.on_message = received
        service.uplink(b'{"up":1}', ContentType.JSON)
        return done.addTimeout(LIMIT_S, self.reactor)

    def close(self) -> Iterator[Deferred[Any]]:
        """The Deferreds to wait for, in order."""
        for service in self._services:
            yield service.stopService()
        for port in self._ports:
            yield maybeDeferred(port.stopListening)
        globalLogPublisher.removeObserver(self.log)
        globalLogPublisher.removeObserver(self._look)

    def _look(self, event: dict[str, Any]) -> None:
        # Not at once: nobody should go on in the middle of somebody's log call.
        for expected in list(self._expected):
            words, done = expected
            if self.log.has(*words):
                self._expected.remove(expected)
                self.reactor.callLater(0, _fire, done)


def _fire(done: Deferred[None]) -> None:
    if not done.called:
        done.callback(None)


class Recorder(Protocol):
    """Keeps what it receives, and answers nothing."""

    factory: RecorderFactory

    def dataReceived(self, data: bytes) -> None:
        self.factory.received += data
        if not self.factory.arrived.called:
            self.factory.arrived.callback(None)


class RecorderFactory(ServerFactory):
    """A server in plain TCP. ``arrived`` fires with the first bytes."""

    protocol = Recorder
    noisy = False

    def __init__(self) -> None:
        self.received = b""
        self.arrived: Deferred[None] = Deferred()


class Proxy(Protocol):
    """An HTTP proxy that knows CONNECT; ``factory.answer`` may replace what it says."""

    factory: ProxyFactory

    def connectionMade(self) -> None:
        self._head = b""
        self._far: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.factory.seen += data
        if self._far is not None:
            self._far.transport.write(data)
            return
        self._head += data
        if b"\r\n\r\n" not in self._head:
            return
        self.factory.requests.append(self._head)
        assert self.transport is not None
        if self.factory.answer is not None:
            self.transport.write(self.factory.answer)
            return
        host, _, port = self._head.split()[1].decode().rpartition(":")
        far = ClientFactory()
        far.noisy = False
        far.protocol = lambda: _Far(self)  # type: ignore[assignment]
        self.factory.reactor.connectTCP(host, int(port), far)

    def joined(self, far: Any) -> None:
        self._far = far
        assert self.transport is not None
        self.transport.write(self.factory.before)
        self.transport.write(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")

    def connectionLost(self, reason: Any = None) -> None:
        if self._far is not None:
            self._far.transport.loseConnection()


class _Far(Protocol):
    def __init__(self, near: Proxy) -> None:
        self._near = near

    def connectionMade(self) -> None:
        self._near.joined(self)

    def dataReceived(self, data: bytes) -> None:
        assert self._near.transport is not None
        self._near.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:
        assert self._near.transport is not None
        self._near.transport.loseConnection()


class ProxyFactory(Factory):
    """``requests`` are the heads it got, ``seen`` all bytes from the agent's side. It says
    ``before`` before it accepts."""

    protocol = Proxy
    noisy = False

    def __init__(self, reactor: Any, answer: bytes | None = None, before: bytes = b"") -> None:
        self.reactor = reactor
        self.before = before
        self.answer = answer
        self.requests: list[bytes] = []
        self.seen = b""
