"""A session played under another id."""

from __future__ import annotations

from typing import Any

import pytest

from oda.codecs import default_registry
from oda.model import ContentType
from oda.platform.tape.renaming import renamed
from oda.platform.tape.session_file import Entry, Side, What

CODECS = default_registry()


def play(payload: bytes, side: Side = Side.DEVICE) -> bytes:
    """What becomes of a message of dev-1 that is played as dev-2."""
    entry = Entry(at_ms=0, connection=1, what=What.MESSAGE, side=side, payload=payload)
    (played,) = renamed([entry], "dev-1", "dev-2", CODECS)
    return played.payload


def message(device: str, **more: Any) -> dict[str, Any]:
    """Telemetry of a device."""
    points = [{"at": 1, "value": "dev-1"}]
    return {
        "version": "9.0",
        "device": device,
        "datastreams": [{"id": "t", "datapoints": points}],
        **more,
    }


@pytest.mark.parametrize("content_type", ContentType)
def test_telemetry_names_the_new_device(content_type: ContentType) -> None:
    """In every format; a value that happens to be the id stays a value."""
    codec: Any = CODECS.codec(content_type)
    played = codec.decode(play(codec.encode(message("dev-1"))))
    assert played == message("dev-2")


def test_a_device_behind_it_stays_behind_it() -> None:
    """The gateway in the path is renamed, the device is not."""
    codec: Any = CODECS.codec(ContentType.JSON)
    played = codec.decode(play(codec.encode(message("sensor", path=["dev-1"]))))
    assert played == message("sensor", path=["dev-2"])


def test_an_answer_names_the_new_device() -> None:
    """The platform looks for the answer of the device that it asked."""
    codec: Any = CODECS.codec(ContentType.JSON)
    answer = {"operation": {"response": {"id": "1", "deviceId": "dev-1", "steps": []}}}
    played = codec.decode(play(codec.encode(answer)))
    assert played["operation"]["response"]["deviceId"] == "dev-2"


@pytest.mark.parametrize(
    "payload",
    [b'{ "version":"9.0", "datastreams":[] }', b"\x01 no message", b'{"device": 5}', b"[1]"],
)
def test_what_does_not_name_the_device_stays_as_it_is(payload: bytes) -> None:
    """Byte for byte, blanks included."""
    assert play(payload) == payload


def test_what_the_platform_sent_is_not_played() -> None:
    """Only the device's own messages are its to rename."""
    payload = b'{"device":"dev-1"}'
    assert play(payload, Side.PLATFORM) == payload
