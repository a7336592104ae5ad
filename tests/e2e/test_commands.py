"""The tools beside the agent as they are installed: ``oda init``, ``oda check``, ``oda outbox``."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from oda.commands.status import NOT_RUNNING
from oda.platform.faults import Fault, PongMode, Refusal
from oda.platform.testing import RunningPlatform
from tests.e2e.processes import KEY, AgentProcess, run_oda, write, write_configuration
from tests.wire.certificates import Authority


def check(tmp_path: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """``oda check --json``: its exit status and what it printed."""
    done = run_oda("check", "--conf", "conf", "--json", *arguments, cwd=tmp_path)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def results(report: dict[str, Any]) -> dict[str, str]:
    """The worst result of each step."""
    order = ["ok", "skipped", "warning", "failed"]
    found: dict[str, str] = {}
    for one in report["checks"]:
        step, result = one["check"], one["result"]
        if step not in found or order.index(result) > order.index(found[step]):
            found[step] = result
    return found


def failure(report: dict[str, Any]) -> dict[str, Any]:
    """The first finding that failed."""
    return next(one for one in report["checks"] if one["result"] == "failed")


def listen() -> tuple[socket.socket, int]:
    """A listening socket with its port, at which nobody says anything."""
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, listener.getsockname()[1]


# -- oda check -------------------------------------------------------------------------------


def test_a_good_configuration_passes_every_step(platform: RunningPlatform, tmp_path: Path) -> None:
    """From the files to the acknowledgement; the platform sees a connection that ends in good
    order, and no message."""
    write_configuration(tmp_path / "conf", platform)
    (tmp_path / "conf" / "es.amplia.oda.datastreams.deviceinfo.cfg").chmod(0o600)
    status, report = check(tmp_path)
    assert status == 0, report
    assert report["ok"] is True
    assert results(report) == dict.fromkeys(
        [
            "configuration",
            "key",
            "outbox",
            "agent",
            "device",
            "name",
            "tcp",
            "upgrade",
            "ping",
            "acknowledgement",
        ],
        "ok",
    )
    (connection,) = platform.connections("dev-1")
    assert platform.messages("dev-1") == []
    assert not platform.device("dev-1")["connected"]  # type: ignore[index]
    assert connection.close_code == 1000
    assert report["settings"]["es.amplia.oda.datastreams.deviceinfo.cfg"]["apiKey"] == "***"


def test_the_report_for_people_holds_no_key(platform: RunningPlatform, tmp_path: Path) -> None:
    """The verdict, then a line for each step; with --offline nothing connects, with --verbose the
    settings follow, with *** for the key."""
    write_configuration(tmp_path / "conf", platform)
    done = run_oda("check", "--conf", "conf", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert KEY not in done.stdout + done.stderr
    assert "  apiKey=***" not in done.stdout
    assert done.stdout.startswith("OK: the agent can work with this configuration")
    assert "round trip" in done.stdout
    assert len(platform.connections("dev-1")) == 1
    done = run_oda("check", "--conf", "conf", "--offline", "--verbose", cwd=tmp_path)
    assert done.returncode == 0
    assert "  apiKey=***" in done.stdout
    assert KEY not in done.stdout + done.stderr
    assert "round trip" not in done.stdout
    assert len(platform.connections("dev-1")) == 1


def test_every_fault_of_the_configuration_is_reported(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    """With file, line, key and what is wrong; nothing else is tried."""
    conf = write_configuration(tmp_path / "conf", platform, connector={"prot": 1, "secure": "x"})
    write(conf, "subsystem.poller", "device.upTime=soon\n")
    status, report = check(tmp_path)
    assert status == 1
    found = [(Path(one["file"]).name, one["line"], one["key"]) for one in report["checks"]]
    assert found == [
        ("es.amplia.oda.connector.websocket.cfg", 4, "prot"),
        ("es.amplia.oda.connector.websocket.cfg", 5, "secure"),
        ("es.amplia.oda.subsystem.poller.cfg", 1, "device.upTime"),
    ]
    assert all(one["problem"] for one in report["checks"])
    assert platform.connections("dev-1") == []


def test_a_missing_directory_is_a_fault(tmp_path: Path) -> None:
    """It says where it looked."""
    status, report = check(tmp_path)
    assert status == 1
    assert "conf" in failure(report)["text"]


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (Refusal.UNAUTHORIZED, "API key"),
        (Refusal.FORBIDDEN, "deviceId"),
        (Refusal.NOT_FOUND, "'path'"),
        (Refusal.UNAVAILABLE, "later"),
        (Refusal.GARBAGE, "'port'"),
    ],
)
def test_a_refused_upgrade_says_what_to_look_at(
    platform: RunningPlatform, tmp_path: Path, refusal: Refusal, words: str
) -> None:
    """Each status has its own advice; everything before it has passed."""
    write_configuration(tmp_path / "conf", platform)
    platform.set_fault(Fault(refuse=refusal))
    status, report = check(tmp_path)
    assert status == 1
    assert results(report)["tcp"] == "ok"
    assert failure(report)["check"] == "upgrade"
    assert words in failure(report)["advice"]


def test_a_wrong_key_is_told_and_not_shown(platform: RunningPlatform, tmp_path: Path) -> None:
    """The platform's own word on it, and where the key came from."""
    conf = write_configuration(tmp_path / "conf", platform)
    write(conf, "datastreams.deviceinfo", "deviceId=dev-1\napiKey=not-the-key\n")
    status, report = check(tmp_path)
    assert status == 1
    assert failure(report)["http_status"] == 401
    assert "not-the-key" not in json.dumps(report)


