"""Whoever connects to the stand-in writes into its log."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.logger import capturedLogs, eventAsText

from tests.platform.conftest import connect, start

__all__ = ["connect", "start"]

ROOT = Path(__file__).resolve().parents[2]
#: Logs while the demo runs, as any part of it might.
_DEMO = r"""
import sys
from twisted.internet import reactor
from twisted.logger import Logger
from oda.cli import main
log = Logger("oda.test")
reactor.callWhenRunning(log.critical, "one {text}", text="\x1b[31m red\nline")
reactor.callWhenRunning(log.info, "nothing that a user of the demo needs")
main(["demo", "--for", "0.1"])
"""


@pytest_twisted.ensureDeferred
async def test_a_device_moves_the_cursor(start: Any, connect: Any) -> None:
    """Also under twistd, which escapes nothing, a device's id is one short line without control
    characters."""
    platform = start()
    with capturedLogs() as events:
        device = connect(platform, "dev%1B%5B2J%0Aforged%20line" + "x" * 2000)
        await device.next("open")
        device.answer({"id": "\x1b]0;title\x07", "name": "A"})
        device.ping()
        await device.next("pong")
        await platform.stopService()
    lines = [
        eventAsText(event, includeTimestamp=False, includeSystem=False)
        for event in events
        if event["log_namespace"].startswith("oda.platform")
    ]
    assert any("forged line" in line for line in lines)
    assert any("title" in line for line in lines)
    for line in lines:
        assert line.isprintable()
        assert len(line) < 1000


def test_every_module_of_the_stand_in_uses_this_log() -> None:
    """A logger of Twisted's own would write what it is told."""
    for module in (ROOT / "oda" / "platform").rglob("*.py"):
        if module.name != "logger.py":
            assert not re.search(r"\bLogger\(", module.read_text()), module


def test_the_demo_begins_its_log() -> None:
    """``oda demo`` writes each problem once, escaped and on standard error, and does not leave the
    events to Twisted, which keeps 65,536 of them while nobody has begun a log."""
    done = subprocess.run(
        [sys.executable, "-c", _DEMO],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stderr.count("red") == 1
    assert "\x1b" not in done.stderr
    assert "nothing that" not in done.stderr
