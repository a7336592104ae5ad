"""A rule for all tests here: no error may be left in a Deferred that nobody looks at."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import globalLogPublisher


@pytest.fixture(scope="module", autouse=True)
def _no_unhandled_errors() -> Iterator[None]:
    """Deferreds report the errors nobody handled when they are collected."""
    unhandled: list[str] = []

    def watch(event: dict[str, Any]) -> None:
        if "Unhandled error in Deferred" in str(event.get("log_format")):
            unhandled.append(str(event.get("log_failure")))

    globalLogPublisher.addObserver(watch)
    yield
    gc.collect()
    globalLogPublisher.removeObserver(watch)
    assert unhandled == []
