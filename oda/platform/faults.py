"""The ways to misbehave, as data: what a fault is, and which one applies to a device. Pure.

A ``Fault`` lasts until it is changed or cleared. An ``Incident`` happens once, to the connections
that are open at that moment.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import msgspec

from oda.platform.wire import WrongParameter


class Refusal(Enum):
    """How to answer a device that requests the WebSocket."""

    UNAUTHORIZED = "401"
    FORBIDDEN = "403"
    NOT_FOUND = "404"
    TOO_MANY_REQUESTS = "429"
    UNAVAILABLE = "503"
    GARBAGE = "garbage"
    SILENCE = "silence"


class PongMode(Enum):
    """How to answer a ping.

    ``coalesce``: of the pings within ``pong_delay_s``, only the newest gets an answer. ``late``:
    each pong is delayed by ``pong_delay_s``. ``die``: after the pong, the connection is gone.
    ``early``: the pong is sent at once, but the messages before the ping are read ``pong_delay_s``
    later (and lost if the connection ends first).
    """

    NORMAL = "normal"
    DROP = "drop"
    COALESCE = "coalesce"
    EMPTY = "empty"
    WRONG = "wrong"
    DIE = "die"
    EARLY = "early"
    LATE = "late"


class OperationsMode(Enum):
    """How to send operations. ``reorder``: each waits for the next one, which overtakes it (or for
    one second)."""

    NORMAL = "normal"
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    MALFORMED = "malformed"


class Fault(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    rename={
        "retry_after_s": "retryAfter",
        "slow_bytes_per_s": "slow",
        "pong_delay_s": "pongDelay",
        "terminate_after_pings": "terminateAfterPings",
        "close_above_bytes": "closeAboveBytes",
        "close_reason": "closeReason",
        "after_messages": "afterMessages",
    },
):
    """How the platform treats a device. Members left out mean normal behaviour.

    ``refuse`` upgrades (``retry_after_s`` goes with 429 and 503); ``freeze`` reads nothing;
    ``slow_bytes_per_s`` limits reading; ``reset`` (TCP RST) and ``close`` (with that code) end
    every connection after ``after_messages`` messages (0: at once); ``terminate_after_pings`` cuts
    the connection at that ping; ``close_above_bytes`` closes with 1009.
    """

    refuse: Refusal | None = None
    retry_after_s: int | None = None
    freeze: bool = False
    slow_bytes_per_s: int | None = None
    pong: PongMode = PongMode.NORMAL
    pong_delay_s: float = 1.0
    terminate_after_pings: int | None = None
    close_above_bytes: int | None = None
    reset: bool = False
    close: int | None = None
    close_reason: str = ""
    after_messages: int = 0
    operations: OperationsMode = OperationsMode.NORMAL


#: The members of a ``Fault``, by their names in JSON and on the command line.
MEMBERS = {field.encode_name: field for field in msgspec.structs.fields(Fault)}

NORMAL = Fault()

_MAXIMUM = 1_000_000_000
_MINIMUM = {
    "retryAfter": 0,
    "slow": 1,
    "pongDelay": 0,
    "terminateAfterPings": 1,
    "closeAboveBytes": 1,
    "close": 0,
    "afterMessages": 0,
}


def read_fault(document: Any) -> Fault:
    """The fault in a JSON map; raises ``WrongParameter`` naming the member."""
    if not isinstance(document, dict):
        raise WrongParameter("fault", "must be a map")
    for name, value in document.items():
        field = MEMBERS.get(name)
        if field is None:
            raise WrongParameter(str(name), f"unknown; known are {', '.join(MEMBERS)}")
        try:
            msgspec.convert(value, field.type)
        except msgspec.ValidationError as error:
            raise WrongParameter(name, _explain(field.type, error)) from None
        _check_range(name, value)
    return msgspec.convert(document, Fault)


def _explain(wanted: Any, error: Exception) -> str:
    for kind in (Refusal, PongMode, OperationsMode):
        if kind in getattr(wanted, "__args__", (wanted,)):
            return f"must be one of {', '.join(member.value for member in kind)}"
    return str(error)


def _check_range(name: str, value: Any) -> None:
    minimum = _MINIMUM.get(name)
    if minimum is not None and value is not None:
        maximum = 65535 if name == "close" else _MAXIMUM
        if not minimum <= value <= maximum:  # this also refuses NaN
            raise WrongParameter(name, f"must be from {minimum} to {maximum}")
    if name == "closeReason" and len(value.encode()) > 123:
        raise WrongParameter(name, "must be at most 123 bytes")


def write_fault(fault: Fault) -> dict[str, Any]:
    """The fault as a JSON map without normal members."""
    document: dict[str, Any] = msgspec.to_builtins(fault)
    return document


def merge(general: Fault, special: Fault) -> Fault:
    """``general`` with every member that ``special`` changes from normal."""
    return read_fault({**write_fault(general), **write_fault(special)})


class FaultBoard:
    """The faults in force: one for all devices, overlaid by one per device."""

    def __init__(self, general: Fault = NORMAL) -> None:
        self._general = general
        self._by_device: dict[str, Fault] = {}
        self._subscribers: list[Callable[[str | None], None]] = []

    def subscribe(self, changed: Callable[[str | None], None]) -> None:
        """Call ``changed`` with the device whose fault changed, None for all devices."""
        self._subscribers.append(changed)

    def get(self, device: str | None) -> Fault:
        """The fault set for this device (None: for all)."""
        return self._general if device is None else self._by_device.get(device, NORMAL)

    def effective(self, device: str) -> Fault:
        """The fault that applies to this device."""
        special = self._by_device.get(device)
        return self._general if special is None else merge(self._general, special)

    def devices(self) -> dict[str, Fault]:
        """The faults set for single devices."""
        return dict(self._by_device)

    def set(self, device: str | None, fault: Fault) -> None:
        """Replace the fault of ``device`` (None: of all devices)."""
        if device is None:
            self._general = fault
        elif fault == NORMAL:
            self._by_device.pop(device, None)
        else:
            self._by_device[device] = fault
        for changed in self._subscribers:
            changed(device)

    def clear(self, device: str | None) -> None:
        """Clear the fault of ``device`` (None: the general fault; those of single devices stay)."""
        self.set(device, NORMAL)


class Incident(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event that happens once: ``reset`` (TCP RST) or ``close`` with that code."""

    reset: bool = False
    close: int | None = None
    reason: str = ""


def read_incident(document: Any) -> Incident:
    """The incident in a JSON map; raises ``WrongParameter`` naming the member."""
    if not isinstance(document, dict):
        raise WrongParameter("incident", "must be a map")
    unknown = set(document) - {"reset", "close", "reason"}
    if unknown:
        raise WrongParameter(sorted(map(str, unknown))[0], "unknown; known: reset, close, reason")
    checked = read_fault(
        {
            "reset": document.get("reset", False),
            "close": document.get("close"),
            "closeReason": document.get("reason", ""),
        }
    )
    if checked.reset == (checked.close is not None):
        raise WrongParameter("reset", "give either reset: true or close: <code>")
    return Incident(reset=checked.reset, close=checked.close, reason=checked.close_reason)
