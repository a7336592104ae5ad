"""Where the kept values are: what another program has at ``databasePath`` stays as it is."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from twisted.logger import capturedLogs, formatEvent

from oda.model import Event
from oda.settings import StateManagerSettings
from oda.telemetry.place import FILE_NAME, find_place, problem_of
from tests.telemetry.fakes import result_of
from tests.telemetry.test_inmemory import Rig


def derby(path: Path) -> Path:
    """A database of the reference agent, as far as its files tell."""
    (path / "seg0").mkdir(parents=True)
    (path / "seg0" / "c10.dat").write_bytes(b"\x00" * 4096)
    (path / "service.properties").write_text("derby.storage.rowLocking=true\n")
    return path


def foreign(path: Path) -> Path:
    """An SQLite database of an older reference agent."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE state (datastreamId TEXT, value TEXT)")
        database.execute("INSERT INTO state VALUES ('t', '1')")
    return path


def files(directory: Path) -> dict[str, bytes]:
    """All files below it but ours, and what is in them."""
    return {
        str(file.relative_to(directory)): file.read_bytes()
        for file in directory.rglob("*")
        if file.is_file() and not file.name.startswith(FILE_NAME)
    }


@pytest.mark.parametrize("kind", ["derby", "directory", "sqlite"])
def test_what_another_program_has_there_stays_as_it_is(tmp_path: Path, kind: str) -> None:
    """The values are kept in a file of our own, in the directory or beside the database; the log
    says which key it is, what is there, and where they are kept. The next start finds them."""
    path = tmp_path / "statemanager.db"
    if kind == "derby":
        derby(path)
    elif kind == "sqlite":
        foreign(path)
    else:
        path.mkdir()
    ours = (tmp_path if kind == "sqlite" else path) / FILE_NAME
    before = files(tmp_path)
    with capturedLogs() as logs:
        rig = Rig(path=path)
    (said,) = [formatEvent(event) for event in logs]
    assert "es.amplia.oda.statemanager.inmemory.cfg: databasePath" in str(said)
    assert str(path) in str(said)
    assert str(ours) in str(said)
    assert ("Derby" in str(said)) is (kind == "derby")
    rig.keep(Event("t", 1))
    rig.manager.stop()
    assert ours.is_file()
    assert files(tmp_path) == before
    again = Rig(path=path)
    assert result_of(again.manager.collect("t", "")) == 1
    again.manager.stop()
    assert files(tmp_path) == before


def test_a_file_of_ours_is_used_where_it_is(tmp_path: Path) -> None:
    """Also one that is empty, or not there yet."""
    path = tmp_path / "state.db"
    assert find_place(path) == (path, "")
    path.touch()
    assert find_place(path) == (path, "")
    rig = Rig(path=path)
    rig.keep(Event("t", 1))
    assert find_place(path) == (path, "")
    rig.manager.stop()
    assert find_place(path) == (path, "")
    assert problem_of(path) == ""


def test_a_damaged_file_is_nobody_elses(tmp_path: Path) -> None:
    """It is set aside, as ever, and a look at it says that it is damaged."""
    path = tmp_path / "state.db"
    path.write_bytes(b"damaged" * 1000)
    assert find_place(path) == (path, "")
    assert "not a database" in problem_of(path)
    rig = Rig(path=path)
    rig.keep(Event("t", 1))
    rig.manager.stop()
    assert (tmp_path / "state.db.damaged").exists()


def test_another_programs_database_is_never_set_aside(tmp_path: Path) -> None:
    """Where it even has our name there is no place: values are kept in memory, and nothing is
    written into it, or renamed."""
    path = foreign(tmp_path / FILE_NAME)
    before = path.read_bytes()
    with pytest.raises(sqlite3.OperationalError, match="another program"):
        problem_of(path)
    with capturedLogs() as logs:
        rig = Rig(path=path)
    assert any("another program" in str(formatEvent(event)) for event in logs)
    rig.keep(Event("t", 1))
    rig.manager.stop()
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [FILE_NAME]


def test_the_same_file_by_another_path_is_no_move(tmp_path: Path) -> None:
    """A reload that names our file in the directory, instead of the directory, moves nothing."""
    path = derby(tmp_path / "db")
    rig = Rig(path=path)
    rig.keep(Event("t", 1))
    rig.manager.reconfigure(StateManagerSettings(database_path=path / FILE_NAME))
    rig.keep(Event("t", 2))
    assert result_of(rig.manager.collect("t", "")) == 2
    rig.manager.stop()


def test_missing_directories_are_made(tmp_path: Path) -> None:
    """Below one that is there."""
    path = tmp_path / "missing" / "too" / "state.db"
    rig = Rig(path=path)
    rig.keep(Event("t", 1))
    rig.manager.stop()
    assert path.is_file()


@pytest.mark.parametrize("place", ["file/state.db", "file/missing/state.db", "nowhere/state.db"])
def test_a_directory_that_can_not_be_made_is_told_with_the_key(tmp_path: Path, place: str) -> None:
    """One line names the file, the key and what is in the way; values are kept in memory."""
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    with capturedLogs() as logs:
        rig = Rig(path=tmp_path / place)
    (line,) = [str(formatEvent(event)) for event in logs]
    assert line.startswith("es.amplia.oda.statemanager.inmemory.cfg: databasePath: ")
    assert f"{tmp_path / Path(place).parts[0]} is " in line
    assert not any("log_failure" in event for event in logs)
    rig.keep(Event("t", 1))
    (value,) = result_of(rig.manager.get("", ["t"]))
    assert value.value == 1
