"""What happened in a simulated world: as lines to read, and as facts for the oracle.

A line is ``time actor what``. The facts say the same in a form that can be counted. Nothing of the
agent's code is used here.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.scheduler import Scheduler


@dataclass
class Published:
    """One event that a publisher handed over. ``number`` is its value, and its order."""

    number: int
    stream: str
    value: Any
    at_ms: int | None
    life: int
    outcome: str = ""
    at_s: float = 0.0


@dataclass
class Asked:
    """One request that the platform sent. ``key`` is its id and name."""

    key: tuple[str, str]
    life: int
    acts: bool
    #: The agent's reactor has been given all its bytes in this life.
    was_delivered: bool = False
    is_read: bool = False


@dataclass
class Facts:
    """What the oracle is told. Times are the scheduler's."""

    published: dict[int, Published] = field(default_factory=dict)
    #: number -> the (stream, at, value) with which it arrived first.
    arrived: dict[int, tuple[str, int, Any]] = field(default_factory=dict)
    #: The numbers in the order of their first arrival, by stream.
    order: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    committed: set[int] = field(default_factory=set)
    #: How often the platform lost what it had read, by number.
    lost_by_platform: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    answers_lost: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    refused_by_platform: set[int] = field(default_factory=set)
    #: How many ends of connections allow that the agent sets aside one message.
    lone_ends: int = 0
    #: How many datapoints are in the agent's dead letters at rest.
    set_aside: int = 0
    asked: dict[tuple[str, str], list[Asked]] = field(default_factory=lambda: defaultdict(list))
    executions: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    #: How often it was resumed after a restart, and the state that it was last told to be saved.
    resumed: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    saved: dict[tuple[str, str], int] = field(default_factory=dict)
    #: The final answers that the platform committed, by id and name.
    answers: dict[tuple[str, str], list[bytes]] = field(default_factory=lambda: defaultdict(list))
    #: The answers that ever were on the disk, each with its key.
    answers_on_disk: set[tuple[tuple[str, str], bytes]] = field(default_factory=set)
    #: Events that went with a disk that was taken away or damaged, which the agent has said.
    destroyed: set[int] = field(default_factory=set)
    #: Events that were accepted because the platform had read them, while they were not on disk.
    only_read: set[int] = field(default_factory=set)
    purged: set[int] = field(default_factory=set)
    #: The lives that ended by a crash.
    crashed: set[int] = field(default_factory=set)
    #: How many datapoints the agent counted as dropped, in all lives.
    dropped: int = 0
    #: How many answers it counted as dropped or lost.
    answers_dropped: int = 0
    #: What is asked for again comes last: it takes no time then, and stops nothing.
    is_ending: bool = False
    #: How many answers the journal counted as forgotten.
    answers_forgotten: int = 0
    #: Answers that the agent had written to a connection whose end came before they were read.
    unread: set[tuple[str, str]] = field(default_factory=set)
    #: Seen as soon as it happened.
    violations: list[str] = field(default_factory=list)
    #: What happened that excuses something; see the oracle.
    excuses: set[str] = field(default_factory=set)


class History:
    """Collects lines and facts."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.lines: list[str] = []
        self.facts = Facts()
        self.observer: Any = None

    def say(self, actor: str, what: str) -> None:
        """Add a line."""
        self.lines.append(f"{self._scheduler.now_s:12.6f} {actor:<8} {what}")

    def violate(self, what: str) -> None:
        """A promise is broken."""
        if what not in self.facts.violations:
            self.facts.violations.append(what)
            self.say("ORACLE", what)

    def text(self) -> str:
        """All lines."""
        return "\n".join(self.lines) + "\n"
