"""UPDATE with whole processes: the stand-in platform serves the files, the agent installs them, and
is killed wherever an installer is called.
"""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oda.platform.operation import Operation, OperationState
from oda.platform.testing import Fault, PongMode, RunningPlatform
from tests.e2e.processes import KEY, AgentProcess, run_oda, write, write_configuration

#: An installer that ends its process where its option says. It stands between two others.
KILLER = """
import os, signal
from pathlib import Path
from zope.interface import implementer
from oda.interfaces import IInstaller, IPlugin

@implementer(IInstaller)
class Killer:
    name = "killer"
    def __init__(self, at, told):
        self._at, self._told = at, told
    def _reach(self, method):
        with open(self._told, "a") as told:
            told.write(method + "\\n")
        if method == self._at:
            os.kill(os.getpid(), signal.SIGKILL)
    def claims(self, element):
        return element.type == "RULE"
    def check(self, element):
        self._reach("check")
    def validate(self, elements, files):
        self._reach("validate")
    def backup(self, element):
        self._reach("backup")
        return "noted"
    def install(self, element, file, note):
        self._reach("install")
    def activate(self):
        self._reach("activate")
    def restore(self, element, note):
        self._reach("restore")
    def release(self, element, note):
        self._reach("release")

@implementer(IPlugin)
class KillerPlugin:
    name = "killer"
    def create(self, options, reactor):
        return [Killer(options["at"], options["told"])]

plugin = KillerPlugin()
"""
METHODS = ("check", "validate", "backup", "install", "activate", "release")
POLLER = "es.amplia.oda.subsystem.poller.cfg"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """What the platform serves."""
    directory = tmp_path / "files"
    directory.mkdir()
    (directory / "program").write_bytes(b"new program" * 1000)
    (directory / "poller").write_text("device.upTime=30\n")
    (directory / "rule").write_bytes(b"rule")
    return directory


@pytest.fixture
def serving(tmp_path: Path, files: Path) -> Iterator[RunningPlatform]:
    """A platform with these files."""
    options = ["--key", KEY, "--files", str(files)]
    with RunningPlatform(options, log=tmp_path / "platform.log") as running:
        yield running


class Device:
    """An agent that may be updated, process after process."""

    def __init__(self, directory: Path, platform: RunningPlatform) -> None:
        self.directory = directory
        self.platform = platform
        self.root = directory / "root"
        self.root.mkdir()
        (self.root / "program").write_bytes(b"old program")
        (self.root / "stale").write_bytes(b"stale")
        self.conf = write_configuration(directory / "conf", platform, poller="device.upTime=60\n")
        write(
            self.conf,
            "operation.update",
            f"updateRoots={self.root}\nupdateConfiguration=subsystem.poller\nupdateConfirm=20\n"
            f"updateDirectory={directory / 'update'}\n",
        )
        plugins = directory / "site/oda/plugins"
        plugins.mkdir(parents=True)
        (plugins / "killer.py").write_text(KILLER)
        self.told = directory / "told"

    def start(self, kill_at: str = "never") -> AgentProcess:
        options = f"plugins=killer\nkiller.at={kill_at}\nkiller.told={self.told}\n"
        write(self.conf, "plugins", options)
        return AgentProcess(self.conf, PYTHONPATH=str(self.directory / "site"))

    def state(self) -> dict[str, bytes]:
        """What the update is about."""
        places = [*self.root.rglob("*"), self.conf / POLLER]
        return {path.name: path.read_bytes() for path in places if path.is_file()}

    def elements(self) -> list[dict[str, Any]]:
        return [
            self._element("program", "SOFTWARE", "program"),
            {**self._element("stale", "SOFTWARE", "stale"), "operation": "UNINSTALL"},
            self._element("rule", "RULE", ""),
            self._element("poller", "CONFIGURATION", POLLER),
        ]

    def _element(self, name: str, kind: str, path: str) -> dict[str, Any]:
        element = {"name": name, "version": "2", "type": kind, "path": path, "operation": "INSTALL"}
        served = self.directory / "files" / name
        if served.exists():
            data = served.read_bytes()
            element["downloadUrl"] = f"{self.platform.url}/files/{name}"
            element["size"] = len(data)  # type: ignore[assignment]
            digest = hashlib.sha256(data).hexdigest()
            element["validators"] = [{"type": "SHA-256", "value": digest}]  # type: ignore[assignment]
        return element

    def order(self) -> str:
        """Send the update; its id."""
        body = {
            "name": "UPDATE",
            "parameters": {
                "bundleName": "b",
                "bundleVersion": "2",
                "deploymentElements": self.elements(),
            },
            "timeout": 120,
        }
        return str(self.platform.call("POST", "/devices/dev-1/operations", body)["id"])

    def answer(self, order: str) -> Operation:
        """The operation once it is answered."""
        deadline_s = time.monotonic() + 60
        while time.monotonic() < deadline_s:
            found = next(one for one in self.platform.operations("dev-1") if one.id == order)
            if found.state is OperationState.ANSWERED:
                return found
            time.sleep(0.1)
        raise TimeoutError(f"{found}")


@pytest.fixture
def device(tmp_path: Path, serving: RunningPlatform) -> Device:
    return Device(tmp_path, serving)


NEW = {"program": b"new program" * 1000, POLLER: b"device.upTime=30\n"}


