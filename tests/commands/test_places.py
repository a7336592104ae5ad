"""``oda check --offline`` opens what the start opens: every place is found to be good or not."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import chdir, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from click.testing import CliRunner

from oda.cli import main
from oda.private_files import check_directory, make_directory
from tests.config.directories import MINIMAL, write

CONNECTOR = "es.amplia.oda.connector.websocket.cfg"
STATE = "es.amplia.oda.statemanager.inmemory.cfg"
MONITOR = "es.amplia.oda.monitor.cfg"


@pytest.fixture(autouse=True)
def working_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Relative paths start here, and nothing of the surroundings names a place for the socket. The
    path is short: that of a socket may have 107 bytes, and ``tmp_path`` alone may have as many."""
    for name in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    with TemporaryDirectory(prefix="oda-") as made, chdir(made):
        yield Path(made)


def check(directory: Path, **files: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """The exit status, and the findings by their step."""
    conf = directory / "conf"
    conf.mkdir()
    write(conf, {**MINIMAL, **{name.replace("_", "."): text for name, text in files.items()}})
    done = CliRunner().invoke(main, ["check", "--offline", "--json", "--conf", str(conf)])
    found: dict[str, list[dict[str, Any]]] = {}
    for one in json.loads(done.stdout)["checks"]:
        found.setdefault(one["check"], []).append(one)
    return done.exit_code, found


def test_the_scripts_of_operations_are_looked_for(working_directory: Path) -> None:
    """In the directory of their file, else in that of the device info; a warning names the line."""
    for name in ("own", "shared"):
        (working_directory / name).mkdir()
        (working_directory / name / f"{name}.sh").write_text("#!/bin/sh\n")
        (working_directory / name / f"{name}.sh").chmod(0o755)
    text = "rebootCommand={0}.sh now\nPUMP={0}.sh;DEVICES\nrestartCommand=absent-a\nX=absent-b\n"
    device = "apiKey=k\npath=shared\n"
    for name, place in (("own", "path=own\n"), ("shared", "")):
        with TemporaryDirectory() as made:
            _, found = check(
                Path(made),
                datastreams_deviceinfo=device,
                operations_scripts=place + text.format(name),
            )
        told = [one["text"] for one in found["scripts"] if one["result"] == "warning"]
        assert sorted(one.partition(":")[0] for one in told) == ["X", "restartCommand"]


def tree(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


@contextmanager
def as_nobody() -> Iterator[None]:
    """What this user may not write is writable for root, whatever its mode."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_good_configuration_leaves_no_trace(working_directory: Path, tmp_path: Path) -> None:
    """Everything that is there, or can be made, is said to be good, and nothing is made."""
    status, found = check(
        tmp_path, statemanager_inmemory="databasePath=state.db\n", monitor="monitorPort=39481\n"
    )
    assert status == 0
    for step, place in (
        ("outbox", working_directory / "oda-outbox.sqlite"),
        ("history", working_directory / "state.db"),
        ("monitor", "127.0.0.1:39481"),
    ):
        (one,) = found[step]
        assert one["result"] == "ok"
        assert str(place) in one["text"]
    assert "socket" not in found
    assert tree(working_directory) == set()


def test_a_socket_that_can_not_be_made_is_told(
    working_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what is wrong with each place. The agent runs without it: a warning."""
    (working_directory / "oda-run").mkdir()
    (working_directory / "oda-run").chmod(0o777)
    (working_directory / "file").touch()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(working_directory / "file"))
    status, found = check(tmp_path)
    (one,) = found["socket"]
    assert (status, one["result"]) == (0, "warning")
    assert f"{working_directory / 'file'}: it is not a directory" in one["text"]
    assert f"{working_directory / 'oda-run'}: other users can write" in one["text"]


def test_the_derby_database_is_told(working_directory: Path, tmp_path: Path) -> None:
    """What it is, that it stays, and where the values are kept instead."""
    (working_directory / "db" / "seg0").mkdir(parents=True)
    status, found = check(tmp_path, statemanager_inmemory="databasePath=db\n")
    assert status == 0
    told, place = found["history"]
    assert f"{STATE}: databasePath: db is the Derby database" in told["text"]
    assert str(working_directory / "db" / "oda-history.sqlite") in place["text"]
    assert tree(working_directory) == {"db", "db/seg0"}


@pytest.mark.parametrize("key", ["databasePath", "outboxPath"])
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("file/db", "file is not a directory"),
        ("file/missing/db", "file is not a directory"),
        ("link/db", "link is a link that leads nowhere"),
        ("fifo", "is not a regular file"),
        ("x" * 300, "File name too long"),
    ],
)
def test_a_place_that_nobody_can_use_has_failed(
    working_directory: Path, tmp_path: Path, key: str, path: str, reason: str
) -> None:
    """The finding is one line with the file, the key and what is in the way."""
    (working_directory / "file").touch()
    (working_directory / "link").symlink_to("absent")
    os.mkfifo(working_directory / "fifo")
    before = tree(working_directory)
    if key == "databasePath":
        step, file = "history", STATE
        status, found = check(tmp_path, statemanager_inmemory=f"databasePath={path}\n")
    else:
        step, file = "outbox", CONNECTOR
        text = f"{MINIMAL['connector.websocket']}outboxPath={path}\n"
        status, found = check(tmp_path, connector_websocket=text)
    (one,) = found[step]
    assert (status, one["result"]) == (1, "failed")
    assert one["text"].startswith(f"{file}: {key}: ")
    assert reason in one["text"]
    assert "\n" not in one["text"]
    assert tree(working_directory) == before


