"""What travels through the agent: events on their way up, operations on their way down; and what
the connection says of itself.

All types are frozen. ``TelemetryDocument`` and its parts have the member names and the member
order of the wire, so that a codec can write them without a second representation; members that
are None are left out (OpenGate protocol, "Telemetry").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import msgspec

#: The protocol version that every message of the device carries.
PROTOCOL_VERSION = "9.0"

#: The id by which components of the agent mean the host device itself.
HOST = ""


#: The part of a device pattern that stands for any text.
WILDCARD = "*"


class DevicePattern:
    """Which devices a text names (OpenGate protocol, "Configuration files").

    "" names the host only, a text without ``*`` one device, a text with one ``*`` every device
    whose id begins with what stands before it and ends with what stands after it; ``*`` alone names
    every device, the host included. A text with several ``*`` is the plain id of one device.
    """

    __slots__ = ("_prefix", "_suffix", "_text", "is_wildcard")

    def __init__(self, text: str) -> None:
        self._text = text
        self._prefix, _, self._suffix = text.partition(WILDCARD)
        self.is_wildcard = text.count(WILDCARD) == 1

    def matches(self, device_id: str) -> bool:
        """Whether ``device_id`` ("" being the host) is one of the devices it names."""
        if not self.is_wildcard:
            return device_id == self._text
        return (
            len(device_id) >= len(self._prefix) + len(self._suffix)
            and device_id.startswith(self._prefix)
            and device_id.endswith(self._suffix)
        )

    def __repr__(self) -> str:
        return f"DevicePattern({self._text!r})"


def device_order(device_id: str) -> tuple[bool, str]:
    """Sorting key for devices: the host first, then by id."""
    return (device_id != HOST, device_id)


class _Spelled(Enum):
    """An enum whose values are texts; ``text`` is the value.

    Each message needs several of these. Enum computes the value and the hash in Python code, which
    costs more than what is done with them.
    """

    text: str

    def __init__(self, text: str) -> None:
        self.text = text

    # Each member exists once.
    __hash__ = object.__hash__


class ContentType(_Spelled):
    """The formats of a payload. The values are the configuration's spelling."""

    JSON = "JSON"
    MESSAGE_PACK = "MESSAGE_PACK"
    CBOR = "CBOR"


class MessageClass(_Spelled):
    """Why a message is sent. Responses overtake telemetry and have room reserved for them."""

    RESPONSE = "response"
    TELEMETRY = "telemetry"


class ResultCode(_Spelled):
    """``resultCode`` of an operation response."""

    SUCCESSFUL = "SUCCESSFUL"
    ERROR_IN_PARAM = "ERROR_IN_PARAM"
    NOT_SUPPORTED = "NOT_SUPPORTED"
    ERROR_PROCESSING = "ERROR_PROCESSING"


class StepResult(_Spelled):
    """``result`` of one step of an operation response."""

    SUCCESSFUL = "SUCCESSFUL"
    ERROR = "ERROR"
    SKIPPED = "SKIPPED"
    NOT_EXECUTED = "NOT_EXECUTED"


class Event(msgspec.Struct, frozen=True, gc=False):
    """One datapoint of one datastream.

    ``device_id`` is "" (or the agent's own id) for the host device. ``at_ms`` and ``from_ms`` are
    milliseconds since the Unix epoch; a missing ``at_ms`` is filled when the event is accepted.
    ``path`` lists the gateways between the host and the device. ``value`` is anything JSON can
    carry: None, bool, int, float, str, list, and dict with text keys.
    """

    datastream_id: str
    value: Any
    device_id: str = HOST
    at_ms: int | None = None
    feed: str | None = None
    path: tuple[str, ...] = ()
    from_ms: int | None = None


