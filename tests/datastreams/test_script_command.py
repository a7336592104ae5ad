"""From a script line to what is executed."""

from __future__ import annotations

from pathlib import Path

import pytest

from oda.datastreams.script_command import find_command

NO_PATH = {"PATH": ""}


def write(file: Path, text: str = "#!/bin/sh\necho 1\n", mode: int = 0o755) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)
    return str(file)


def test_relative_to_the_working_directory(tmp_path: Path) -> None:
    """``scripts/x.sh`` is found from the working directory, with or without ``path``."""
    script = write(tmp_path / "scripts/x.sh")
    for path in (None, Path("scripts"), Path("elsewhere")):
        assert find_command("scripts/x.sh -a", tmp_path, path, NO_PATH) == (script, "-a")


@pytest.mark.parametrize("text", ["#!/bin/sh\r\necho 1\r\n", "echo 1\r\n"])
def test_line_ends_of_windows_are_named(tmp_path: Path, text: str) -> None:
    """The kernel says "no such file" of such a script: the reason says what is wrong with it."""
    (tmp_path / "x.sh").write_bytes(text.encode())
    (tmp_path / "x.sh").chmod(0o755)
    with pytest.raises(ValueError, match=r"x\.sh' has Windows line ends \(CRLF\)"):
        find_command("x.sh", tmp_path, tmp_path, NO_PATH)


@pytest.mark.parametrize("mode", [0o755, 0o644])
def test_a_missing_interpreter_is_named(tmp_path: Path, mode: int) -> None:
    """The kernel says "no such file" of such a script as well, though the script is there."""
    (tmp_path / "x.sh").write_text("#!/usr/bin/no-such-python3 -u\n")
    (tmp_path / "x.sh").chmod(mode)
    with pytest.raises(ValueError, match=r"x\.sh' .*interpreter '/usr/bin/no-such-python3' does"):
        find_command("x.sh", tmp_path, tmp_path, NO_PATH)


def test_in_the_scripts_directory(tmp_path: Path) -> None:
    """``x.sh`` is found in ``path``, which may be relative to the working directory or absolute."""
    script = write(tmp_path / "opt/scripts/x.sh")
    assert find_command("x.sh", tmp_path, Path("opt/scripts"), NO_PATH) == (script,)
    assert find_command("x.sh", Path("/"), tmp_path / "opt/scripts", NO_PATH) == (script,)


def test_named_with_the_scripts_directory(tmp_path: Path) -> None:
    """``scripts/x.sh`` is found in ``/opt/scripts`` too, wherever the agent runs."""
    script = write(tmp_path / "opt/scripts/x.sh")
    assert find_command("scripts/x.sh", Path("/"), tmp_path / "opt/scripts", NO_PATH) == (script,)


def test_the_working_directory_comes_first(tmp_path: Path) -> None:
    """Of a name with a directory, the file that the working directory has wins."""
    first = write(tmp_path / "scripts/x.sh")
    write(tmp_path / "more/scripts/x.sh")
    assert find_command("scripts/x.sh", tmp_path, Path("more"), NO_PATH) == (first,)


def test_absolute(tmp_path: Path) -> None:
    """An absolute program is that file or nothing."""
    script = write(tmp_path / "x.sh")
    assert find_command(script, Path("/"), None, NO_PATH) == (script,)
    with pytest.raises(ValueError, match=r"'/no/such.sh' does not exist"):
        find_command("/no/such.sh", tmp_path, tmp_path, NO_PATH)


def test_a_program_of_the_system(tmp_path: Path) -> None:
    """A plain name is looked up in PATH last."""
    program = write(tmp_path / "bin/tool")
    assert find_command("tool 1", tmp_path, None, {"PATH": str(tmp_path / "bin")}) == (program, "1")


def test_quotes(tmp_path: Path) -> None:
    """Arguments are split as a shell does; nothing is expanded."""
    script = write(tmp_path / "my script.sh")
    assert find_command("'my script.sh' \"a b\" $HOME *", tmp_path, tmp_path, NO_PATH) == (
        script,
        "a b",
        "$HOME",
        "*",
    )


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("x.sh", "'x.sh' was not found in .*the key path"),
        ("x 'unfinished", "No closing quotation"),
        ("  ", "names no command"),
    ],
)
def test_what_can_not_be_run(tmp_path: Path, command: str, reason: str) -> None:
    """The error names the script, and where it was looked for."""
    with pytest.raises(ValueError, match=reason):
        find_command(command, tmp_path, None, NO_PATH)


def test_the_places_searched_are_named(tmp_path: Path) -> None:
    """With a scripts' directory, all the places are in the error."""
    with pytest.raises(ValueError, match=rf"in {tmp_path}, {tmp_path}/scripts$"):
        find_command("a/x.sh", tmp_path, Path("scripts"), NO_PATH)
    with pytest.raises(ValueError, match=rf"in {tmp_path}/scripts, /none$"):
        find_command("x.sh", tmp_path, Path("scripts"), {"PATH": "/none"})


def test_lost_permission(tmp_path: Path) -> None:
    """A file that lost its permission is run by the interpreter its first line names, with that
    line's one argument."""
    script = write(tmp_path / "x.py", "#! /usr/bin/env -S python3 -I\nprint(1)\n", 0o644)
    assert find_command("x.py a", tmp_path, tmp_path, NO_PATH) == (
        "/usr/bin/env",
        "-S python3 -I",
        script,
        "a",
    )
    write(tmp_path / "data", "no script\n", 0o644)
    with pytest.raises(ValueError, match=r"data' is not executable"):
        find_command("data", tmp_path, tmp_path, NO_PATH)


def test_a_script_without_a_first_line(tmp_path: Path) -> None:
    """An executable text without ``#!`` is a shell script; a binary is run as it is."""
    script = write(tmp_path / "x.sh", "echo 1\n")
    assert find_command("x.sh", tmp_path, tmp_path, NO_PATH) == ("/bin/sh", script)
    binary = write(tmp_path / "prog", "\x7fELF\0\0")
    assert find_command("prog", tmp_path, tmp_path, NO_PATH) == (binary,)


def test_what_may_be_a_key_is_not_shown(tmp_path: Path) -> None:
    """A misspelt ``apiKey`` is read as a script whose program is the key."""
    with pytest.raises(ValueError, match="was not found") as caught:
        find_command("canary-key-0123456789", tmp_path, tmp_path, {})
    assert "canary-key" not in str(caught.value)
    with pytest.raises(ValueError, match=r"'obtain-something\.sh' was not found"):
        find_command("obtain-something.sh", tmp_path, tmp_path, {})
