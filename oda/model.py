"""What travels through the agent: events up, operations down, and the state of the connection.

All types are frozen. ``TelemetryDocument`` and its parts have the member names and the member
order of the wire, so a codec can write them without a second representation; members that are None
are left out (OpenGate protocol, "Telemetry").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

import msgspec

#: The protocol version in every message of the device.
PROTOCOL_VERSION = "9.0"

#: The id by which the agent's components name the host device.
HOST = ""


#: The part of a device pattern that stands for any text.
WILDCARD = "*"


class DevicePattern:
    """The devices that a text names (OpenGate protocol, "Configuration files").

    "" names the host only. A text without ``*`` names one device. A text with one ``*`` names every
    device whose id starts with the text before it and ends with the text after it; ``*`` alone
    names every device, the host included. A text with several ``*`` is the plain id of one device.
    """

    __slots__ = ("_prefix", "_suffix", "_text", "is_wildcard")

    def __init__(self, text: str) -> None:
        self._text = text
        self._prefix, _, self._suffix = text.partition(WILDCARD)
        self.is_wildcard = text.count(WILDCARD) == 1

    def matches(self, device_id: str) -> bool:
        """Whether ``device_id`` ("" is the host) is one of these devices."""
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
    costs more than using them.
    """

    text: str

    def __init__(self, text: str) -> None:
        self.text = text

    # Each member exists once, so identity is enough.
    __hash__ = object.__hash__


class ContentType(_Spelled):
    """The formats of a payload. The values are spelled as in the configuration."""

    JSON = "JSON"
    MESSAGE_PACK = "MESSAGE_PACK"
    CBOR = "CBOR"


class MessageClass(_Spelled):
    """The kind of a message. Responses overtake telemetry and have room reserved for them."""

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


class Moment(msgspec.Struct, frozen=True, gc=False):
    """A point on the clock that no correction of the time of day moves: so many milliseconds after
    the start of the machine that ``boot_id`` names."""

    boot_id: str
    uptime_ms: int


class Event(msgspec.Struct, frozen=True, gc=False):
    """One datapoint of one datastream.

    ``device_id`` is "" (or the agent's own id) for the host device. ``at_ms`` and ``from_ms`` are
    milliseconds since the Unix epoch; the agent fills in a missing ``at_ms`` on acceptance.
    ``path`` lists the gateways between the host and the device. ``value`` is anything that JSON can
    carry: None, bool, int, float, str, list, and dict with text keys. ``taken`` is for readings
    taken before the time of day was right (docs/time.md): they get their ``at_ms`` from it.
    """

    datastream_id: str
    value: Any
    device_id: str = HOST
    at_ms: int | None = None
    feed: str | None = None
    path: tuple[str, ...] = ()
    from_ms: int | None = None
    taken: Moment | None = None


class Datapoint(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A datapoint in wire form; times are milliseconds since the Unix epoch."""

    at: int | None = None
    value: Any = None
    from_: int | None = msgspec.field(default=None, name="from")


class Datastream(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The datapoints of one datastream and feed in wire form, oldest first."""

    id: str
    feed: str | None = None
    datapoints: Sequence[Datapoint]


class TelemetryDocument(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One telemetry message in wire form: the datastreams of one device.

    ``version`` is always ``PROTOCOL_VERSION``. It has no default here because members with their
    default are left out. ``device`` and ``path`` are None in the reduced form of the host device.
    """

    version: str
    device: str | None = None
    path: Sequence[str] | None = None
    datastreams: Sequence[Datastream]


class Reading(msgspec.Struct, frozen=True):
    """What a getter returns. Without ``at_ms``, the time of the reading counts."""

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

    ``at_ms`` is milliseconds since the Unix epoch, None where the time of day could not be believed
    (``taken`` then says when it was); ``error`` is the reason when ``status`` is ERROR.
    """

    datastream_id: str
    device_id: str
    status: ValueStatus
    value: Any = None
    at_ms: int | None = None
    feed: str | None = None
    error: str | None = None
    taken: Moment | None = None


class OperationRequest(msgspec.Struct, frozen=True):
    """An operation that the platform requests.

    ``device_id`` is "", the host device, when the request named no device or the agent's own id.
    The answer must echo ``requested_device_id``. ``parameters`` is always in object form, whichever
    dialect the request used.
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
    """What an operation returns; the dispatcher turns it into the wire response.

    ``steps`` None means one step with the operation's name and this description for SUCCESSFUL, and
    no steps otherwise (as in the reference agent).
    """

    result_code: ResultCode = ResultCode.SUCCESSFUL
    description: str | None = None
    steps: Sequence[Step] | None = None


class OutgoingMessage(msgspec.Struct, frozen=True):
    """A message for the outbox.

    ``payload`` is stored and resent. The first attempt sends ``fresh_payload`` instead, if there is
    one and the attempt happens before ``fresh_until_s`` on the monotonic clock: the reduced form of
    telemetry has no time of its own and must not be sent late. ``is_text`` chooses a WebSocket text
    frame. ``datapoints`` is only counted.

    If this is the final answer to an operation, ``record`` is the number from ``IJournal.begin``;
    the operation's end and its answer are then committed in one transaction. With
    ``waits_for_commit``, the message must not be sent before it is committed.
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
    """The final answer to a request, from a dispatcher to the connector.

    ``record`` and ``waits_for_commit`` are those of ``OutgoingMessage``. ``record`` is None for a
    request that is not in the journal, or whose record already has its answer.
    """

    payload: bytes
    record: int | None = None
    waits_for_commit: bool = False


class OutboxRow(msgspec.Struct, frozen=True):
    """A message taken from the outbox for sending. ``row_id`` grows in the order of acceptance."""

    row_id: int
    payload: bytes
    message_class: MessageClass
    is_text: bool
    datapoints: int
    attempts: int


class JournalEntry(msgspec.Struct, frozen=True):
    """What the journal knows of an operation whose id it has seen before.

    ``payload`` is the final answer. It is None while the operation is running, where the operation
    ``has_ended`` but its answer is no longer kept, or where the answer ``is_unreadable`` because
    the store fails.
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

    ``since_s`` is how long it has been open or waiting (0 in other states), ``retry_in_s`` the time
    until the next attempt. ``peer_class`` is how the platform answers pings. ``is_proven`` says
    whether it has answered a ping on this connection (or can't be expected to), ``ping_waits_s``
    how long the unanswered ping has been waiting, None if there is none. ``keep_alive_s`` is the
    ping interval on a silent connection: less than ``keepAliveInterval`` where silent connections
    were found to die earlier. ``unacknowledged`` counts messages in flight. Certificate expiry
    times are milliseconds since the Unix epoch, None for no certificate.
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


class ScriptOutput(NamedTuple):
    """What a script wrote to its standard output, and how it failed: its exit status, and the last
    line of its error output; "" for status 0."""

    written: bytes
    failure: str = ""


class InterruptedOperation(msgspec.Struct, frozen=True):
    """An operation that was running when the process ended, and has no answer yet.

    ``request`` has no parameters, because they are not kept. ``content_type`` is the answer's
    format, ``record`` its number in the journal. ``saved`` is what ``IJournal.save`` kept last,
    None for an operation that saved nothing.
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
