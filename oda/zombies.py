"""Reaps orphaned processes where the agent is process 1 of a container.

A process that loses its parent becomes a child of process 1: for example, one that a script left in
the background, or the rest of a killed script. When it ends, it stays a zombie until its parent
reads its status. This module reaps only adopted children; Twisted, or other code in the process,
reaps the children that it started itself. Scripts lead sessions of their own, so a child of another
session that Twisted does not know was adopted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet import process
from twisted.internet.task import LoopingCall

from oda.log import Logger

_log = Logger()

#: Seconds between two checks.
PERIOD_S = 2.0


class ReaperService(Service):
    """Reaps below ``root`` at its start and every ``PERIOD_S``. Not Twisted's ``TimerService``:
    its module loads a library that nothing else of an agent uses."""

    def __init__(self, reactor: Any, root: Path) -> None:
        self._call = LoopingCall(reap, root, process.reapProcessHandlers)
        self._call.clock = reactor

    def startService(self) -> None:
        """Begin at once."""
        super().startService()
        looping = self._call.start(PERIOD_S)
        looping.addErrback(lambda failure: _log.failure("reaping has ended", failure))

    def stopService(self) -> None:
        """Cancel the timer."""
        super().stopService()
        if self._call.running:
            self._call.stop()


def build_reaper(pid: int, reactor: Any, root: Path = Path("/")) -> ReaperService | None:
    """The service for the process with that id; None unless it is process 1."""
    return ReaperService(reactor, root) if pid == 1 else None


def reap(
    root: Path,
    known: Container[int],
    wait: Callable[[int], object] = lambda pid: os.waitpid(pid, os.WNOHANG),
) -> None:
    """Reap every adopted child that has ended, except the ``known`` ones."""
    for pid in zombies(root, os.getpid(), os.getsid(0)):
        if pid not in known:
            with suppress(ChildProcessError):
                wait(pid)


def zombies(root: Path, parent: int, session: int) -> Iterator[int]:
    """The children of ``parent`` that have ended and belong to a session other than ``session``
    (proc(5): the fields after the name are state, parent, group, session)."""
    for entry in (root / "proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_bytes()
        except OSError:
            continue  # the process is gone
        state, its_parent, _, its_session = stat.rpartition(b")")[2].split()[:4]
        if state == b"Z" and int(its_parent) == parent and int(its_session) != session:
            yield int(entry.name)
