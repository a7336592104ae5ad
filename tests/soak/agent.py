"""The agent's process, and what is measured of it from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import oda
from oda.commands.running_agent import connect_to_agent
from oda.control.client import ControlClient
from oda.platform.testing import RunningPlatform

DEVICE = "soak"
KEY = "soak-key"
#: Less than the default: whatever lingers is sent again after every fault, and with one every 20 s
#: the platform would have to take four times the load. More than any trouble needs.
_LINGER_S = 15
_TWISTD = Path(sys.executable).parent / "twistd"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class SoakAgent:
    """``twistd oda-websocket`` with its durable outbox, in ``directory``."""

    def __init__(self, directory: Path, platform: RunningPlatform) -> None:
        self._directory = directory
        self.configuration = directory / "conf"
        self.log = directory / "agent.log"
        self._write(platform)
        path = str(Path(oda.__file__).parent.parent)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(_TWISTD), "-n", "--pidfile=", "oda-websocket", "--conf", "conf"],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": path},
            )

    def _write(self, platform: RunningPlatform) -> None:
        self.configuration.mkdir()
        address = urlsplit(platform.device_url)
        prefix = self.configuration / "es.amplia.oda"
        Path(f"{prefix}.connector.websocket.cfg").write_text(
            f"host={address.hostname}\nport={address.port}\npath={address.path}\n"
            "reconnectMaxDelay=2\npongTimeout=3\nconnectionTimeout=3\n"
            f"ackLinger={_LINGER_S}\n"
        )
        device_info = Path(f"{prefix}.datastreams.deviceinfo.cfg")
        device_info.write_text(f"deviceId={DEVICE}\napiKey={KEY}\n")
        device_info.chmod(0o600)

    def client(self) -> ControlClient:
        """A connection to its local socket. Raises ``ControlError``."""
        return connect_to_agent(self.configuration, timeout_s=60.0)

    def waiting(self) -> int:
        """How many messages are not acknowledged yet."""
        with self.client() as client:
            outbox = client.call("status")["outbox"]
        return int(outbox["waiting"]) + int(outbox["in_flight"])

    def resident_bytes(self) -> int:
        """The memory it uses now."""
        statm = Path(f"/proc/{self._process.pid}/statm").read_text()
        return int(statm.split()[1]) * _PAGE_BYTES

    def stop(self) -> None:
        """End it in order; what is wrong with its log is for the caller."""
        self._process.terminate()
        self._process.wait(30)

    def kill(self) -> None:
        """End it, if it is still there."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
