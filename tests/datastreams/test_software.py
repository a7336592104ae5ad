"""The list of installed software."""

from __future__ import annotations

from pathlib import Path

from oda import __version__
from oda.datastreams.software import installed_software, parse_os_release

RELEASE = """\
# a comment
PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID='12'
ID=debian

nonsense
"""


def test_os_release() -> None:
    """Assignments with and without quotes; comments and other lines are skipped."""
    assert parse_os_release(RELEASE) == {
        "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)",
        "NAME": "Debian GNU/Linux",
        "VERSION_ID": "12",
        "ID": "debian",
    }


def test_the_system_and_the_agent(tmp_path: Path) -> None:
    """The operating system is firmware, the agent and its libraries are software; each entry has
    name, version and type as texts that are not empty."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text(RELEASE)
    software = installed_software(tmp_path)
    assert software[0] == {"name": "Debian GNU/Linux", "version": "12", "type": "FIRMWARE"}
    assert {"name": "oda-websocket", "version": __version__, "type": "SOFTWARE"} in software
    names = [entry["name"] for entry in software]
    assert {"Twisted", "autobahn", "Linux"} <= set(names)
    for entry in software:
        assert list(entry) == ["name", "version", "type"]
        assert all(entry.values())


def test_a_system_without_release_file(tmp_path: Path) -> None:
    """The rest of the list is there all the same."""
    names = [entry["name"] for entry in installed_software(tmp_path)]
    assert "oda-websocket" in names
    assert "Debian GNU/Linux" not in names
