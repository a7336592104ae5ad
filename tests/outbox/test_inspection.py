"""Looking into a store, of an agent that runs and of one that has stopped."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from oda.errors import OutboxError
from oda.outbox import inspection, offline
from oda.outbox.clock import FIRST_IDS
from oda.outbox.sqlite_store import SqliteStore
from oda.outbox.store import Recovered
from oda.outbox.transaction import ANSWER
from tests.outbox.fakes import Device


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
        assert status.waiting == {"response": 1, "telemetry": 1199}
        assert status.waiting_datapoints == 1199
        assert status.dead == 1
        assert status.totals is not None
        assert status.totals.accepted.messages == 1201
        assert status.oldest_ms is not None


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
    for change in (offline.purge, offline.retry_dead):
        with pytest.raises(OutboxError, match="in use"):
            change(device.settings.path, device.settings, device.wall)
    device.stop()


def test_retrying_dead_letters(device: Device) -> None:
    """They wait again, behind the others, with accounts that agree."""
    device.stop()
    assert offline.retry_dead(device.settings.path, device.settings, device.wall) == 1
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
    assert offline.retry_dead(path, device.settings, device.wall) == 0
    device.start()
    assert b'{"n":900}' not in [row.payload for row in device.take_all() if row.row_id < 600]
    assert device.outbox.counts()["dead"] == 1
    device.stop()


def test_purging(device: Device) -> None:
    """Nothing waits afterwards; what waited is counted as dropped."""
    device.stop()
    assert offline.purge(device.settings.path, device.settings, device.wall) == 1201
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
        offline.purge(path, device.settings, device.wall)
    assert len(tried) == 1
    monkeypatch.undo()
    assert offline.purge(path, device.settings, device.wall) > 1000
