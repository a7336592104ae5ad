"""The other end of the benchmarks: a server that does as little as possible for each message.

Plain sockets; frames are counted from their headers, payloads are not unmasked (except pings, which
are answered, and answers to operations, whose id is needed). ``python benchmarks/sink.py`` prints
its port, runs until standard input closes, and then prints what it saw as JSON: messages, bytes,
round trips, its own CPU time. It is not the bottleneck as long as that CPU time is well under the
measured side's; the reports show both.

With ``--operations N --in-flight K --name NAME`` it sends N operation requests to the first client,
K at a time, and takes the time of each.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import selectors
import socket
import struct
import sys
import time

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PARAMETERS = {
    "GET_DEVICE_PARAMETERS": '{"variableList":["q"]}',
    "SET_DEVICE_PARAMETERS": '{"variableList":[{"name":"q","value":18}]}',
}


def unmask(payload: bytes, mask: bytes) -> bytes:
    """The payload as the client meant it."""
    size = len(payload)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(payload, "little") ^ key).to_bytes(size, "little")


class Operations:
    """The requests to send, and how long each answer took, in seconds."""

    def __init__(self, total: int, in_flight: int, name: str) -> None:
        self.total = total
        self.in_flight = in_flight
        self.name = name
        self.sent = 0
        self.started: dict[int, float] = {}
        self.took: list[float] = []
        self.first_s = self.last_s = 0.0

    def requests(self) -> bytes:
        """Frames that bring the number in flight up to its limit."""
        out = bytearray()
        while self.sent < self.total and len(self.started) < self.in_flight:
            self.sent += 1
            parameters = _PARAMETERS.get(self.name, '{"a":1}')
            payload = (
                f'{{"operation":{{"request":{{"id":"op-{self.sent}","timestamp":1554978284595,'
                f'"name":"{self.name}","parameters":{parameters}}}}}}}'
            ).encode()
            header = b"\x81" + (
                bytes([len(payload)])
                if len(payload) < 126
                else b"\x7e" + struct.pack("!H", len(payload))
            )
            out += header + payload
            now = time.perf_counter()
            self.first_s = self.first_s or now
            self.started[self.sent] = now
        return bytes(out)

    def answered(self, payload: bytes) -> None:
        """Account for an answer; anything else is ignored."""
        place = payload.find(b'"id":"op-')
        if place < 0:
            return
        number = int(payload[place + 9 : payload.index(b'"', place + 9)])
        started = self.started.pop(number, None)
        if started is not None:
            self.last_s = time.perf_counter()
            self.took.append(self.last_s - started)


class Client:
    """One connection."""

    def __init__(self, connection: socket.socket, sink: Sink) -> None:
        self.connection = connection
        self.sink = sink
        self.buffer = bytearray()
        self.is_open = False

    def readable(self) -> bool:
        """Take what has arrived; False when the connection is over."""
        try:
            data = self.connection.recv(1 << 20)
        except ConnectionError:
            return False
        if not data:
            return False
        self.buffer += data
        if not self.is_open:
            return self._upgrade()
        return self._frames()

    def _upgrade(self) -> bool:
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return True
        lines = bytes(self.buffer[:end]).split(b"\r\n")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in lines[1:])
        }
        digest = hashlib.sha1(headers[b"sec-websocket-key"] + _MAGIC).digest()
        self.connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
        )
        del self.buffer[: end + 4]
        self.is_open = True
        self.sink.opened += 1
        self.sink.first_open_s = self.sink.first_open_s or time.monotonic()
        if self.sink.operations is not None:
            self.connection.sendall(self.sink.operations.requests())
        return self._frames()

    def _frames(self) -> bool:
        buffer, sink = self.buffer, self.sink
        position, size = 0, len(buffer)
        while size - position >= 6:
            length = buffer[position + 1] & 0x7F
            start = position + 6
            if length == 126:
                if size - position < 8:
                    break
                length = (buffer[position + 2] << 8) | buffer[position + 3]
                start = position + 8
            elif length == 127:
                if size - position < 14:
                    break
                length = int.from_bytes(buffer[position + 2 : position + 10], "big")
                start = position + 14
            if size - start < length:
                break
            opcode = buffer[position] & 0x0F
            position = start + length
            if opcode in (1, 2):
                if not sink.messages:
                    sink.first_message_s = time.monotonic()
                sink.messages += 1
                sink.bytes += length
                if sink.operations is not None:
                    payload = bytes(buffer[start:position])
                    sink.operations.answered(unmask(payload, bytes(buffer[start - 4 : start])))
            elif opcode == 9:
                sink.pings += 1
                payload = unmask(bytes(buffer[start:position]), bytes(buffer[start - 4 : start]))
                self.connection.sendall(b"\x8a" + bytes([length]) + payload)
            elif opcode == 8:
                self.connection.sendall(b"\x88\x02\x03\xe8")
                return False
        del buffer[:position]
        if sink.operations is not None:
            requests = sink.operations.requests()
            if requests:
                self.connection.sendall(requests)
        return True


class Sink:
    """Accepts connections and counts."""

    def __init__(self, operations: Operations | None) -> None:
        self.operations = operations
        self.messages = self.bytes = self.pings = self.opened = 0
        self.first_open_s = self.first_message_s = 0.0

    def serve(self, listener: socket.socket) -> None:
        """Run until standard input closes."""
        selector = selectors.DefaultSelector()
        selector.register(listener, selectors.EVENT_READ, None)
        selector.register(sys.stdin, selectors.EVENT_READ, None)
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    if not os.read(sys.stdin.fileno(), 100):
                        return
                    print(json.dumps(self.report()), flush=True)
                elif key.data is None:
                    connection, _ = listener.accept()
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    selector.register(connection, selectors.EVENT_READ, Client(connection, self))
                elif not key.data.readable():
                    selector.unregister(key.fileobj)
                    key.data.connection.close()

    def report(self) -> dict[str, object]:
        """What was seen so far."""
        times = os.times()
        seen: dict[str, object] = {
            "messages": self.messages,
            "bytes": self.bytes,
            "pings": self.pings,
            "opened": self.opened,
            "first_open_s": self.first_open_s,
            "first_message_s": self.first_message_s,
            "cpu_s": times.user + times.system,
        }
        if self.operations is not None:
            took = sorted(self.operations.took)
            seen["answered"] = len(took)
            if took:
                seen["p50_ms"] = took[len(took) // 2] * 1000
                seen["p99_ms"] = took[min(len(took) - 1, len(took) * 99 // 100)] * 1000
                seen["span_s"] = self.operations.last_s - self.operations.first_s
        return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=0)
    parser.add_argument("--in-flight", type=int, default=1)
    parser.add_argument("--name", default="GET_DEVICE_PARAMETERS")
    options = parser.parse_args()
    operations = None
    if options.operations:
        operations = Operations(options.operations, options.in_flight, options.name)
    listener = socket.create_server(("127.0.0.1", 0), backlog=2000)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    Sink(operations).serve(listener)


if __name__ == "__main__":
    main()
