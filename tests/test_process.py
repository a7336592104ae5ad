"""What the process keeps out of its log, and how it begins and ends."""

from __future__ import annotations

import base64
import signal
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import Service
from twisted.internet.defer import Deferred

from oda.logs.redaction import Redactor, secrets_of
from oda.process import AgentProcess, check_pid_file
from oda.settings import AgentSettings, ConnectorSettings, DeviceInfoSettings, Secret


def test_every_secret_of_the_settings_is_kept_out_of_the_log() -> None:
    """The API key, the passphrase of the private key and the proxy's password show in no line, and
    the password neither as it travels (RFC 7617: user and password together in base64)."""
    settings = AgentSettings(
        connector=ConnectorSettings(
            host="h",
            path="p",
            key_passphrase_file=Path("f"),
            key_passphrase=Secret("canary-one"),
            proxy_user="user",
            proxy_password_file=Path("g"),
            proxy_password=Secret("canary-two"),
        ),
        device_info=DeviceInfoSettings(api_key=Secret("canary-three")),
    )
    travelling = base64.b64encode(b"user:canary-two").decode()
    line = f"canary-one canary-two canary-three {travelling}"
    assert Redactor(secrets_of(settings)).clean(line) == "*** *** *** ***"


def test_a_secret_that_is_not_there_hides_nothing() -> None:
    """Without a passphrase and a password only the API key is looked for."""
    settings = AgentSettings(
        connector=ConnectorSettings(host="h", path="p"),
        device_info=DeviceInfoSettings(api_key=Secret("canary-three")),
    )
    assert secrets_of(settings) == ["canary-three"]


class Signals:
    """Stands in for ``signal.signal``."""

    def __init__(self) -> None:
        self.handlers: dict[int, Any] = {signal.SIGTERM: "Twisted's", signal.SIGINT: "Twisted's"}

    def install(self, number: int, handler: Any) -> Any:
        before, self.handlers[number] = self.handlers[number], handler
        return before


class SlowToStop(Service):
    """A part of the process that takes its time to end."""

    def __init__(self) -> None:
        self.stopped: Deferred[None] = Deferred()

    def stopService(self) -> Any:
        super().stopService()
        return self.stopped


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_another_signal_hurries_the_end(number: signal.Signals) -> None:
    """Only while the process stops: before and after that, signals are Twisted's."""
    signals, hurried, slow = Signals(), [], SlowToStop()
    process = AgentProcess(None, hurry=lambda: hurried.append(1), install_signal=signals.install)
    slow.setServiceParent(process)
    process.startService()
    assert signals.handlers[number] == "Twisted's"
    process.stopService()
    signals.handlers[number](number, None)
    assert hurried == [1]
    slow.stopped.callback(None)
    assert signals.handlers[number] == "Twisted's"


@pytest.mark.parametrize("name", ["absent/agent.pid", "file/agent.pid"])
def test_a_pid_file_that_can_not_be_written_is_told_before_the_start(
    tmp_path: Path, name: str
) -> None:
    """twistd itself would end with a traceback; the fault names its option and the place. One that
    can be written, or overwritten, or is not wanted, is none, and nothing is made."""
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"^--pidfile: there is no directory") as caught:
        check_pid_file(str(tmp_path / name))
    assert str(caught.value).endswith(str((tmp_path / name).parent))
    for good in (None, "", str(tmp_path / "agent.pid"), str(tmp_path / "file")):
        check_pid_file(good)
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