class Datapoint(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A datapoint as it is on the wire; times are milliseconds since the Unix epoch."""

    at: int | None = None
    value: Any = None
    from_: int | None = msgspec.field(default=None, name="from")


class Datastream(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The datapoints of one datastream and feed, oldest first, as they are on the wire."""

    id: str
    feed: str | None = None
    datapoints: Sequence[Datapoint]


class TelemetryDocument(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One telemetry message: the datastreams of one device, as they are on the wire.

    ``version`` is always ``PROTOCOL_VERSION``; it has no default here because defaults are left
    out. ``device`` and ``path`` are None in the reduced form of the host device.
    """

    version: str
    device: str | None = None
    path: Sequence[str] | None = None
    datastreams: Sequence[Datastream]


class Reading(msgspec.Struct, frozen=True):
    """What a getter returns. A missing ``at_ms`` means the time of the reading itself."""

    value: Any
    at_ms: int | None = None
    feed: str | None = None


class ValueStatus(Enum):
    """Whether a datastream could be read or written."""

    OK = "OK"
    NOT_FOUND = "NOT_FOUND"
    ERROR = "ERROR"


class DatastreamValue(msgspec.Struct, frozen=True):
    """The outcome of reading or writing one datastream of one device.

    ``at_ms`` is milliseconds since the Unix epoch; ``error`` is the reason when ``status`` is
    ERROR.
    """

    datastream_id: str
    device_id: str
    status: ValueStatus
    value: Any = None
    at_ms: int | None = None
    feed: str | None = None
    error: str | None = None


class OperationRequest(msgspec.Struct, frozen=True):
    """An operation the platform asks for.

    ``device_id`` is "" when the request named no device or the agent's own id (it means the host
    device); ``requested_device_id`` is what the answer has to echo. ``parameters`` is always the
    object form, whichever dialect the request used.
    """

    id: str
    name: str
    device_id: str = HOST
    requested_device_id: str = HOST
    path: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = msgspec.field(default_factory=dict)
    timestamp_ms: int | None = None


class Step(msgspec.Struct, frozen=True):
    """One step of an operation's answer. Members that are None are left out on the wire."""

    name: str
    result: StepResult
    description: str | None = None
    response: Sequence[Any] | None = None
    timestamp_ms: int | None = None


class OperationResult(msgspec.Struct, frozen=True):
    """What an operation returns; the dispatcher makes the wire response of it.

    ``steps`` None means: one step named like the operation, with this description, if the result
    is SUCCESSFUL, and no steps otherwise (as the reference agent has it).
    """

    result_code: ResultCode = ResultCode.SUCCESSFUL
    description: str | None = None
    steps: Sequence[Step] | None = None


class OutgoingMessage(msgspec.Struct, frozen=True):
    """A message on its way to the outbox.

    ``payload`` is what is stored and resent. ``fresh_payload``, when given, is sent instead of it
    on the first attempt, as long as that happens before ``fresh_until_s`` on the monotonic clock:
    the reduced form of telemetry has no time of its own and must not be sent late.
    ``is_text`` chooses a WebSocket text frame. ``datapoints`` is only counted.

    ``record`` is the number that ``IJournal.begin`` gave, where this is the final answer to an
    operation: the end of the operation and its answer are committed in one transaction.
    ``waits_for_commit``: the message must not be sent before it is committed.
    """

    payload: bytes
    message_class: MessageClass
    is_text: bool = False
    datapoints: int = 0
    fresh_payload: bytes | None = None
    fresh_until_s: float = 0.0
    record: int | None = None
    waits_for_commit: bool = False


class Answer(msgspec.Struct, frozen=True):
    """The final answer to a request, as a dispatcher hands it to the connector.

    ``record`` and ``waits_for_commit`` are those of ``OutgoingMessage``; ``record`` is None for a
    request that is not in the journal, or whose record has its answer already.
    """

    payload: bytes
    record: int | None = None
    waits_for_commit: bool = False


class OutboxRow(msgspec.Struct, frozen=True):
    """A message taken from the outbox to be sent. ``row_id`` grows with the order of acceptance."""

    row_id: int
    payload: bytes
    message_class: MessageClass
    is_text: bool
    datapoints: int
    attempts: int


class JournalEntry(msgspec.Struct, frozen=True):
    """What is known of an operation whose id was seen before.

    ``payload`` is its final answer. It is None while the operation is running, and where the
    operation ``has_ended`` but its answer is no longer kept, or ``is_unreadable`` now because the
    store fails.
    """

    name: str
    payload: bytes | None = None
    content_type: ContentType | None = None
    has_ended: bool = False
    is_unreadable: bool = False


class LinkState(Enum):
    """What the connection is doing."""

    STOPPED = "stopped"
    IDENTIFYING = "identifying"
    CONNECTING = "connecting"
    OPEN = "open"
    CLOSING = "closing"
    WAITING = "waiting"


class ConnectionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The connection at one moment; nothing in it is secret.

    ``since_s`` is how long it has been open or waiting (0 in other states), ``retry_in_s`` when the
    next attempt comes. ``peer_class`` is how the platform answers pings; ``is_proven`` tells
    whether it has answered one on this connection (or none can be expected), ``ping_waits_s`` how
    long the one that is not answered yet has been waiting, None when none is. ``keep_alive_s`` is
    how often one goes out on a silent connection: less than ``keepAliveInterval`` where silent
    connections were found to die earlier. ``unacknowledged`` counts messages sent that nothing has
    proven yet. Certificates' ends are milliseconds since the Unix epoch, None where there is no
    such certificate.
    """

    state: LinkState
    url: str
    since_s: float = 0.0
    retry_in_s: float | None = None
    last_end: str | None = None
    peer_class: str = "pong"
    is_proven: bool = True
    ping_waits_s: float | None = None
    keep_alive_s: float = 0.0
    pong_timeout_s: float = 30.0
    unacknowledged: int = 0
    platform_certificate_ends_ms: int | None = None
    client_certificate_ends_ms: int | None = None


class InterruptedOperation(msgspec.Struct, frozen=True):
    """An operation that was running when the process ended, and has no answer yet.

    ``request`` has no parameters: they are not kept. ``content_type`` is the answer's format,
    ``record`` its number in the journal. ``saved`` is what ``IJournal.save`` kept last, None if
    nothing.
    """

    request: OperationRequest
    content_type: ContentType
    record: int = 0
    saved: bytes | None = None


class ElementOperation(_Spelled):
    """What an UPDATE does with one of its elements."""

    INSTALL = "INSTALL"
    UPGRADE = "UPGRADE"
    UNINSTALL = "UNINSTALL"


class Validator(msgspec.Struct, frozen=True):
    """One check of a downloaded file: the digest, or the signature, that it must have."""

    type: str
    value: str


class DeploymentElement(msgspec.Struct, frozen=True, kw_only=True):
    """One element of an UPDATE, as the platform described it.

    ``type`` is SOFTWARE, FIRMWARE, CONFIGURATION, PARAMETERS, RULE or DEFAULT. ``path`` is "" where
    the request names none. ``size`` is the exact length of the file in bytes, None if it is not
    known. ``download_url`` is None for an UNINSTALL only.
    """

    name: str
    version: str
    type: str
    operation: ElementOperation
    path: str = ""
    download_url: str | None = None
    order: int = 0
    size: int | None = None
    validators: tuple[Validator, ...] = ()
    old_name: str | None = None
    old_version: str | None = None
    old_path: str | None = None

    @property
    def label(self) -> str:
        """Name and version, for people."""
        return f"{self.name} {self.version}"