def test_missing_directories_are_a_warning(working_directory: Path, tmp_path: Path) -> None:
    """The agent makes them; a misspelt path or a disk that is not mounted looks the same."""
    status, found = check(tmp_path, statemanager_inmemory="databasePath=a/b/state.db\n")
    (one,) = found["history"]
    assert (status, one["result"]) == (0, "warning")
    assert f"{STATE}: databasePath: the directory {working_directory / 'a/b'}" in one["text"]
    assert tree(working_directory) == set()


def test_a_history_that_is_damaged_or_somebody_elses(
    working_directory: Path, tmp_path: Path
) -> None:
    """A damaged file is set aside by the agent: a warning. One of another program under our own
    name stands in the way."""
    (working_directory / "state.db").write_bytes(b"damaged" * 1000)
    status, found = check(tmp_path, statemanager_inmemory="databasePath=state.db\n")
    (one,) = found["history"]
    assert (status, one["result"]) == (0, "warning")
    assert "not a database" in one["text"]
    with closing(sqlite3.connect("oda-history.sqlite")) as database, database:
        database.execute("CREATE TABLE theirs (number)")
    (tmp_path / "again").mkdir()
    status, found = check(
        tmp_path / "again", statemanager_inmemory="databasePath=oda-history.sqlite\n"
    )
    assert status == 1
    assert found["history"][-1]["result"] == "failed"
    assert "another program" in found["history"][-1]["text"]


def test_a_port_that_can_not_be_listened_at(tmp_path: Path) -> None:
    """One that is taken is a warning, as it may be free by then; an address that is no address of
    this machine has failed."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        status, found = check(tmp_path, monitor=f"monitorPort={port}\n")
    (one,) = found["monitor"]
    assert (status, one["result"]) == (0, "warning")
    assert one["text"].startswith(f"{MONITOR}: monitorPort")
    (tmp_path / "again").mkdir()
    text = "monitorPort=39482\nmonitorInterface=192.0.2.1\n"
    status, found = check(tmp_path / "again", monitor=text)
    assert (status, found["monitor"][0]["result"]) == (1, "failed")


def test_certificates_are_read(tmp_path: Path) -> None:
    """A file of another content is a failure without a connection, too."""
    (tmp_path / "ca.pem").write_text("no certificate")
    text = f"{MINIMAL['connector.websocket']}secure=true\ncaFile={tmp_path}/ca.pem\n"
    status, found = check(tmp_path, connector_websocket=text)
    assert (status, found["tls"][0]["result"]) == (1, "failed")
    assert "caFile" in found["tls"][0]["text"]


def test_a_directory_is_made_below_one_that_may_be_written(tmp_path: Path) -> None:
    """Otherwise nothing is made, and the error names the place that is in the way."""
    make_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    make_directory(tmp_path / "a" / "b")
    with as_nobody():
        for look in (check_directory, make_directory):
            with pytest.raises(PermissionError, match=r"may not write into /usr$"):
                look(Path("/usr/oda/deep"))
    assert not Path("/usr/oda").exists()
