"""What a message may hold: one rule for all formats, checked before anything is encoded.

A value is None, bool, int (64 bits, signed or unsigned), float (finite), str, list, tuple, or dict
with text keys; the binary formats also carry bytes. Types must match exactly, because each library
might write a subclass differently. The binary formats refuse NaN and Infinity as well, so that the
choice of the format never decides whether a datapoint can be published.

A fault is raised without a path. Every container that it passes on its way out adds its own step,
so the path costs nothing unless there is a fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Final

import msgspec

from oda.codecs.limits import MAX_DEPTH, MAX_INTEGER, MAX_VALUE_DEPTH, MIN_INTEGER
from oda.errors import EncodeError
from oda.model import Datapoint, Datastream, TelemetryDocument

#: Longer keys are cut in the text of an error.
_SHOWN_KEY_LENGTH: Final = 40

#: The containers around a datapoint's value: document, datastreams, datastream, datapoints,
#: datapoint.
_DEPTH_OF_A_DATAPOINT: Final = 5


class _FaultError(Exception):
    """A value that can't be encoded; ``steps`` leads to it, innermost first."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.steps: list[str] = []

    def error(self, path: str) -> EncodeError:
        return EncodeError(self.problem, path + "".join(reversed(self.steps)))


def check_value(
    value: object, path: str = "$", *, binary: bool = False, max_depth: int = MAX_VALUE_DEPTH
) -> None:
    """Return if ``value`` can be a datapoint's value, else raise ``EncodeError``.

    ``path`` is where the value stands; the error's path starts with it. ``binary`` allows bytes.
    """
    try:
        _check(value, max_depth, binary, False)
    except _FaultError as fault:
        raise fault.error(path) from None


def is_plain(value: object, max_depth: int = MAX_VALUE_DEPTH) -> bool:
    """Whether ``value`` is certainly right: containers, texts, and numbers that every format
    carries.

    False only says that a closer look is needed. This does not notice a text that is invalid
    Unicode; every encoder refuses that. It works level by level, because a call for each member
    would cost more than everything else.
    """
    level: list[Any] = [value]
    for _ in range(max_depth + 1):
        below: list[Any] = []
        for members in level:
            kind = type(members)
            if kind is dict:
                for key in members:
                    if type(key) is not str:
                        return False
                members = members.values()
            elif kind is not list and kind is not tuple:
                return False
            for member in members:
                kind = type(member)
                if kind is str or member is None or kind is bool:
                    continue
                if kind is int:
                    if not MIN_INTEGER <= member <= MAX_INTEGER:
                        return False
                elif kind is float:
                    if member - member != 0.0:
                        return False
                else:
                    below.append(member)
        if not below:
            return True
        level = below
    return False


def check_message(message: object, *, binary: bool = False, max_depth: int = MAX_DEPTH) -> None:
    """As ``check_value`` for a whole message, in which types of ``oda.model`` may stand for
    objects anywhere."""
    try:
        if type(message) is TelemetryDocument:
            _check_telemetry(message, max_depth, binary)
        else:
            _check(message, max_depth, binary, True)
    except _FaultError as fault:
        raise fault.error("$") from None


def _check(value: Any, room: int, binary: bool, structs: bool) -> None:
    """``room`` is how many more levels of containers are allowed."""
    kind = type(value)
    if kind is float:
        if value - value == 0.0:
            return
        raise _FaultError(f"{value} is not a finite number")
    if kind is int:
        if MIN_INTEGER <= value <= MAX_INTEGER:
            return
        raise _FaultError("the integer needs more than 64 bits")
    if kind is str:
        if not value.isascii():
            _check_text(value)
        return
    if value is None or kind is bool:
        return
    if kind is dict:
        _check_dict(value, room, binary, structs)
    elif kind is list or kind is tuple:
        _check_list(value, room, binary, structs)
    elif kind is bytes:
        if not binary:
            raise _FaultError("JSON can't carry bytes; encode them as text first")
    elif structs and isinstance(value, msgspec.Struct):
        _check_struct(value, room, binary)
    else:
        raise _FaultError(
            f"{kind.__module__}.{kind.__qualname__} is not a value; "
            "allowed are None, bool, int, float, str, list, tuple and dict"
        )


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _FaultError(f"the text has a lone surrogate at index {error.start}") from None


