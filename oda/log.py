"""The loggers of the agent's modules: Twisted's, with the levels of the settings.

An agent inside another program shares that program's log, whose observers are not the agent's to
change. The levels therefore apply where an event begins. Nothing is limited until an agent starts;
while several agents run, an event passes if one of them wants it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger as TwistedLogger

#: Whether an event of a component (``connector.link``) and a level (``warn``) is wanted.
Wanted = Callable[[str, str], bool]

_wanted: list[Wanted] = []


class Logger(TwistedLogger):
    """As Twisted's, without the events that no running agent wants."""

    def emit(self, level: Any, format: str | None = None, **fields: Any) -> None:
        """See Twisted's ``Logger.emit``."""
        if _wanted:
            component, name = self.namespace.removeprefix("oda."), level.name
            for wants in _wanted:
                if wants(component, name):
                    break
            else:
                return
        super().emit(level, format, **fields)


def limit_log(wants: Wanted) -> Callable[[], None]:
    """Limit the log of the agent's modules to what is wanted; returns the function that ends
    that."""
    _wanted.append(wants)

    def end() -> None:
        # By identity: a bound method equals another one of the same object.
        for index, other in enumerate(_wanted):
            if other is wants:
                del _wanted[index]
                return

    return end
