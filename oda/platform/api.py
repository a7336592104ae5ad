"""The REST API, in the platform's own vocabulary: the handler of each path."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from oda.errors import CodecError
from oda.interfaces import ICodecRegistry
from oda.model import ContentType
from oda.platform.events import EventLog
from oda.platform.faults import FaultBoard, Incident, read_fault, read_incident, write_fault
from oda.platform.ledger import OperationLedger
from oda.platform.openapi import openapi_document
from oda.platform.operation import Operation, OperationTimedOut
from oda.platform.orders import read_order
from oda.platform.recording import RecordedMessage, Recording
from oda.platform.requests import Requests
from oda.platform.sessions import Session, Sessions
from oda.platform.store import DeviceRecord, Store
from oda.platform.stream import EventStream
from oda.platform.web import Call, HttpError, Reply, Route

_MAX_INT = 2**63 - 1
_PAGE = {"after": "only numbers above this one", "limit": "at most so many (1 to 10000)"}


class PlatformParts(Protocol):
    """What the API serves; a started ``Platform`` provides it."""

    reactor: Any
    sessions: Sessions
    events: EventLog
    faults: FaultBoard
    store: Store
    recording: Recording
    requests: Requests
    ledger: OperationLedger
    codecs: ICodecRegistry

    def strike(self, device: str | None, incident: Incident) -> int:
        """See ``Platform``."""

    def describe(self) -> Mapping[str, Any]:
        """See ``Platform``."""


class Api:
    """The handlers of the routes, for the parts of a platform."""

    def __init__(self, platform: PlatformParts) -> None:
        self._platform = platform

    def routes(self) -> list[Route]:
        """Every path; ``/openapi.json`` describes exactly these."""
        device = "/devices/{device}"
        points = device + "/datastreams/{datastream}/datapoints"
        period = {
            "from": "not before this time (ms)",
            "to": "before this time (ms)",
            "feed": "only this feed",
            "limit": "at most so many, the newest (1 to 100000)",
        }
        wait = {"wait": "seconds to wait for the answer; 202 when there is none by then"}
        return [
            Route("GET", "/platform", self.platform, "Where devices connect, and the totals"),
            Route("GET", "/devices", self.devices, "Every device seen"),
            Route("GET", device, self.device, "One device, with its connection and counters"),
            Route("GET", device + "/datastreams", self.datastreams, "The latest values"),
            Route("GET", points, self.datapoints, "Datapoints, oldest first", period),
            Route("GET", device + "/datapoints", self.datapoints, "Of all datastreams", period),
            Route("POST", device + "/operations", self.post_operation, "Send", wait, body="Order"),
            Route("GET", device + "/operations", self.operations, "Newest first", _only("limit")),
            Route("GET", "/operations", self.operations, "Of all devices", _only("limit")),
            Route("GET", "/operations/{operation}", self.operation, "With its transcript", wait),
            Route(
                "GET",
                "/connections",
                self.connections,
                "Every connection there was, oldest first",
                {"device": "only of this device", **_PAGE},
            ),
            Route(
                "GET",
                "/messages",
                self.messages,
                "What was read and written, in that order",
                {
                    "device": "only of this device",
                    "connection": "only of this connection",
                    "direction": "in: read from the device; out: written",
                    "decode": "true: with the decoded document",
                    **_PAGE,
                },
            ),
            Route("GET", "/faults", self.faults, "The faults in force"),
            Route("PUT", "/faults", self.put_fault, "For all devices", body="Fault"),
            Route("DELETE", "/faults", self.clear_fault, "All devices back to normal"),
            Route("GET", device + "/faults", self.device_faults, "The faults of one device"),
            Route("PUT", device + "/faults", self.put_fault, "For one device", body="Fault"),
            Route("DELETE", device + "/faults", self.clear_fault, "As all the others again"),
            Route("POST", "/incidents", self.strike, "Once, to all", body="Incident"),
            Route("POST", device + "/incidents", self.strike, "Once, to one", body="Incident"),
            Route(
                "GET",
                "/events",
                self.event_stream,
                "Live changes as server-sent events",
                {"after": "go on after this event (as the header Last-Event-ID does)"},
            ),
            Route("GET", "/openapi.json", self.openapi, "This description"),
        ]

    def platform(self, call: Call) -> Reply:
        return Reply(self._platform.describe())

    def devices(self, call: Call) -> Reply:
        return Reply([self._brief(record) for record in self._platform.store.devices()])

    def device(self, call: Call) -> Reply:
        record = self._known(call)
        full = self._brief(record)
        full.update(self._platform.store.tally(record.id))
        return Reply(full)

    def datastreams(self, call: Call) -> Reply:
        return Reply(self._platform.store.latest(self._known(call).id))

    def datapoints(self, call: Call) -> Reply:
        known = self._known(call)
        from_ms = call.integer("from", -_MAX_INT, -_MAX_INT, _MAX_INT)
        to_ms = call.integer("to", _MAX_INT, -_MAX_INT, _MAX_INT)
        limit = call.integer("limit", 1000, 1, 100_000)
        datastream, feed = call.path.get("datastream"), call.query.get("feed")
        store = self._platform.store
        return Reply(store.datapoints(known.id, datastream, feed, from_ms, to_ms, limit))

    def post_operation(self, call: Call) -> Any:
        order = read_order(call.path["device"], call.body())
        wait_s = call.seconds("wait")
        return self._when_settled(self._platform.requests.post(order), wait_s)

    def operations(self, call: Call) -> Reply:
        device = call.path.get("device")
        limit = call.integer("limit", 100, 1, 10_000)
        documents = self._platform.ledger.of_device(device, limit)
        return Reply([msgspec.Raw(document) for document in documents])

    def operation(self, call: Call) -> Any:
        operation = self._platform.requests.find(call.path["operation"])
        if operation is None:
            raise HttpError(404, f"no operation {call.path['operation']!r}")
        return self._when_settled(operation, call.seconds("wait"), with_transcript=True)

    def connections(self, call: Call) -> Reply:
        after = call.integer("after", 0, 0, _MAX_INT)
        limit = call.integer("limit", 1000, 1, 10_000)
        return Reply(self._platform.recording.connections(call.query.get("device"), after, limit))

    def messages(self, call: Call) -> Reply:
        direction = call.query.get("direction")
        if direction not in (None, "in", "out"):
            raise HttpError(400, "must be in or out", "direction")
        decode = call.query.get("decode", "false")
        if decode not in ("true", "false"):
            raise HttpError(400, "must be true or false", "decode")
        connection = None
        if "connection" in call.query:
            connection = call.integer("connection", 0, 0, _MAX_INT)
        messages = self._platform.recording.messages(
            call.query.get("device"),
            direction,
            connection,
            call.integer("after", 0, 0, _MAX_INT),
            call.integer("limit", 100, 1, 10_000),
        )
        return Reply([self._raw(message, decode == "true") for message in messages])

    def faults(self, call: Call) -> Reply:
        board = self._platform.faults
        special = {device: write_fault(fault) for device, fault in board.devices().items()}
        return Reply({"all": write_fault(board.get(None)), "devices": special})

    def device_faults(self, call: Call) -> Reply:
        board, device = self._platform.faults, call.path["device"]
        effective = write_fault(board.effective(device))
        return Reply({"own": write_fault(board.get(device)), "effective": effective})

    def put_fault(self, call: Call) -> Reply:
        fault = read_fault(call.body())
        self._platform.faults.set(call.path.get("device"), fault)
        return Reply(write_fault(fault))

    def clear_fault(self, call: Call) -> Reply:
        self._platform.faults.clear(call.path.get("device"))
        return Reply({})

    def strike(self, call: Call) -> Reply:
        incident = read_incident(call.body())
        return Reply({"connections": self._platform.strike(call.path.get("device"), incident)})

    def event_stream(self, call: Call) -> None:
        events = self._platform.events
        text = call.header("last-event-id") or call.query.get("after")
        if text is not None and not (text.isascii() and text.isdigit()):
            raise HttpError(400, "must be the number of an event", "after")
        last = events.last_number if text is None else int(text)
        EventStream(self._platform.reactor, call.request, events, last).start()

    def openapi(self, call: Call) -> Reply:
        return Reply(openapi_document(self.routes()))

    def _known(self, call: Call) -> DeviceRecord:
        record = self._platform.store.device(call.path["device"])
        if record is None:
            raise HttpError(404, f"no device {call.path['device']!r} was ever seen")
        return record

    def _brief(self, record: DeviceRecord) -> dict[str, Any]:
        brief: dict[str, Any] = msgspec.to_builtins(record)
        session = self._platform.sessions.get(record.id)
        brief["connected"] = session is not None
        brief["connection"] = None if session is None else _connection(session)
        return brief

    def _raw(self, message: RecordedMessage, decode: bool) -> dict[str, Any]:
        raw: dict[str, Any] = msgspec.to_builtins(message, builtin_types=(bytes,))
        try:
            raw["payload"], raw["encoding"] = message.payload.decode("utf-8"), "utf-8"
        except UnicodeDecodeError:
            raw["payload"] = base64.b64encode(message.payload).decode()
            raw["encoding"] = "base64"
        if decode and message.format is not None:
            try:
                codec = self._platform.codecs.codec(ContentType(message.format))
                raw["document"] = codec.decode(message.payload)
            except CodecError as error:
                raw["problem"] = str(error)
        return raw

    def _when_settled(
        self, operation: Operation, wait_s: float | None, with_transcript: bool = False
    ) -> Any:
        """The operation now, or once it is settled, or after ``wait_s``."""

        def reply(_: Any) -> Reply:
            current = self._platform.requests.find(operation.id) or operation
            document = msgspec.to_builtins(current)
            if with_transcript:
                # the request and the answer are recorded once, in the operation itself
                said = {"queued": current.request, "answered": current.answer}
                document["transcript"] = [
                    msgspec.structs.replace(line, document=line.document or said.get(line.event))
                    for line in self._platform.ledger.transcript(operation.id)
                ]
                return Reply(document)
            return Reply(document, status=200 if current.answer is not None else 202)

        if not wait_s:
            return reply(None)
        settled: Deferred[Any] = self._platform.requests.wait(operation.id)
        limit = self._platform.reactor.callLater(wait_s, settled.cancel)

        def over(result: Any) -> Any:
            if limit.active():
                limit.cancel()
            if isinstance(result, Failure):
                result.trap(OperationTimedOut, CancelledError)
            return None

        return settled.addBoth(over).addCallback(reply)


def _connection(session: Session) -> dict[str, Any]:
    traffic: dict[str, Any] = msgspec.to_builtins(session.traffic)
    return {"number": session.number, "peer": session.peer, **traffic}


def _only(*names: str) -> dict[str, str]:
    return {name: _PAGE[name] for name in names}
