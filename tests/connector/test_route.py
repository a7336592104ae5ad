"""The device's own network is told apart from the platform's doing."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.tcp import Connection

from oda.connector.route import Route, route_fault


class FailingSocket:
    """A socket whose connection has ended with an error."""

    def __init__(self, number: int) -> None:
        self._number = number

    def recv(self, size: int) -> bytes:
        raise OSError(self._number, os.strerror(self._number))

    def send(self, data: bytes) -> int:
        raise OSError(self._number, os.strerror(self._number))

    def fileno(self) -> int:
        return -1

    def setblocking(self, is_blocking: bool) -> None:
        """Nothing here blocks."""


class LocalConnection(Connection):
    """Twisted's own transport over the loopback interface."""

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 40000)

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 9955)


class Probe:
    """Stands in for the sockets by which the routes are asked. ``own`` are this device's addresses;
    ``way_out`` is the one that a connection would get now, or the error it would meet."""

    def __init__(self, own: tuple[str, ...], way_out: str | int) -> None:
        self._own = own
        self._way_out = way_out

    def __call__(self, family: int, kind: int) -> Any:
        assert kind == socket.SOCK_DGRAM
        return self

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def bind(self, address: tuple[str, int]) -> None:
        if address[0] not in self._own:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

    def connect(self, address: tuple[str, int]) -> None:
        if isinstance(self._way_out, int):
            raise OSError(self._way_out, os.strerror(self._way_out))

    def getsockname(self) -> tuple[Any, ...]:
        return (self._way_out, 40000)


@pytest.mark.parametrize("is_reading", [True, False])
@pytest.mark.parametrize(
    ("number", "is_own"),
    [
        (errno.ETIMEDOUT, True),
        (errno.EHOSTUNREACH, True),
        (errno.ENETUNREACH, True),
        (errno.ENETDOWN, True),
        (errno.ECONNABORTED, True),
        (errno.ECONNRESET, False),
        (errno.EPIPE, False),
    ],
)
def test_the_kernel_s_error_is_noted(number: int, is_own: bool, is_reading: bool) -> None:
    """Twisted's transport says no more than that the connection is lost; the route knows by which
    error, whether it came up while reading or while writing."""
    transport = LocalConnection(FailingSocket(number), Protocol(), Clock())
    route = Route()
    route.follow(transport)
    assert route.fault() is None
    assert (transport.doRead() if is_reading else transport.writeSomeData(b"x")) is not None
    assert route.fault() == (os.strerror(number) if is_own else None)


def test_a_followed_transport_works_as_before() -> None:
    """Bytes go through in both directions, and an orderly end is no fault of the network."""
    near, far = socket.socketpair()
    near.setblocking(False)
    received: list[bytes] = []
    protocol = Protocol()
    protocol.dataReceived = received.append  # type: ignore[method-assign, assignment]
    transport = LocalConnection(near, protocol, Clock())
    route = Route()
    route.follow(transport)
    with near, far:
        assert transport.doRead() is None
        far.sendall(b"down")
        transport.doRead()
        assert transport.writeSomeData(b"up") == 2
        assert transport.getHandle().fileno() == near.fileno()
        assert (received, far.recv(10)) == ([b"down"], b"up")
        assert route.fault() is None


def test_a_transport_without_a_socket_is_not_followed() -> None:
    """There is nothing to ask the kernel about."""
    route = Route()
    route.follow(object())
    assert route.fault() is None


@pytest.mark.parametrize(
    ("own", "way_out", "words"),
    [
        (("10.0.0.2",), "10.0.0.2", None),
        (("10.0.0.2", "10.1.0.2"), "10.1.0.2", "now connects from 10.1.0.2"),
        (("10.1.0.2",), "10.1.0.2", "no longer 10.0.0.2"),
        (("10.0.0.2",), errno.ENETUNREACH, "Network is unreachable"),
        (("10.0.0.2",), errno.EACCES, None),
    ],
)
def test_a_changed_network_shows_in_the_routes(
    own: tuple[str, ...], way_out: str | int, words: str | None
) -> None:
    """An address that is gone, another way out and no way out are the network's; being forbidden
    to ask is not."""
    fault = route_fault("10.0.0.2", "192.0.2.1", Probe(own, way_out))
    assert (fault is None) if words is None else (fault is not None and words in fault)


def test_temporary_addresses_are_no_change() -> None:
    """With IPv6 the next connection may come from another address of the same interface."""
    probe = Probe(("2001:db8::a", "2001:db8::b"), "2001:db8::b")
    assert route_fault("2001:db8::a", "2001:db8::1", probe) is None
    assert route_fault("2001:db8::c", "2001:db8::1", probe) is not None


def test_the_routes_of_this_machine_are_asked() -> None:
    """With the kernel's own sockets: the loopback interface stays what it is, and an address of
    nobody's is gone."""
    assert route_fault("127.0.0.1", "127.0.0.1") is None
    assert route_fault("192.0.2.77", "127.0.0.1") is not None
