"""Many agents that lose their platform at the same moment, on one clock."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from itertools import count as count_up
from pathlib import Path
from random import Random
from typing import Any

from oda.connector.current import CurrentSettings
from oda.connector.outcome import Outcome
from oda.connector.reconnect import Reconnection
from oda.monitor.counters import Counters
from oda.settings import ConnectorSettings
from tests.chaos.report import Report

#: No second may see more of them connect again, in percent: without a word of the platform, and
#: with one (1001, 1012, 1013, 429, 503).
_LIMIT = 12.0
_LIMIT_TOLD = 2.0
#: A single device is back after so long on average, in seconds: after a fault of its own network,
#: and after another end without a word.
_MEAN_OWN_S = 1.0
_MEAN_S = 6.0
_DEFAULT = CurrentSettings(ConnectorSettings(host="platform", path="/"))
#: How long the connections had lasted, in seconds.
_LASTED_S = 3600.0

_KILLED = Outcome(reason="lost", was_open=True)
_CLOSED = Outcome(reason="closed", was_open=True, close_code=1000)
_RESTART = Outcome(reason="restart", was_open=True, close_code=1012)
_GOING_AWAY = Outcome(reason="going away", was_open=True, close_code=1001)
_OVERLOADED = Outcome(reason="overloaded", was_open=True, close_code=1013)
_REFUSED = Outcome(reason="connection refused")
_UNAVAILABLE = Outcome(reason="unavailable", http_status=503, retry_after_s=20.0)
_TOO_MANY = Outcome(reason="too many requests", http_status=429)
_NO_PONG = Outcome(reason="no pong", was_open=True, by_us=True)
_TIMED_OUT = Outcome(reason="timed out", was_open=True, by_network=True)

#: What ends the connections, what attempts meet, and after how many seconds all is well again.
TOLD = {
    "killed, unavailable for 2 min": (_KILLED, _UNAVAILABLE, 120.0),
    "killed, too many requests for 2 min": (_KILLED, _TOO_MANY, 120.0),
    "restart announced, back at once": (_RESTART, _REFUSED, 0.0),
    "restart announced, back after 10 s": (_RESTART, _REFUSED, 10.0),
    "restart announced, back after 2 min": (_RESTART, _REFUSED, 120.0),
    "going away, back after 30 s": (_GOING_AWAY, _REFUSED, 30.0),
    "overloaded, back at once": (_OVERLOADED, _REFUSED, 0.0),
    "overloaded, back after 2 min": (_OVERLOADED, _UNAVAILABLE, 120.0),
}
#: Without a word: an outage may end at any moment of a window.
UNTOLD = {
    f"killed, back after {seconds:g} s": (_KILLED, _REFUSED, float(seconds))
    for seconds in (0, 1, 3, 5, 7, 9, 10, 15, 20, 29, 30, 45, 60, 75, 90, 100, 120, 150, 300, 900)
}
UNTOLD["closed with 1000, back at once"] = (_CLOSED, _REFUSED, 0.0)
SCENARIOS = TOLD | UNTOLD
#: Faults of one device, and its mean time to return that is allowed, in seconds.
ALONE = {
    "one device, no pong": (_NO_PONG, _MEAN_OWN_S),
    "one device, timed out": (_TIMED_OUT, _MEAN_OWN_S),
    "one device, reset": (_KILLED, _MEAN_S),
    "one device, closed with 1000": (_CLOSED, _MEAN_S),
}


class Call:
    """A call to come; ``cancel`` before it is made."""

    def __init__(self, call: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self._call: Callable[..., object] | None = call
        self._arguments = arguments

    def __call__(self) -> None:
        if self._call is not None:
            self._call(*self._arguments)

    def cancel(self) -> None:
        """Don't make it."""
        self._call = None


class HeapClock:
    """As much of a reactor as ``Reconnection`` needs; fast with many calls."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._calls: list[tuple[float, int, Call]] = []
        self._numbers = count_up()

    def seconds(self) -> float:
        return self._now_s

    def callLater(self, delay_s: float, call: Callable[..., object], *arguments: Any) -> Call:
        made = Call(call, arguments)
        heapq.heappush(self._calls, (self._now_s + delay_s, next(self._numbers), made))
        return made

    def run(self) -> None:
        """Make all calls, each at its time."""
        while self._calls:
            self._now_s, _, call = heapq.heappop(self._calls)
            call()


class Herd:
    """``count`` agents that lose a connection which had lasted; ``returned`` counts, by second
    after that, those that are connected again. ``return_s`` is the sum of their times."""

    def __init__(
        self, count: int, random: Random, end: Outcome, meanwhile: Outcome, back_at_s: float
    ) -> None:
        self.returned: Counter[int] = Counter()
        self.attempts: Counter[int] = Counter()
        self.return_s = 0.0
        self._clock = HeapClock()
        self._meanwhile = meanwhile
        self._back_at_s = back_at_s
        counters = Counters()
        for _ in range(count):
            agent = Reconnection(self._clock, counters, _DEFAULT, random.random)
            agent.opened()
            self._clock.callLater(_LASTED_S, self._ended, agent, end)
        self._clock.run()

    def _ended(self, agent: Reconnection, end: Outcome) -> None:
        agent.lost()
        self._lost(agent, end)

    def _lost(self, agent: Reconnection, outcome: Outcome) -> None:
        agent.schedule(outcome, lambda: self._connect(agent))

    def _connect(self, agent: Reconnection) -> None:
        now_s = self._clock.seconds() - _LASTED_S
        self.attempts[int(now_s)] += 1
        if now_s >= self._back_at_s:
            self.returned[int(now_s)] += 1
            self.return_s += now_s
        else:
            self._lost(agent, self._meanwhile)


def run(seed: int, count: int, directory: Path) -> Report:
    """Every scenario with ``count`` agents."""
    report = Report("herd", seed, count)
    for name, scenario in SCENARIOS.items():
        herd = Herd(count, Random(seed), *scenario)
        most = 100 * max(herd.returned.values()) / count
        last_s = max(herd.returned) - scenario[2]
        report.figures[name] = f"{most:.2f} %/s, all after {last_s:.0f} s"
        report.require(sum(herd.returned.values()) == count, f"{name}: some never came back")
        limit = _LIMIT_TOLD if name in TOLD else _LIMIT
        report.require(most <= limit, f"{name}: {most:.2f} % in one second")
    for name, (end, allowed_s) in ALONE.items():
        # Each of them stands for one device, with a chance of its own.
        mean_s = Herd(count, Random(seed), end, _REFUSED, 0.0).return_s / count
        report.figures[name] = f"back after {mean_s:.2f} s on average"
        report.require(mean_s < allowed_s, f"{name}: back after {mean_s:.2f} s on average")
    return report
