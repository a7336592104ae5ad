"""What only Twisted's real transports can show: whose fault an end was, and races."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.interfaces import IHostnameResolver
from zope.interface import implementer

from oda.connector.route import NotingSocket
from oda.connector.window import taken_bytes
from tests.wire.certificates import Authority
from tests.wire.loopback import Loopback, ProxyFactory
from tests.wire.network import Resolution, address_of
from tests.wire.test_loopback import server_tls

TWO_NAMES = "two.example"


@pytest.fixture
def loopback() -> Iterator[Loopback]:
    """Ports, connectors and log of one test; nothing may have failed unseen."""
    from twisted.internet import reactor

    made = Loopback(reactor)
    yield made
    for closing in made.close():
        pytest_twisted.blockon(closing)
    assert [failure.getTraceback() for failure in made.log.failures] == []


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


class TimedOutSocket:
    """A socket whose connection the kernel has given up."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def recv(self, size: int) -> bytes:
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.mark.parametrize("way", ["plain", "TLS", "proxy and TLS"])
@pytest_twisted.ensureDeferred
async def test_the_kernel_s_error_is_in_the_line(
    loopback: Loopback, authority: Authority, way: str
) -> None:
    """A connection that timed out is told apart from one that was reset, under each transport that
    Twisted makes; and the one that follows is made within a second."""
    settings: dict[str, Any] = {"reconnect_spread_s": 60.0}
    tls = None
    if "TLS" in way:
        tls = server_tls(*authority.issue("good", "localhost", "127.0.0.1"))
        settings |= {"secure": True, "ca_file": authority.file}
    if "proxy" in way:
        proxy = loopback.listen(ProxyFactory(loopback.reactor))
        settings |= {"proxy_host": "127.0.0.1", "proxy_port": proxy}
    service = loopback.start(port=loopback.listen(loopback.platform, tls), **settings)
    await loopback.delivers(service)
    protocol = service._link._protocol
    assert protocol is not None
    noting = protocol.route._noting
    assert isinstance(noting, NotingSocket)
    taken = taken_bytes(protocol.transport)  # the progress of the uplink is known all the same
    assert (taken is not None and taken.acknowledged > 0) or sys.platform != "linux"
    noting._inner = TimedOutSocket(noting._inner)
    loopback.platform.peer.sendMessage(b'{"never":"read"}')
    await loopback.logged("connection lost", "Connection timed out", "connecting again in 0.9 s")


@pytest_twisted.ensureDeferred
async def test_a_reset_is_not_the_own_network_s(loopback: Loopback) -> None:
    """The platform may have reset all connections: the attempt is spread."""
    port = loopback.listen(loopback.platform)
    service = loopback.start(port=port, reconnect_spread_s=60.0)
    await loopback.delivers(service)
    loopback.platform.peer.transport.abortConnection()
    await loopback.logged("connection lost: the TCP connection broke; connecting again in 54.0 s")


@implementer(IHostnameResolver)
class TwoAddresses:
    """Answers every name with the same addresses."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Resolution:
        resolution = Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        for address in self._addresses:
            resolutionReceiver.addressResolved(address_of(address, portNumber))
        resolutionReceiver.resolutionComplete()
        return resolution


@pytest.fixture
def dead_port(loopback: Loopback) -> Iterator[int]:
    """A port at which 127.0.0.2 takes no connection: its queue is full, so that it does not answer.
    The names of this test are 127.0.0.2 and 127.0.0.1."""
    before = loopback.reactor.installNameResolver(TwoAddresses("127.0.0.2", "127.0.0.1"))
    opened = [socket.socket() for _ in range(5)]
    listener, *fill = opened
    listener.bind(("127.0.0.2", 0))
    listener.listen(0)
    port = int(listener.getsockname()[1])
    for one in fill:
        one.setblocking(False)
        one.connect_ex(("127.0.0.2", port))
    yield port
    for one in opened:
        one.close()
    loopback.reactor.installNameResolver(before)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest_twisted.ensureDeferred
async def test_a_dead_address_is_raced(
    loopback: Loopback, authority: Authority, dead_port: int, secure: bool
) -> None:
    """With real connectors, and through TLS: the living address wins long before the limit, and the
    connector of the dead one is stopped without a word."""
    settings: dict[str, Any] = {}
    if secure:
        files: tuple[Path, Path] = authority.issue("two", TWO_NAMES)
        options = server_tls(*files)
        listening = loopback.reactor.listenSSL(
            dead_port, loopback.platform, options, interface="127.0.0.1"
        )
        settings = {"secure": True, "ca_file": authority.file}
    else:
        listening = loopback.reactor.listenTCP(dead_port, loopback.platform, interface="127.0.0.1")
    service = loopback.start(host=TWO_NAMES, port=dead_port, **settings)
    await loopback.delivers(service)
    assert not loopback.log.has("no connection")
    assert [peer.transport.getPeer().host for peer in loopback.platform.peers] == ["127.0.0.1"]
    await service.stopService()
    await listening.stopListening()
