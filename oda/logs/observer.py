"""The observer that twistd is given: it turns events into lines in a stream.

An event has to pass the level rules and the limit on repetitions. Then its line is cleaned of
secrets and written. If the log can't be written (a full disk), the agent loses and counts lines,
and keeps running.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.logger import ILogObserver, LogEvent
from zope.interface import implementer

from oda.boundary import foreign_code, reason_of
from oda.logs.components import LevelRules, component_of, level_of
from oda.logs.lines import FORMATTERS, LogFormat, clipped
from oda.logs.redaction import Redactor
from oda.logs.repetition import RepetitionLimit
from oda.settings import MonitorSettings
from oda.wording import counted

#: What every event has, and what can always be shown.
_PLAIN = ("log_time", "log_level", "log_namespace")


@implementer(ILogObserver)
class AgentLog:
    """Writes to ``stream``, which has ``write(text)`` and ``flush()``. ``seconds()`` is monotonic.

    Debug lines are not limited: an operator who asks for them wants all of them.
    """

    def __init__(
        self,
        stream: Any,
        log_format: LogFormat,
        seconds: Callable[[], float],
        settings: MonitorSettings = MonitorSettings(),  # noqa: B008 - immutable
    ) -> None:
        self._stream = stream
        self._format = FORMATTERS[log_format]
        self._seconds = seconds
        self._rules = LevelRules(settings)
        self._limit = RepetitionLimit()
        self._redactor = Redactor()
        self._lost = 0

    def configure(self, settings: MonitorSettings, secrets: Iterable[str]) -> None:
        """Use other levels, and mask these texts in the log."""
        self._rules = LevelRules(settings)
        self._redactor = Redactor(secrets)

    def __call__(self, event: LogEvent) -> None:
        level = level_of(event)
        if not self._rules.wants(component_of(event), level):
            return
        event = clipped(event)
        self.flush()
        if level == "debug" or self._limit.admit(event, self._seconds()):
            self._write(self._line(event))

    def flush(self, everything: bool = False) -> None:
        """Write how often suppressed lines were repeated, once their window has ended."""
        for repeated in self._limit.due(self._seconds(), everything):
            times = "once" if repeated.count == 1 else f"{repeated.count} times"
            self._write(self._line(repeated.event, f" (repeated {times})"))

    def _line(self, event: LogEvent, note: str = "") -> str:
        """The line of the event, which may hold foreign objects that can't be shown."""
        try:
            with foreign_code:
                return self._format(event, note)
        except Exception as error:  # noqa: BLE001 - a line without details is better than none
            plain = {name: event[name] for name in _PLAIN if name in event}
            text = f"{event.get('log_format')} (without its details: {reason_of(error)})"
            return self._format({**plain, "log_format": "{log_text}", "log_text": text}, note)

    def _write(self, line: str) -> None:
        line = self._redactor.clean(line)
        if self._lost:
            line = f"{counted(self._lost, 'log line')} could not be written\n{line}"
        try:
            try:
                self._stream.write(line)
            except UnicodeEncodeError:  # the locale lacks a character
                self._stream.write(line.encode("ascii", "backslashreplace").decode("ascii"))
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            self._lost += 1
        else:
            self._lost = 0
