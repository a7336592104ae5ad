"""What the plugins that read the field have in common: their options, and calls one at a time.

A line of such a plugin is ``<name>=member:value, member:value``, as in the reference agent's files.
A value ends at a comma, and may hold colons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from zope.interface import implementer

from oda.errors import DatastreamError, ReadingFailed
from oda.interfaces import IDatastreamSource
from oda.model import HOST
from oda.threads import in_own_thread

C = TypeVar("C")
T = TypeVar("T")

_MISSING: Any = object()


class ConnectionFailed(ReadingFailed):
    """There was no answer: the connection is made anew for the next call."""


class Line:
    """The members of one line. Every fault is a ``ValueError`` that names the option."""

    def __init__(self, option: str, text: str) -> None:
        self.option = option
        self._members: dict[str, str] = {}
        for part in text.split(","):
            name, colon, value = part.partition(":")
            name = name.strip()
            if not name or not colon:
                raise ValueError(
                    f"the option {option!r} must be member:value, member:value; not"
                    f" {part.strip()!r}"
                )
            if name in self._members:
                raise ValueError(f"the option {option!r} has the member {name!r} twice")
            self._members[name] = value.strip()

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def text(self, name: str, default: Any = _MISSING) -> Any:
        """A member as text. Without ``default`` it must be there."""
        value = self._members.pop(name, None)
        if value:
            return value
        if default is _MISSING:
            raise ValueError(f"the option {self.option!r} needs the member {name!r}")
        return default

    def secret(self, name: str, default: Any = _MISSING) -> Any:
        """A member as text, or the content of the file that the member ``<name>File`` names."""
        file = self._members.pop(f"{name}File", None)
        if file is None:
            return self.text(name, default)
        try:
            return Path(file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"the member '{name}File' of the option {self.option!r}: {error}"
            ) from error

    def number(
        self, name: str, low: float, high: float, default: Any = _MISSING, is_whole: bool = True
    ) -> Any:
        """A member as a number from ``low`` to ``high``."""
        value = self.text(name, default)
        if not isinstance(value, str):
            return value
        try:
            number = int(value) if is_whole else float(value)
        except ValueError:
            number = high + 1
        if not low <= number <= high:
            kind = "a whole number" if is_whole else "a number"
            raise ValueError(
                f"the member {name!r} of the option {self.option!r} must be {kind} from {low:g} to"
                f" {high:g}, not {value!r}"
            )
        return number

    def choice(self, name: str, choices: Iterable[str], default: Any = _MISSING) -> Any:
        """A member as one of ``choices``, whatever its case."""
        value = self.text(name, default)
        by_name = {choice.casefold(): choice for choice in choices}
        if value is default:
            return value
        if value.casefold() not in by_name:
            raise ValueError(
                f"the member {name!r} of the option {self.option!r} must be one of"
                f" {', '.join(by_name.values())}; not {value!r}"
            )
        return by_name[value.casefold()]

    def flag(self, name: str) -> bool:
        """A member as true or false; false where it is missing."""
        return bool(self.choice(name, ("true", "false"), "false") == "true")

    def end(self) -> None:
        """No member may be left: it is unknown, or does not fit the others."""
        if self._members:
            raise ValueError(
                f"the option {self.option!r} has the unknown member {next(iter(self._members))!r}"
            )


@contextmanager
def library_of(extra: str) -> Iterator[None]:
    """Says where the library of a plugin comes from, if importing it fails."""
    try:
        yield
    except ImportError as error:
        raise ValueError(f"{error}; pip install 'oda-websocket[{extra}]' installs it") from error


def read_lines(options: Mapping[str, str], kinds: Iterable[str]) -> dict[str, dict[str, Line]]:
    """The lines of each kind by name: an option is ``<kind>.<name>``."""
    kinds = tuple(kinds)
    lines: dict[str, dict[str, Line]] = {kind: {} for kind in kinds}
    for option, text in options.items():
        kind, _, name = option.partition(".")
        if kind not in lines or not name:
            allowed = " and ".join(f"{one}.<name>" for one in kinds)
            raise ValueError(f"unknown option {option!r}; there are {allowed}")
        lines[kind][name] = Line(option, text)
    return lines


def place_of(name: str) -> tuple[str, str]:
    """Datastream and device of ``<datastreamId>[;<deviceId>]``; the host without one."""
    datastream_id, _, device_id = name.partition(";")
    return datastream_id.strip(), device_id.strip() or HOST


@implementer(IDatastreamSource)
class OneAtATime(Generic[C]):
    """A client whose calls block, used by one call at a time, each in a thread of its own.

    ``connect()`` makes the client when it is needed, and after a call that failed: whatever state
    the connection was in, the next call begins anew. It is a source only to be told of the end.
    """

    def __init__(
        self, reactor: Any, connect: Callable[[], C], close: Callable[[C], object]
    ) -> None:
        self._reactor = reactor
        self._connect = connect
        self._close = close
        self._turn = DeferredLock()
        # A call that was cancelled still runs in its thread when the next one has its turn.
        self._lock = Lock()
        self._client: C | None = None

    def call(self, work: Callable[[C], T]) -> Deferred[T]:
        """Call ``work(client)`` when all calls before it have ended."""
        done: Deferred[T] = self._turn.run(in_own_thread, self._reactor, self._call, work)
        return done

    def start(self, publish: Any) -> None:
        """Nothing: the first call connects."""

    def stop(self) -> Deferred[None]:
        """Close the connection."""
        return in_own_thread(self._reactor, self._drop)

    def _call(self, work: Callable[[C], T]) -> T:
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            try:
                return work(self._client)
            except ConnectionFailed:
                self._forget()
                raise
            except DatastreamError:
                raise  # an answer: the connection is well
            except BaseException:
                self._forget()
                raise

    def _drop(self) -> None:
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                self._close(client)
