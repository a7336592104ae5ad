"""Frames that a broken or hostile platform might send, each made from a seed and its number."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import cbor2
import msgpack

_VECTORS = Path(__file__).parents[1] / "vectors" / "operations.json"
_RECORDED = [case["request"] for case in json.loads(_VECTORS.read_text())]
_NAMES = (
    "REFRESH_INFO",
    "GET_DEVICE_PARAMETERS",
    "SET_DEVICE_PARAMETERS",
    "SET_CLOCK_EQUIPMENT",
    "SYNCHRONIZE_CLOCK",
    "DISCOVER",
    "UPDATE",
    "REBOOT_EQUIPMENT",
)
_WORDS = (
    "operation",
    "request",
    "response",
    "id",
    "name",
    "parameters",
    "variableList",
    "variableName",
    "variableValue",
    "value",
    "datetime",
    "date",
    "time",
    "timezone",
    "dst",
    "source",
    "path",
    "deviceId",
    "timestamp",
    "array",
    "object",
    "string",
    "number",
    "fuzz.value",
    "device.clock",
    "device.upTime",
    "fuzz-1",
    "fuzz-*",
    "*",
    "**",
    "2024-02-30",
    "25:61:61",
    "ntp://192.0.2.5",
    "http://192.0.2.5/",
    "https://time.invalid/",
    "file:///etc/passwd",
)
#: What a large frame is, in bytes, and what it holds.
LARGE_BYTES = 1024 * 1024
_PIECES = (
    *(b"[],", b"{},", b'"",', b"1,", b'{"a":1},', b'"device.clock",', b"NaN,", b"1.5e300,"),
    *(b" ", b"\\u0041", b"\\ud800", b"\x01", "\U0001f600".encode(), b"\xff", b"[[[],[]]],"),
)
#: The largest other frame, in bytes, but for the rare ones that are beyond what the agent accepts.
_MAX_BYTES = 60_000


class Frame(NamedTuple):
    """One WebSocket message; ``fragment_bytes`` cuts it into frames of that size, and so many
    ``pings`` go before it."""

    payload: bytes
    is_text: bool
    fragment_bytes: int | None
    pings: int = 0


def make_frame(seed: int, number: int) -> Frame:
    """The frame of that number."""
    random = Random(f"{seed}:{number}")
    message = _request(random, number)
    for _ in range(_few(random)):
        message = _alter(message, random)
    payload = random.choice(_ENCODERS)(message, random)
    if random.random() < 0.45:
        for _ in range(1 + _few(random)):
            payload = random.choice(_DAMAGES)(payload, random)
    is_text = random.random() < (0.7 if payload[:1] == b"{" else 0.02)
    if is_text and random.random() < 0.995 and not _is_utf8(payload):
        is_text = False  # a text frame that is no UTF-8 ends the connection: rare ones will do
    fragment = random.choice((1, 7, 100)) if random.random() < 0.02 else None
    if fragment == 1:
        payload = payload[:300]
    pings = random.choice((1, 100, 1000)) if random.random() < 0.01 else 0
    return Frame(payload[:_MAX_BYTES], is_text, fragment, pings)


def make_large(seed: int, number: int) -> Frame:
    """A request of a megabyte and more, nearly all of it one thing again and again."""
    random = Random(f"{seed}:{number}:large")
    count = random.choice((LARGE_BYTES, 2 * LARGE_BYTES, 4 * LARGE_BYTES - 500))
    piece = random.choice(_PIECES)
    crowd = piece * (count // len(piece))
    request_id = f'"fuzz-{number}"'.encode()
    members = {b"id": request_id, b"name": b'"REFRESH_INFO"', b"parameters": b"{}"}
    members[random.choice((*members, b"timestamp", b"other"))] = random.choice(
        (b'{"variableList":[' + crowd + b"0]}", b'"' + crowd.replace(b'"', b"") + b'"')
    )
    written = list(members.items())
    random.shuffle(written)
    inner = b",".join(b'"' + name + b'":' + value for name, value in written)
    fragment = random.choice((None, None, 4096, 70_000))
    return Frame(b'{"operation":{"request":{' + inner + b"}}}", False, fragment)


def make_giant(size_bytes: int) -> Frame:
    """A frame larger than the agent accepts."""
    return Frame(b"{" + b" " * size_bytes + b"}", False, None)


def _few(random: Random) -> int:
    return random.choice((0, 0, 1, 1, 1, 2, 2, 3, 5, 8))


def _request(random: Random, number: int) -> Any:
    if random.random() < 0.5:
        message = json.loads(json.dumps(random.choice(_RECORDED)))
        if random.random() < 0.9:
            request = message.get("operation", {}).get("request") or {}
            if isinstance(request, dict) and "id" in request:
                request["id"] = f"fuzz-{number}"
        return message
    request = {
        "id": f"fuzz-{number}" if random.random() < 0.95 else random.choice(("same", number, "")),
        "timestamp": 1_700_000_000_000 + number,
        "deviceId": random.choice((None, "", "fuzz-1", "child-1", "*", "fuzz-*")),
        "name": random.choice(_NAMES),
        "parameters": random.choice(_PARAMETERS)(random),
    }
    return {"operation": {"request": request}}


def _variable_list(random: Random) -> Any:
    names = [random.choice(_WORDS) for _ in range(random.randrange(4))]
    pairs = [{"name": name, "value": _odd(random)} for name in names]
    return {"variableList": random.choice((names, pairs))}


def _variable_list_dialect(random: Random) -> Any:
    entries = [
        {"variableName": random.choice(_WORDS), "variableValue": _odd(random)}
        for _ in range(random.randrange(4))
    ]
    return [{"name": "variableList", "value": {"array": entries}}]


def _datetime(random: Random) -> Any:
    return {
        "datetime": {
            "date": random.choice(("2024-02-03", "2024-13-45", "0000-00-00", "9999-12-31")),
            "time": random.choice(("04:05:06", "4:5", "24:00:00", "99:99:99")),
            "timezone": random.choice((0, 1, -12, 14, 99, "1", None)),
            "dst": random.choice((0, 1, -1, 10**9)),
        }
    }


_PARAMETERS: tuple[Callable[[Random], Any], ...] = (
    _variable_list,
    _variable_list_dialect,
    _datetime,
    lambda random: {"source": random.choice(_WORDS)},
    lambda random: None,
    lambda random: [],
    lambda random: {},
)


# -- altering the message --------------------------------------------------------------------


def _odd(random: Random) -> Any:
    return random.choice(_ODD)(random)


def _deep(random: Random) -> Any:
    value: Any = None
    for _ in range(random.choice((5, 40, 55, 70, 200))):
        value = [value] if random.random() < 0.5 else {random.choice(_WORDS): value}
    return value


def _crowd(random: Random) -> Any:
    return [random.choice(_WORDS) for _ in range(random.choice((10, 100, 1500)))]


_ODD: tuple[Callable[[Random], Any], ...] = (
    lambda random: None,
    lambda random: random.random() < 0.5,
    lambda random: random.choice((0, -1, 17, 2**31, 2**53 + 1, 2**63, 2**64 - 1, -(2**63))),
    lambda random: random.choice((2**64, 2**200, -(2**70), 10**400)),
    lambda random: random.choice((0.0, -0.0, 1.5, 1e308, 5e-324, 1e22)),
    lambda random: random.choice((float("nan"), float("inf"), float("-inf"))),
    lambda random: random.choice(_WORDS),
    lambda random: random.choice(("", "ü€😀", "\x00", "a" * random.choice((10, 5000)), "\ud800")),
    lambda random: random.randbytes(random.randrange(8)),
    lambda random: [],
    lambda random: {},
    lambda random: {random.choice(_WORDS): _odd(random) for _ in range(3)},
    lambda random: [_odd(random) for _ in range(3)],
    _deep,
    _crowd,
)


def _places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        if len(found) > 500:
            break
        found.append((value, key))
        if isinstance(inner, dict | list) and len(found) < 500:
            _places(inner, found)
    return found


def _alter(message: Any, random: Random) -> Any:
    """Change one place of the message, or all of it."""
    if not isinstance(message, dict | list) or random.random() < 0.02:
        return _odd(random)
    places = _places(message, []) if not _is_deep(message) else []
    if not places:
        return {"operation": message}
    holder, key = random.choice(places)
    how = random.randrange(6)
    if how <= 2:
        holder[key] = _odd(random)
    elif how == 3:
        del holder[key]
    elif isinstance(holder, dict):
        holder[random.choice(_WORDS)] = holder[key] if how == 4 else _odd(random)
    else:
        holder.insert(key, _odd(random))
    return message


def _is_deep(value: Any, left: int = 100) -> bool:
    while isinstance(value, dict | list) and value:
        value = next(iter(value.values() if isinstance(value, dict) else value))
        left -= 1
        if not left:
            return True
    return False


# -- encoding --------------------------------------------------------------------------------


def _to_json(message: Any, random: Random) -> bytes:
    try:
        text = json.dumps(
            message,
            ensure_ascii=random.random() < 0.5,
            separators=random.choice(((",", ":"), (", ", ": "), (" ,\n", "\t:"))),
            default=lambda held: held.hex(),
        )
    except RecursionError:
        text = '{"operation":' + "[" * 2000
    return text.encode("utf-8", "surrogatepass")


def _to_cbor(message: Any, random: Random) -> bytes:
    try:
        payload = cbor2.dumps(_without_surrogates(message))
    except (ValueError, cbor2.CBOREncodeError, RecursionError):
        return _to_json(message, random)
    return b"\xd9\xd9\xf7" + payload if random.random() < 0.1 else payload


def _to_messagepack(message: Any, random: Random) -> bytes:
    try:
        packed: bytes = msgpack.packb(_without_surrogates(message))
    except (ValueError, OverflowError, RecursionError):
        return _to_json(message, random)
    return packed


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\ud800", "?")
    if isinstance(value, list):
        return [_without_surrogates(inner) for inner in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(v) for key, v in value.items()}
    return value


_ENCODERS = (_to_json, _to_json, _to_cbor, _to_messagepack)


# -- damaging the bytes ----------------------------------------------------------------------


def _at(payload: bytes, random: Random) -> int:
    return random.randrange(len(payload) + 1)


def _truncate(payload: bytes, random: Random) -> bytes:
    return payload[: _at(payload, random)]


def _flip(payload: bytes, random: Random) -> bytes:
    if not payload:
        return b"\x00"
    changed = bytearray(payload)
    changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _overwrite(payload: bytes, random: Random) -> bytes:
    at = _at(payload, random)
    return payload[:at] + random.choice(_BAD_BYTES) + payload[at + 1 :]


def _insert(payload: bytes, random: Random) -> bytes:
    at = _at(payload, random)
    return payload[:at] + random.choice(_BAD_BYTES) + payload[at:]


def _cut_out(payload: bytes, random: Random) -> bytes:
    first, second = sorted((_at(payload, random), _at(payload, random)))
    return payload[:first] + payload[second:]


def _double(payload: bytes, random: Random) -> bytes:
    first, second = sorted((_at(payload, random), _at(payload, random)))
    return payload[:second] + payload[first:second] + payload[second:]


def _pad(payload: bytes, random: Random) -> bytes:
    blanks = random.choice((b" ", b"\n\t", b" " * 800, b" " * 5000, b"\xef\xbb\xbf", b"\x00"))
    return blanks + payload if random.random() < 0.6 else payload + blanks


_BAD_BYTES = (
    b"\x00",
    b"\xff",
    b"\xc1",
    b"\x9f",
    b"\xbf",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\x7f\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xbb\x00\x00\x00\x01\x00\x00\x00\x00",
    b"\x5f\x40",
    b"\xc2\x58\x40" + b"\xff" * 64,
    b"[" * 70,
    b"{" * 3,
    b'"',
    b"\\ud83d",
    b"1e999",
    b"9" * 5000,
    b"NaN",
    b",",
)
_DAMAGES = (_truncate, _flip, _flip, _overwrite, _insert, _cut_out, _double, _pad)


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
