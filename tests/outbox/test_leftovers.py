"""Messages that wait in a store nobody uses are found, whatever made the agent leave it."""

from __future__ import annotations

from pathlib import Path

import pytest

from oda.errors import OutboxError
from oda.outbox import inspection
from oda.outbox.database import FileLock
from oda.settings import OutboxKind, OutboxSettings
from tests.outbox.fakes import Device


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)


def filled(path: Path, messages: int = 3) -> None:
    """An agent was here, and left messages behind."""
    device = Device(path)
    device.put_all([b"message %d" % number for number in range(messages)])
    device.stop()


def found(settings: OutboxSettings) -> list[tuple[str, int, int]]:
    return [(one.path.name, one.messages, one.dead) for one in inspection.find_leftovers(settings)]


def test_a_store_beside_the_present_one_is_found(tmp_path: Path) -> None:
    """The name changed. The agent's own store is not among them, nor is what it recovers itself,
    nor a file of another program."""
    filled(tmp_path / "old.sqlite")
    filled(tmp_path / "own.sqlite")
    filled(tmp_path / "own.sqlite.damaged-1")
    filled(tmp_path / "own.sqlite.displaced-2", 5)
    (tmp_path / "other.sqlite").write_bytes(b"SQLite format 3\0" + bytes(1008))
    settings = OutboxSettings(path=tmp_path / "own.sqlite")
    assert found(settings) == [("old.sqlite", 3, 0), ("own.sqlite.displaced-2", 5, 0)]


def test_the_default_place_is_looked_at(tmp_path: Path) -> None:
    """The first thing that is done is to move an outbox from the working directory to its own."""
    filled(OutboxSettings().path.absolute())
    settings = OutboxSettings(path=tmp_path / "elsewhere" / "own.sqlite")
    assert found(settings) == [("oda-outbox.sqlite", 3, 0)]


def test_with_an_outbox_in_memory_the_file_is_found_that_it_would_have(tmp_path: Path) -> None:
    """Files beside it belong to others."""
    filled(tmp_path / "own.sqlite")
    filled(tmp_path / "other.sqlite")
    settings = OutboxSettings(kind=OutboxKind.MEMORY, path=tmp_path / "own.sqlite")
    assert found(settings) == [("own.sqlite", 3, 0)]


def test_dead_letters_count_and_acknowledged_messages_do_not(tmp_path: Path) -> None:
    """An outbox from which everything was delivered is no backlog, although its last messages
    linger in it."""
    device = Device(tmp_path / "acknowledged.sqlite")
    device.put_all([b"a", b"b"])
    device.outbox.retire([row.row_id for row in device.take_all()])
    device.stop()
    device = Device(tmp_path / "dead.sqlite")
    device.put_all([b"a", b"b"])
    first, second = device.take_all()
    device.outbox.bury([first.row_id], "refused")
    device.outbox.retire([second.row_id])
    device.stop()
    assert found(OutboxSettings(path=tmp_path / "own.sqlite")) == [("dead.sqlite", 0, 1)]


def test_a_store_that_is_in_use_is_not_left_behind(tmp_path: Path) -> None:
    """Neither by another process nor by another agent of this one, whose file must not even be
    opened: closing it would drop the locks that SQLite holds on it."""
    device = Device(tmp_path / "used.sqlite")
    device.put_all([b"a"])
    assert found(OutboxSettings(path=tmp_path / "own.sqlite")) == []
    with pytest.raises(OutboxError, match="in use by another agent"):
        FileLock(tmp_path / "used.sqlite")
    device.stop()
    assert found(OutboxSettings(path=tmp_path / "own.sqlite")) == [("used.sqlite", 1, 0)]


def test_looking_leaves_no_traces(tmp_path: Path) -> None:
    """A store with a write-ahead log, as a kill leaves it, and one without are as they were."""
    device = Device(tmp_path / "killed.sqlite")
    device.put_all([b"a"])
    device.crash()  # makes 1.sqlite, with the log
    device.put_all([b"b"])
    device.stop()
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir() if one.is_file()}
    assert ("1.sqlite", 2, 0) in found(OutboxSettings(path=tmp_path / "own.sqlite"))
    after = {one.name: one.read_bytes() for one in tmp_path.iterdir() if one.is_file()}
    assert after == before


def test_a_store_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """What is in it is not known: that is said, too."""
    path = tmp_path / "old.sqlite"
    filled(path)
    with open(path, "r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 924)
    (leftover,) = inspection.find_leftovers(OutboxSettings(path=tmp_path / "own.sqlite"))
    assert "can't be read" in str(leftover)
