"""What an operation keeps to continue after a restart: its state, and what the agent needs besides.

The journal keeps the request's parameters only as a fingerprint, because they may hold secrets and
they are not needed. A resumed operation needs them, so they are kept from its first ``save`` to
its answer, and so are the steps already reported. The device's id is kept because the answer names
it, and a process that resumes an operation may not know it yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
from twisted.internet.defer import Deferred
from zope.interface import implementer

from oda.boundary import contained, foreign_code, reason_of
from oda.errors import OperationFailed
from oda.interfaces import IProgress, IResumableOperation
from oda.model import OperationRequest, Step

#: How much an operation may keep, in bytes, parameters included. It is written with each commit of
#: its record and read at each start.
MAX_SAVED_BYTES = 256 * 1024

#: So often an operation is resumed that saves no other state meanwhile. One whose ``resume`` ends
#: the process would otherwise keep the agent from ever staying up.
MAX_RESUMES = 5


class Saved(msgspec.Struct, omit_defaults=True):
    """What the journal keeps of an operation that continues. ``resumes`` counts how often it was
    resumed with this state."""

    state: Any
    parameters: Mapping[str, Any]
    host_id: str
    steps: Sequence[Step] = ()
    resumes: int = 0


def saved_form(saved: Saved, before: Saved | None) -> tuple[Saved, bytes]:
    """What an operation saves after ``before``, as it will be read again, and as it is kept.

    MessagePack, not JSON: parameters may hold bytes. Raises ``OperationFailed`` for what can't be
    kept.
    """
    try:
        with foreign_code:
            written = msgspec.msgpack.encode(saved)
            plain = read_saved(written)  # what can't be read again would be noticed too late
    except Exception as error:
        raise OperationFailed(f"the state can't be saved: {reason_of(error)}") from error
    if len(written) > MAX_SAVED_BYTES:
        raise OperationFailed(
            f"the state can't be saved: with the parameters it has {len(written)} bytes, allowed"
            f" are {MAX_SAVED_BYTES}"
        )
    if before is not None and before.resumes and plain.state == before.state:
        plain.resumes = before.resumes
        written = msgspec.msgpack.encode(plain)
    return plain, written


def resumed_form(saved: Saved) -> tuple[Saved, bytes]:
    """The same, resumed once more."""
    again = msgspec.structs.replace(saved, resumes=saved.resumes + 1)
    return again, msgspec.msgpack.encode(again)


def read_saved(written: bytes) -> Saved:
    """Raises ``ValueError`` (which ``msgspec.MsgspecError`` is) for what is no ``Saved``."""
    return msgspec.msgpack.decode(written, type=Saved)


class Resumption(msgspec.Struct, frozen=True):
    """An operation to be resumed: the number of its record, its request with the parameters, what
    it saved."""

    record: int
    request: OperationRequest
    saved: Saved


def time_limit_of(operation: object, usual_s: float) -> float:
    """How long a resumable operation may take, in seconds. It is foreign: what is no positive
    number does not count."""
    try:
        with foreign_code:
            limit_s = float(operation.time_limit_s)  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - a foreign property, or None
        return usual_s
    return limit_s if 0 < limit_s < float("inf") else usual_s


def is_resumable(operation: object) -> bool:
    """Whether it can continue after a restart."""
    try:
        return bool(IResumableOperation.providedBy(operation))
    except BaseException as raised:  # noqa: BLE001 - a proxy to what is not there
        contained(raised)
        return False


class Running(Protocol):
    """An execution, as far as its operation may know it."""

    def progress(self, steps: Sequence[Step]) -> None: ...

    def save(self, state: Any) -> Deferred[None]: ...


@implementer(IProgress)
class Progress:
    """What an operation is given to tell how far it is, by its execution."""

    __slots__ = ("_execution",)

    def __init__(self, execution: Running) -> None:
        self._execution = execution

    def __call__(self, steps: Sequence[Step]) -> None:
        self._execution.progress(steps)

    def save(self, state: Any) -> Deferred[None]:
        return self._execution.save(state)
