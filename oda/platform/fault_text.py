"""Faults as words, for the command line and for scenarios. Pure.

A member is written ``name`` (a switch) or ``name=value``: ``freeze``, ``refuse=429 retryAfter=5``,
``pong=late pongDelay=2.5``. A leading ``on <device>`` selects one device.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from oda.platform.faults import MEMBERS, Fault, Incident, read_fault, write_fault
from oda.platform.wire import WrongParameter


def split_target(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The device of ``on <device> ...`` (None without it) and the other words.

    The device id may be percent-encoded. Raises ``WrongParameter``.
    """
    if not words or words[0] != "on":
        return None, list(words)
    if len(words) < 2:
        raise WrongParameter("on", "the device is missing")
    return unquote(words[1]), list(words[2:])


def read_fault_words(words: Sequence[str]) -> Fault:
    """The fault that these words describe; raises ``WrongParameter`` naming the member."""
    members: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        field = MEMBERS.get(name)
        if field is None:
            raise WrongParameter(name, f"unknown; known are {', '.join(MEMBERS)}")
        if name in members:
            raise WrongParameter(name, "is given twice")
        members[name] = _read_value(name, field.type, value if equals else None)
    if not members:
        raise WrongParameter("fault", "is missing")
    return read_fault(members)


def _read_value(name: str, kind: Any, text: str | None) -> Any:
    kinds = getattr(kind, "__args__", (kind,))
    if bool in kinds:
        if text is not None:
            raise WrongParameter(name, "takes no value")
        return True
    if text is None:
        raise WrongParameter(name, f"needs a value: {name}=...")
    if int in kinds or float in kinds:
        try:
            return int(text) if int in kinds else float(text)
        except ValueError:
            raise WrongParameter(name, f"{text!r} is not a number") from None
    return text


def write_fault_words(fault: Fault) -> str:
    """The words that describe ``fault``, quoted for a shell; "" for normal behaviour."""
    members = write_fault(fault).items()
    return " ".join(
        name if value is True else f"{name}={shlex.quote(str(value))}" for name, value in members
    )


def as_incident(fault: Fault) -> Incident | None:
    """The fault as an incident that happens once; None if it is not one."""
    members = set(write_fault(fault))
    if members == {"reset"} or members in ({"close"}, {"close", "closeReason"}):
        return Incident(reset=fault.reset, close=fault.close, reason=fault.close_reason)
    return None
