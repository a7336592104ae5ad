"""A kit for testing devices: a running platform on free ports, its record, its faults.

``RunningPlatform`` is a separate process, driven by blocking calls. It suits any test, and can be
killed and restarted. The pytest fixture ``oda_platform`` provides one; enable it in your
``conftest.py`` with ``pytest_plugins = ["oda.platform.testing"]``. Tests that run a Twisted reactor
may instead use ``oda.platform.service.Platform`` in their own process.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO
from urllib.parse import quote, urlsplit

import pytest

import oda
from oda.errors import OdaError
from oda.platform.client import NotWithinTime, PlatformClient, PlatformRefused
from oda.platform.faults import Fault, Incident, OperationsMode, PongMode, Refusal

__all__ = [
    "Fault",
    "Incident",
    "NotWithinTime",
    "OperationsMode",
    "PlatformClient",
    "PlatformRefused",
    "PongMode",
    "Refusal",
    "RunningPlatform",
    "StartFailed",
    "oda_platform",
]


class StartFailed(OdaError):  # noqa: N818 - named like those of oda.errors
    """The platform's process did not start; the text is its error output."""


class RunningPlatform(PlatformClient):
    """A platform in a separate process.

    ``options`` are those of ``oda-platform`` except the ports (``["--key", "k"]``). ``log`` is a
    file for its log (default: nowhere). Starting takes some tenths of a second: ``start`` (or the
    ``with`` block) waits for it, at most ``start_timeout_s``.
    """

    def __init__(
        self,
        options: Sequence[str] = (),
        log: Path | None = None,
        start_timeout_s: float = 30.0,
    ) -> None:
        super().__init__("http://127.0.0.1:0")
        self.device_url = ""
        self._options = list(options)
        self._log = log
        self._start_timeout_s = start_timeout_s
        self._ports = ("0", "0")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; on the same ports if it ran before. Raises ``StartFailed``."""
        if self._process is not None:
            raise StartFailed("it is running")
        port, http_port = self._ports
        command = [sys.executable, "-m", "oda.platform", "--port", port, "--http-port", http_port]
        log: IO[bytes] | int = subprocess.DEVNULL if self._log is None else self._log.open("ab")
        try:
            self._process = subprocess.Popen(
                [*command, *self._options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(),
            )
        finally:
            if not isinstance(log, int):
                log.close()
        where = json.loads(self._first_line())
        self.device_url, self.url = where["devices"], where["api"]
        self._ports = (_port_of(self.device_url), _port_of(self.url))

    def _first_line(self) -> bytes:
        process = self._process
        if process is None or process.stdout is None:
            raise StartFailed("it is not running")
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            line = process.stdout.readline() if selector.select(self._start_timeout_s) else b""
        if not line:
            self.kill()
            hint = "" if self._log is None else f", see {self._log}"
            raise StartFailed(f"the platform did not start{hint}")
        return line

    def device_url_of(self, device: str) -> str:
        """The address at which this device connects."""
        return f"{self.device_url}/{quote(device, safe='')}"

    @property
    def pid(self) -> int | None:
        """The process id, None while it is not running."""
        return None if self._process is None else self._process.pid

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stop it cleanly (SIGTERM); kill it if that takes too long."""
        self._end(signal.SIGTERM, timeout_s)

    def kill(self) -> None:
        """Kill it (SIGKILL)."""
        self._end(signal.SIGKILL, 10.0)

    def restart(self) -> None:
        """Start it again on the same ports, after ``stop`` or ``kill`` (or instead of ``stop``)."""
        self.stop()
        self.start()

    def _end(self, how: signal.Signals, timeout_s: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def __enter__(self) -> RunningPlatform:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _environment() -> dict[str, str]:
    """This process's environment, with this package importable."""
    here = str(Path(oda.__file__).parent.parent)
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _port_of(url: str) -> str:
    return str(urlsplit(url).port)


@pytest.fixture
def oda_platform(tmp_path: Path) -> Iterator[RunningPlatform]:
    """A running platform that accepts every key; its log is ``platform.log`` in ``tmp_path``."""
    with RunningPlatform(log=tmp_path / "platform.log") as platform:
        yield platform
