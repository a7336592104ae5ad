"""``oda init`` at a terminal, and what it prints."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from oda.cli import main
from oda.config.loader import load

ROOT = Path(__file__).parents[2]


def answer(directory: Path, *arguments: str, answers: list[str]) -> tuple[int, str]:
    """Run ``oda init`` at a terminal of its own, and answer each prompt once it shows: what is
    typed before a hidden prompt is thrown away. Its status and what the terminal shows."""
    here, there = pty.openpty()
    program = "from oda.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "init", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=there,
        stdout=there,
        stderr=there,
        start_new_session=True,
    )
    os.close(there)
    shown, answered = b"", 0
    with suppress(OSError):  # the end of a terminal whose other side is closed
        while piece := os.read(here, 4096):
            shown += piece
            if shown.endswith(b": ") and len(shown) > answered:
                assert answers, shown
                os.write(here, f"{answers.pop(0)}\n".encode())
                answered = len(shown)
    os.close(here)
    return process.wait(30), shown.decode()


def test_every_answer_is_asked_for_at_a_terminal(tmp_path: Path) -> None:
    """Host, TLS with its authority, port, path, device id, key and the rhythm of readings; the
    configuration is what was answered."""
    (tmp_path / "ca.pem").write_text("")
    lines = ["h.example", "y", "ca.pem", "443", "", "dev-7", "the-key", "5"]
    status, shown = answer(tmp_path, answers=lines)
    assert status == 0, shown
    assert "the-key" not in shown
    settings = load(tmp_path / "conf", {}).settings
    connector = settings.connector
    assert (connector.host, connector.port, connector.secure) == ("h.example", 443, True)
    assert connector.ca_file == tmp_path / "ca.pem"
    assert connector.path == "/south/v80/sessions"
    assert settings.device_info.device_id == "dev-7"
    assert settings.device_info.api_key.reveal() == "the-key"
    assert {one.period_s for one in settings.poller.schedules} == {0.0, 5.0}


def test_a_wrong_answer_is_asked_for_again(tmp_path: Path) -> None:
    """The prompt says what is allowed; the other answers are not lost."""
    lines = ["not a host", "h.example", "n", "many", "80", "/x", "", "k", "often", "0"]
    status, shown = answer(tmp_path, answers=lines)
    assert status == 0, shown
    assert shown.count("Error: ") == 3
    settings = load(tmp_path / "conf", {}).settings
    assert (settings.connector.host, settings.connector.port) == ("h.example", 80)
    assert settings.poller.schedules == ()


def test_what_is_given_is_not_asked_for(tmp_path: Path) -> None:
    """An option answers its question, the key's file included."""
    (tmp_path / "key").write_text("k\n")
    status, shown = answer(
        tmp_path, "--api-key-file", "key", "--every", "3", answers=["h.example", "", "", "", ""]
    )
    assert status == 0, shown
    assert "API key (" not in shown
    assert "Seconds" not in shown
    assert load(tmp_path / "conf", {}).settings.device_info.api_key_file == tmp_path / "key"


@pytest.mark.parametrize("name", ["conf", "my conf", "it's"])
def test_what_is_printed_can_be_pasted(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell reads back every path as it is, whatever is in the name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ODA_API_KEY", "k")
    done = CliRunner().invoke(main, ["init", name, "--host", "h.example"])
    assert done.exit_code == 0, done.output
    commands = [
        shlex.split(line.partition(":")[2])
        for line in done.stdout.splitlines()
        if line.startswith(("Next:", "Then:"))
    ]
    conf = [] if name == "conf" else ["--conf", name]
    assert commands == [
        ["oda", "check", *conf],
        ["twistd", "-n", "--pidfile=", "oda-websocket", *conf],
    ]
