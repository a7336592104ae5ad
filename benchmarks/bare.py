"""The prototype that the agent is measured against: Autobahn, msgspec and SQLite, nothing else.

What it has: everything published in one turn of the reactor becomes documents of up to 500
datapoints, one row and one message each; one commit per turn (WAL, synchronous FULL), for
operations that act one more before they run; one outstanding ping as barrier; acknowledged rows are
deleted by range. What it lacks: bounds, window, linger, metrics, journal, reconnection, checks of
any kind. The gap between it and the agent is the price of those.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred

from benchmarks.measured import answer_to
from oda.model import Datapoint, Datastream, Event, TelemetryDocument

_PER_DOCUMENT = 500


class BareProtocol(WebSocketClientProtocol):  # type: ignore[misc]
    """Hands Autobahn's callbacks to the prototype."""

    agent: BareAgent

    def onOpen(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.agent.protocol = self

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.agent.request_received(payload)

    def onPong(self, payload: bytes) -> None:
        self.agent.pong_received(payload)


class BareAgent:
    """What the benchmarks use of the agent: ``publish``, ``delivered``, ``is_connected``."""

    def __init__(self, reactor: Any, port: int, directory: str) -> None:
        self.reactor = reactor
        self.protocol: BareProtocol | None = None
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder().decode
        self._database = sqlite3.connect(Path(directory) / "bare.sqlite", isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, payload BLOB)")
        self._database.execute("CREATE TABLE record (id TEXT, payload BLOB)")
        self._requests: list[bytes] = []
        self._turn: dict[str, list[Datapoint]] = {}
        self._owners: list[Deferred[None]] = []
        self._rows = self._proven = 0
        self._outstanding: int | None = None
        self._scheduled = False
        factory = WebSocketClientFactory(
            f"ws://127.0.0.1:{port}/south/v80/sessions/bare", reactor=reactor
        )
        factory.protocol = type("Protocol", (BareProtocol,), {"agent": self})
        factory.setProtocolOptions(tcpNoDelay=True)
        reactor.connectTCP("127.0.0.1", port, factory)

    @property
    def is_connected(self) -> bool:
        """True once the WebSocket is open."""
        return self.protocol is not None

    def delivered(self) -> bool:
        """True when a pong has covered every row."""
        return self._proven == self._rows and not self._scheduled

    def publish(self, events: Event | list[Event]) -> Deferred[None]:
        """Fires once the datapoints are committed."""
        if type(events) is Event:
            events = [events]
        for event in events:
            points = self._turn.setdefault(event.device_id, [])
            points.append(Datapoint(event.at_ms, event.value))
        done: Deferred[None] = Deferred()
        self._owners.append(done)
        if not self._scheduled:
            self._scheduled = True
            self.reactor.callLater(0, self._flush)
        return done

    def _flush(self) -> None:
        self._scheduled = False
        turn, self._turn = self._turn, {}
        owners, self._owners = self._owners, []
        rows: list[tuple[int, bytes]] = []
        for device, points in turn.items():
            for start in range(0, len(points), _PER_DOCUMENT):
                document = TelemetryDocument(
                    version="9.0",
                    device=device or "bare",
                    datastreams=[
                        Datastream(id="t", datapoints=points[start : start + _PER_DOCUMENT])
                    ],
                )
                self._rows += 1
                rows.append((self._rows, self._encode(document)))
        self._store(rows)
        for _, payload in rows:
            self.protocol.sendMessage(payload, isBinary=True)  # type: ignore[union-attr]
        for owner in owners:
            owner.callback(None)
        self._ping()

    def _store(self, rows: list[tuple[int, bytes]]) -> None:
        self._commit("INSERT INTO row VALUES (?, ?)", rows)

    def _commit(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        self._database.execute("BEGIN")
        self._database.executemany(statement, rows)
        self._database.execute("COMMIT")

    def _ping(self) -> None:
        if self._outstanding is None and self._rows > self._proven and self.protocol is not None:
            self._outstanding = self._rows
            self.protocol.sendPing(struct.pack("!Q", self._rows))

    def pong_received(self, payload: bytes) -> None:
        """Everything up to the number in the pong is proven."""
        (self._proven,) = struct.unpack("!Q", payload)
        self._outstanding = None
        self._database.execute("DELETE FROM row WHERE id <= ?", (self._proven,))
        self._ping()

    def request_received(self, payload: bytes) -> None:
        """Answer an operation at the end of the reactor's turn, with all others of that turn."""
        if not self._requests:
            self.reactor.callLater(0, self._answer)
        self._requests.append(payload)

    def _answer(self) -> None:
        """One commit for the operations that act, before they run; one for all answers, before they
        are sent."""
        requests, self._requests = self._requests, []
        decoded = [self._decode(payload)["operation"]["request"] for payload in requests]
        records = [
            (request["id"], payload)
            for request, payload in zip(decoded, requests, strict=True)
            if request["name"] != "GET_DEVICE_PARAMETERS"
        ]
        if records:
            self._commit("INSERT INTO record VALUES (?, ?)", records)
        rows: list[tuple[int, bytes]] = []
        for request in decoded:
            self._rows += 1
            rows.append((self._rows, self._encode(answer_to(request, "bare"))))
        self._store(rows)
        for _, answer in rows:
            self.protocol.sendMessage(answer, isBinary=True)  # type: ignore[union-attr]
        self._ping()
