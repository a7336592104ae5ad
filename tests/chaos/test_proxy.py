"""The proxy breaks connections in the way its name for it says."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.chaos.proxy import Cut, Proxy

#: Long enough to see that nothing comes.
_SILENCE_S = 0.2


class Ends:
    """A connection through a proxy, held at both ends."""

    def __init__(self, proxy: Proxy, listener: socket.socket) -> None:
        self.proxy = proxy
        self.near = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
        self.far, _ = listener.accept()
        self.far.settimeout(5)
        self.up(b"hello")
        self.down(b"hello")

    def up(self, data: bytes) -> None:
        self.near.sendall(data)
        assert self.far.recv(100) == data

    def down(self, data: bytes) -> None:
        self.far.sendall(data)
        assert self.near.recv(100) == data

    def lost(self, sender: socket.socket, receiver: socket.socket) -> None:
        """What is sent vanishes; neither end hears of it."""
        sender.sendall(b"lost")
        receiver.settimeout(_SILENCE_S)
        with pytest.raises(TimeoutError):
            receiver.recv(100)
        receiver.settimeout(5)


@pytest.fixture
def ends() -> Iterator[Ends]:
    """An open connection."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Proxy(listener.getsockname()[1]) as proxy,
    ):
        ends = Ends(proxy, listener)
        yield ends
        ends.near.close()
        ends.far.close()


def test_fin(ends: Ends) -> None:
    """Both ends read the end."""
    assert ends.proxy.cut(Cut.FIN) == 1
    assert ends.near.recv(100) == b""
    assert ends.far.recv(100) == b""


def test_rst(ends: Ends) -> None:
    """Both ends are reset."""
    ends.proxy.cut(Cut.RST)
    for end in (ends.near, ends.far):
        with pytest.raises(ConnectionResetError):
            end.recv(100)


def test_half_open(ends: Ends) -> None:
    """One direction vanishes, the other works."""
    ends.proxy.cut(Cut.UPLINK)
    ends.lost(ends.near, ends.far)
    ends.down(b"still here")
    ends.proxy.cut(Cut.DOWNLINK)
    ends.lost(ends.far, ends.near)
    ends.up(b"still here")


def test_blackhole(ends: Ends) -> None:
    """Nothing passes, in neither direction, not even the end."""
    ends.proxy.cut(Cut.BLACKHOLE)
    ends.lost(ends.near, ends.far)
    ends.lost(ends.far, ends.near)
    ends.near.close()
    ends.far.settimeout(_SILENCE_S)
    with pytest.raises(TimeoutError):
        ends.far.recv(100)


def test_stuck(ends: Ends) -> None:
    """The proxy stops reading: what is written fills the buffers, and then blocks."""
    ends.proxy.cut(Cut.STUCK)
    ends.near.settimeout(_SILENCE_S)
    with pytest.raises(TimeoutError):
        ends.near.sendall(b"x" * 64 * 1024 * 1024)


def test_stall(ends: Ends) -> None:
    """Everything comes, only later."""
    ends.proxy.cut(Cut.STALL, duration_s=_SILENCE_S)
    ends.up(b"late")
