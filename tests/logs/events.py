"""Events as Twisted's logger makes them."""

from __future__ import annotations

from typing import Any

from twisted.logger import LogEvent, LogLevel
from twisted.python.failure import Failure


def event(
    text: str = "hello",
    level: str = "info",
    namespace: str = "oda.connector.link",
    at: float = 0.0,
    **fields: Any,
) -> LogEvent:
    return {
        "log_format": text,
        "log_level": LogLevel.lookupByName(level),
        "log_namespace": namespace,
        "log_time": at,
        **fields,
    }


def legacy(text: str) -> LogEvent:
    """What ``twisted.python.log.msg`` makes, after its translation."""
    return event("{log_text}", namespace="log_legacy", log_text=text, message=(), isError=0)


def failure(error: BaseException) -> Failure:
    try:
        raise error
    except BaseException:
        return Failure()
