"""Looking into a store, of an agent that runs and of one that has stopped."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from oda.errors import OutboxError
from oda.outbox import inspection, maintenance
from oda.outbox.clock import FIRST_IDS
from oda.outbox.database import SCHEMA_VERSION
from oda.outbox.sqlite_store import SqliteStore
from oda.outbox.store import Recovered
from oda.outbox.transaction import ANSWER, TELEMETRY
from oda.settings import OutboxKind, OutboxSettings
from tests.outbox.fakes import START_MS, Device


@pytest.fixture
def device(tmp_path: Path) -> Device:
    device = Device(tmp_path / "outbox.sqlite")
    device.put_all([b'{"n":%d}' % number for number in range(1200)])
    device.put(b"\xa1\xff", response=True, datapoints=0)
    device.turn()
    device.outbox.bury([device.outbox.take(2, 1 << 20)[1].row_id], "refused")
    device.outbox.rewind(False)
    device.turn()
    return device


def test_status_while_running_and_after(device: Device) -> None:
    """The same numbers either way."""
    running = inspection.read_status(device.settings.path)
    device.stop()
    stopped = inspection.read_status(device.settings.path)
    assert running.is_running
    assert not stopped.is_running
    for status in (running, stopped):
        assert status.stored == {"response": 1, "telemetry": 1199}
        assert status.stored_datapoints == 1199
        assert status.dead == 1
        assert status.totals is not None
        assert status.totals.accepted.messages == 1201
        assert status.oldest_ms is not None


def test_what_was_acknowledged_lingers(device: Device) -> None:
    """It is stored, and does not wait any more: status, list and export say so as the running agent
    does, once the store knows it."""
    rows = device.outbox.take(1000, 1 << 20, TELEMETRY)
    device.outbox.retire([row.row_id for row in rows])
    device.stop()
    path = device.settings.path
    status = inspection.read_status(path)
    assert status.lingering == len(rows)
    assert status.waiting == 1200 - len(rows)
    lingering = [one.row_id for one in inspection.read_messages(path, "lingering")]
    assert lingering == [row.row_id for row in rows]
    waiting = [one.row_id for one in inspection.read_messages(path, "waiting")]
    assert len(waiting) == status.waiting
    assert not set(waiting) & set(lingering)


def test_messages_come_in_the_order_of_sending(device: Device) -> None:
    """Responses, telemetry, then dead letters; every line of an export is JSON on its own."""
    messages = list(inspection.read_messages(device.settings.path))
    assert [one.row_id for one in messages] == [FIRST_IDS[ANSWER], *range(2, 1201), 1]
    assert all(one.is_sound for one in messages)
    lines = [json.loads(one.as_json()) for one in messages]
    assert lines[0]["payloadBase64"] == "of8="
    assert lines[1]["payload"] == '{"n":1}'
    assert lines[-1]["reason"] == "refused"
    assert lines[-1]["state"] == "dead"
    assert len(list(inspection.read_messages(device.settings.path, "dead"))) == 1
    assert len(list(inspection.read_messages(device.settings.path, "waiting"))) == 1200
    device.stop()


def test_verify_finds_what_is_wrong(device: Device) -> None:
    """Nothing in a sound store; a changed byte, or a page, is named."""
    path = device.settings.path
    assert inspection.verify(path) == []
    device.stop()
    assert inspection.verify(path) == []
    place = path.read_bytes().index(b'{"n":77}')
    with path.open("r+b") as file:
        file.seek(place + 5)
        file.write(b"9")
    assert inspection.verify(path) == [f"{path}: telemetry 78 was changed"]
    with path.open("r+b") as file:
        file.seek(8 * 4096)
        file.write(bytes(4096))
    assert inspection.verify(path) != []
    path.write_bytes(b"no database")
    assert len(inspection.verify(path)) == 1
    with pytest.raises(OutboxError, match="no such file"):
        inspection.verify(path.with_name("missing"))
    with pytest.raises(OutboxError):
        inspection.read_status(path)


def test_changing_needs_a_stopped_agent(device: Device) -> None:
    """While an agent runs both refuse, naming the file."""
    for change in (maintenance.purge, maintenance.retry_dead):
        with pytest.raises(OutboxError, match="in use"):
            change(device.settings.path, device.settings, device.wall)
    device.stop()


def test_retrying_dead_letters(device: Device) -> None:
    """They wait again, behind the others, with accounts that agree."""
    device.stop()
    assert maintenance.retry_dead(device.settings.path, device.settings, device.wall) == 1
    assert inspection.verify(device.settings.path) == []
    device.start()
    found = device.take_all()
    assert found[-1].payload == b'{"n":0}'
    assert found[-1].row_id == 1201
    assert device.outbox.totals().dead.messages == 0
    device.stop()


def test_a_damaged_letter_is_never_sent_again(device: Device) -> None:
    """Neither the stopped nor the running way brings it back."""
    device.stop()
    path = device.settings.path
    place = path.read_bytes().index(b'{"n":500}')
    with path.open("r+b") as file:
        file.seek(place + 5)
        file.write(b"9")
    device.start()
    device.take_all()
    device.turn()
    assert device.outbox.counts()["dead"] == 2
    assert device.outbox.retry_dead() == 1
    device.stop()
    assert maintenance.retry_dead(path, device.settings, device.wall) == 0
    device.start()
    assert b'{"n":900}' not in [row.payload for row in device.take_all() if row.row_id < 600]
    assert device.outbox.counts()["dead"] == 1
    device.stop()


def test_purging(device: Device) -> None:
    """Nothing waits afterwards; what waited is counted as dropped."""
    device.stop()
    assert maintenance.purge(device.settings.path, device.settings, device.wall) == 1201
    assert inspection.verify(device.settings.path) == []
    device.start()
    assert device.take_all() == []
    totals = device.outbox.totals()
    assert totals.dropped.messages == 1200
    assert totals.dead.messages == 1
    assert totals.accepted.messages == 1201
    device.stop()


def test_a_damaged_store_that_cannot_be_taken_over_is_told(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may be full when rows are copied: the command ends with the reason, it does not wait
    for a disk that nobody looks after; and what was damaged is still there for the next start."""
    path = device.settings.path
    device.stop()
    with path.open("r+b") as file:
        file.seek(8 * 1024)
        file.write(bytes(4096))

    def full(store: SqliteStore) -> Recovered:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    tried: list[SqliteStore] = []
    monkeypatch.setattr(SqliteStore, "recover", lambda store: tried.append(store) or full(store))
    with pytest.raises(OutboxError, match="can't be taken over"):
        maintenance.purge(path, device.settings, device.wall)
    assert len(tried) == 1
    monkeypatch.undo()
    assert maintenance.purge(path, device.settings, device.wall) > 1000


