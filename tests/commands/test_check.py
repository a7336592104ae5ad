"""What ``oda check`` shows to people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click.testing import CliRunner

from oda.cli import main
from tests.config.directories import MINIMAL, write

CONNECTOR = "es.amplia.oda.connector.websocket.cfg"


@pytest.fixture(autouse=True)
def conf(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A good configuration; its path is short, as a socket's has to be."""
    for name in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    with TemporaryDirectory(prefix="oda-") as made, chdir(made):
        directory = Path(made, "conf")
        directory.mkdir()
        write(directory, MINIMAL)
        for file in directory.iterdir():
            file.chmod(0o600)
        yield directory


def shown(*arguments: str) -> tuple[int, list[str]]:
    done = CliRunner().invoke(main, ["check", "--offline", *arguments])
    return done.exit_code, done.stdout.splitlines()


def test_the_verdict_comes_first(conf: Path) -> None:
    """Whoever reads one line knows whether the agent could work."""
    status, lines = shown()
    assert status == 0
    assert lines[0].startswith("OK: the configuration is good")
    assert lines[1] == ""
    assert lines[2].startswith("configuration ")


def test_a_failure_is_named_in_the_verdict_with_what_to_do(conf: Path) -> None:
    """The first failure stands at the top, not behind the findings that are good."""
    (conf / "es.amplia.oda.plugins.cfg").write_text("plugins=absent\n")
    status, lines = shown()
    assert status == 1
    assert lines[0].startswith("FAILED: 1 problem")
    assert lines[1] == "  plugins: plugin 'absent' is not installed"
    assert lines[2].startswith("  -> install it")


def test_the_settings_are_shown_when_asked_for(conf: Path) -> None:
    """Fifty lines of defaults hide what was found."""
    _, plain = shown()
    _, verbose = shown("--verbose")
    assert not any("(default)" in line for line in plain)
    assert any("(default)" in line for line in verbose)
    assert verbose[: len(plain)] == plain
    assert "  apiKey=***" in verbose
