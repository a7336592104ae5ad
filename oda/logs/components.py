"""Which component an event comes from, and whether the log shows its level. Pure."""

from __future__ import annotations

import re
from typing import Any

from twisted.logger import LogEvent
from twisted.logger import LogLevel as EventLevel

from oda.settings import LogLevel, MonitorSettings

_ORDER: dict[str, int] = {"debug": 0, "info": 1, "warn": 2, "error": 3, "critical": 4}
#: What Twisted reports of every port and connection that it opens or closes, which is noise here.
_PORT_NOISE = re.compile(r"\S+ starting on \S+|\((TCP|UNIX) Port \S+ Closed\)")


def component_of(event: LogEvent) -> str:
    """``connector.link`` for a module of the agent, ``twisted`` for all of Twisted (and for callers
    of its old log), otherwise the namespace as it is."""
    namespace = str(event.get("log_namespace") or "twisted")
    if namespace.startswith("oda."):
        return namespace[4:]
    top = namespace.partition(".")[0]
    return "twisted" if top in ("twisted", "log_legacy") else namespace


def level_of(event: LogEvent) -> str:
    """``debug``, ``info``, ``warn``, ``error`` or ``critical``."""
    level = event.get("log_level")
    name = level.name if level is not None else EventLevel.info.name
    if name == "info" and _PORT_NOISE.fullmatch(str(event.get("log_text", ""))):
        return "debug"
    return str(name)


class LevelRules:
    """The levels of the settings; the nearest package or module above a component applies."""

    def __init__(self, settings: MonitorSettings) -> None:
        self._default = settings.log_level
        self._levels = {line.component: line.level for line in settings.log_levels}
        self._known: dict[str, int] = {}

    def wants(self, component: str, level: str) -> bool:
        """Whether the log shows an event of that level from that component."""
        limit = self._known.get(component)
        if limit is None:
            if len(self._known) > 1000:
                self._known.clear()
            limit = self._known[component] = _ORDER[self._level(component).value]
        return _ORDER[level] >= limit

    def _level(self, component: str) -> LogLevel:
        name: Any = component
        while name:
            if name in self._levels:
                return self._levels[name]
            name = name.rpartition(".")[0]
        return self._default