def test_the_numbers_of_a_store(tmp_path: Path) -> None:
    """Each is what it is called: rows, datapoints, letters, records, bytes, and the oldest message
    of either class; what waits behind the totals is counted."""
    device = Device(tmp_path / "outbox.sqlite")
    device.put_all([b"a", b"b"])
    device.clock.advance(5.0)
    device.put(b"answer", response=True, datapoints=3)
    device.outbox.journal.begin("1", "SET", True)
    device.turn()
    status = inspection.read_status(device.settings.path)
    assert status.stored == {"telemetry": 2, "response": 1}
    assert status.stored_datapoints == 5
    assert (status.dead, status.operations) == (0, 1)
    assert status.oldest_ms == START_MS
    parts = [Path(f"{device.settings.path}{suffix}") for suffix in ("", "-wal")]
    assert status.file_bytes == sum(part.stat().st_size for part in parts)
    assert status.path == str(device.settings.path)
    device.stop()
    stopped = inspection.read_status(device.settings.path)
    assert stopped.file_bytes == device.settings.path.stat().st_size
    assert 0 < stopped.used_bytes <= stopped.file_bytes
    assert stopped.used_bytes % 1024 == 0
    with closing(sqlite3.connect(device.settings.path)) as connection:
        connection.execute("UPDATE totals SET body = 'x'")
        connection.commit()
    changed = inspection.read_status(device.settings.path)
    assert changed.totals is None
    assert changed.stored == {"telemetry": 2, "response": 1}
    assert inspection.verify(device.settings.path) == [
        f"{device.settings.path}: the totals are missing or were changed"
    ]


def test_an_empty_store_has_no_oldest_message(tmp_path: Path) -> None:
    """Nothing waits, so nothing is old."""
    device = Device(tmp_path / "outbox.sqlite")
    device.stop()
    assert inspection.read_status(device.settings.path).oldest_ms is None