def test_nobody_listens(platform: RunningPlatform, tmp_path: Path) -> None:
    """A closed port is told from a silent one."""
    listener, port = listen()
    listener.close()
    write_configuration(tmp_path / "conf", platform, connector={"port": port})
    status, report = check(tmp_path)
    assert status == 1
    assert failure(report)["check"] == "tcp"
    assert "nothing listens there" in failure(report)["advice"]


def test_a_silent_platform_is_given_up(platform: RunningPlatform, tmp_path: Path) -> None:
    """Within connectionTimeout, and all together within --timeout."""
    listener, port = listen()
    with listener:
        silent = {"port": port, "connectionTimeout": 1}
        write_configuration(tmp_path / "conf", platform, connector=silent)
        status, report = check(tmp_path)
        assert status == 1
        assert failure(report)["check"] == "upgrade"
        assert "not open within 1 s" in failure(report)["text"]
        write_configuration(tmp_path / "conf", platform, connector={"port": port})
        status, report = check(tmp_path, "--timeout", "1")
        assert status == 1
        assert failure(report)["check"] == "upgrade"
        assert "not done within 1 s" in failure(report)["text"]


@pytest.mark.parametrize("mode", [PongMode.DROP, PongMode.EMPTY, PongMode.WRONG])
def test_a_platform_without_usable_pongs_fails_the_check(
    platform: RunningPlatform, tmp_path: Path, mode: PongMode
) -> None:
    """The connection works, but deliveries can't be proven: somebody has to know."""
    write_configuration(tmp_path / "conf", platform, connector={"pongTimeout": 0.5})
    platform.set_fault(Fault(pong=mode))
    status, report = check(tmp_path)
    assert status == 1
    found = results(report)
    assert (found["upgrade"], found["ping"], found["acknowledgement"]) == ("ok", "failed", "failed")


