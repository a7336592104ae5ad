"""How the platform treats devices: which ones may connect, and what it does with messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from oda.errors import CodecError
from oda.interfaces import ICodecRegistry
from oda.model import ContentType
from oda.platform.access import Denied, KeyRing, read_request
from oda.platform.events import EventLog
from oda.platform.faults import Fault, FaultBoard, Refusal
from oda.platform.logger import PlatformLogger
from oda.platform.operation import Operation
from oda.platform.protocol import Welcome
from oda.platform.requests import Requests
from oda.platform.sessions import Session, Sessions
from oda.platform.store import Store
from oda.platform.wire import Answer, Point, Telemetry, Unreadable, read_message
from oda.wording import counted

log = PlatformLogger()

#: Longer values (as JSON) are left out of live events.
_MAX_LIVE_VALUE_BYTES = 4096


class Door:
    """Decides about upgrade requests: first the path, then the fault in force, then the key.

    ``older_wins`` refuses a device that is already connected, instead of replacing the connection.
    """

    def __init__(
        self,
        path: str,
        keys: KeyRing,
        effective_fault: Callable[[str], Fault],
        is_connected: Callable[[str], bool],
        older_wins: bool,
    ) -> None:
        self._path = path
        self._keys = keys
        self._effective_fault = effective_fault
        self._is_connected = is_connected
        self._older_wins = older_wins

    def admit(self, uri: str, header_key: str | None) -> Welcome:
        """How to treat a request for ``uri``."""
        try:
            request = read_request(uri, header_key, self._path)
            fault = self._effective_fault(request.device)
            if fault.refuse is not None:
                return _refuse(request.device, fault, fault.refuse)
            self._keys.check(request)
            if self._older_wins and self._is_connected(request.device):
                raise Denied(409, "this device is connected")
        except Denied as denied:
            log.info(
                "refused a connection: {status} {reason}",
                status=denied.status,
                reason=denied.reason,
            )
            return Welcome(status=denied.status, reason=denied.reason)
        return Welcome(device=request.device)


def _refuse(device: str, fault: Fault, refusal: Refusal) -> Welcome:
    log.info("refused {device} on purpose: {how}", device=device, how=refusal.value)
    if refusal is Refusal.GARBAGE:
        return Welcome(garbage=True)
    if refusal is Refusal.SILENCE:
        return Welcome()
    headers = []
    if fault.retry_after_s is not None and refusal.value in ("429", "503"):
        headers.append(("Retry-After", str(fault.retry_after_s)))
    return Welcome(status=int(refusal.value), reason="refused on purpose", headers=headers)


class Application:
    """An ``Inbox``: stores what sessions read, matches answers, and publishes live events."""

    def __init__(
        self,
        codecs: ICodecRegistry,
        sessions: Sessions,
        store: Store,
        requests: Requests,
        events: EventLog,
        faults: FaultBoard,
    ) -> None:
        self._codecs = codecs
        self._sessions = sessions
        self._store = store
        self._requests = requests
        self._events = events
        self._faults = faults

    def session_opened(self, session: Session) -> None:
        """See ``Inbox``."""
        log.info(
            "{device} connected (connection {number} from {peer})",
            device=session.device,
            number=session.number,
            peer=session.peer,
        )
        self._store.device_seen(session.device)
        self._sessions.opened(session)
        self._events.publish("device", {"device": session.device, "connected": True})
        self._requests.device_connected(session)

    def session_closed(self, session: Session, code: int | None) -> None:
        """See ``Inbox``."""
        log.info(
            "{device} disconnected (connection {number}, close code {code}, {messages} read)",
            messages=counted(session.traffic.messages_in, "message"),
            device=session.device,
            number=session.number,
            code=code,
            read=session.traffic.messages_in,
        )
        self._sessions.closed(session)
        is_connected = self._sessions.get(session.device) is not None
        self._events.publish("device", {"device": session.device, "connected": is_connected})

    def message_read(
        self, session: Session, number: int, payload: bytes, content_type: ContentType | None
    ) -> None:
        """See ``Inbox``."""
        message = self._decode(payload, content_type)
        if isinstance(message, Telemetry):
            self._telemetry_read(session, number, message)
        elif isinstance(message, Answer):
            self._requests.answer_read(session.device, message)
        else:
            log.info(
                "{device}: message {number} of {size} bytes is unreadable: {reason}",
                device=session.device,
                number=number,
                size=len(payload),
                reason=message.reason,
            )
            self._events.publish(
                "unreadable",
                {"device": session.device, "message": number, "reason": message.reason},
            )

    def _decode(
        self, payload: bytes, content_type: ContentType | None
    ) -> Telemetry | Answer | Unreadable:
        if content_type is None:
            return Unreadable("the first byte is of no known format")
        try:
            return read_message(self._codecs.codec(content_type).decode(payload))
        except CodecError as error:
            return Unreadable(str(error))

    def _telemetry_read(self, session: Session, number: int, telemetry: Telemetry) -> None:
        kept = self._store.received(session.device, telemetry)
        points = [_live(point, at_ms, json) for point, at_ms, json in kept]
        device = telemetry.device or session.device
        self._events.publish(
            "datapoints", {"device": device, "message": number, "datapoints": points}
        )

    def operation_changed(self, operation: Operation) -> None:
        """Publish the change as a live event."""
        self._events.publish(
            "operation",
            {
                "id": operation.id,
                "device": operation.device,
                "name": operation.name,
                "state": operation.state.value,
            },
        )

    def fault_changed(self, device: str | None) -> None:
        """Apply the fault to the open sessions of a device (None: all)."""
        self._events.publish("fault", {"device": device})
        for session in self._sessions.of(device):
            session.apply(self._faults.effective(session.device))


def _live(point: Point, at_ms: int, json: bytes) -> dict[str, Any]:
    """A datapoint for a live event; leaves out a large value, which readers can query."""
    live = {"datastream": point.datastream, "feed": point.feed, "at": at_ms}
    if len(json) <= _MAX_LIVE_VALUE_BYTES:
        return {**live, "value": msgspec.Raw(json)}
    return {**live, "omitted": len(json)}
