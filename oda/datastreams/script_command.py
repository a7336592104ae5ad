"""Turns the command of a script line into an argument vector.

A plain name is searched in the scripts' directory (``path``), then among the system's programs, and
nowhere else, because anybody might own the working directory. A name with a directory is searched
in the working directory, then in ``path``: ``scripts/clock.sh`` finds the same file whether
``path`` ends in ``scripts`` or the working directory holds it.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

_HEAD_BYTES = 256
#: A plain name of this length may be a key.
_MIN_KEY = 16


def find_command(
    command: str, working_directory: Path, scripts: Path | None, environment: Mapping[str, str]
) -> tuple[str, ...]:
    """The argument vector; its first element is an absolute path.

    A text file without ``#!`` is run by /bin/sh, as in every shell. A file that has lost its
    execute permission (a copy through FAT or a zip) is run by the interpreter that its ``#!``
    names. Raises ``ValueError`` with the reason and the places searched.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"script {command!r}: {error}") from None
    if not words:
        raise ValueError("the script line names no command")
    program, *arguments = words
    file = _find_file(program, working_directory, scripts, environment)
    return (*_interpreter(file), str(file), *arguments)


def _find_file(
    program: str, working_directory: Path, scripts: Path | None, environment: Mapping[str, str]
) -> Path:
    is_plain = os.sep not in program
    places = [] if is_plain else [working_directory]
    if scripts is not None:
        scripts = working_directory / scripts
        places.append(scripts)
        if not is_plain and Path(program).parts[0] == scripts.name:
            places.append(scripts.parent)
    for place in places:
        candidate = place / program  # an absolute program is unchanged
        if candidate.is_file():
            return candidate
    if Path(program).is_absolute():
        raise ValueError(f"script {program!r} does not exist")
    shown = program
    if is_plain and "." not in program and len(program) >= _MIN_KEY:
        shown = f"{program[:4]}..."  # no program, but perhaps the API key in a misspelt line
    if is_plain:
        system = _system_directories(environment)
        found = shutil.which(program, path=os.pathsep.join(map(str, system))) if system else None
        if found:
            return Path(found)
        places.extend(system)
    searched = ", ".join(dict.fromkeys(map(str, places))) or "no directory"
    hint = "" if scripts else " (the key path can name the scripts' directory)"
    raise ValueError(f"script {shown!r} was not found in {searched}{hint}")


def _system_directories(environment: Mapping[str, str]) -> list[Path]:
    """The directories of the system's programs. Leaves out relative entries of PATH, which lead
    into the working directory."""
    entries = map(Path, environment.get("PATH", os.defpath).split(os.pathsep))
    return [entry for entry in entries if entry.is_absolute()]


def _interpreter(file: Path) -> tuple[str, ...]:
    executable = os.access(file, os.X_OK)
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError as error:
        if executable:
            return ()  # a program may be executable but not readable
        raise ValueError(f"script {str(file)!r} can't be read: {error.strerror}") from None
    first_line, end, _ = head.partition(b"\n")
    if end and first_line.endswith(b"\r") and b"\0" not in head:
        raise ValueError(
            f"script {str(file)!r} has Windows line ends (CRLF), so no interpreter can run it;"
            " sed -i 's/\\r$//' removes them"
        )
    if head.startswith(b"#!"):
        # Like the kernel: the interpreter, and the rest of the line as one argument.
        words = os.fsdecode(first_line[2:]).strip().split(None, 1)
        if words and words[0].startswith(os.sep) and not Path(words[0]).exists():
            raise ValueError(
                f"script {str(file)!r} can't be run: its interpreter {words[0]!r} does not exist"
            )
        if executable or not words:
            return ()
        return tuple(words)
    if not executable:
        raise ValueError(f"script {str(file)!r} is not executable (chmod +x)")
    return () if b"\0" in head else ("/bin/sh",)
