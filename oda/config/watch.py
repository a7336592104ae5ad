"""Notices that the configuration directory (or a file that it refers to) has changed.

The watcher checks names, times, sizes and inodes every few seconds. That takes a handful of stat
calls, which work on every file system, also where inotify doesn't (network, overlay, mounted
ConfigMaps). It reports a change when two looks in a row agree, so that no file is read while it is
being written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from oda.config.files import list_names
from oda.log import Logger

#: path -> (modification time in ns, size, inode); None if there is nothing.
Look = dict[str, tuple[int, int, int] | None]


def look_at(directory: Path, others: Iterable[Path] = ()) -> Look:
    """The present state of the directory's .cfg files and of the other files. Never raises: a file
    that can't be examined counts as missing."""
    try:
        files = [directory / name for name in list_names(directory)]
    except OSError:
        files = []
    return {str(path): _stamp(path) for path in (directory, *files, *others)}


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    if path.is_dir():
        return (0, 0, status.st_ino)  # its time also changes with files other than .cfg
    return (status.st_mtime_ns, status.st_size, status.st_ino)


class ConfigurationWatcher(Service):
    """Calls ``on_changed()`` after every change of the directory, once it has settled.

    ``clock`` is the reactor (IReactorTime). ``others`` returns further files to watch: keys,
    certificates. ``on_changed`` may raise or fail; the watcher logs that and keeps watching. It
    does not call ``on_changed`` again before the Deferred that it returned has fired.
    """

    log = Logger()

    def __init__(
        self,
        directory: Path,
        on_changed: Callable[[], Any],
        clock: Any,
        interval_s: float = 2.0,
        others: Callable[[], Iterable[Path]] = tuple,
    ) -> None:
        self._directory = directory
        self._on_changed = on_changed
        self._interval_s = interval_s
        self._others = others
        self._reported: Look = {}
        self._last: Look = {}
        self._looping = LoopingCall(self._check_safely)
        self._looping.clock = clock

    def startService(self) -> None:
        """Take the present state as known, and start watching."""
        super().startService()
        self._reported = self._last = self._look()
        self._looping.start(self._interval_s, now=False)

    def stopService(self) -> None:
        """Stop at once; ``on_changed`` is not called any more."""
        super().stopService()
        if self._looping.running:
            self._looping.stop()

    def _look(self) -> Look:
        return look_at(self._directory, self._others())

    def _check_safely(self) -> Any:
        # A LoopingCall ends at the first error; this boundary keeps it running.
        return maybeDeferred(self._check).addErrback(self._failed)

    def _check(self) -> Any:
        now = self._look()
        settled, self._last = now == self._last, now
        if not settled or now == self._reported:
            return None
        self._reported = now
        return self._on_changed()

    def _failed(self, failure: Failure) -> None:
        self.log.failure("reloading {directory} failed", failure, directory=str(self._directory))
