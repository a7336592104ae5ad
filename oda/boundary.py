"""The boundary to code that is not the agent's: getters, setters, operations, sources, codecs,
plugins, and whatever these call.

Such code may raise anything. ``sys.exit()`` in a library, or the ``CancelledError`` of asyncio, is
no ``Exception``: it passes every ``except Exception`` on its way and would end whatever called, a
whole schedule or the process. Inside ``with foreign_code:`` it becomes a ``ForeignCodeError``,
which is handled like any other error. Only a ``KeyboardInterrupt`` passes: it is the operator's.

A handler on the path of every message uses ``contained`` instead, which costs nothing as long as
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

#: A longer reason says no more, and must not make an answer too large to be sent.
MAX_REASON_LENGTH = 1000


class ForeignCodeError(OdaError):
    """Foreign code wanted to end more than itself; the text says what it raised."""


class _Boundary:
    """A context manager without state, so that one object serves all, nested or not."""

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
    # With the traceback: it names the line that is at fault.
    return outcome.with_traceback(error.__traceback__)


#: ``with foreign_code:`` stands around every call of foreign code; see the module.
foreign_code = _Boundary()


def reason_of(error: BaseException | None) -> str:
    """The text of an error for people and the platform: never empty, never endless, and always
    encodable (names of files may hold what no format carries)."""
    name = type(error).__name__
    try:
        with foreign_code:
            text = str(error)
    except Exception:  # noqa: BLE001 - an error that can't be printed still has a type
        text = ""
    if not text:
        text = name
    elif not isinstance(error, Exception):
        text = f"{name}: {text}"  # alone, the status of an exit says nothing
    return text[:MAX_REASON_LENGTH].encode("utf-8", "replace").decode("utf-8")
