"""What an operator relies on: watchdog, health, status, log, and a key that stays secret."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from oda.platform.faults import Fault, Refusal
from oda.platform.testing import RunningPlatform
from tests.e2e.processes import AgentProcess, environment, run_oda, write, write_configuration

POLLER = "device.upTime=0;1\n"
WATCHDOG_S = 2.0

FREEZER = """
import time
from pathlib import Path
from twisted.logger import Logger
from twisted.plugin import IPlugin as ITwistedPlugin
from zope.interface import implementer
from oda.interfaces import IDatastreamGetter, IPlugin
from oda.model import Reading

@implementer(IDatastreamGetter)
class Freezer:
    datastream_id = "freezer"
    def __init__(self, options):
        self.options = options
    def devices(self):
        return [""]
    def get(self, device_id):
        secret = self.options.get("says", "")
        if secret:
            Logger().warn("indiscreet: {secret}", secret=secret)
            raise ValueError(secret)
        if Path(self.options["trap"]).exists():
            time.sleep(600)
        return Reading(1)

@implementer(ITwistedPlugin, IPlugin)
class FreezerPlugin:
    name = "freezer"
    def create(self, options, reactor):
        return [Freezer(options)]

freezer = FreezerPlugin()
"""


def install_plugin(directory: Path, conf: Path, **options: str) -> str:
    """A plugin that blocks the reactor, or says what it should not; returns PYTHONPATH."""
    plugins = directory / "code" / "oda" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "freezer.py").write_text(FREEZER)
    lines = "".join(f"freezer.{name}={text}\n" for name, text in options.items())
    write(conf, "plugins", f"plugins=freezer\n{lines}")
    return str(directory / "code")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(port: int, path: str) -> tuple[int, str]:
    """Status and body."""
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
            return reply.status, reply.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


def wait_until_ready(port: int, wanted: int, timeout_s: float) -> float:
    """How long it took until ``/health/ready`` answered so."""
    began_s = time.monotonic()
    while True:
        elapsed_s = time.monotonic() - began_s
        try:
            if get(port, "/health/ready")[0] == wanted:
                return elapsed_s
        except OSError:
            pass  # it does not listen yet
        if elapsed_s > timeout_s:
            raise TimeoutError(f"/health/ready was not {wanted} within {timeout_s} s")
        time.sleep(0.05)


class Manager:
    """The part of systemd that the agent talks to: a socket for its notifications."""

    def __init__(self, path: Path) -> None:
        self.environ = {
            "NOTIFY_SOCKET": str(path),
            "WATCHDOG_USEC": str(int(WATCHDOG_S * 1_000_000)),
        }
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    def wait_for(self, words: str, timeout_s: float = 20.0) -> None:
        """Return once a notification holds these words."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            self._socket.settimeout(max(0.01, deadline_s - time.monotonic()))
            if words in self._socket.recv(4096).decode():
                return

    def is_fed(self) -> bool:
        """Whether the watchdog is fed in time, as systemd judges it."""
        try:
            self.wait_for("WATCHDOG=1", WATCHDOG_S)
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        self._socket.close()


@contextmanager
def manager_at(path: Path) -> Iterator[Manager]:
    manager = Manager(path)
    try:
        yield manager
    finally:
        manager.close()


