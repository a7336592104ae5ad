"""What the package brings along beside the agent's code."""

from __future__ import annotations

import configparser
import re
import resource
from pathlib import Path

import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
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
        *(
            "oda",
            "twisted",
            "pyproject.toml",
            "setup.py",
            "setup.cfg",
            "MANIFEST.in",
            "README.md",
            "LICENSE",
        ),
        *("conf", "docs", "deploy"),
    }


CONTAINER = ROOT / "deploy" / "container"


def pinned() -> dict[str, tuple[Version, list[str]]]:
    """What constraints.txt names: version and hashes by name."""
    found: dict[str, tuple[Version, list[str]]] = {}
    text = (CONTAINER / "constraints.txt").read_text().replace("\\\n", "")
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        requirement, *hashes = line.split()
        name, version = requirement.split("==")
        found[canonicalize_name(name)] = Version(version), hashes
    return found


def test_the_image_holds_what_is_named_with_its_hashes() -> None:
    """Each package of the image is named in one version with SHA-256 sums, and pip is told to take
    nothing else: not for the package's own sake (``--no-deps``), nor to build it."""
    for name, (_, hashes) in pinned().items():
        assert hashes, name
        assert all(re.fullmatch("--hash=sha256:[0-9a-f]{64}", one) for one in hashes), name
    text = (CONTAINER / "Containerfile").read_text().replace("\\\n", "")
    installs = [command for command in re.split("&&|\n", text) if "pip install" in command]
    assert len(installs) == 2
    assert {"--require-hashes", "/src/deploy/container/constraints.txt"} <= set(installs[0].split())
    assert {"--no-index", "--no-deps", "--no-build-isolation"} <= set(installs[1].split())


def test_the_versions_of_the_image_are_those_that_the_package_asks_for() -> None:
    """A requirement that is new, or higher than what the image holds, makes this fail until
    constraints.txt is made again (docs/installing.md, "Container")."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    asked = setup["options"]["install_requires"].strip().splitlines()
    asked += (CONTAINER / "build-requirements.txt").read_text().splitlines()[1:]
    found = pinned()
    for requirement in map(Requirement, asked):
        version, _ = found[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement


def test_the_versions_of_the_image_are_those_for_its_python() -> None:
    """The command at the top of constraints.txt names the Python of the base image."""
    images = re.findall("^FROM python:([0-9.]+)-", (CONTAINER / "Containerfile").read_text(), re.M)
    (command,) = re.findall("uv pip compile .*", (CONTAINER / "constraints.txt").read_text())
    assert len(images) == 2
    assert set(images) == set(re.findall("--python-version ([0-9.]+)", command))
    assert command in (ROOT / "docs" / "installing.md").read_text()


def test_the_source_distribution_holds_what_goes_with_the_code() -> None:
    """Pages, example configuration and the files to install it by."""
    manifest = (ROOT / "MANIFEST.in").read_text()
    for directory in ("conf", "deploy", "docs"):
        assert f"recursive-include {directory} *" in manifest
        assert any((ROOT / directory).iterdir())
