"""How the stand-in begins and ends: in one line, and with a word to its devices."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from click.testing import CliRunner
from twisted.logger import capturedLogs, formatEvent

from oda.cli import main
from oda.platform.tap import Options, makeService
from tests.platform.conftest import connect, start

__all__ = ["connect", "start"]


@pytest_twisted.ensureDeferred
async def test_devices_are_told_that_it_goes_away(start: Any, connect: Any) -> None:
    """On Ctrl-C each connection is closed with 1001, so a device knows that nothing is wrong."""
    platform = start()
    device = connect(platform, "dev-1")
    await device.next("open")
    await platform.stopService()
    code, _ = await device.next("close")
    assert code == 1001


@pytest_twisted.ensureDeferred
async def test_a_busy_port_is_one_line(start: Any) -> None:
    """Under twistd, too: no traceback, and status 1."""
    taken = start().port
    options = Options()
    options.parseOptions(["--port", str(taken), "--no-http"])
    with capturedLogs() as logs, pytest.raises(SystemExit) as caught:
        makeService(options).startService()
    assert caught.value.code == 1
    lines = [str(formatEvent(one)) for one in logs if "can't start" in str(formatEvent(one))]
    assert len(lines) == 1
    assert "Address already in use" in lines[0]
    assert "\n" not in lines[0]


@pytest.mark.parametrize("command", ["platform", "demo"])
def test_a_port_that_there_is_not_is_one_line(command: str) -> None:
    """``--port 99999`` is a mistake of the caller, told as one: status 2, no traceback."""
    done = CliRunner().invoke(main, [command, "--port", "99999"])
    assert done.exit_code == 2
    assert "99999" in done.output.splitlines()[-1]
    assert "Traceback" not in done.output