def _check_dict(value: dict[Any, Any], room: int, binary: bool, structs: bool) -> None:
    if not room:
        raise _FaultError("nested too deeply")
    key: Any = None
    try:
        for key, member in value.items():
            if type(key) is not str:
                raise _FaultError(f"the key {_shown(key)} is not text")
            if not key.isascii():
                _check_text(key)
            _check(member, room - 1, binary, structs)
    except _FaultError as fault:
        fault.steps.append(_member(key))
        raise


def _check_list(value: Sequence[Any], room: int, binary: bool, structs: bool) -> None:
    if not room:
        raise _FaultError("nested too deeply")
    index = 0
    try:
        for index, member in enumerate(value):  # noqa: B007 - for the path
            _check(member, room - 1, binary, structs)
    except _FaultError as fault:
        fault.steps.append(f"[{index}]")
        raise


def _check_struct(struct: msgspec.Struct, room: int, binary: bool) -> None:
    if not room:
        raise _FaultError("nested too deeply")
    wire_name = ""
    try:
        for name, wire_name in zip(  # noqa: B007 - for the path
            struct.__struct_fields__, struct.__struct_encode_fields__, strict=True
        ):
            value = getattr(struct, name)
            # An enumeration of the model stands for its text; elsewhere it is an accident.
            _check(value.value if isinstance(value, Enum) else value, room - 1, binary, True)
    except _FaultError as fault:
        fault.steps.append(_member(wire_name))
        raise


def _check_telemetry(document: TelemetryDocument, room: int, binary: bool) -> None:
    """As ``_check_struct``, written out because it runs for every datapoint."""
    below = room - _DEPTH_OF_A_DATAPOINT
    if below < 0:
        raise _FaultError("nested too deeply")
    stream_index, point_index, member = 0, 0, ""
    try:
        for stream_index, stream in enumerate(document.datastreams):  # noqa: B007 - for the path
            point_index, member = -1, ""
            if type(stream) is not Datastream:
                raise _FaultError(f"{type(stream).__qualname__} is not a Datastream")
            for point_index, point in enumerate(stream.datapoints):  # noqa: B007 - for the path
                if type(point) is not Datapoint:
                    member = ""
                    raise _FaultError(f"{type(point).__qualname__} is not a Datapoint")
                member = ".value"
                _check(point.value, below, binary, False)
                at = point.at
                if at.__class__ is not int or not 0 <= at <= MAX_INTEGER:
                    member = ".at"
                    _check_time(at)
                if point.from_ is not None:
                    member = ".from"
                    _check_time(point.from_)
            point_index, member = -1, ".id"
            _check(stream.id, 0, False, False)
            member = ".feed"
            _check(stream.feed, 0, False, False)
    except _FaultError as fault:
        fault.steps.append(
            f".datastreams[{stream_index}]"
            + (f".datapoints[{point_index}]" if point_index >= 0 else "")
            + member
        )
        raise
    for name, text in (("version", document.version), ("device", document.device)):
        _check_at(name, text, room)
    _check_at("path", document.path, room)


def _check_time(time_ms: object) -> None:
    if time_ms is not None and type(time_ms) is not int:
        raise _FaultError(f"{type(time_ms).__qualname__} is not a time in whole milliseconds")
    _check(time_ms, 0, False, False)


def _check_at(name: str, value: object, room: int) -> None:
    try:
        _check(value, room - 1, False, False)
    except _FaultError as fault:
        fault.steps.append(_member(name))
        raise


def _member(key: object) -> str:
    """The step of a path that leads to the member ``key``."""
    if type(key) is str and key.isidentifier() and len(key) <= _SHOWN_KEY_LENGTH:
        return f".{key}"
    return f"[{_shown(key)}]"


def _shown(key: object) -> str:
    if type(key) in (str, bytes) and len(key) > _SHOWN_KEY_LENGTH:  # type: ignore[arg-type]
        return ascii(key[:_SHOWN_KEY_LENGTH]) + "..."  # type: ignore[index]
    if type(key) in (str, bytes, int, float, bool, type(None)):
        try:
            return ascii(key)[: 2 * _SHOWN_KEY_LENGTH]
        except ValueError:  # an integer of thousands of digits can't be shown
            return "int"
    return type(key).__qualname__
