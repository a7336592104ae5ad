"""The watcher reports changes of the directory once they have settled."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from oda.config.watch import ConfigurationWatcher

INTERVAL_S = 2.0


class Watched:
    """A watcher over a directory, and how often it has reported."""

    def __init__(self, directory: Path, react: Callable[[], Any] = lambda: None) -> None:
        self.reports = 0
        self.clock = Clock()
        self.others: list[Path] = []
        self._react = react
        self.watcher = ConfigurationWatcher(
            directory, self._changed, self.clock, INTERVAL_S, lambda: self.others
        )
        self.watcher.startService()

    def _changed(self) -> Any:
        self.reports += 1
        return self._react()

    def look(self, times: int = 1) -> int:
        for _ in range(times):
            self.clock.advance(INTERVAL_S)
        return self.reports


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.cfg"
    path.write_text("a=1")
    return path


def test_nothing_changed_is_not_reported(tmp_path: Path, file: Path) -> None:
    """Neither the first look nor later ones report an unchanged directory, or other files."""
    watched = Watched(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".a.cfg.swp").write_text("x")
    assert watched.look(5) == 0


def test_a_change_is_reported_once_when_two_looks_agree(tmp_path: Path, file: Path) -> None:
    """A file that is still being written is left alone."""
    watched = Watched(tmp_path)
    file.write_text("a=12")
    assert watched.look() == 0
    file.write_text("a=123")
    assert watched.look() == 0
    assert watched.look() == 1
    assert watched.look(3) == 1


def test_coming_going_and_replacing_are_changes(tmp_path: Path, file: Path) -> None:
    """Also a file that is replaced by one of the same size and time."""
    watched = Watched(tmp_path)
    (tmp_path / "b.cfg").write_text("")
    assert watched.look(2) == 1
    (tmp_path / "b.cfg").unlink()
    assert watched.look(2) == 2
    status = file.stat()
    twin = tmp_path / "twin"
    twin.write_text("a=2")
    os.utime(twin, ns=(status.st_atime_ns, status.st_mtime_ns))
    twin.rename(file)
    assert watched.look(2) == 3


def test_a_change_that_is_taken_back_is_none(tmp_path: Path, file: Path) -> None:
    """What looks as it was reported last is not reported."""
    watched = Watched(tmp_path)
    other = tmp_path / "b.cfg"
    other.write_text("")
    watched.look()
    other.unlink()
    assert watched.look(3) == 0


def test_files_named_in_the_configuration_are_watched(tmp_path: Path) -> None:
    """Keys and certificates, wherever they are, also while they are missing."""
    key = tmp_path / "key"
    directory = tmp_path / "conf"
    directory.mkdir()
    watched = Watched(directory)
    watched.others.append(key)
    assert watched.look(2) == 1
    key.write_text("x")
    assert watched.look(2) == 2


def test_a_directory_that_goes_and_comes_back(tmp_path: Path) -> None:
    """Both are changes, and neither ends the watching."""
    directory = tmp_path / "conf"
    directory.mkdir()
    watched = Watched(directory)
    directory.rmdir()
    assert watched.look(2) == 1
    directory.mkdir()
    assert watched.look(2) == 2


def test_a_failing_reload_is_logged_and_watching_goes_on(tmp_path: Path, file: Path) -> None:
    """The callback is somebody else's code."""
    logged: list[LogEvent] = []

    def fail() -> None:
        raise RuntimeError("broken")

    watched = Watched(tmp_path, fail)
    globalLogPublisher.addObserver(logged.append)
    try:
        file.write_text("a=12")
        assert watched.look(2) == 1
        file.write_text("a=123")
        assert watched.look(2) == 2
    finally:
        globalLogPublisher.removeObserver(logged.append)
    failures = [event for event in logged if "log_failure" in event]
    assert len(failures) == 2


def test_a_reload_in_progress_is_not_started_again(tmp_path: Path, file: Path) -> None:
    """Changes meanwhile are reported when it is done."""
    running: Deferred[None] = Deferred()
    watched = Watched(tmp_path, lambda: running)
    file.write_text("a=12")
    watched.look(2)
    file.write_text("a=123")
    assert watched.look(3) == 1
    running.callback(None)
    assert watched.look(3) == 2


def test_stopping_leaves_no_timer(tmp_path: Path, file: Path) -> None:
    """After stopService nothing is looked at any more; starting again is possible."""
    watched = Watched(tmp_path)
    watched.watcher.stopService()
    assert watched.clock.getDelayedCalls() == []
    file.write_text("a=12")
    assert watched.look(3) == 0
    watched.watcher.startService()
    file.write_text("a=123")
    assert watched.look(2) == 1
    watched.watcher.stopService()
