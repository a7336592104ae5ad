"""Changing the outbox of an agent that has stopped: it is committed, or the reason is told."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from oda.errors import OutboxError
from oda.outbox import maintenance
from oda.outbox.sqlite_store import SqliteStore
from oda.outbox.store import StoreError
from tests.outbox.fakes import Device, disk_full


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """An agent that left three messages, one of them acknowledged, and a dead letter."""
    device = Device(tmp_path / "outbox.sqlite", linger_s=60.0, max_age_s=5.0)
    device.put_all([b"dead", b"acknowledged", b"waits"])
    dead, acknowledged = device.take(2)
    device.outbox.bury([dead.row_id], "refused")
    device.outbox.retire([acknowledged.row_id])
    device.stop()
    return device


CHANGES = [maintenance.purge, maintenance.retry_dead]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_on_disk_when_it_returns(change: Any, device: Device) -> None:
    """Nobody else has to open the store for it; nothing lingers shorter, and nothing is too old,
    because somebody looked from outside."""
    settings = device.settings
    assert change(settings.path, settings, device.wall) == (3 if change is maintenance.purge else 1)
    store = SqliteStore(settings.path, settings)
    totals = store.open().totals
    store.close()
    purged = change is maintenance.purge
    assert totals.dead.messages == (1 if purged else 0)
    assert totals.dropped.messages == (2 if purged else 0), "what would be sent again as well"
    assert totals.delivered.messages == 0
    assert totals.stored["telemetry"].rows == (0 if purged else 3)


@pytest.mark.parametrize("change", CHANGES)
def test_a_store_that_is_not_there_is_not_made(change: Any, device: Device) -> None:
    """A slip in the path must not make an empty store."""
    missing = device.settings.path.with_name("missing")
    with pytest.raises(OutboxError, match="no such file"):
        change(missing, device.settings, device.wall)
    assert not missing.exists()


@pytest.mark.parametrize("change", CHANGES)
def test_a_store_that_can_not_be_opened_is_told(
    change: Any, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is changed in memory and forgotten."""

    def fails(store: SqliteStore) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(SqliteStore, "open", fails)
    with pytest.raises(OutboxError, match="can't be used"):
        change(device.settings.path, device.settings, device.wall)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_can_not_be_written_is_told(
    change: Any, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not done then: the next try finds the same as this one. The store is closed."""
    settings = device.settings

    def fails(store: SqliteStore, transaction: object) -> int:
        raise disk_full()

    with monkeypatch.context() as patched:
        patched.setattr(SqliteStore, "apply", fails)
        with pytest.raises(OutboxError, match="can't be written"):
            change(settings.path, settings, device.wall)
    assert change(settings.path, settings, device.wall) == (3 if change is maintenance.purge else 1)


def test_a_take_over_that_can_not_be_written_is_told(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not taken over stays in the source."""
    settings = device.settings
    target = settings.path.with_name("target.sqlite")
    apply = SqliteStore.apply

    def fails(store: SqliteStore, transaction: Any) -> int:
        if store.path == target:
            raise disk_full()
        return apply(store, transaction)

    with monkeypatch.context() as patched:
        patched.setattr(SqliteStore, "apply", fails)
        with pytest.raises(OutboxError, match="can't be written"):
            maintenance.take_over_offline(settings.path, target, settings, device.wall)
    taken = maintenance.take_over_offline(settings.path, target, settings, device.wall)
    assert (taken.messages, taken.letters, taken.refusal) == (2, 1, "")


def test_a_source_that_can_not_be_used_is_told(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its path, not with that of the target."""
    settings = device.settings
    target = settings.path.with_name("target.sqlite")
    with pytest.raises(OutboxError, match="nothing: there is no such file"):
        maintenance.take_over_offline(
            settings.path.with_name("nothing"), target, settings, device.wall
        )

    records = SqliteStore.records

    def fails(store: SqliteStore) -> Any:
        if store.path == settings.path:
            raise StoreError("no")
        return records(store)

    monkeypatch.setattr(SqliteStore, "records", fails)
    with pytest.raises(OutboxError, match="can't be used: no"):
        maintenance.take_over_offline(settings.path, target, settings, device.wall)
