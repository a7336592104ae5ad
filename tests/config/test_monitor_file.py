"""The file of the monitor."""

from __future__ import annotations

from pathlib import Path

import pytest

from oda.settings import ComponentLogLevel, LogLevel, MonitorSettings
from tests.config.directories import faults_of, load_files

MONITOR = "monitor"


def test_nothing_is_served_without_the_file(tmp_path: Path) -> None:
    """The defaults: no port, level info."""
    assert load_files(tmp_path, {}).settings.monitor == MonitorSettings()
    assert MonitorSettings().port is None


def test_every_key_is_read(tmp_path: Path) -> None:
    """Port, interface, level, and levels by component, with or without the package's name."""
    text = (
        "monitorPort=9109\nmonitorInterface=::1\nlogLevel=WARN\n"
        "log.connector=debug\nlog.oda.telemetry.poller=error\n"
    )
    assert load_files(tmp_path, {MONITOR: text}).settings.monitor == MonitorSettings(
        port=9109,
        interface="::1",
        log_level=LogLevel.WARN,
        log_levels=(
            ComponentLogLevel(component="connector", level=LogLevel.DEBUG),
            ComponentLogLevel(component="telemetry.poller", level=LogLevel.ERROR),
        ),
    )


@pytest.mark.parametrize(
    ("line", "key", "words"),
    [
        ("monitorPort=0", "monitorPort", "1 to 65535"),
        ("monitorPrt=9109", "monitorPrt", "monitorPort"),
        ("logLevel=loud", "logLevel", "debug"),
        ("log.connector=loud", "log.connector", "debug"),
        ("log.=debug", "log.", "log.connector"),
        ("something=else", "something", "monitorPort"),
    ],
)
def test_faults_name_what_is_allowed(tmp_path: Path, line: str, key: str, words: str) -> None:
    """A wrong key or value is rejected in its line, with what would be right."""
    (fault,) = faults_of(tmp_path, {MONITOR: f"# comment\n{line}\n"})
    assert (fault.line, fault.key) == (2, key)
    assert words in fault.problem
