"""An MQTT 3.1.1 broker that keeps sessions: what a client did not acknowledge, or what came while
it was away, is sent with its next connection (4.4). The broker of ``amqtt`` forgets the first, and
marks the second as retained. No wildcards, QoS 0 and 1 only."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

from tests.plugins.loop import AsyncioThread

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP = 1, 2, 3, 4, 8, 9, 12, 13


class Session:
    """One client, connected or not. ``unacknowledged`` are messages by packet id."""

    def __init__(self) -> None:
        self.topics: set[str] = set()
        self.unacknowledged: dict[int, tuple[str, bytes]] = {}
        self.last_id = 0
        self.writer: asyncio.StreamWriter | None = None

    def take(self, topic: str, payload: bytes) -> None:
        """A message of a topic, for this client if it has subscribed to it."""
        if topic in self.topics:
            self.last_id += 1
            self.unacknowledged[self.last_id] = (topic, payload)
            self.send(self.last_id, is_again=False)

    def send(self, packet_id: int, is_again: bool) -> None:
        if self.writer is not None:
            topic, payload = self.unacknowledged[packet_id]
            body = _text(topic) + struct.pack(">H", packet_id) + payload
            _write(self.writer, PUBLISH, 0b1010 if is_again else 0b0010, body)


class SessionBroker:
    """Listens on the loopback interface."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._asyncio = AsyncioThread()
        self._server = self._asyncio.run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        async def end() -> None:
            self._server.close()

        self._asyncio.run(end())
        self._asyncio.stop()

    def unacknowledged(self, client_id: str) -> list[bytes]:
        """What that client has not acknowledged."""
        return [payload for _, payload in self._sessions[client_id].unacknowledged.values()]

    def send(self, topic: str, payload: bytes) -> None:
        """As a client that publishes."""

        async def publish() -> None:
            for session in self._sessions.values():
                session.take(topic, payload)

        self._asyncio.run(publish())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session()
        try:
            while True:
                kind, body = await _read(reader)
                if kind == CONNECT:
                    session = self._connect(body, writer)
                elif kind == SUBSCRIBE:
                    self._subscribe(session, body, writer)
                elif kind == PUBACK:
                    session.unacknowledged.pop(struct.unpack(">H", body)[0], None)
                elif kind == PINGREQ:
                    _write(writer, PINGRESP, 0, b"")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            session.writer = None
            writer.close()

    def _connect(self, body: bytes, writer: asyncio.StreamWriter) -> Session:
        length = struct.unpack_from(">H", body, 10)[0]
        client_id = body[12 : 12 + length].decode()
        is_known = client_id in self._sessions
        session = self._sessions.setdefault(client_id, Session())
        session.writer = writer
        _write(writer, CONNACK, 0, bytes([is_known, 0]))
        for packet_id in session.unacknowledged:
            session.send(packet_id, is_again=True)
        return session

    def _subscribe(self, session: Session, body: bytes, writer: asyncio.StreamWriter) -> None:
        granted, at = b"", 2
        while at < len(body):
            length = struct.unpack_from(">H", body, at)[0]
            session.topics.add(body[at + 2 : at + 2 + length].decode())
            granted += body[at + 2 + length : at + 3 + length]
            at += 3 + length
        _write(writer, SUBACK, 0, body[:2] + granted)


def _text(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()


def _write(writer: asyncio.StreamWriter, kind: int, flags: int, body: bytes) -> None:
    assert len(body) < 128
    writer.write(bytes([kind << 4 | flags, len(body)]) + body)


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first, length = await reader.readexactly(2)
    assert length < 128
    body: Any = await reader.readexactly(length)
    return first >> 4, body
