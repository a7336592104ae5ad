"""The stand-in platform as one service: its assembled parts, and its Python API."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from oda.codecs import default_registry
from oda.interfaces import ICodecRegistry, IWallClock
from oda.model import ContentType
from oda.platform.access import DEFAULT_PATH, KeyRing, normal_path
from oda.platform.api import Api
from oda.platform.application import Application, Door
from oda.platform.clock import SystemClock
from oda.platform.console.site import Console
from oda.platform.events import EventLog
from oda.platform.faults import FaultBoard, Incident
from oda.platform.files import FileServer
from oda.platform.logger import PlatformLogger
from oda.platform.operation import DEFAULT_TIMEOUT_S, Operation, Order
from oda.platform.protocol import DeviceServerFactory, WebSocketPipe
from oda.platform.recording import RecordedMessage
from oda.platform.records import Bounds, Records
from oda.platform.requests import Requests
from oda.platform.scenario import ScenarioStep
from oda.platform.scenario_runner import ScenarioRunner
from oda.platform.sessions import Session, Sessions
from oda.platform.store import LatestValue, StoredDatapoint
from oda.platform.web import Guard, JsonServer
from oda.platform.wire import Dialect

log = PlatformLogger()


#: The close code of an intended end (RFC 6455, section 7.4.1), and how long devices have to answer
#: it, in seconds.
GOING_AWAY, FAREWELL_S = 1001, 1.0


class Platform(Service):
    """A platform on this computer.

    ``port`` and ``http_port`` 0 mean a free port; the attributes of these names hold the real ones
    after the start. ``http_port`` None: no REST API. ``keys`` None accepts every device.
    ``database`` None keeps everything in memory; ``durable`` makes the record in that file survive
    the death of this process. ``tls`` is a context factory for the device port. ``older_wins``
    refuses (409) a device that connects twice, instead of replacing its connection. ``scenario``
    runs from the start, with jitter from ``random``. ``files`` is a directory whose files
    devices can download. Starting raises ``CannotListenError`` or ``DatabaseUnusable``.
    """

    def __init__(
        self,
        reactor: Any,
        port: int = 0,
        http_port: int | None = 0,
        interface: str = "127.0.0.1",
        keys: KeyRing | None = None,
        path: str = DEFAULT_PATH,
        tls: Any = None,
        database: Path | None = None,
        durable: bool = False,
        faults: FaultBoard | None = None,
        clock: IWallClock | None = None,
        codecs: ICodecRegistry | None = None,
        older_wins: bool = False,
        http_hosts: Sequence[str] = (),
        http_origins: Sequence[str] = (),
        scenario: Sequence[ScenarioStep] = (),
        random: Random | None = None,
        max_message_bytes: int = 32 * 1024 * 1024,
        max_messages: int = 100_000,
        max_recorded_bytes: int = 64 * 1024 * 1024,
        max_datapoints: int = 500_000,
        max_operations: int = 10_000,
        files: Path | None = None,
    ) -> None:
        self.reactor = reactor
        self.port = port
        self.http_port = http_port
        self.interface = interface
        self.path = normal_path(path)
        self.faults = faults or FaultBoard()
        self.sessions = Sessions()
        self.events = EventLog()
        self.clock = clock or SystemClock()
        self._keys = keys or KeyRing()
        self._tls = tls
        self._database_path = database
        self._durable = durable
        self.codecs = codecs or default_registry()
        self._older_wins = older_wins
        self._max_message_bytes = max_message_bytes
        self._bounds = Bounds(max_messages, max_recorded_bytes, max_datapoints, max_operations)
        self._files = FileServer(files, lambda: self.http_url)
        self._origins = tuple(http_origins)
        self._guard = Guard([*http_hosts, self._host], http_origins)
        self._http: JsonServer | None = None
        self._scenario = ScenarioRunner(
            reactor, scenario, self.faults, self.strike, random or Random(0)
        )
        self.listening: list[Any] = []
        self.faults.subscribe(self._fault_changed)

    def startService(self) -> None:
        """Open the database and listen."""
        self._records = records = Records(
            self.reactor, self.clock, self._database_path, self._durable, self._bounds
        )
        self.database, self.recording = records.database, records.recording
        self.store, self.ledger = records.store, records.ledger
        self.requests = Requests(
            self.reactor,
            self.clock,
            self.codecs,
            self.ledger,
            self.sessions.get,
            lambda device: self.faults.effective(device).operations,
            lambda: uuid.uuid4().hex,
            lambda operation: self._application.operation_changed(operation),
        )
        self._application = Application(
            self.codecs, self.sessions, self.store, self.requests, self.events, self.faults
        )
        self.requests.restore()
        try:
            self._listen()
        except BaseException:
            records.close()
            raise
        records.start()
        super().startService()
        self._scenario.start()

    def _listen(self) -> None:
        door = Door(
            self.path,
            self._keys,
            self.faults.effective,
            lambda device: self.sessions.get(device) is not None,
            self._older_wins,
        )
        self._factory = factory = DeviceServerFactory(
            self.reactor,
            door.admit,
            self._make_session,
            self._open_session,
            self._max_message_bytes,
            self._origins,
        )
        if self._tls is None:
            port = self.reactor.listenTCP(self.port, factory, interface=self.interface)
        else:
            port = self.reactor.listenSSL(self.port, factory, self._tls, interface=self.interface)
        self.listening.append(port)
        self.port = port.getHost().port
        log.info("devices connect to {url}/<deviceId>", url=self.url)
        if self.http_port is not None:
            routes = [*Api(self).routes(), *self._files.routes(), *Console(self).routes()]
            self._http = JsonServer(self.reactor, routes, self._guard)
            port = self.reactor.listenTCP(self.http_port, self._http, interface=self.interface)
            self.listening.append(port)
            self.http_port = port.getHost().port
            log.info("console and REST API at {url}", url=self.http_url)

    def stopService(self) -> Deferred[None]:
        """Close every connection (1001, going away), and drop those that don't answer within a
        second; fires once everything is closed."""
        super().stopService()
        self._scenario.stop()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for port in self.listening:
            await port.stopListening()
        self.listening.clear()
        if self._http is not None:
            self._http.drop_connections()
        for session in self.sessions.all():
            session.strike(Incident(close=GOING_AWAY))
        deadline_s = self.reactor.seconds() + FAREWELL_S
        while self.sessions.all() and self.reactor.seconds() < deadline_s:
            await _after(self.reactor, 0.01)
        for session in self.sessions.all():
            session.strike(Incident(reset=True))
        for connection in tuple(self._factory.connections):
            connection.transport.abortConnection()
        self.requests.close()
        while self._factory.connections:
            await _after(self.reactor, 0)
        self._records.close()

    @property
    def url(self) -> str:
        """The address for devices, without the device id."""
        scheme = "ws" if self._tls is None else "wss"
        return f"{scheme}://{self._host}:{self.port}{self.path}"

    @property
    def http_url(self) -> str | None:
        """The address of the REST API, None if there is none."""
        return None if self.http_port is None else f"http://{self._host}:{self.http_port}"

    @property
    def _host(self) -> str:
        return f"[{self.interface}]" if ":" in self.interface else self.interface

    def describe(self) -> dict[str, Any]:
        """The address for devices, and the totals."""
        return {
            "url": self.url,
            "connected": len({session.device for session in self.sessions.all()}),
            "devices": len(self.store.devices()),
            "lastEvent": self.events.last_number,
            "durable": self.recording.is_durable,
        }

    # For callers

    def wait_for_device(self, device: str) -> Deferred[Session]:
        """Fires with the session once the device is connected (at once if it is)."""
        return self.sessions.wait_for(device)

    def send_operation(
        self,
        device: str,
        name: str,
        parameters: Any = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        content_type: ContentType = ContentType.JSON,
        dialect: Dialect = Dialect.OBJECT,
    ) -> Deferred[dict[str, Any]]:
        """Send an operation (or queue it until the device connects).

        Fires with the content of the final response (``operation.response``); fails with
        ``OperationTimedOut``. Raises ``WrongParameter``.
        """
        operation = self.requests.post(
            Order(
                session_device=device,
                device=device,
                name=name,
                parameters=parameters,
                timeout_s=timeout,
                content_type=content_type,
                dialect=dialect,
            )
        )
        return self._answer_of(operation)

    def _answer_of(self, operation: Operation) -> Deferred[dict[str, Any]]:
        if operation.answer is not None:
            done: Deferred[dict[str, Any]] = Deferred()
            done.callback(operation.answer)
            return done
        return self.requests.wait(operation.id).addCallback(lambda settled: settled.answer or {})

    def datapoints(self, device: str, datastream: str | None = None) -> list[StoredDatapoint]:
        """The datapoints of a device, oldest first."""
        return self.store.datapoints(device, datastream)

    def latest(self, device: str) -> list[LatestValue]:
        """The newest value of each datastream of a device."""
        return self.store.latest(device)

    def messages(
        self, device: str | None = None, direction: str | None = "in"
    ) -> list[RecordedMessage]:
        """The messages read from (or, "out", written to) a device, in that order."""
        return self.recording.messages(device, direction)

    def strike(self, device: str | None, incident: Incident) -> int:
        """Make an incident happen to the connection of a device (None: to all); returns how many
        connections it hit."""
        sessions = self.sessions.of(device)
        for session in sessions:
            session.strike(incident)
        return len(sessions)

    def _make_session(self, device: str, peer: str, pipe: WebSocketPipe) -> Session:
        return Session(
            self.reactor,
            device,
            peer,
            pipe,
            self.recording,
            self.codecs,
            self._application,
            self._max_message_bytes,
        )

    def _open_session(self, session: Session) -> None:
        session.open(self.faults.effective(session.device))

    def _fault_changed(self, device: str | None) -> None:
        if self.running:
            self._application.fault_changed(device)


def _after(reactor: Any, seconds: float) -> Deferred[None]:
    """Fires after that time."""
    passed: Deferred[None] = Deferred()
    reactor.callLater(seconds, passed.callback, None)
    return passed