def test_an_update_of_a_running_agent(device: Device) -> None:
    """Every step arrives as a partial answer, then the one that is final; the new configuration is
    in force."""
    with device.start() as agent:
        device.platform.wait_for_device("dev-1")
        operation = device.answer(device.order())
        agent.stop()
    assert operation.answer is not None
    assert operation.answer["resultCode"] == "SUCCESSFUL", operation.answer
    names = [step["name"] for step in operation.answer["steps"]]
    assert names == [
        "BEGINUPDATE",
        *["DOWNLOADFILE"] * 3,
        *["BEGININSTALL", "ENDINSTALL"] * 4,
        "ENDUPDATE",
    ]
    told = [[step["name"] for step in partial["steps"]] for partial in operation.partials]
    assert [names[:count] for count in range(1, len(names) + 1) if names[:count] not in told] == []
    assert device.state() == NEW
    assert "configuration changed: poller" in agent.text()
    assert "Traceback" not in agent.text()


@pytest.mark.parametrize("method", METHODS)
def test_a_kill_leaves_everything_old_or_everything_new(device: Device, method: str) -> None:
    """Wherever the process is killed: the next one gives exactly one final answer, and it says what
    is on the disk."""
    old = device.state()
    with device.start(kill_at=method) as agent:
        device.platform.wait_for_device("dev-1")
        order = device.order()
        assert agent.wait() == -signal.SIGKILL, agent.text()
    with device.start() as agent:
        operation = device.answer(order)
        # Whatever else the agent has to say about it would arrive before this answer.
        device.platform.send_operation("dev-1", "REFRESH_INFO", timeout_s=30)
        agent.stop()
    operation = device.answer(order)
    assert operation.answer is not None
    assert operation.extra_answers == 0, operation
    assert method in device.told.read_text().split()
    is_new = operation.answer["resultCode"] == "SUCCESSFUL"
    assert is_new is (method == "release"), operation.answer
    assert device.state() == (NEW if is_new else old), (method, operation.answer)
    assert not list(device.root.rglob(".oda-*"))
    assert "Traceback" not in agent.text()


@pytest.mark.parametrize("is_killed", [False, True], ids=["stopped", "killed"])
def test_an_end_while_the_confirmation_is_waited_for(device: Device, is_killed: bool) -> None:
    """Stopped in good order, the next process goes on waiting and confirms; killed, it rolls
    back."""
    old = device.state()
    with device.start() as agent:
        device.platform.wait_for_device("dev-1")
        device.platform.send_operation("dev-1", "REFRESH_INFO", timeout_s=30)
        device.platform.set_fault(Fault(pong=PongMode.DROP))
        order = device.order()
        record = device.directory / "update/update.json"
        deadline_s = time.monotonic() + 30
        while not record.exists() or '"confirming"' not in record.read_text():
            assert time.monotonic() < deadline_s, agent.text()
            time.sleep(0.05)
        # The backups stay beside what they are of.
        assert device.state().items() >= NEW.items()
        if is_killed:
            agent.kill()
        else:
            agent.stop()
    device.platform.clear_fault()
    with device.start() as agent:
        operation = device.answer(order)
        device.platform.send_operation("dev-1", "REFRESH_INFO", timeout_s=30)
        agent.stop()
    assert operation.answer is not None
    code = "ERROR_PROCESSING" if is_killed else "SUCCESSFUL"
    assert operation.answer["resultCode"] == code, operation.answer
    assert device.answer(order).extra_answers == 0
    assert device.state() == (old if is_killed else NEW)


def test_a_connection_that_does_not_come_back_rolls_back(device: Device) -> None:
    """A new configuration with which the agent reaches nobody is taken back, and the answer
    follows once the old one has brought the agent back."""
    write(
        device.conf,
        "operation.update",
        f"updateConfiguration=*\nupdateConfirm=3\nupdateDirectory={device.directory / 'update'}\n",
    )
    connector = "es.amplia.oda.connector.websocket.cfg"
    text = (device.conf / connector).read_text()
    (device.directory / "files" / "connector").write_text(
        text.replace(f"port={device.platform.device_url.split(':')[2].split('/')[0]}", "port=9")
    )
    element = {
        "name": "connector",
        "version": "2",
        "type": "CONFIGURATION",
        "path": connector,
        "operation": "UPGRADE",
        "downloadUrl": f"{device.platform.url}/files/connector",
    }
    with device.start() as agent:
        device.platform.wait_for_device("dev-1")
        parameters = {"deploymentElements": [element]}
        answer = device.platform.send_operation("dev-1", "UPDATE", parameters, timeout_s=60)
        agent.stop()
    assert answer["resultCode"] == "ERROR_PROCESSING"
    assert "updateConfirm (3 s)" in answer["resultDescription"]
    assert (device.conf / connector).read_text() == text


def test_the_check_tells_what_may_be_installed(device: Device) -> None:
    """``oda check`` names what UPDATE may do, and a root that is missing."""
    found = run_oda("check", "--offline", "--conf", str(device.conf), cwd=device.directory)
    assert "update" in found.stdout
    device.root.rename(device.directory / "elsewhere")
    found = run_oda("check", "--offline", "--conf", str(device.conf), cwd=device.directory)
    assert "updateRoots" in found.stdout
