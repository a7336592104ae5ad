"""An MQTT 3.1.1 broker that keeps sessions: what a client did not acknowledge, or what came while
it was away, is sent with its next connection (4.4). QoS 0 and 1, and short messages from clients.

The broker of ``amqtt`` does neither, and wants another version of ``websockets`` than the tests: it
is used where it is installed."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from tests.plugins.loop import AsyncioThread

topic_matches_sub = pytest.importorskip("paho.mqtt.client").topic_matches_sub

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
        if any(topic_matches_sub(one, topic) for one in self.topics):
            self.last_id += 1
            self.unacknowledged[self.last_id] = (topic, payload)
            self.send(self.last_id, is_again=False)

    def send(self, packet_id: int, is_again: bool, is_retained: bool = False) -> None:
        if self.writer is not None:
            topic, payload = self.unacknowledged[packet_id]
            body = _text(topic) + struct.pack(">H", packet_id) + payload
            _write(self.writer, PUBLISH, 0b0010 | is_again << 3 | is_retained, body)


class SessionBroker:
    """Listens on the loopback interface."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}
        self._retained: dict[str, bytes] = {}
        self._asyncio = AsyncioThread()
        self._server = self._asyncio.run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        async def end() -> None:
            self._server.close()

        self._asyncio.run(end())
        self._asyncio.stop()

    def unacknowledged(self, client_id: str) -> list[bytes]:
        """What that client has not acknowledged once its connection has ended."""

        async def ended() -> None:
            while self._sessions[client_id].writer is not None:
                await asyncio.sleep(0.001)

        self._asyncio.run(ended())
        return [payload for _, payload in self._sessions[client_id].unacknowledged.values()]

    def send(self, topic: str, payload: bytes, qos: int = 1, retain: bool = False) -> None:
        """As a client that publishes."""

        async def publish() -> None:
            if retain:
                self._retained[topic] = payload
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
            wanted = body[at + 2 : at + 2 + length].decode()
            session.topics.add(wanted)
            for topic, payload in self._retained.items():
                if topic_matches_sub(wanted, topic):
                    session.last_id += 1
                    session.unacknowledged[session.last_id] = (topic, payload)
                    session.send(session.last_id, is_again=False, is_retained=True)
            granted += body[at + 2 + length : at + 3 + length]
            at += 3 + length
        _write(writer, SUBACK, 0, body[:2] + granted)


def _text(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()


def _write(writer: asyncio.StreamWriter, kind: int, flags: int, body: bytes) -> None:
    length, left = b"", len(body)
    while left > 127:
        length, left = length + bytes([left & 127 | 128]), left >> 7
    writer.write(bytes([kind << 4 | flags]) + length + bytes([left]) + body)


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first, length = await reader.readexactly(2)
    assert length < 128
    body: Any = await reader.readexactly(length)
    return first >> 4, body
