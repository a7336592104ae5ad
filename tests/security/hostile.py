"""A whole agent, and a platform on the loopback interface that means it ill.

The platform speaks raw frames through a blocking socket, so that it can write what no library
would. What an attack costs the agent is its peak of resident memory, as the kernel counted it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
#: What SECURITY.md promises with the default limits.
BOUND_MIB = 160
KEY = "hostile-test-key"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PATIENCE_S = 60.0
_TWISTD = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def frame(opcode: int, payload: bytes = b"", fin: bool = True) -> bytes:
    """A frame as a server sends it, not masked."""
    first, size = fin << 7 | opcode, len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


def request(name: str, parameters: object = None, request_id: object = "1") -> bytes:
    """A request as JSON."""
    inner = {"id": request_id, "name": name, "parameters": parameters}
    return json.dumps({"operation": {"request": inner}}, ensure_ascii=False).encode()


class Connection:
    """An accepted and upgraded connection of the agent."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._received = b""
        sock.settimeout(_PATIENCE_S)
        while b"\r\n\r\n" not in self._received:
            self._received += sock.recv(65536)
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        (key,) = (
            line.split(b":")[1].strip()
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key")
        )
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
        sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )

    def send(self, data: bytes, times: int = 1) -> None:
        """Write bytes, reading nothing. Raises ``OSError`` when the agent has ended it."""
        for _ in range(times):
            self._socket.sendall(data)

    def press(self, data: bytes, times: int, patience_s: float = 3.0) -> int:
        """Write ``data`` so many times, reading nothing, or until the agent takes nothing more;
        says how often it was written whole."""
        for written in range(times):
            view = memoryview(data)
            while view:
                if not select.select([], [self._socket], [], patience_s)[1]:
                    return written
                view = view[self._socket.send(view[:65536]) :]
        return times

    def answers(self, count: int, patience_s: float = _PATIENCE_S) -> list[bytes]:
        """The payloads of the next ``count`` messages; pings are answered meanwhile."""
        found: list[bytes] = []
        deadline_s = time.monotonic() + patience_s
        while len(found) < count:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{len(found)} answers instead of {count}")
            taken = self._take()
            if taken is None:
                data = self._socket.recv(1 << 20)
                if not data:
                    raise ConnectionError("the agent has ended the connection")
                self._received += data
                continue
            opcode, payload = taken
            if opcode == PING:
                self.send(frame(PONG, payload))
            elif opcode in (TEXT, BINARY):
                found.append(payload)
        return found

    def _take(self) -> tuple[int, bytes] | None:
        data = self._received
        if len(data) < 2:
            return None
        size, start = data[1] & 0x7F, 2
        if size == 126:
            size, start = int.from_bytes(data[2:4]), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10]), 10
        end = start + 4 + size
        if len(data) < end or len(data) < start + 4:
            return None
        mask, masked = data[start : start + 4], data[start + 4 : end]
        self._received = data[end:]
        number = int.from_bytes(masked) ^ int.from_bytes((mask * (size // 4 + 1))[:size])
        return data[0] & 0x0F, number.to_bytes(size)

    def wait_for_the_end(self) -> None:
        """Read until the agent has said its last, and end it."""
        while self._socket.recv(65536)[-1:] not in (b"",) and not self._has_closed():
            pass
        self._socket.close()

    def _has_closed(self) -> bool:
        return not select.select([self._socket], [], [], 1.0)[0]

    def close(self) -> None:
        """End it without a word."""
        self._socket.close()


class HostilePlatform:
    """Listens, and runs an agent that connects to it."""

    def __init__(self, directory: Path, connector: str = "", dispatcher: str = "") -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_PATIENCE_S)
        conf = directory / "conf"
        conf.mkdir()
        port = self._listener.getsockname()[1]
        prefix = f"{conf}/es.amplia.oda"
        Path(f"{prefix}.connector.websocket.cfg").write_text(
            f"host=127.0.0.1\nport={port}\npath=/p\n{connector}"
        )
        device = Path(f"{prefix}.datastreams.deviceinfo.cfg")
        device.write_text(f"deviceId=dev-1\napiKey={KEY}\n")
        device.chmod(0o600)
        Path(f"{prefix}.dispatcher.opengate.cfg").write_text(dispatcher)
        self.log = directory / "agent.log"
        may_not_set_the_clock: list[str] = []
        if shutil.which("setpriv") and os.geteuid() == 0:
            may_not_set_the_clock = ["setpriv", "--bounding-set=-sys_time", "--inh-caps=-sys_time"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *may_not_set_the_clock,
                    *(sys.executable, "-c"),
                    _TWISTD,
                    *("-n", "--pidfile=", "oda-websocket", "--conf", str(conf)),
                ],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )

    def accept(self) -> Connection:
        """The agent's next connection."""
        return Connection(self._listener.accept()[0])

    def peak_mib(self) -> float:
        """The most memory that the agent had resident so far."""
        return self._status_mib("VmHWM")

    def resident_mib(self) -> float:
        """The memory that the agent has resident now."""
        return self._status_mib("VmRSS")

    def _status_mib(self, name: str) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith(name))
        return int(line.split()[1]) / 1024

    def stop(self) -> str:
        """End the agent in order; says what its log holds."""
        self._process.terminate()
        self._process.wait(_PATIENCE_S)
        return self.log.read_text()

    def __enter__(self) -> HostilePlatform:
        return self

    def __exit__(self, *_: Any) -> None:
        self._listener.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()


def ask(connection: Connection, request_id: str = "last") -> dict[str, Any]:
    """What the agent answers to an ordinary request, behind whatever else it has to say."""
    connection.send(frame(TEXT, request("NO_SUCH_OPERATION", None, request_id)))
    while True:
        (payload,) = connection.answers(1)
        message = json.loads(payload)
        response: dict[str, Any] = message.get("operation", {}).get("response", {})
        if response.get("id") == request_id:
            return response
