"""While no name server answers, nothing waits for the look-ups: they can't be cancelled."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from tests.e2e.processes import BIN, AgentProcess, environment, write

#: Look-ups take this long here, in seconds; glibc takes up to a minute.
STUCK_S = 45.0
#: So soon a process ends, in seconds, on a machine that is busy.
SOON_S = 10.0


def stuck_names(directory: Path) -> dict[str, str]:
    """An environment in which every name keeps ``getaddrinfo`` for ``STUCK_S``; the log says of
    each look-up that it has begun."""
    (directory / "site").mkdir()
    (directory / "site" / "sitecustomize.py").write_text(
        "import socket, sys, time\n"
        "def getaddrinfo(host, *arguments, **options):\n"
        "    print('looking up', host, file=sys.__stderr__, flush=True)\n"
        f"    time.sleep({STUCK_S})\n"
        "    raise socket.gaierror(socket.EAI_AGAIN, 'Temporary failure in name resolution')\n"
        "socket.getaddrinfo = getaddrinfo\n"
    )
    return {"PYTHONPATH": str(directory / "site")}


def write_files(directory: Path) -> Path:
    """A configuration whose host is a name."""
    conf = directory / "conf"
    conf.mkdir()
    write(conf, "connector.websocket", "host=platform.example\npath=/p\nconnectionTimeout=2\n")
    write(conf, "datastreams.deviceinfo", "deviceId=dev-1\napiKey=a-key\n")
    return conf


def test_sigterm_ends_an_agent_that_looks_a_name_up(tmp_path: Path) -> None:
    """Also after some attempts, each with a look-up that is stuck."""
    names = stuck_names(tmp_path)
    with AgentProcess(write_files(tmp_path), **names) as agent:
        agent.wait_for_log("while looking up the name")
        deadline_s = time.monotonic() + SOON_S
        while agent.text().count("looking up platform.example") < 2:
            assert time.monotonic() < deadline_s, agent.text()
            time.sleep(0.05)
        began_s = time.monotonic()
        agent.stop()
        assert time.monotonic() - began_s < SOON_S
    assert "Traceback" not in agent.text()


def test_a_check_ends_in_its_time(tmp_path: Path) -> None:
    """``oda check`` says that the name server does not answer, and is not held either."""
    names = stuck_names(tmp_path)
    write_files(tmp_path)
    began_s = time.monotonic()
    ran = subprocess.run(
        [BIN / "oda", "check", "--conf", "conf"],
        cwd=tmp_path,
        env=environment(**names),
        capture_output=True,
        text=True,
        check=False,
    )
    assert time.monotonic() - began_s < 2 + SOON_S
    assert ran.returncode == 1
    assert "the DNS server did not answer for platform.example" in ran.stdout
    assert "Traceback" not in ran.stderr
