"""Whole processes: the installed ``twistd`` and ``oda``, run from an empty directory.

The repository is kept off their path, so that what runs is what ``pip install`` put there: a plugin
or a data file that the wheel lacks makes these tests fail.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from oda.platform.testing import RunningPlatform
from tests import slow_disk

BIN = Path(sys.executable).parent
KEY = "e2e-key"


def environment(**more: str) -> dict[str, str]:
    """This environment without what would make the repository importable."""
    kept = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, **more}


def write_configuration(
    directory: Path,
    platform: RunningPlatform,
    device: str = "dev-1",
    connector: Mapping[str, object] | None = None,
    poller: str = "",
) -> Path:
    """A configuration directory for an agent of ``platform``."""
    directory.mkdir(exist_ok=True)
    address = urlsplit(platform.device_url)
    lines: dict[str, object] = {
        "host": address.hostname,
        "port": address.port,
        "path": address.path,
        **(connector or {}),
    }
    write(directory, "connector.websocket", "".join(f"{k}={v}\n" for k, v in lines.items()))
    write(directory, "datastreams.deviceinfo", f"deviceId={device}\napiKey={KEY}\n")
    if poller:
        write(directory, "subsystem.poller", poller)
    return directory


def write(directory: Path, component: str, text: str) -> None:
    """One component's file."""
    (directory / f"es.amplia.oda.{component}.cfg").write_text(text)


class AgentProcess:
    """``twistd -n oda-websocket`` in ``directory``'s parent, with its log in a file. Its disk takes
    ``fdatasync_ms`` longer for each fdatasync than the machine's, and hangs while the file
    ``hang_while`` is there. ``before`` are words to write before the command."""

    def __init__(
        self,
        configuration: Path,
        *options: str,
        twistd: tuple[str, ...] = (),
        fdatasync_ms: float = 0.0,
        hang_while: Path | None = None,
        before: tuple[str, ...] = (),
        **environ: str,
    ) -> None:
        self.log = configuration.parent / "agent.log"
        disk: list[str] = []
        if fdatasync_ms or hang_while is not None:
            disk = slow_disk.command(fdatasync_ms, hang_while=hang_while)
        with self.log.open("ab") as log:
            self._log_begins_at = log.tell()  # earlier processes may have written to the same file
            self._process = subprocess.Popen(
                [
                    *before,
                    *disk,
                    str(BIN / "twistd"),
                    "-n",
                    "--pidfile=",
                    *twistd,
                    "oda-websocket",
                    "--conf",
                    str(configuration),
                    *options,
                ],
                cwd=configuration.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(**environ),
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def stop(self) -> None:
        """SIGTERM; returns once it has shut down in order."""
        self._process.terminate()
        # twistd finishes its shutdown and then dies of the signal it was sent.
        assert self.wait() in (0, -signal.SIGTERM), self.text()
        assert "Server Shut Down" in self.text(), self.text()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def wait(self, timeout_s: float = 30.0) -> int:
        """Its exit status once it has ended."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise

    def text(self) -> str:
        """Its log so far."""
        return self.log.read_text()

    def wait_for_log(self, words: str, timeout_s: float = 30.0, is_own: bool = False) -> None:
        """Return once the log holds these words; ``is_own``: once this process has written them,
        not an earlier one with the same log. Raises ``TimeoutError``."""
        deadline_s = time.monotonic() + timeout_s
        begin = self._log_begins_at if is_own else 0
        while words.encode() not in self.log.read_bytes()[begin:]:
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{words!r} is not in the log:\n{self.text()}")
            time.sleep(0.05)

    def __enter__(self) -> AgentProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def run_oda(
    *arguments: str, cwd: Path, stdin: str = "", timeout_s: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """``oda`` with these arguments."""
    return subprocess.run(
        [str(BIN / "oda"), *arguments],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=environment(),
        check=False,
    )
