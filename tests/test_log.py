"""The log levels of an agent's own lines, wherever its log goes."""

from __future__ import annotations

import pytest
from twisted.logger import Logger as TwistedLogger
from twisted.logger import capturedLogs, formatEvent

from oda.log import Logger, limit_log
from oda.logs.components import LevelRules
from oda.settings import ComponentLogLevel, LogLevel, MonitorSettings

LINK = Logger(namespace="oda.connector.link")


@pytest.fixture(autouse=True)
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """No agent of another test limits the log."""
    monkeypatch.setattr("oda.log._wanted", [])


def wanted(level: str, **levels: str) -> LevelRules:
    lines = [ComponentLogLevel(component=c, level=LogLevel(one)) for c, one in levels.items()]
    return LevelRules(MonitorSettings(log_level=LogLevel(level), log_levels=tuple(lines)))


def said() -> list[str]:
    """Which of these lines get into the log."""
    with capturedLogs() as events:
        LINK.debug("debug")
        LINK.info("info")
        LINK.warn("warn")
        TwistedLogger(namespace="greenhouse").debug("the program's own")
    return [str(formatEvent(event)) for event in events]


def test_nothing_is_limited_without_an_agent() -> None:
    """A program that only imports a module of the agent sees everything."""
    assert said() == ["debug", "info", "warn", "the program's own"]


def test_the_level_is_that_of_the_settings() -> None:
    """The agent's lines follow it; the lines of the program are not the agent's to limit."""
    end = limit_log(wanted("warn").wants)
    assert said() == ["warn", "the program's own"]
    end()
    assert said() == ["debug", "info", "warn", "the program's own"]


def test_a_component_has_its_own_level() -> None:
    """As in the log of the agent's own process."""
    limit_log(wanted("error", connector="debug").wants)
    assert said() == ["debug", "info", "warn", "the program's own"]


def test_of_several_agents_one_that_wants_a_line_gets_it() -> None:
    """The log is shared; a quiet agent does not silence another one."""
    quiet = wanted("error")
    end_quiet = limit_log(quiet.wants)
    end_loud = limit_log(wanted("info").wants)
    assert said() == ["info", "warn", "the program's own"]
    end_loud()
    end_loud()  # a second time does nothing
    assert said() == ["the program's own"]
    end_quiet()
    assert len(said()) == 4


def test_a_logger_is_named_after_its_module() -> None:
    """The component of a line is the module that writes it."""
    assert Logger().namespace == __name__
