"""Reaps what nobody else does, where the agent is the first process of a container.

Whatever loses its parent becomes a child of process 1: what a script left in the background, and
what is left of a script that was killed. When it ends it stays as a zombie until its parent asks
for its status. Only adopted children are asked for: those that the process started itself are
Twisted's, or whoever's code started them. Scripts lead sessions of their own, so a child of another
session that Twisted does not know was adopted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.application.internet import TimerService
from twisted.internet import process

#: Seconds between two looks.
PERIOD_S = 2.0


def build_reaper(pid: int, reactor: Any, root: Path = Path("/")) -> TimerService | None:
    """The service for the process with that id; None where another is the first."""
    if pid != 1:
        return None
    reaper = TimerService(PERIOD_S, reap, root, process.reapProcessHandlers)
    reaper.clock = reactor
    return reaper


def reap(
    root: Path,
    known: Container[int],
    wait: Callable[[int], object] = lambda pid: os.waitpid(pid, os.WNOHANG),
) -> None:
    """Ask for the status of every adopted child that has ended, but for the ``known``."""
    for pid in zombies(root, os.getpid(), os.getsid(0)):
        if pid not in known:
            with suppress(ChildProcessError):
                wait(pid)


def zombies(root: Path, parent: int, session: int) -> Iterator[int]:
    """The children of ``parent`` that have ended, and were of another session than ``session``
    (proc(5): the text behind the name is state, parent, group, session)."""
    for entry in (root / "proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_bytes()
        except OSError:
            continue  # it is gone
        state, its_parent, _, its_session = stat.rpartition(b")")[2].split()[:4]
        if state == b"Z" and int(its_parent) == parent and int(its_session) != session:
            yield int(entry.name)
