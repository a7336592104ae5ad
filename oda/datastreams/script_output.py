"""The output of a script as a value of the type in its line. Pure; problems are ``ValueError``
texts (OpenGate protocol, "Configuration files")."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import msgspec

from oda.settings import ValueType

_WHOLE = re.compile(r"[+-]?[0-9]+", re.ASCII)
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_SHOWN_CHARACTERS = 60


def parse_output(output: bytes, value_type: ValueType) -> Any:
    """The value: the first line that is not blank, without surrounding white space. For JSON, the
    whole output, or that line if the whole is not JSON.

    CR, LF or both end a line, as in the reference agent, and no other character does. The rest
    after the value may be in any encoding. The text of a ``ValueError`` shows its start.
    """
    written = next((line for line in output.splitlines() if line.strip()), b"")
    if value_type is ValueType.JSON and (_is_json(output) or not _is_json(written)):
        written = output
    try:
        text = written.decode().strip()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the output is not UTF-8 ({error.reason} at byte {error.start})"
        ) from None
    if not text:
        raise ValueError(f"the script wrote nothing, {value_type.value} expected")
    return _PARSERS[value_type](text)


def _boolean(text: str) -> bool:
    return text.lower() == "true"


def _whole(name: str, bits: int) -> Callable[[str], int]:
    limit = 1 << bits - 1

    def parse(text: str) -> int:
        if not _WHOLE.fullmatch(text):
            raise ValueError(f"{_shown(text)} is not a valid {name}")
        # The longest texts can't be in range, and converting them would take long.
        if len(text) > 40 or not -limit <= (number := int(text)) < limit:
            raise ValueError(f"{_shown(text)} is out of range for {name} ({bits} bits)")
        return number

    return parse


def _decimal(name: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        if not _DECIMAL.fullmatch(text):
            raise ValueError(f"{_shown(text)} is not a valid {name}")
        number = float(text)
        if math.isinf(number):
            raise ValueError(f"{_shown(text)} is out of range for {name}")
        return number

    return parse


def _is_json(written: bytes) -> bool:
    try:
        _json(written.decode())
    except ValueError:
        return False
    return True


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ValueError(f"{_shown(text)} is not JSON: {error}") from None
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…")


_PARSERS: dict[ValueType, Callable[[str], Any]] = {
    ValueType.STRING: str,
    ValueType.BOOLEAN: _boolean,
    ValueType.INTEGER: _whole("INTEGER", 32),
    ValueType.LONG: _whole("LONG", 64),
    ValueType.FLOAT: _decimal("FLOAT"),
    ValueType.DOUBLE: _decimal("DOUBLE"),
    ValueType.JSON: _json,
}
