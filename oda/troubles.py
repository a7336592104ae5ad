"""What is wrong with the agent now: one list, into which every component reports.

A *trouble* is a state: it begins, it lasts, and it ends when what is wrong is mended. What happened
once, and is counted, is an *incident* (``oda.monitor.status``). Each trouble has a kind, which is a
stable code for programs; a subject where there may be several of a kind; and a text for people.
``oda status``, ``/health`` and the metric ``oda_trouble`` show the list; docs/troubles.md names the
kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

import msgspec

#: So many troubles are remembered: a device may have thousands of readings that fail.
MAX_TROUBLES = 1000


class TroubleKind(Enum):
    """What can be wrong; the value is the code."""

    DISK = "disk"
    DEAD_LETTERS = "dead_letters"
    IDENTITY = "identity"
    PONGS = "pongs"
    CERTIFICATE = "certificate"
    CLOCK = "clock"
    READING = "reading"
    PUBLISHING = "publishing"
    SCRIPT = "script"
    PLUGIN = "plugin"
    CONFIGURATION = "configuration"
    CONTROL_SOCKET = "control_socket"
    MONITOR_PORT = "monitor_port"


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong. ``subject`` is "" where there is only one of its kind;
    ``since_s`` is when it began, on the agent's monotonic clock."""

    kind: TroubleKind
    subject: str
    text: str
    since_s: float


class Troubles:
    """The list. ``seconds`` is the reactor's monotonic clock."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._current: dict[tuple[TroubleKind, str], Trouble] = {}

    def report(
        self, kind: TroubleKind, text: str, subject: str = "", lasts_s: float | None = None
    ) -> None:
        """This is wrong, or still is; the newest text is shown. ``lasts_s`` is for how long it has
        been, where that is known better than by this call."""
        known = self._current.get((kind, subject))
        if known is None and len(self._current) >= MAX_TROUBLES:
            return
        if lasts_s is not None:
            since_s = self._seconds() - lasts_s
        else:
            since_s = self._seconds() if known is None else known.since_s
        self._current[kind, subject] = Trouble(
            kind=kind, subject=subject, text=text, since_s=since_s
        )

    def end(self, kind: TroubleKind, subject: str = "") -> None:
        """This is right again; nothing happens where it was."""
        self._current.pop((kind, subject), None)

    def end_all(self, kind: TroubleKind) -> None:
        """Nothing of this kind is wrong, or is watched any more."""
        for key in [key for key in self._current if key[0] is kind]:
            del self._current[key]

    def set(self, kind: TroubleKind, texts: Mapping[str, str]) -> None:
        """Exactly these are wrong: a text for each subject."""
        for key in [key for key in self._current if key[0] is kind and key[1] not in texts]:
            del self._current[key]
        for subject, text in texts.items():
            self.report(kind, text, subject)

    def current(self) -> tuple[Trouble, ...]:
        """All, in the order of the kinds; of a kind, the oldest first."""
        order = {kind: number for number, kind in enumerate(TroubleKind)}
        return tuple(sorted(self._current.values(), key=lambda one: (order[one.kind], one.since_s)))
