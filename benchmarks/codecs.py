"""What a message costs in each format, beside the bare library.

``python benchmarks/codecs.py`` prints a table, ``--json`` the same as JSON. Each figure is the
median of several runs; codec and library take turns within a run, so that the ratio holds on a
machine that is busy or changes its clock. "Bare" is the library on the same message without any
check: for telemetry in MessagePack and CBOR that includes making dicts of the document, as there
is no other way to encode it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cbor2
import msgpack
import msgspec

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from oda.codecs import default_registry
from oda.model import PROTOCOL_VERSION, ContentType, Datapoint, Datastream, TelemetryDocument

Call = Callable[[Any], Any]


class Figure(NamedTuple):
    """One line of the table; times are microseconds per message."""

    message: str
    content_type: str
    action: str
    size_bytes: int
    codec_us: float
    bare_us: float
    ratio: float


def telemetry(datapoints: int) -> TelemetryDocument:
    """A document of scalars as a device sends them: numbers mostly, some text and truth values."""
    values: list[Any] = [21.5, 17, 1013.25, "IDLE", True, -3]
    points = [
        Datapoint(at=1_700_000_000_000 + index, value=values[index % len(values)])
        for index in range(datapoints)
    ]
    return TelemetryDocument(
        version=PROTOCOL_VERSION,
        device="dev-1",
        datastreams=[Datastream(id="device.temperature.value", datapoints=points)],
    )


REQUEST = {
    "operation": {
        "request": {
            "id": "4aabb9c6-61ec-43ed-b0e4-dabface44b64",
            "timestamp": 1_700_000_000_123,
            "deviceId": "dev-1",
            "path": ["gw-1"],
            "name": "GET_DEVICE_PARAMETERS",
            "parameters": {"variableList": ["device.temperature.value", "device.clock"]},
        }
    }
}


def plain(message: Any) -> Any:
    return msgspec.to_builtins(message, builtin_types=(bytes,))


BARE: dict[ContentType, tuple[Call, Call]] = {
    ContentType.JSON: (msgspec.json.Encoder().encode, msgspec.json.Decoder().decode),
    ContentType.MESSAGE_PACK: (lambda m: msgpack.packb(plain(m)), msgpack.unpackb),
    ContentType.CBOR: (lambda m: cbor2.dumps(plain(m)), cbor2.loads),
}
#: Without the step to dicts where the message is one already.
BARE_OF_DICT: dict[ContentType, Call] = {
    ContentType.JSON: msgspec.json.Encoder().encode,
    ContentType.MESSAGE_PACK: msgpack.packb,
    ContentType.CBOR: cbor2.dumps,
}


def time_of(call: Call, argument: Any, times: int) -> float:
    """Microseconds per call."""
    start = time.perf_counter()
    for _ in range(times):
        call(argument)
    return (time.perf_counter() - start) / times * 1e6


def compare(codec: Call, bare: Call, argument: Any, runs: int) -> tuple[float, float, float]:
    """Medians of the codec's time, of the library's time and of their ratio."""
    times = max(1, int(2000 / max(time_of(codec, argument, 3), 0.01)))
    codec_us, bare_us = [], []
    for _ in range(runs):
        codec_us.append(time_of(codec, argument, times))
        bare_us.append(time_of(bare, argument, times))
    ratios = [ours / theirs for ours, theirs in zip(codec_us, bare_us, strict=True)]
    return statistics.median(codec_us), statistics.median(bare_us), statistics.median(ratios)


def measure(runs: int) -> Iterator[Figure]:
    registry = default_registry()
    messages: list[tuple[str, Any]] = [
        *((f"telemetry {count}", telemetry(count)) for count in (1, 100, 500)),
        ("operation request", REQUEST),
    ]
    for name, message in messages:
        for content_type in ContentType:
            codec = registry.codec(content_type)
            bare_encode, bare_decode = BARE[content_type]
            if isinstance(message, dict):
                bare_encode = BARE_OF_DICT[content_type]
            payload = codec.encode(message)
            for action, ours, theirs, argument in (
                ("encode", codec.encode, bare_encode, message),
                ("decode", codec.decode, bare_decode, payload),
            ):
                medians = compare(ours, theirs, argument, runs)
                yield Figure(name, content_type.value, action, len(payload), *medians)


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of encoding and decoding, per message")
    parser.add_argument("--runs", type=int, default=15, help="medians are of so many runs")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    figures = list(measure(options.runs))
    if options.json:
        print(json.dumps([figure._asdict() for figure in figures], indent=1))
        return
    print(
        f"{'message':<18} {'format':<13} {'':<7} {'bytes':>6} {'codec us':>9} {'bare us':>9} ratio"
    )
    for figure in figures:
        print(
            f"{figure.message:<18} {figure.content_type:<13} {figure.action:<7} "
            f"{figure.size_bytes:>6} {figure.codec_us:>9.2f} {figure.bare_us:>9.2f} "
            f"{figure.ratio:>5.2f}"
        )


if __name__ == "__main__":
    main()
