"""``twistd oda-websocket``: what its options make of the log, and how it refuses to start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import Application, IServiceCollection
from twisted.logger import ILogObserver
from twisted.python.usage import UsageError

from oda.logs.observer import AgentLog
from oda.process import AgentProcess
from oda.tap import Options, makeService


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a configuration in it, and nothing kept on disk."""
    monkeypatch.chdir(tmp_path)
    for name, text in (
        ("connector.websocket", "host=127.0.0.1\nport=1\npath=p\noutbox=memory\n"),
        ("datastreams.deviceinfo", "deviceId=dev-1\napiKey=k\n"),
    ):
        (tmp_path / f"es.amplia.oda.{name}.cfg").write_text(text)
    return tmp_path


def options(conf: Path, *arguments: str, **twistd: Any) -> Options:
    """The options as twistd parses them, below its own."""
    parsed = Options()
    parsed.parseOptions(["--conf", str(conf), *arguments])
    parsed.parent = {"nodaemon": True, **twistd}
    return parsed


def test_the_agent_brings_its_log(conf: Path) -> None:
    """The application gets the observer before twistd begins to log, and the service in it."""
    service = makeService(options(conf))
    application = Application("agent")
    service.setServiceParent(application)
    assert isinstance(application.getComponent(ILogObserver), AgentLog)  # type: ignore[attr-defined]
    assert list(IServiceCollection(application)) == [service]  # type: ignore[call-overload]


@pytest.mark.parametrize("chosen", [{"logger": "some.factory"}, {"syslog": True}])
def test_another_log_of_twistd_stays(conf: Path, chosen: dict[str, Any]) -> None:
    """``--logger`` and ``--syslog`` are obeyed; a format for a log that isn't ours is refused."""
    service = makeService(options(conf, **chosen))
    application = Application("agent")
    service.setServiceParent(application)
    assert application.getComponent(ILogObserver) is None  # type: ignore[attr-defined]
    with pytest.raises(SystemExit):
        makeService(options(conf, "--log-format", "json", **chosen))


def test_an_unknown_format_is_refused(conf: Path) -> None:
    """With the formats there are."""
    with pytest.raises(UsageError, match="text, json, journal"):
        options(conf, "--log-format", "xml")


def test_a_log_file_that_can_not_be_opened_is_a_clear_refusal(
    conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 1 and a sentence with the path, instead of a traceback."""
    with pytest.raises(SystemExit) as caught:
        makeService(options(conf, logfile=str(conf / "missing" / "agent.log")))
    assert caught.value.code == 1
    assert str(conf / "missing") in capsys.readouterr().err


def test_a_service_without_a_log_of_its_own_changes_nothing() -> None:
    """Embedded in another application, the observer of that one stays."""
    application = Application("other")
    AgentProcess(None).setServiceParent(application)
    assert application.getComponent(ILogObserver) is None  # type: ignore[attr-defined]


def test_a_start_loads_only_what_is_used(conf: Path) -> None:
    """Not the tools beside the agent, what the configuration doesn't ask for, or what others use of
    Autobahn: memory and time of every start."""
    code = (
        "import sys; from oda.tap import Options, makeService; options = Options();"
        "options.parseOptions(['--conf', '.']); makeService(options);"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=conf,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "oda.agent" in loaded
    unused = {"click", "pycparser", "prometheus_client", "twisted.web", "oda.commands", "automat"}
    unused |= {"oda.platform", "oda.diagnosis", "oda.telemetry.inmemory", "oda.datastreams.sntp"}
    assert loaded & unused == set()


def test_the_options_alone_load_no_agent() -> None:
    """Nearly all of a start is importing: it waits until the process has prepared itself."""
    code = "import sys, oda.tap; print(sorted({'autobahn', 'oda.agent'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
