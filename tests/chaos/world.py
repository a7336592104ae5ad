"""One agent, one platform, one load, and the comparison of what went in with what came out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from oda.commands.running_agent import connect_to_agent
from oda.control.wire import ControlError
from oda.platform.testing import RunningPlatform
from tests.chaos.ledger import Ledger
from tests.chaos.load import Load
from tests.chaos.report import Report
from tests.e2e.processes import KEY, AgentProcess, write, write_configuration

ROOT = Path(__file__).resolve().parents[2]
DEVICE = "dev-1"
#: The connector's limits: a full window, and the answers that may exceed it.
WINDOW = 256 + 64
#: Lingering rows are looked for once a second, and a busy machine takes its time.
LINGER_SLACK_S = 3.0
#: Their deletion waits for the commit that is under way, and for its own; each may have to sync
#: the log, its header, and in a checkpoint both files.
_SYNCS_TO_DELETE = 8
#: After so long, most of what was acknowledged must not come again (with an ``ackLinger`` of 1).
LONG_LIFE_S = 1.0 + LINGER_SLACK_S + 1.5


class World:
    """``connector`` are keys of the connector's file beyond those that make things go fast;
    ``fdatasync_ms`` is how much longer the agent's disk takes for each fdatasync."""

    def __init__(
        self,
        directory: Path,
        connector: Mapping[str, object] | None = None,
        platform_options: Sequence[str] | None = None,
        python_path: Sequence[Path] = (),
        port: int | None = None,
        fdatasync_ms: float = 0.0,
    ) -> None:
        self.fdatasync_ms = fdatasync_ms
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        options = ["--database", str(directory / "platform.sqlite"), "--durable"]
        if platform_options is not None:
            options = list(platform_options)
        self.platform = RunningPlatform(["--key", KEY, *options], log=directory / "platform.log")
        self.platform.start()
        self.connector: dict[str, object] = {
            "reconnectMaxDelay": 1,
            "ackLinger": 1,
            **(connector or {}),
        }
        self.configuration = directory / "conf"
        self.configure(port)
        self._python_path = ":".join(str(path) for path in (ROOT, *python_path))
        self._runtime = TemporaryDirectory(prefix="oda-")
        self.ledger = Ledger()
        self.load = Load(self.configuration)

    def configure(self, port: int | None = None) -> None:
        """Write the configuration; ``port`` instead of the platform's own (a proxy's)."""
        more = {**self.connector, **({"port": port} if port is not None else {})}
        write_configuration(self.configuration, self.platform, DEVICE, more)

    def write(self, component: str, text: str) -> None:
        """One more file of the configuration."""
        write(self.configuration, component, text)

    def start_agent(self) -> AgentProcess:
        """The agent, from this source tree."""
        # The local socket stands elsewhere than on the disk that goes wrong, as under systemd, and
        # at a short path: the kernel allows 107 bytes, which the directory of a test may exceed.
        return AgentProcess(
            self.configuration,
            fdatasync_ms=self.fdatasync_ms,
            PYTHONPATH=self._python_path,
            RUNTIME_DIRECTORY=self._runtime.name,
        )

    def wait_until_ready(self, timeout_s: float = 60.0) -> None:
        """Return once the agent is connected, whoever was before."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                if self.status()["ready"]:
                    return
            except (ControlError, OSError):
                assert time.monotonic() < deadline_s, "the agent does not answer"
            assert time.monotonic() < deadline_s, "the agent does not connect"
            time.sleep(0.05)

    def status(self) -> dict[str, Any]:
        """What ``oda status --json`` says."""
        with connect_to_agent(self.configuration, timeout_s=10) as client:
            status: dict[str, Any] = client.call("status")
        return status

    def read_record(self) -> None:
        """Take over what the platform has recorded since the last time (it forgets the oldest)."""
        self.ledger.read(self.platform.messages(DEVICE, after=self.ledger.last_number))

    def wait_for_delivery(self, timeout_s: float = 60.0) -> list[str]:
        """What is missing once everything accepted has arrived, or the time is up."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            self.read_record()
            missing = self.ledger.missing(self.load.accepted)
            if not missing or time.monotonic() > deadline_s:
                return missing
            time.sleep(0.2)

    def conclude(
        self,
        report: Report,
        linger_s: float = 1.0,
        timeout_s: float = 60.0,
        rereads: bool = False,
        in_order: bool = True,
    ) -> None:
        """Everything accepted must arrive, in order, unaltered, with no repeats but those that the
        window, the linger time and (with ``rereads``) a store that could not be read explain.
        Without ``in_order`` live data may have overtaken what a store held that could not be
        opened."""
        report.problems += self.wait_for_delivery(timeout_s)
        connections = self.platform.connections(DEVICE)
        report.problems += self.ledger.problems
        report.problems += self.ledger.disorder if in_order else []
        report.problems += self.load.refusals
        slack_s = LINGER_SLACK_S + _SYNCS_TO_DELETE * self.fdatasync_ms / 1000
        report.problems += self.ledger.unjustified_repeats(WINDOW, linger_s + slack_s, rereads)
        report.figures.update(
            {
                "sent": self.load.sent_count,
                "accepted": self.load.accepted_count,
                "arrived": self.ledger.datapoints - self.ledger.repeated_datapoints,
                "repeated": self.ledger.repeated_datapoints,
                "messages": self.ledger.messages,
                "repeated messages": self.ledger.repeated_messages,
                "most repeats of one": self.ledger.most_repeats,
                "connections": len(connections),
            }
        )
        self.require_clean_log(report)

    def require_clean_log(self, report: Report) -> None:
        """No defect may show in the agent's log."""
        log = (self.directory / "agent.log").read_text(errors="replace")
        for word in ("Traceback", "Unhandled", "a defect"):
            report.require(word not in log, f"the agent's log has {word!r}")

    def close(self) -> None:
        """End what is still running."""
        self.load.give_up()
        self.platform.kill()
        self._runtime.cleanup()
