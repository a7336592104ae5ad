"""An operation as the platform knows it: the order, and its state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import msgspec

from oda.errors import OdaError
from oda.model import ContentType
from oda.platform.naming import wire_name
from oda.platform.wire import Dialect

DEFAULT_TIMEOUT_S = 90.0


class OperationState(Enum):
    """The states of an operation."""

    QUEUED = "queued"
    SENT = "sent"
    ANSWERED = "answered"
    TIMED_OUT = "timed_out"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a device must do.

    ``session_device`` is the device whose connection carries it, ``device`` the ``deviceId`` of the
    request (None: left out). JSON is sent as a text frame, as by the real platform, unless
    ``as_binary``. ``operation_id`` None means a new id.
    """

    session_device: str
    name: str
    parameters: Mapping[str, Any] | Sequence[Any] | None = None
    device: str | None = None
    path: tuple[str, ...] = ()
    timeout_s: float = DEFAULT_TIMEOUT_S
    content_type: ContentType = ContentType.JSON
    dialect: Dialect = Dialect.OBJECT
    as_binary: bool = False
    operation_id: str | None = None


class Operation(msgspec.Struct, kw_only=True, rename=wire_name, omit_defaults=True):
    """The state of an operation; times are ms since the Unix epoch. ``answer`` is the content of
    the final response, ``partials`` those before it (the newest hundred)."""

    id: str
    device: str
    name: str
    state: OperationState
    created_ms: int
    timeout_s: float
    request: dict[str, Any]
    format: ContentType = ContentType.JSON
    is_text: bool = True
    sent_ms: int | None = None
    answered_ms: int | None = None
    timed_out_ms: int | None = None
    duration_ms: int | None = None
    answer: dict[str, Any] | None = None
    partials: list[dict[str, Any]] = []
    is_late: bool = False
    extra_answers: int = 0
    differing_answers: int = 0


class OperationTimedOut(OdaError):  # noqa: N818 - named like those of oda.errors
    """The device did not answer in time; ``operation`` is the known state."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        super().__init__(
            f"{operation.name} {operation.id} for {operation.device}: no answer within"
            f" {operation.timeout_s:g} s ({'never sent' if operation.sent_ms is None else 'sent'})"
        )
