"""The boundary to foreign code: getters, setters, operations, sources, codecs, plugins, and
whatever they call.

Foreign code may raise anything. ``SystemExit`` from a library and asyncio's ``CancelledError`` are
not ``Exception``: they pass every ``except Exception`` and would end the caller, a whole schedule
or the process. Inside ``with foreign_code:`` they become a ``ForeignCodeError``, which callers
handle like any other error. Only ``KeyboardInterrupt`` passes, because it comes from the operator.

Code that every message passes uses ``contained`` instead, which costs nothing as long as
nothing is raised::

    try:
        reading = getter.get(device_id)
    except BaseException as raised:
        error = contained(raised)

A Deferred needs no boundary: it turns whatever its callbacks raise into a failure.
"""

from __future__ import annotations

from types import TracebackType

from oda.errors import OdaError

#: The longest reason. A longer one adds nothing and could make an answer too large to send.
MAX_REASON_LENGTH = 1000


class ForeignCodeError(OdaError):
    """Foreign code raised an error that would end its caller; the text says which."""


class _Boundary:
    """A stateless context manager: one object serves all callers, nested or not."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, Exception | KeyboardInterrupt):
            return
        raise contained(error)


def contained(error: BaseException) -> Exception:
    """The error to handle in place of ``error``, which foreign code has raised. Raises
    ``KeyboardInterrupt`` again."""
    if isinstance(error, Exception):
        return error
    if isinstance(error, KeyboardInterrupt):
        raise error
    outcome = ForeignCodeError(reason_of(error))
    outcome.__cause__ = error
    # Keep the traceback: it names the faulty line.
    return outcome.with_traceback(error.__traceback__)


#: Put ``with foreign_code:`` around every call of foreign code; see the module.
foreign_code = _Boundary()


def reason_of(error: BaseException | None) -> str:
    """The text of an error for people and the platform. The text is never empty, has a limited
    length, and can always be encoded (file names may hold bytes that no format carries)."""
    name = type(error).__name__
    try:
        with foreign_code:
            text = str(error)
    except Exception:  # noqa: BLE001 - an error that can't be printed still has a type
        text = ""
    if not text:
        text = name
    elif not isinstance(error, Exception):
        text = f"{name}: {text}"  # an exit status says nothing without the name
    return text[:MAX_REASON_LENGTH].encode("utf-8", "replace").decode("utf-8")
