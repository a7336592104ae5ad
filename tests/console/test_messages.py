"""The list of messages, newest first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.platform.client import PlatformRefused
from oda.platform.clock import SystemClock
from oda.platform.console.messages import PREVIEW_BYTES, MessageIndex, _preview
from oda.platform.database import Database
from oda.platform.recording import Recording
from oda.platform.testing import RunningPlatform


class Parts:
    """What the list needs of a platform."""

    def __init__(self) -> None:
        self.database = Database(None, False)
        self.recording = Recording(self.database, SystemClock())

    def add(self, device: str, payload: bytes, direction: str = "in") -> int:
        return self.recording.add(1, 1, device, direction, payload, False, "JSON")


@pytest.fixture
def parts() -> Iterator[Parts]:
    made = Parts()
    yield made
    made.database.close()


def numbers(parts: Parts, device: str | None, before: int, after: int, limit: int) -> list[int]:
    found = MessageIndex(parts).newest(device, before, after, limit)
    return [message.number for message in found]


def test_the_newest_come_first_and_pages_go_back(parts: Parts) -> None:
    """``before`` continues a list towards older messages without gap or overlap."""
    for index in range(10):
        parts.add("a" if index % 2 else "b", b"{}")
    assert numbers(parts, None, 99, 0, 4) == [10, 9, 8, 7]
    assert numbers(parts, None, 7, 0, 4) == [6, 5, 4, 3]
    assert numbers(parts, "a", 99, 0, 3) == [10, 8, 6]
    assert numbers(parts, "a", 6, 0, 3) == [4, 2]


def test_after_asks_for_what_is_new(parts: Parts) -> None:
    """``after`` gives only what was recorded since."""
    for _ in range(5):
        parts.add("a", b"{}")
    assert numbers(parts, "a", 99, 3, 10) == [5, 4]
    assert numbers(parts, "a", 99, 5, 10) == []


def test_a_message_is_listed_with_its_size_but_not_its_content(parts: Parts) -> None:
    """Of a long message only the beginning is given, and its whole size."""
    parts.add("a", b"x" * 100_000, "out")
    (message,) = MessageIndex(parts).newest("a", 99, 0, 1)
    assert message.size == 100_000
    assert message.direction == "out"
    assert message.preview == "x" * PREVIEW_BYTES


@given(st.text(min_size=1))
def test_text_cut_within_a_character_is_still_text(text: str) -> None:
    """Wherever the preview is cut, it is the beginning of the text."""
    payload = text.encode()
    for cut in range(len(payload) + 1):
        preview = _preview(payload[:cut], len(payload))
        assert preview is not None
        assert text.startswith(preview)
        assert cut - len(preview.encode()) < 4


def test_bytes_that_are_no_text_have_no_preview() -> None:
    """MessagePack is not shown as if it were text, neither when its end looks cut off."""
    assert _preview(b"\x81\xa1a\x01", 4) is None
    assert _preview(b"abc\xc3", 4) is None
    assert _preview(b"abc\xc3", 5) == "abc"


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "before=x", "what=1"])
def test_a_wrong_query_is_refused(platform: RunningPlatform, query: str) -> None:
    """Bad parameters are answered with 400, naming the parameter."""
    with pytest.raises(PlatformRefused, match=query.partition("=")[0]) as refused:
        platform.call("GET", f"/console/messages?{query}")
    assert refused.value.status == 400
