"""Where an event comes from, and whether it is wanted."""

from __future__ import annotations

import pytest

from oda.logs.components import LevelRules, component_of, level_of
from oda.settings import ComponentLogLevel, LogLevel, MonitorSettings
from tests.logs.events import event, legacy

INFO = MonitorSettings()


def rules(**levels: str) -> LevelRules:
    lines = [
        ComponentLogLevel(component=name.replace("__", "."), level=LogLevel(level))
        for name, level in levels.items()
    ]
    return LevelRules(MonitorSettings(log_levels=tuple(lines)))


@pytest.mark.parametrize(
    ("namespace", "component"),
    [
        ("oda.connector.link", "connector.link"),
        ("oda.agent", "agent"),
        ("twisted.scripts._twistd_unix.UnixAppLogger", "twisted"),
        ("log_legacy", "twisted"),
        ("my_sensor.bus", "my_sensor.bus"),
    ],
)
def test_components_are_named_shortly(namespace: str, component: str) -> None:
    """The agent's own without their package, all of Twisted as one, a plugin's as it is."""
    assert component_of(event(namespace=namespace)) == component


@pytest.mark.parametrize(
    ("level", "wanted"),
    [("debug", False), ("info", True), ("warn", True), ("error", True), ("critical", True)],
)
def test_info_is_the_default(level: str, wanted: bool) -> None:
    """Without settings everything but debug is written."""
    assert LevelRules(INFO).wants("connector", level) is wanted


def test_the_nearest_component_counts() -> None:
    """A module's own level before its package's, and that before the default."""
    levels = rules(connector="warn", connector__link="debug")
    assert levels.wants("connector.link", "debug")
    assert not levels.wants("connector.session", "info")
    assert not levels.wants("connector", "info")
    assert levels.wants("telemetry", "info")
    assert levels.wants("connectors", "info")


def test_what_twisted_says_of_ports_is_debug() -> None:
    """Every port opened and closed would be two lines; other old messages stay."""
    assert level_of(legacy("MonitorSite starting on 9109")) == "debug"
    assert level_of(legacy("(TCP Port 9109 Closed)")) == "debug"
    assert level_of(legacy("Main loop terminated.")) == "info"
