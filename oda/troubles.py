"""The present troubles of the agent: one list, to which every component reports.

A *trouble* is a state: it starts, lasts, and ends when its cause is fixed. A single event that is
counted is an *incident* (``oda.monitor.status``). Each trouble has a kind, which is a stable code
for programs; a subject, if there may be several of a kind; and a text for people. ``oda status``,
``/health`` and the metric ``oda_trouble`` show the list; docs/troubles.md lists the kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

import msgspec

#: How many troubles of a kind are kept: a device may have thousands of failing readings.
MAX_TROUBLES = 1000


class TroubleKind(Enum):
    """The kinds of trouble; the value is the code."""

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
    """One trouble. ``subject`` is "" for a kind with only one trouble; ``since_s`` is its start on
    the agent's monotonic clock."""

    kind: TroubleKind
    subject: str
    text: str
    since_s: float


class Troubles:
    """The list. ``seconds`` is the reactor's monotonic clock. ``clean(text)`` masks the secrets of
    the settings: the reason of a failed reading or a plugin may hold anything."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self.clean: Callable[[str], str] = lambda text: text
        self._current: dict[TroubleKind, dict[str, Trouble]] = {}

    def report(
        self, kind: TroubleKind, text: str, subject: str = "", lasts_s: float | None = None
    ) -> None:
        """Report a trouble that starts or lasts; the newest text is shown. ``lasts_s`` is how long
        it has lasted, if the caller knows that."""
        of_kind = self._current.setdefault(kind, {})
        known = of_kind.get(subject)
        if known is None and len(of_kind) >= MAX_TROUBLES:
            return
        if lasts_s is not None:
            since_s = self._seconds() - lasts_s
        else:
            since_s = self._seconds() if known is None else known.since_s
        text = self.clean(text)
        of_kind[subject] = Trouble(kind=kind, subject=subject, text=text, since_s=since_s)

    def end(self, kind: TroubleKind, subject: str = "") -> None:
        """End a trouble; does nothing if there is none."""
        self._current.get(kind, {}).pop(subject, None)

    def end_all(self, kind: TroubleKind) -> None:
        """End all troubles of this kind: they are fixed, or no longer observed."""
        self._current.pop(kind, None)

    def set(self, kind: TroubleKind, texts: Mapping[str, str]) -> None:
        """Make these the only troubles of this kind: a text for each subject."""
        of_kind = self._current.get(kind, {})
        for subject in [one for one in of_kind if one not in texts]:
            del of_kind[subject]
        for subject, text in texts.items():
            self.report(kind, text, subject)

    def current(self) -> tuple[Trouble, ...]:
        """All troubles, in the order of the kinds; of a kind, the oldest first."""
        return tuple(
            one
            for kind in TroubleKind
            if kind in self._current
            for one in sorted(self._current[kind].values(), key=lambda one: one.since_s)
        )
