"""What whoever reaches the monitor's port can do there."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection

from oda.monitor.counters import Counters
from oda.monitor.web import LIFE_S, MAX_CONNECTIONS, build_site

ADDRESS = IPv4Address("TCP", "127.0.0.1", 1)


class Transport(StringTransportWithDisconnection):
    """A connection that can be aborted."""

    def abortConnection(self) -> None:
        self.loseConnection()


def connect(site: Any) -> tuple[Any, Transport]:
    protocol = site.buildProtocol(ADDRESS)
    transport = Transport()
    transport.protocol = protocol
    protocol.makeConnection(transport)
    return protocol, transport


def make_site(clock: Clock) -> Any:
    def never() -> Any:
        raise AssertionError("nothing is looked at")

    site = build_site(Counters(), never, clock)
    site.doStart()
    return site


@pytest.mark.parametrize(
    "headers", [b"Content-Length: 1073741824", b"Transfer-Encoding: chunked"], ids=["long", "open"]
)
def test_a_body_is_refused_before_it_is_kept(headers: bytes) -> None:
    """413 and the end of the connection; nothing of it is spooled to memory or disk."""
    protocol, transport = connect(make_site(Clock()))
    protocol.dataReceived(b"GET /health/live HTTP/1.1\r\nHost: h\r\n" + headers + b"\r\n\r\n")
    assert transport.value().startswith(b"HTTP/1.1 413 ")
    assert not transport.connected


def test_a_request_without_a_body_is_answered() -> None:
    """The limits cost a scraper nothing."""
    protocol, transport = connect(make_site(Clock()))
    protocol.dataReceived(b"GET /health/live HTTP/1.1\r\nHost: h\r\n\r\n")
    assert transport.value().startswith(b"HTTP/1.1 200 OK")
    assert transport.value().endswith(b'{"live":true}\n')


def test_connections_are_bounded() -> None:
    """32 at a time: they do not take the process's descriptors. Those that trickle on for longer
    than 30 s make room for others."""
    clock = Clock()
    site = make_site(clock)
    connections = [connect(site) for _ in range(MAX_CONNECTIONS)]
    assert site.buildProtocol(ADDRESS) is None
    for _ in range(LIFE_S):
        clock.advance(1)
        for protocol, _transport in connections:
            protocol.dataReceived(b"G")
    assert all(transport.connected for _, transport in connections)
    assert site.buildProtocol(ADDRESS) is None
    assert not any(transport.connected for _, transport in connections)
    assert site.buildProtocol(ADDRESS) is not None


def test_a_connection_that_does_nothing_ends() -> None:
    """After 10 s, with no request or half of one."""
    clock = Clock()
    site = make_site(clock)
    _, silent = connect(site)
    protocol, half = connect(site)
    protocol.dataReceived(b"GET /metrics HT")
    clock.advance(10)
    assert not silent.connected
    assert not half.connected
