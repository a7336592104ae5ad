"""SIGTERM and SIGINT, once and again, against platforms that leave the agent alone."""

from __future__ import annotations

import signal
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha1
from pathlib import Path

import pytest

from oda.platform.testing import RunningPlatform
from tests.e2e.processes import AgentProcess, write, write_configuration

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


class Deaf:
    """Accepts connections, upgrades them if ``upgrades``, and never reads again."""

    def __init__(self, upgrades: bool) -> None:
        self._upgrades = upgrades
        self._accepted: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._accepted.append(connection)
                if self._upgrades:
                    self._upgrade(connection)

    def _upgrade(self, connection: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(4096)
        (line,) = [one for one in request.split(b"\r\n") if b"sec-websocket-key" in one.lower()]
        accept = b64encode(sha1(line.split(b": ")[1] + _GUID).digest())
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )

    def close(self) -> None:
        """End everything."""
        for one in (self._listener, *self._accepted):
            one.close()


@contextmanager
def deaf(upgrades: bool) -> Iterator[Deaf]:
    platform = Deaf(upgrades)
    try:
        yield platform
    finally:
        platform.close()


@pytest.mark.parametrize(
    ("upgrades", "number", "times"),
    [
        (True, signal.SIGTERM, 1),
        (True, signal.SIGINT, 3),
        (False, signal.SIGTERM, 3),
        (False, signal.SIGINT, 1),
    ],
)
def test_a_platform_that_never_reads_does_not_hold_up_the_end(
    platform: RunningPlatform, tmp_path: Path, upgrades: bool, number: signal.Signals, times: int
) -> None:
    """The agent ends within ten seconds of the first signal, at once after the second, and without
    a traceback. What is not delivered stays in the outbox: the next agent delivers it."""
    configuration = write_configuration(tmp_path / "conf", platform, poller="device.upTime=0;1\n")
    with deaf(upgrades) as peer:
        write(configuration, "connector.websocket", f"host=127.0.0.1\nport={peer.port}\npath=/x\n")
        with AgentProcess(configuration) as agent:
            agent.wait_for_log("connected to" if upgrades else "connecting to")
            agent.wait_for_log("configuration read from")
            time.sleep(1.5)  # some readings are taken, and can't be delivered
            began_s = time.monotonic()
            for _ in range(times):
                agent.signal(number)
                time.sleep(0.3)
            agent.wait()
            took_s = time.monotonic() - began_s
            text = agent.text()
    assert took_s < 12, text  # ten, and some for a machine that is busy
    assert "Traceback" not in text
    assert "Server Shut Down" in text
    if upgrades and times > 1:
        assert "again: stopping at once" in text
        assert took_s < 4, text
    write_configuration(configuration, platform)
    with AgentProcess(configuration) as agent:
        agent.wait_for_log("connected to")
        platform.wait_for_datapoints("dev-1", "device.upTime", 1)
        agent.stop()