def test_tls_is_verified_and_its_end_is_told(tmp_path: Path) -> None:
    """Verified against caFile: when the certificate ends. Against another authority: who issued
    it. For another host: for which. Ended: since when. And a port without TLS."""
    authority = Authority(tmp_path, "right")
    stranger = Authority(tmp_path, "stranger")
    good = authority.issue("good", "localhost", days=90)
    soon = authority.issue("soon", "localhost", days=5)
    elsewhere = authority.issue("elsewhere", "other.example", days=90)
    ended = authority.issue("ended", "localhost", days=-1)

    def look(pair: tuple[Path, Path], ca_file: Path) -> tuple[int, dict[str, Any]]:
        options = ["--key", KEY, "--cert", str(pair[0]), "--key-file", str(pair[1])]
        with RunningPlatform(options, log=tmp_path / "platform.log") as secured:
            settings = {"host": "localhost", "secure": "true", "caFile": ca_file}
            write_configuration(tmp_path / "conf", secured, connector=settings)
            return check(tmp_path)

    status, report = look(good, authority.file)
    assert status == 0, report
    (text,) = (one["text"] for one in report["checks"] if "certificate_ends_ms" in one)
    assert "in 89 days" in text
    status, report = look(soon, authority.file)
    assert (status, results(report)["tls"]) == (0, "warning")
    status, report = look(good, stranger.file)
    assert (status, failure(report)["check"]) == (1, "tls")
    assert "issued by 'right'" in failure(report)["text"]
    assert "caFile" in failure(report)["advice"]
    status, report = look(elsewhere, authority.file)
    assert "for other.example, not for localhost" in failure(report)["text"]
    status, report = look(ended, authority.file)
    assert "expired on" in failure(report)["text"]
    with RunningPlatform(["--key", KEY], log=tmp_path / "platform.log") as plain:
        settings = {"host": "localhost", "secure": "true", "caFile": authority.file}
        write_configuration(tmp_path / "conf", plain, connector=settings)
        status, report = check(tmp_path)
    assert (status, failure(report)["check"]) == (1, "tls")
    assert "secure=false" in failure(report)["advice"]


def test_a_running_agent_is_not_disturbed(platform: RunningPlatform, tmp_path: Path) -> None:
    """No second connection as the same device, unless somebody insists. The agent is asked instead,
    also for its troubles. The device's id is found out in any case."""
    conf = write_configuration(tmp_path / "conf", platform, poller="broken=0;1\n")
    script = tmp_path / "broken.sh"
    script.write_text("#!/bin/sh\necho torn off >&2; exit 3\n")
    script.chmod(0o755)
    file = conf / "es.amplia.oda.datastreams.deviceinfo.cfg"
    file.write_text(file.read_text() + f"path={tmp_path}\nbroken=broken.sh\n")
    with AgentProcess(conf) as agent:
        platform.wait_for_device("dev-1")
        agent.wait_for_log("connected to")
        agent.wait_for_log("could not read broken")
        status, report = check(tmp_path)
        assert status == 0, report
        found = results(report)
        assert (found["tcp"], found["upgrade"]) == ("ok", "skipped")
        assert (found["device"], found["agent"]) == ("ok", "warning")
        (trouble,) = (one for one in report["checks"] if one.get("code") == "reading")
        assert "broken of the host: exit status 3: torn off" in trouble["text"]
        assert "ping" not in found
        assert len(platform.connections("dev-1")) == 1
        status, report = check(tmp_path, "--connect")
        assert results(report)["upgrade"] == "ok"
        assert len(platform.connections("dev-1")) >= 2
        agent.stop()


def test_operations_that_come_during_the_check_are_told(
    platform: RunningPlatform, tmp_path: Path
) -> None:
    """An operation the platform kept for the device would otherwise vanish without a word."""
    write_configuration(tmp_path / "conf", platform)
    platform.post_operation("dev-1", "REFRESH_INFO")
    status, report = check(tmp_path)
    warnings = [one["text"] for one in report["checks"] if one["result"] == "warning"]
    assert status == 0
    assert any("sent during the check, unanswered: 1" in text for text in warnings)