def test_a_line_of_an_export() -> None:
    """Text as text, the rest as base64; a reason and a damage only where there is one."""
    message = inspection.StoredMessage(3, "telemetry", "waiting", 5, 2, True, True, b"{}")
    assert json.loads(message.as_json()) == {
        "id": 3,
        "class": "telemetry",
        "state": "waiting",
        "acceptedMs": 5,
        "datapoints": 2,
        "isText": True,
        "payload": "{}",
    }
    changed = msgspec.structs.replace(
        message, is_sound=False, state="dead", reason="refused", payload=b"\xff"
    )
    assert json.loads(changed.as_json()) == {
        "id": 3,
        "class": "telemetry",
        "state": "dead",
        "acceptedMs": 5,
        "datapoints": 2,
        "isText": True,
        "reason": "refused",
        "damaged": True,
        "payloadBase64": "/w==",
    }


@pytest.mark.parametrize(("version", "is_old"), [(1, True), (SCHEMA_VERSION, False), (0, False)])
def test_a_store_of_an_older_version_is_not_read(
    version: int, is_old: bool, tmp_path: Path
) -> None:
    """Its tables are others: the agent brings it up to date."""
    device = Device(tmp_path / "outbox.sqlite")
    device.stop()
    with closing(sqlite3.connect(device.settings.path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    if is_old:
        with pytest.raises(OutboxError, match="older version"):
            inspection.read_status(device.settings.path)
    else:
        assert inspection.read_status(device.settings.path).dead == 0


def test_rows_and_totals_that_do_not_agree_are_found(tmp_path: Path) -> None:
    """In rows or in datapoints; of the class that is wrong."""
    device = Device(tmp_path / "outbox.sqlite")
    device.put_all([b"a", b"b"])
    device.restart()
    device.stop()
    path = device.settings.path
    assert inspection.verify(path) == []
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM telemetry WHERE id = 1")
        connection.commit()
    assert inspection.verify(path) == [
        f"{path}: telemetry: 1 row with 1 datapoint, but the totals say 2 with 2"
    ]


def test_what_lingers_in_a_leftover_does_not_wait(tmp_path: Path) -> None:
    """Rows up to the watermark were acknowledged; those behind it wait."""
    device = Device(tmp_path / "left.sqlite")
    device.put_all([b"a", b"b", b"c"])
    first = device.take(1)
    device.outbox.retire([row.row_id for row in first])
    device.stop()
    leftover = inspection.look_into(device.settings.path)
    assert (leftover.messages, leftover.dead, leftover.problem) == (2, 0, "")
    assert "which holds 2 messages" in str(leftover)
    assert "can't be read: torn" in str(inspection.Leftover(Path("/x"), 0, 0, "torn"))


def test_an_outbox_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    """Also a damaged one; not a file of another program, one that is too short, or none."""
    device = Device(tmp_path / "outbox.sqlite")
    assert not inspection.is_outbox(device.settings.path), "this process uses it"
    device.stop()
    content = device.settings.path.read_bytes()
    assert inspection.is_outbox(device.settings.path)
    for name, part, expected in (
        ("head", content[:72], True),
        ("short", content[:71], False),
        ("other", b"X" + content[1:], False),
        ("program", content[:68] + b"none" + content[72:], False),
    ):
        (tmp_path / name).write_bytes(part)
        assert inspection.is_outbox(tmp_path / name) is expected
    assert not inspection.is_outbox(tmp_path)
    assert not inspection.is_outbox(tmp_path / "missing")


def test_free_pages_are_not_in_use(tmp_path: Path) -> None:
    """The file does not become smaller when rows are deleted; what is used does."""
    device = Device(tmp_path / "outbox.sqlite", linger_s=0.0)
    device.put_all([bytes(900)] * 100)
    device.outbox.retire([row.row_id for row in device.take_all()])
    device.turn()
    device.stop()
    status = inspection.read_status(device.settings.path)
    assert status.used_bytes < 60 * 1024 < 100 * 1024 < status.file_bytes


def test_files_that_may_be_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name and size: no link, no directory, nothing that a recovery made, nothing that is empty
    or no multiple of SQLite's smallest page. In a large directory no more than so many are looked
    at; where there is none, none."""
    for name, size in (("b", 512), ("a", 1024), ("empty", 0), ("odd", 700), ("a.damaged-3", 512)):
        (tmp_path / name).write_bytes(bytes(size))
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "directory").mkdir()
    assert inspection._files(tmp_path) == [tmp_path / "a", tmp_path / "b"]
    assert inspection._files(tmp_path / "missing") == []
    assert (
        inspection.find_leftovers(OutboxSettings(kind=OutboxKind.MEMORY, path=tmp_path / "missing"))
        == []
    )
    many = tmp_path / "directory"
    for number in range(5):
        (many / f"{number}").write_bytes(bytes(512))
    monkeypatch.setattr(inspection, "_MAX_FILES", 3)
    assert len(inspection._files(many)) == 3