def test_a_frozen_agent_is_restarted_by_the_watchdog(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    """systemd's protocol, with this test in its place: READY and a status come at the start, the
    watchdog is fed while the reactor runs and no longer once it is blocked; the process that
    replaces it reports in again, and is connected again."""
    conf = write_configuration(tmp_path / "conf", platform, poller="freezer=0;0.2\n")
    trap = tmp_path / "trap"
    code = install_plugin(tmp_path, conf, trap=str(trap))
    with manager_at(tmp_path / "notify") as manager:
        with AgentProcess(conf, PYTHONPATH=code, **manager.environ) as agent:
            manager.wait_for("READY=1")
            manager.wait_for("STATUS=connected to ws://")
            for _ in range(4):
                assert manager.is_fed()
            trap.touch()
            while manager.is_fed():
                pass
            agent.signal(signal.SIGABRT)  # what WatchdogSignal= says
            assert agent.wait() == -signal.SIGABRT
        trap.unlink()
        with AgentProcess(conf, PYTHONPATH=code, **manager.environ) as agent:
            manager.wait_for("READY=1")
            platform.wait_for_device("dev-1")
            assert manager.is_fed()
            agent.signal(signal.SIGTERM)
            manager.wait_for("STOPPING=1")
            agent.wait()


def test_a_cut_uplink_is_not_ready_within_the_deadline(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    """A platform that reads nothing any more: /health/ready and ``oda status`` say so when the
    pong's time is over, and are content again when the connection is."""
    port = free_port()
    conf = write_configuration(
        tmp_path / "conf",
        platform,
        connector={"keepAliveInterval": 1, "pongTimeout": 2, "reconnectMaxDelay": 1},
        poller=POLLER,
    )
    write(conf, "monitor", f"monitorPort={port}\n")
    with AgentProcess(conf) as agent:
        wait_until_ready(port, 200, 20.0)
        assert run_oda("status", "--conf", str(conf), cwd=tmp_path).returncode == 0
        platform.set_fault(Fault(freeze=True))
        # Keepalive and pong make 3 s; the rest is for a slow machine (the exact time is proven in
        # memory). Without the deadline it would never be said.
        wait_until_ready(port, 503, 30.0)
        reasons = json.loads(get(port, "/health/ready")[1])["reasons"]
        assert reasons
        shown = run_oda("status", "--conf", str(conf), "--json", cwd=tmp_path)
        assert shown.returncode == 1
        assert json.loads(shown.stdout)["ready"] is False
        assert get(port, "/health/live")[0] == 200
        platform.clear_fault()
        wait_until_ready(port, 200, 20.0)
        agent.stop()
    shown = run_oda("status", "--conf", str(conf), cwd=tmp_path)
    assert shown.returncode == 3
    assert "no agent is running" in shown.stderr


def test_a_reload_moves_the_port_and_keeps_the_connection(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    """Another ``monitorPort`` takes effect at SIGHUP; the WebSocket stays as it is."""
    first, second = free_port(), free_port()
    conf = write_configuration(tmp_path / "conf", platform, poller=POLLER)
    write(conf, "monitor", f"monitorPort={first}\n")
    with AgentProcess(conf) as agent:
        wait_until_ready(first, 200, 20.0)
        write(conf, "monitor", f"monitorPort={second}\n")
        agent.signal(signal.SIGHUP)
        wait_until_ready(second, 200, 20.0)
        with pytest.raises(OSError, match="refused"):
            get(first, "/health/live")
        assert "oda_connections_opened_total 1.0" in get(second, "/metrics")[1]
        agent.stop()


def test_the_log_as_json_lines(platform: RunningPlatform, tmp_path: Path) -> None:
    """Every line of the process is one JSON object, Twisted's own included; a level of one
    component counts for it alone."""
    conf = write_configuration(tmp_path / "conf", platform, poller=POLLER)
    write(conf, "monitor", "log.connector=debug\n")
    with AgentProcess(conf, "--log-format", "json") as agent:
        agent.wait_for_log("connected to ws://")
        agent.stop()
    lines = [json.loads(line) for line in agent.text().splitlines()]
    assert all({"time", "level", "component", "message"} <= line.keys() for line in lines)
    assert {line["component"].partition(".")[0] for line in lines if line["level"] == "debug"} == {
        "connector"
    }
    assert lines[-1]["message"] == "Server Shut Down."


def test_a_log_file_survives_its_rotation(platform: RunningPlatform, tmp_path: Path) -> None:
    """After logrotate has moved the file and sent SIGUSR1, the log goes on in a new one."""
    conf = write_configuration(tmp_path / "conf", platform, poller=POLLER)
    log = tmp_path / "file.log"
    with AgentProcess(conf, twistd=("--logfile", str(log))) as agent:
        platform.wait_for_device("dev-1")
        # The platform knows the device a moment before the agent has read that it may come in.
        platform.wait_until(lambda: "connected to" in log.read_text())
        log.rename(tmp_path / "file.log.1")
        agent.signal(signal.SIGUSR1)
        platform.wait_until(lambda: log.exists() and "SIGUSR1" in log.read_text())
        agent.signal(signal.SIGTERM)
        agent.wait()
    assert "connected to" in (tmp_path / "file.log.1").read_text()
    assert "Server Shut Down" in log.read_text()


# -- the key ----------------------------------------------------------------------------------

CANARY = "canary/KEY+7?&=9f2b 4c"
FORMS = (
    CANARY,
    quote(CANARY),
    quote(CANARY, safe=""),
    b64encode(CANARY.encode()).decode().rstrip("="),
    CANARY.encode().hex(),
    "canary/",
    "canary%2F",
)


def leaks(text: str) -> list[str]:
    return [line for line in text.splitlines() if any(form in line for form in FORMS)]


@pytest.mark.parametrize("auth", ["header", "query"])
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_key_shows_nowhere(tmp_path: Path, auth: str, log_format: str) -> None:
    """Refused and accepted connections, an operation, a plugin that logs and raises the key: it is
    neither in the log at its loudest, nor in metrics, health, status, or what ``ps`` shows."""
    port = free_port()
    keys = tmp_path / "keys"
    keys.write_text(f"dev-1={CANARY}\n")
    with RunningPlatform(["--keys-file", str(keys)], log=tmp_path / "platform.log") as platform:
        conf = write_configuration(
            tmp_path / "conf",
            platform,
            connector={"auth": auth, "reconnectMaxDelay": 1},
            poller=POLLER + "freezer=0;1\n",
        )
        (conf / "key").write_text(CANARY)
        (conf / "key").chmod(0o600)
        write(conf, "datastreams.deviceinfo", "deviceId=dev-1\napiKeyFile=key\n")
        write(conf, "monitor", f"monitorPort={port}\nlogLevel=debug\n")
        code = install_plugin(tmp_path, conf, trap="none", says=CANARY)
        platform.set_fault(Fault(refuse=Refusal.UNAUTHORIZED))
        with AgentProcess(conf, "--log-format", log_format, PYTHONPATH=code) as agent:
            agent.wait_for_log("no connection")
            shown = [get(port, "/health/ready")[1], get(port, "/metrics")[1]]
            platform.clear_fault()
            wait_until_ready(port, 200, 60.0)
            platform.send_operation("dev-1", "REFRESH_INFO")
            agent.wait_for_log("indiscreet")
            shown += [get(port, "/metrics")[1], get(port, "/health/ready")[1]]
            for more in ([], ["--json"]):
                shown.append(run_oda("status", "--conf", str(conf), *more, cwd=tmp_path).stdout)
            process = Path("/proc") / str(agent.pid)
            shown += [
                process.joinpath(name).read_bytes().decode() for name in ("cmdline", "environ")
            ]
            agent.stop()
    shown.append(agent.text())
    assert re.search(r"indiscreet: \*\*\*", agent.text())
    assert [line for text in shown for line in leaks(text)] == []
    assert all(shown)


def test_a_faulty_start_does_not_show_the_key(tmp_path: Path) -> None:
    """The text that says what is wrong with the configuration names the line, not its content."""
    conf = tmp_path / "conf"
    conf.mkdir()
    write(conf, "connector.websocket", f"host=h\npath=p?X-ApiKey={quote(CANARY)}\n")
    write(conf, "datastreams.deviceinfo", f"apiKey={CANARY}\napiKey={CANARY}\napyKey={CANARY}\n")
    with AgentProcess(conf, ODA_DEVICE_ID="dev-1") as agent:
        assert agent.wait() == 1
    assert "es.amplia.oda.datastreams.deviceinfo.cfg:3" in agent.text()
    assert leaks(agent.text()) == []


def test_nothing_is_paid_for_a_monitor_that_is_off(tmp_path: Path) -> None:
    """Without ``monitorPort`` neither the HTTP server nor Prometheus' library is in memory."""
    conf = tmp_path / "conf"
    conf.mkdir()
    write(conf, "connector.websocket", "host=127.0.0.1\nport=1\npath=p\n")
    write(conf, "datastreams.deviceinfo", "deviceId=d\napiKey=k\n")
    program = (
        "import sys; from oda.tap import Options, makeService; options = Options();"
        f"options.parseOptions(['--conf', {str(conf)!r}]); options.parent = {{'nodaemon': True}};"
        "makeService(options).startService();"
        "print([name for name in ('prometheus_client', 'oda.monitor.web') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