def test_what_the_settings_name_is_looked_for(platform: RunningPlatform, tmp_path: Path) -> None:
    """A script that isn't there, a plugin that isn't installed, an outbox without a directory."""
    conf = write_configuration(
        tmp_path / "conf", platform, connector={"outboxPath": "/nowhere/outbox.sqlite"}
    )
    write(conf, "datastreams.deviceinfo", f"apiKey={KEY}\ndeviceId=dev-1\nt=absent.sh;FLOAT\n")
    write(conf, "plugins", "plugins=absent\n")
    status, report = check(tmp_path, "--offline")
    assert status == 1
    found = results(report)
    assert (found["scripts"], found["plugins"], found["outbox"]) == ("warning", "failed", "warning")


def test_a_damaged_outbox_is_told(platform: RunningPlatform, tmp_path: Path) -> None:
    """A file that SQLite can't read is a warning, and nothing fails: the agent replaces it."""
    write_configuration(tmp_path / "conf", platform)
    (tmp_path / "oda-outbox.sqlite").write_bytes(b"damaged" * 1000)
    status, report = check(tmp_path, "--offline")
    assert status == 0
    (found,) = (one for one in report["checks"] if one["check"] == "outbox")
    assert found["result"] == "warning"
    assert "it can't be read" in found["text"]


# -- oda init --------------------------------------------------------------------------------


