"""What the package brings along beside the agent's code."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from click.testing import CliRunner
from twisted.logger import LogLevel, capturedLogs, formatEvent

from oda.cli import main
from oda.config.loader import load
from oda.connector.tls import build_tls_options
from oda.process import forbid_core_files, report
from oda.settings import ConnectorSettings
from tests.config.directories import MINIMAL, write
from tests.monitor.test_deploy import UNIT, entries

ROOT = Path(__file__).resolve().parents[2]


def test_the_unit_bounds_the_service() -> None:
    """Memory, tasks, no core files, nothing left behind in shared memory."""
    unit = entries(UNIT)
    assert unit["MemoryMax"] == ["512M"]
    assert unit["TasksMax"] == ["256"]
    assert unit["LimitCORE"] == ["0"]
    assert unit["RemoveIPC"] == ["yes"]


def test_the_agent_leaves_no_core_file() -> None:
    """It would hold the API key; so also without the unit the limit is 0."""
    before = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        if before[1] != 0:
            resource.setrlimit(resource.RLIMIT_CORE, (1, before[1]))
        forbid_core_files()
        assert resource.getrlimit(resource.RLIMIT_CORE) == (0, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)


@pytest.mark.parametrize(
    ("host", "secure", "doubtful"),
    [
        ("platform.example", False, True),
        ("192.0.2.1", False, True),
        ("2001:db8::1", False, True),
        ("localhost.example", False, True),
        ("localhost", False, False),
        ("device.localhost.", False, False),
        ("127.0.0.1", False, False),
        ("::1", False, False),
        ("platform.example", True, False),
    ],
)
def test_plaintext_to_another_machine_is_warned_of(
    tmp_path: Path, host: str, secure: bool, doubtful: bool
) -> None:
    """In the log at the start and by ``oda check``; not for this machine, and not with TLS."""
    text = f"host={host}\npath=p\nsecure={str(secure).lower()}\n"
    write(tmp_path, {**MINIMAL, "connector.websocket": text})
    for one in tmp_path.iterdir():
        one.chmod(0o600)
    with capturedLogs() as logs:
        report(load(tmp_path, {}))
    warned = [formatEvent(one) for one in logs if one["log_level"] is LogLevel.warn]
    shown = CliRunner().invoke(main, ["check", "--offline", "--conf", str(tmp_path)]).output
    assert [f"the connection to {host} is plaintext" in str(one) for one in warned] == (
        [True] if doubtful else []
    )
    assert ("is plaintext" in shown) is doubtful


def test_only_suites_with_forward_secrecy_are_offered() -> None:
    """Of TLS 1.2 neither an exchange without forward secrecy nor CBC; of TLS 1.3 all."""
    from OpenSSL import SSL

    options = build_tls_options(ConnectorSettings(host="localhost", path="p", secure=True))
    offered = SSL.Connection(options._context).get_cipher_list()
    assert offered
    for name in offered:
        assert name.startswith(("TLS_", "ECDHE-", "DHE-")), name
        assert "GCM" in name or "POLY1305" in name or "CCM" in name, name


def test_the_image_is_built_from_nothing_but_the_package() -> None:
    """``.dockerignore`` leaves out all but what is named: no history, no state, no keys."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    named = [line for line in lines if line and not line.startswith("#")]
    assert named[0] == "*"
    assert {line[1:] for line in named if line.startswith("!")} <= {
        *("oda", "twisted", "setup.py", "setup.cfg", "MANIFEST.in", "README.md", "LICENSE"),
        *("conf", "docs", "deploy"),
    }


def test_the_source_distribution_holds_what_goes_with_the_code() -> None:
    """Pages, example configuration and the files to install it by."""
    manifest = (ROOT / "MANIFEST.in").read_text()
    for directory in ("conf", "deploy", "docs"):
        assert f"recursive-include {directory} *" in manifest
        assert any((ROOT / directory).iterdir())