def test_init_writes_a_configuration_that_works(platform: RunningPlatform, tmp_path: Path) -> None:
    """Flags alone, the key through standard input; the result passes the check, and an agent
    connects with it."""
    address = platform.device_url.removeprefix("ws://")
    host, _, rest = address.partition(":")
    port, _, path = rest.partition("/")
    done = run_oda(
        "init", "conf", "--host", host, "--port", port, "--path", f"/{path}",
        "--device-id", "dev-1", "--api-key-file", "-", "--every", "1",
        "--set", "reconnectMaxDelay=5",
        cwd=tmp_path, stdin=f"{KEY}\n",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert KEY not in done.stdout
    conf = tmp_path / "conf"
    assert stat.S_IMODE((conf / "apikey").stat().st_mode) == 0o600
    assert not any(KEY in file.read_text() for file in conf.glob("*.cfg"))
    done = run_oda("check", "--offline", cwd=tmp_path)
    assert done.returncode == 0
    assert "warning" not in done.stdout
    with AgentProcess(conf) as agent:
        platform.wait_for_datapoints("dev-1", "device.upTime", 2)
        agent.stop()


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    """Neither a file of the configuration nor the key; nothing is added beside it."""
    flags = ["--host", "h.example", "--api-key-file", "-"]
    for name in ("es.amplia.oda.subsystem.poller.cfg", "apikey"):
        directory = tmp_path / f"with-{name}"
        directory.mkdir()
        (directory / name).write_text("mine\n")
        done = run_oda("init", str(directory), *flags, cwd=tmp_path, stdin="k\n")
        assert done.returncode == 1
        assert f"{name} exists; nothing was written" in done.stderr
        assert [file.name for file in directory.iterdir()] == [name]
        assert (directory / name).read_text() == "mine\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--api-key-file", "-"], "--host is missing"),
        (["--host", "h"], "--api-key-file is missing"),
        (["--host", "h h", "--api-key-file", "-"], "host: 'h h' is not allowed"),
        (["--host", "h", "--port", "x", "--api-key-file", "-"], "port: 'x' is not allowed"),
        (["--host", "h", "--api-key-file", "/absent"], "/absent does not exist"),
        (["--host", "h", "--api-key-file", "-", "--every", "soon"], "is not an option"),
        (["--host", "h", "--api-key-file", "-", "--set", "prot=1"], "--set prot"),
        (["--host", "h", "--api-key-file", "-", "--set", "apiKey=k"], "a secret"),
    ],
)
def test_init_writes_nothing_that_the_agent_would_refuse(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    """What is wrong is said; no directory is left behind."""
    done = run_oda("init", "conf", *arguments, cwd=tmp_path, stdin="k\n")
    assert done.returncode != 0
    assert words in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_init_takes_a_key_file_that_is_there(tmp_path: Path) -> None:
    """Named by its whole path; the key isn't copied."""
    (tmp_path / "key").write_text("k\n")
    (tmp_path / "key").chmod(0o600)
    done = run_oda("init", "--host", "h.example", "--api-key-file", "key", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "conf" / "es.amplia.oda.datastreams.deviceinfo.cfg").read_text()
    assert f"\napiKeyFile={tmp_path / 'key'}\n" in text
    assert not (tmp_path / "conf" / "apikey").exists()


# -- oda outbox ------------------------------------------------------------------------------


def outbox(tmp_path: Path, *arguments: str) -> str:
    """What ``oda outbox`` printed; it must have succeeded."""
    done = run_oda("outbox", *arguments, "--conf", "conf", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


def outbox_status(tmp_path: Path) -> dict[str, Any]:
    """``oda outbox status --json``."""
    found: dict[str, Any] = json.loads(outbox(tmp_path, "status", "--json"))
    return found


def fill(tmp_path: Path, conf: Path, values: range) -> None:
    """Let an agent that can't connect accept a message for each value."""
    with AgentProcess(conf) as agent:
        wait_for_agent(tmp_path)
        for value in values:
            done = run_oda("send", "--conf", "conf", f"t={value}", cwd=tmp_path)
            assert done.returncode == 0, done.stderr
        agent.stop()


def exported(tmp_path: Path, *arguments: str) -> list[Any]:
    """The values of ``t`` in the messages of ``oda outbox export``, in order."""
    lines = outbox(tmp_path, "export", *arguments).splitlines()
    messages = [json.loads(json.loads(line)["payload"]) for line in lines]
    return [
        point["value"]
        for message in messages
        for stream in message["datastreams"]
        for point in stream["datapoints"]
    ]


def wait_for_agent(tmp_path: Path) -> None:
    """Return once an agent answers at the local socket."""
    for _ in range(50):
        if run_oda("status", "--conf", "conf", cwd=tmp_path).returncode != NOT_RUNNING:
            return
    pytest.fail("no agent answers")


@pytest.fixture
def unreachable(platform: RunningPlatform, tmp_path: Path) -> Path:
    """A configuration whose platform is not there."""
    listener, port = listen()
    listener.close()
    settings = {"port": port, "reconnectMaxDelay": 1}
    return write_configuration(tmp_path / "conf", platform, connector=settings)


def test_what_waits_can_be_seen_with_and_without_an_agent(
    platform: RunningPlatform, unreachable: Path, tmp_path: Path
) -> None:
    """Status, list, export and verify on a stopped agent's file and on a running agent's."""
    fill(tmp_path, unreachable, range(3))
    found = outbox_status(tmp_path)
    assert found["stored"] == {"response": 0, "telemetry": 3}
    assert (found["waiting"], found["lingering"]) == (3, 0)
    assert (found["storedDatapoints"], found["isRunning"]) == (3, False)
    assert found["accepted"] == {"messages": 3, "datapoints": 3}
    assert exported(tmp_path) == [0, 1, 2]
    listed = outbox(tmp_path, "list", "--limit", "2").splitlines()
    assert len(listed) == 4
    assert "telemetry" in listed[1]
    assert "sound" in outbox(tmp_path, "verify")
    with AgentProcess(unreachable) as agent:
        wait_for_agent(tmp_path)
        found = outbox_status(tmp_path)
        assert found["isRunning"] is True
        shown = json.loads(run_oda("status", "--conf", "conf", "--json", cwd=tmp_path).stdout)
        for word in ("waiting", "in_flight", "lingering", "recovering", "dead"):
            assert found[word] == shown["outbox"][word]
        assert found["waiting"] == 3
        assert exported(tmp_path) == [0, 1, 2]
        assert "an agent is using it" in outbox(tmp_path, "status")
        agent.stop()


def test_a_purge_drops_what_waits_and_is_asked_for_twice(
    platform: RunningPlatform, unreachable: Path, tmp_path: Path
) -> None:
    """Nothing without --yes where nobody can be asked; the drop is counted; a running agent then
    sends nothing of it."""
    fill(tmp_path, unreachable, range(2))
    done = run_oda("outbox", "purge", "--conf", "conf", cwd=tmp_path)
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert exported(tmp_path) == [0, 1]
    assert outbox(tmp_path, "purge", "--yes") == "2 messages dropped\n"
    found = outbox_status(tmp_path)
    assert found["stored"] == {"response": 0, "telemetry": 0}
    assert found["dropped"] == {"messages": 2, "datapoints": 2}
    with AgentProcess(unreachable) as agent:
        wait_for_agent(tmp_path)
        for value in (10, 11):
            run_oda("send", "--conf", "conf", f"t={value}", cwd=tmp_path)
        assert outbox(tmp_path, "purge", "--yes") == "2 messages dropped\n"
        run_oda("send", "--conf", "conf", "t=12", cwd=tmp_path)
        write_configuration(unreachable, platform, connector={"reconnectMaxDelay": 1})
        (point,) = platform.wait_for_datapoints("dev-1", "t", 1, timeout_s=30)
        assert point.value == 12
        agent.stop()
    assert [one.value for one in platform.datapoints("dev-1", "t")] == [12]


@pytest.mark.parametrize("is_running", [True, False])
def test_a_dead_letter_can_be_sent_again(
    platform: RunningPlatform, tmp_path: Path, is_running: bool
) -> None:
    """A message over which the platform closes the connection is set aside; once the platform takes
    it, retry-dead brings it there, by the running agent or by the next one."""
    conf = write_configuration(tmp_path / "conf", platform, connector={"reconnectMaxDelay": 1})
    text = "x" * 4000
    platform.set_fault(Fault(close_above_bytes=2000))

    def set_aside() -> bool:
        return bool(outbox_status(tmp_path)["dead"])

    with AgentProcess(conf) as agent:
        platform.wait_for_device("dev-1")
        run_oda("send", "--conf", "conf", f"t={text}", cwd=tmp_path)
        agent.wait_for_log("set aside")
        for _ in range(50):
            if set_aside():
                break
        (letter,) = outbox(tmp_path, "export", "--state", "dead").splitlines()
        assert json.loads(letter)["state"] == "dead"
        assert json.loads(letter)["reason"]
        platform.clear_fault()
        if is_running:
            assert outbox(tmp_path, "retry-dead") == "1 message put back\n"
            platform.wait_for_datapoints("dev-1", "t", 1, timeout_s=30)
        agent.stop()
    if not is_running:
        assert outbox(tmp_path, "retry-dead") == "1 message put back\n"
        with AgentProcess(conf) as agent:
            platform.wait_for_datapoints("dev-1", "t", 1, timeout_s=30)
            agent.stop()
    assert [point.value for point in platform.datapoints("dev-1", "t")] == [text]
    assert outbox_status(tmp_path)["dead"] == 0


def test_a_damaged_file_does_not_verify(unreachable: Path, tmp_path: Path) -> None:
    """A row that was changed behind the agent's back is named; the exit status is 1."""
    fill(tmp_path, unreachable, range(2))
    with closing(sqlite3.connect(tmp_path / "oda-outbox.sqlite")) as store:
        store.execute("UPDATE telemetry SET payload = payload || x'00' WHERE id = 2")
        store.commit()
    done = run_oda("outbox", "verify", "--conf", "conf", cwd=tmp_path)
    assert done.returncode == 1
    assert "telemetry 2 was changed" in done.stdout


@pytest.mark.parametrize("is_running", [True, False])
def test_an_outbox_that_was_left_behind_is_told_and_taken_over(
    unreachable: Path, platform: RunningPlatform, tmp_path: Path, is_running: bool
) -> None:
    """The path was changed while the agent was stopped: the check and the start name the file and
    the command, which takes everything to where it is sent from."""
    fill(tmp_path, unreachable, range(3))
    write_configuration(
        unreachable,
        platform,
        connector={"outboxPath": tmp_path / "other.sqlite", "reconnectMaxDelay": 1},
    )
    status, report = check(tmp_path, "--offline")
    (told,) = (one for one in report["checks"] if one.get("messages"))
    assert (status, told["result"], told["messages"]) == (0, "warning", 3)
    assert "oda outbox import" in told["advice"]

    def take_over() -> None:
        done = run_oda("outbox", "import", "oda-outbox.sqlite", "--conf", "conf", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "3 messages" in done.stdout
        assert "taking" in done.stderr

    if is_running:
        with AgentProcess(unreachable) as agent:
            wait_for_agent(tmp_path)
            agent.wait_for_log("oda outbox import")
            take_over()
            done = run_oda("outbox", "import", "other.sqlite", "--conf", "conf", cwd=tmp_path)
            assert done.returncode == 1
            assert "is using it" in done.stderr
            platform.wait_for_datapoints("dev-1", "t", 3, timeout_s=30)
            agent.stop()
    else:
        take_over()
        with AgentProcess(unreachable) as agent:
            platform.wait_for_datapoints("dev-1", "t", 3, timeout_s=30)
            agent.stop()
    assert [point.value for point in platform.datapoints("dev-1", "t")] == [0, 1, 2]


def test_a_changed_path_moves_the_outbox_of_a_running_agent(
    unreachable: Path, platform: RunningPlatform, tmp_path: Path
) -> None:
    """What waits moves along, and is sent from there."""
    connector = {"outboxPath": tmp_path / "place" / "new.sqlite", "reconnectMaxDelay": 1}
    fill(tmp_path, unreachable, range(3))
    with AgentProcess(unreachable) as agent:
        wait_for_agent(tmp_path)
        write_configuration(unreachable, platform, connector=connector)
        agent.wait_for_log("new.sqlite now")
        assert not (tmp_path / "oda-outbox.sqlite").exists()
        platform.wait_for_datapoints("dev-1", "t", 3, timeout_s=30)
        agent.stop()
    assert (tmp_path / "place" / "new.sqlite").exists()


def test_an_outbox_that_is_not_there(unreachable: Path, tmp_path: Path) -> None:
    """A file that doesn't exist, or one that is something else; and an outbox in memory."""
    done = run_oda("outbox", "status", "--conf", "conf", cwd=tmp_path)
    assert done.returncode == 1
    assert "there is no such file" in done.stderr
    (tmp_path / "other").write_text("no database")
    done = run_oda("outbox", "status", "-c", "conf", "--file", "other", cwd=tmp_path)
    assert done.returncode == 1
    assert "can't be read" in done.stderr
    file = unreachable / "es.amplia.oda.connector.websocket.cfg"
    file.write_text(file.read_text() + "outbox=memory\n")
    done = run_oda("outbox", "status", "--conf", "conf", cwd=tmp_path)
    assert done.returncode == 1
    assert "in memory" in done.stderr


def test_an_agent_that_does_not_answer_is_told(unreachable: Path, tmp_path: Path) -> None:
    """Within seconds, and in words that name the agent; with ``--file`` the file is read anyway."""
    with AgentProcess(unreachable) as agent:
        wait_for_agent(tmp_path)
        agent.signal(signal.SIGSTOP)
        try:
            told = run_oda("outbox", "status", "--conf", "conf", cwd=tmp_path, timeout_s=30)
            file = str(tmp_path / "oda-outbox.sqlite")
            read = run_oda("outbox", "status", "--conf", "conf", "--file", file, cwd=tmp_path)
        finally:
            agent.signal(signal.SIGCONT)
        agent.stop()
    assert told.returncode == 1
    assert "the agent does not answer within 10 s" in told.stderr
    assert (read.returncode, read.stderr) == (0, "")
    assert "an agent is using it" in read.stdout
