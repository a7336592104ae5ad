"""What a start does with rows that were acknowledged: none is lost, none repeated for ever."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oda.model import OutboxRow
from oda.outbox import inspection, maintenance
from oda.outbox.clock import MAX_REPEATS, Uptime, Watermark, this_machine
from oda.outbox.committer import RETRY_S
from oda.outbox.limits import PAGE_BYTES
from oda.outbox.sqlite_store import SqliteStore
from oda.outbox.transaction import Totals, Transaction
from tests.outbox.fakes import Device, StepWorker, copy_store, disk_full

LINGER_S = 60.0


def payloads(rows: Sequence[OutboxRow]) -> list[bytes]:
    return [row.payload for row in rows]


def acknowledge(device: Device, rows: int = 1 << 30) -> list[bytes]:
    """Send and have acknowledged; that gets to the disk after ``ackCommitDelay``."""
    taken = device.take(rows)
    device.outbox.retire([row.row_id for row in taken])
    device.clock.pump([1.0] * 6)
    device.turn()
    return payloads(taken)


def begun(tmp_path: Path, count: int = 4, **settings: object) -> Device:
    """A device with some rows on its disk."""
    device = Device(tmp_path / "outbox.sqlite", **{"linger_s": LINGER_S, **settings})
    device.put_all([b"%d" % number for number in range(count)])
    return device


def watermark(device: Device) -> list[int]:
    """What the next commit would say of telemetry."""
    return device.outbox.totals().watermarks["telemetry"]


# -- the rules -------------------------------------------------------------------------------


@given(st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=6), max_size=12))
def test_a_watermark_says_how_often_rows_were_acknowledged(lives: list[list[int]]) -> None:
    """Each list is a life, by the rows up to which everything was acknowledged at its commits. A
    row is under ``counts[n]`` exactly when that many lives more than one had it acknowledged."""
    stored: list[int] = []
    proven: list[int] = []
    for life in lives:
        watermark = Watermark(stored)
        for resting in life:
            stored = watermark.to_store(resting)
        proven.append(max(life))
        assert stored[0] == life[-1]
        counts = sorted(proven, reverse=True)[: MAX_REPEATS + 1]
        assert stored[1:] == counts + [0] * (MAX_REPEATS + 1 - len(counts))
        following = Watermark(stored)
        assert (following.resting, following.owed) == (life[-1], counts[0])
        assert following.exhausted == (counts[-1] if len(proven) > MAX_REPEATS else 0)
        assert following.is_owing(counts[0] - 1) or not counts[0]
        assert not following.is_owing(counts[0])


def test_an_older_row_that_turns_up_lowers_a_watermark() -> None:
    """A recovered row was not acknowledged, however often newer ones were."""
    watermark = Watermark([9, 9, 9, 7, 3])
    watermark.to_store(9)
    watermark.lower(5)
    assert watermark.to_store(4) == [4, 4, 4, 4, 4]
    watermark = Watermark([9, 9, 9, 7, 3])
    watermark.to_store(9)
    watermark.lower(5)
    assert watermark.owed == 4
    assert watermark.to_store(3) == [3, 4, 4, 4, 4], "the row before it was acknowledged again"


@pytest.mark.parametrize("stored", [[], [5], [7, 7], [9, 9, 9, 9, 9, 9, 9], [-3, -1]])
def test_a_watermark_of_another_length_is_read(stored: list[int]) -> None:
    """Missing counts are none, negative ones are nonsense, and what is too much is left out."""
    watermark = Watermark(stored)
    assert watermark.resting == max([0, *stored[:1]])
    assert len(watermark.to_store(0)) == MAX_REPEATS + 2


def test_without_linger_time_nothing_is_repeated(tmp_path: Path) -> None:
    """``ackLinger=0`` holds for what lingered with an earlier setting, too."""
    device = begun(tmp_path, 4)
    acknowledge(device, 2)
    device.settings = msgspec.structs.replace(device.settings, linger_s=0.0)
    device.crash()
    assert payloads(device.take()) == [b"2", b"3"]
    device.stop()


def test_uptime_is_compared_within_one_start_of_the_machine_only() -> None:
    """Another start, or one without a name, says nothing; nor does a clock that runs backwards."""
    uptime = Uptime("a", lambda: 100.0)
    assert uptime.since_ms("a", 40_000) == 60_000
    assert uptime.since_ms("b", 40_000) == 0
    assert uptime.since_ms("a", 140_000) == 0
    assert Uptime("", lambda: 100.0).since_ms("", 40_000) == 0


def test_the_machine_names_its_start_or_not(tmp_path: Path) -> None:
    """Where the file is missing or nonsense there is no name."""
    (tmp_path / "id").write_text("1-2-3\n")
    (tmp_path / "nonsense").write_bytes(b"\xff")
    assert this_machine(tmp_path / "id").boot_id == "1-2-3"
    assert this_machine(tmp_path / "nonsense").boot_id == ""
    assert this_machine(tmp_path / "missing").boot_id == ""
    before = this_machine().now_ms()
    assert this_machine().now_ms() >= before


# -- over starts -----------------------------------------------------------------------------


def test_a_start_repeats_what_was_acknowledged_a_short_while_ago(tmp_path: Path) -> None:
    """The platform may have gone down together with the device."""
    device = begun(tmp_path)
    acknowledge(device, 2)
    device.crash()
    assert payloads(device.take()) == [b"0", b"1", b"2", b"3"]
    device.stop()


def test_what_lingered_long_enough_is_gone(tmp_path: Path) -> None:
    """The time without an agent counts while the machine runs: deleted, counted as delivered."""
    device = begun(tmp_path)
    acknowledge(device, 2)
    device.crash(lambda _: device.clock.advance(LINGER_S))
    assert payloads(device.take()) == [b"2", b"3"]
    device.turn()
    totals = device.outbox.totals()
    assert (totals.delivered.messages, totals.stored["telemetry"].rows) == (2, 2)
    assert device.counters["messages_delivered"] == 2
    device.crash()
    assert payloads(device.take()) == [b"2", b"3"]
    assert inspection.verify(device.settings.path) == []
    device.stop()


@pytest.mark.parametrize("boot_id", ["another boot", ""])
def test_the_time_a_machine_was_off_does_not_count(boot_id: str, tmp_path: Path) -> None:
    """After a power failure the platform may have been off as long as the device."""
    device = begun(tmp_path)
    acknowledge(device, 2)

    def reboot(_: Path) -> None:
        device.clock.advance(LINGER_S * 100)
        device.boot_id = boot_id

    device.crash(reboot)
    assert payloads(device.take()) == [b"0", b"1", b"2", b"3"]
    device.stop()


@pytest.mark.parametrize("jump_ms", [-(10**11), 10**11])
def test_the_time_of_day_has_no_say(jump_ms: int, tmp_path: Path) -> None:
    """It may be set while no agent runs."""
    device = begun(tmp_path)
    acknowledge(device, 2)

    def jump(_: Path) -> None:
        device.wall.start_ms += jump_ms

    device.crash(jump)
    assert payloads(device.take()) == [b"0", b"1", b"2", b"3"]
    device.stop()


def test_three_repetitions_are_enough(tmp_path: Path) -> None:
    """A row that is acknowledged in each of many short lives is repeated three times, then lingers
    for the rest of its time, and goes; new rows are sent meanwhile."""
    device = begun(tmp_path, 2)
    seen = [acknowledge(device)]
    for _ in range(MAX_REPEATS + 3):
        device.crash()
        seen.append(acknowledge(device))
    assert seen == [[b"0", b"1"]] * (1 + MAX_REPEATS) + [[]] * 3
    counts = device.outbox.counts()
    assert (counts["lingering"], counts["waiting"]) == (2, 0)
    device.put_all([b"new"])
    assert payloads(device.take()) == [b"new"]
    device.clock.pump([1.0] * 61)
    assert device.outbox.totals().delivered.messages == 2
    device.outbox.rewind(True)
    assert payloads(device.take()) == [b"new"]
    device.stop()


def test_resting_rows_are_repeated_when_a_connection_breaks(tmp_path: Path) -> None:
    """They linger as all others: it is only the start that does not repeat them."""
    device = begun(tmp_path, 2)
    for _ in range(MAX_REPEATS + 1):
        acknowledge(device)
        device.crash()
    device.put_all([b"new"])
    device.outbox.rewind(True)
    assert payloads(device.take_all()) == [b"0", b"1", b"new"]
    device.crash()
    assert payloads(device.take_all()) == [b"new"], "broken connections don't start the count anew"
    device.stop()


def test_broken_connections_in_between_do_not_start_the_count_anew(tmp_path: Path) -> None:
    """Lives in which the connection breaks before the kill are counted as others."""
    device = begun(tmp_path, 2)
    sent = []
    for _ in range(MAX_REPEATS + 2):
        sent.append(acknowledge(device))
        device.outbox.rewind(True)
        device.turn()
        device.crash()
    assert sent == [[b"0", b"1"]] * (1 + MAX_REPEATS) + [[]]
    device.stop()


def test_a_broken_connection_ends_the_time_on_disk_too(tmp_path: Path) -> None:
    """Rows that it has made pending are not forgotten, however long no agent runs after it."""
    device = begun(tmp_path, 2)
    acknowledge(device)
    device.outbox.rewind(True)
    device.turn()
    device.crash(lambda _: device.clock.advance(LINGER_S * 2))
    assert payloads(device.take()) == [b"0", b"1"]
    device.stop()


def test_the_watermark_says_what_rests_now(tmp_path: Path) -> None:
    """Rows below all that wait, whether they still linger or are gone."""
    device = begun(tmp_path, 4)
    assert watermark(device) == [0, 0, 0, 0, 0]
    acknowledge(device, 2)
    assert watermark(device) == [2, 2, 0, 0, 0]
    device.outbox.rewind(True)
    assert watermark(device) == [0, 2, 0, 0, 0]
    acknowledge(device, 3)
    device.clock.pump([1.0] * 121)
    assert watermark(device) == [3, 3, 0, 0, 0]
    assert device.outbox.counts()["lingering"] == 0
    device.stop()


def test_each_row_has_a_count_of_its_own(tmp_path: Path) -> None:
    """Rows that were acknowledged together but not repeated as often."""
    device = begun(tmp_path, 2)
    acknowledge(device)
    device.crash()
    device.put_all([b"2"])
    assert acknowledge(device) == [b"0", b"1", b"2"]
    sent = []
    for _ in range(4):
        device.crash()
        sent.append(acknowledge(device))
    assert sent == [[b"0", b"1", b"2"]] * 2 + [[b"2"], []]
    device.stop()


def test_only_an_acknowledged_repetition_counts(tmp_path: Path) -> None:
    """Agents that die before the pong have perhaps sent nothing."""
    device = begun(tmp_path, 2)
    acknowledge(device)
    for _ in range(10):
        device.crash()
        assert payloads(device.take()) == [b"0", b"1"]
        device.turn()
    device.stop()


def test_what_has_to_be_sent_again_has_no_age(tmp_path: Path) -> None:
    """It was acknowledged before the connection, or the machine, broke, and may be lost since."""
    device = begun(tmp_path, 2)
    acknowledge(device)
    device.outbox.rewind(True)
    device.clock.advance(LINGER_S * 2)
    device.put_all([b"2"])
    device.crash(lambda _: device.clock.advance(LINGER_S * 2))
    assert payloads(device.take()) == [b"0", b"1", b"2"]
    device.crash()
    device.put_all([b"3"])
    device.crash(lambda _: device.clock.advance(LINGER_S * 2))
    assert payloads(device.take()) == [b"0", b"1", b"2", b"3"]
    device.stop()


def test_a_life_without_connection_uses_up_nothing(tmp_path: Path) -> None:
    """What was to be repeated is so in the next life."""
    device = begun(tmp_path, 2)
    acknowledge(device)
    for _ in range(5):
        device.crash()
        device.clock.pump([1.0] * 100)
    device.crash()
    assert payloads(device.take(2)) == [b"0", b"1"]
    device.stop()


def test_responses_and_telemetry_are_marked_apart(tmp_path: Path) -> None:
    """Their ids mix; acknowledging one class says nothing about the other."""
    device = Device(tmp_path / "outbox.sqlite", linger_s=LINGER_S)
    for number in range(3):
        device.put(b"t%d" % number)
        device.put(b"r%d" % number, response=True)
    device.turn()
    assert acknowledge(device, 4) == [b"r0", b"r1", b"r2", b"t0"]
    device.crash(lambda _: device.clock.advance(LINGER_S))
    assert payloads(device.take()) == [b"t1", b"t2"]
    device.stop()


@pytest.mark.parametrize("acknowledged", [[1], [0, 2], [2, 0], [1, 3]])
@pytest.mark.parametrize("is_one_call", [True, False])
def test_a_mark_never_covers_what_was_not_acknowledged(
    acknowledged: list[int], is_one_call: bool, tmp_path: Path
) -> None:
    """In whatever order it comes, with rows in flight, given back or set aside in between."""
    device = begun(tmp_path, 5)
    rows = device.take(4)
    ids = [rows[which].row_id for which in acknowledged]
    for some in [sorted(ids)] if is_one_call else [[one] for one in ids]:
        device.outbox.retire(some)
    device.outbox.rewind(False)
    device.clock.advance(1.0)
    device.turn()
    device.crash(lambda _: device.clock.advance(LINGER_S))
    left = payloads(device.take_all())
    assert {b"%d" % one for one in range(5) if one not in acknowledged} <= set(left)
    device.stop()


def test_given_back_rows_between_lingering_ones_stay(tmp_path: Path) -> None:
    """The range in which lingering rows are deleted does not cover what is pending again."""
    device = begun(tmp_path, 3)
    rows = device.take(3)
    device.outbox.retire([rows[0].row_id])
    device.outbox.retire([rows[2].row_id])
    device.outbox.rewind(False)
    device.clock.pump([1.0] * 62)
    device.crash()
    assert payloads(device.take_all()) == [b"1"]
    device.stop()


def test_rows_that_were_passed_over_are_not_covered(tmp_path: Path) -> None:
    """While the store can't be read, newer rows are sent from memory: acknowledging them, even
    together with older ones, deletes nothing in between, neither then nor after a start."""
    device = begun(tmp_path, 20, worker=StepWorker, head_rows=2)
    device.worker.finish()
    old = list(device.take(2))
    device.put_all([b"new"])
    device.worker.fail(disk_full())
    path, hidden = device.settings.path, tmp_path / "hidden"
    path.rename(hidden)
    path.mkdir()
    (new,) = device.take(10)
    assert new.payload == b"new"
    device.outbox.retire([row.row_id for row in (*old, new)])
    device.clock.pump([0.5] * 4)
    path.rmdir()
    hidden.rename(path)
    device.clock.advance(RETRY_S)
    device.worker.finish()
    device.clock.pump([1.0] * 62)
    device.worker.finish()
    device.crash()
    left = payloads(device.take_all())
    assert [one for one in left if one not in (b"0", b"1", b"new")] == [
        b"%d" % number for number in range(2, 20)
    ]
    device.worker.finish()
    device.stop()


def test_nothing_that_was_passed_over_is_dropped_with_others(tmp_path: Path) -> None:
    """Dropping the oldest rows, while some in between can't be read, leaves those."""
    device = begun(tmp_path, 20, worker=StepWorker, head_rows=2)
    device.worker.finish()
    device.put_all([b"new"])
    device.worker.fail(disk_full())
    path, hidden = device.settings.path, tmp_path / "hidden"
    path.rename(hidden)
    path.mkdir()
    assert device.outbox.purge() == 3
    path.rmdir()
    hidden.rename(path)
    device.clock.advance(RETRY_S)
    device.worker.finish()
    device.crash()
    assert payloads(device.take_all()) == [b"%d" % number for number in range(2, 20)]
    device.worker.finish()
    device.stop()


def test_a_damaged_watermark_leads_to_repeats(tmp_path: Path) -> None:
    """Totals that were changed are not believed: everything is sent, and counted anew."""
    device = begun(tmp_path, 4)
    acknowledge(device, 2)
    device.stop()
    change(device, "UPDATE totals SET body = replace(body, '[2,2,0', '[4,4,0')")
    device.clock.advance(LINGER_S)
    device.start()
    assert payloads(device.take_all(2)) == [b"0", b"1", b"2", b"3"]
    device.stop()


# -- the store -------------------------------------------------------------------------------


def test_acknowledgements_ride_with_the_next_commit(tmp_path: Path) -> None:
    """They cost no commit of their own while there is work; when there is none, one is made after
    ``ackCommitDelay``, not at each acknowledgement, and none without need."""
    device = begun(tmp_path, 50, worker=StepWorker, ack_commit_delay_s=5.0)
    device.worker.finish()
    for row in device.take(20):
        device.outbox.retire([row.row_id])
        device.turn()
    assert not device.worker.jobs
    device.clock.pump([1.0] * 5)
    device.put_all([b"more"])
    assert len(device.worker.jobs) == 1
    device.worker.finish()
    copy_store(device.settings.path, tmp_path / "copy.sqlite")
    assert _totals(tmp_path / "copy.sqlite").watermarks["telemetry"][0] == 20
    device.clock.pump([1.0] * 6)
    assert not device.worker.jobs, "it was said already"
    device.outbox.retire([row.row_id for row in device.take(5)])
    device.clock.pump([1.0] * 4)
    assert not device.worker.jobs
    device.clock.pump([1.0] * 2)
    device.turn()
    assert len(device.worker.jobs) == 1
    device.worker.finish()
    device.clock.pump([1.0] * 9)
    assert not device.worker.jobs
    copy_store(device.settings.path, tmp_path / "copy.sqlite")
    assert _totals(tmp_path / "copy.sqlite").watermarks["telemetry"][0] == 25
    device.stop()


def test_acknowledged_repetitions_are_told_within_a_second(tmp_path: Path) -> None:
    """While rows are owed a short life must get on: its acknowledgements are committed soon."""
    device = begun(tmp_path, 20, ack_commit_delay_s=5.0)
    acknowledge(device)
    device.crash()
    device.outbox.retire([row.row_id for row in device.take(5)])
    device.clock.pump([1.0] * 2)
    copy_store(device.settings.path, tmp_path / "copy.sqlite")
    assert _totals(tmp_path / "copy.sqlite").watermarks["telemetry"] == [5, 20, 5, 0, 0]
    device.stop()


def test_a_repetition_that_is_complete_is_told_at_once(tmp_path: Path) -> None:
    """Agents that die within a second would repeat the same for ever."""
    device = begun(tmp_path, 3)
    acknowledge(device)
    lives = 0
    while device.crash() or (rows := device.take()):
        device.outbox.retire([row.row_id for row in rows])
        device.turn()
        lives += 1
        assert lives <= MAX_REPEATS
    device.stop()


def test_a_normal_stop_tells_what_was_acknowledged(tmp_path: Path) -> None:
    """Also when nothing else is left to be written."""
    device = begun(tmp_path, 3)
    device.outbox.retire([row.row_id for row in device.take(2)])
    device.stop()
    device.clock.advance(LINGER_S)
    device.start()
    assert payloads(device.take()) == [b"2"]
    device.stop()


@pytest.mark.parametrize("seed", range(6))
def test_a_lost_tail_of_the_log_leads_to_repeats_only(seed: int, tmp_path: Path) -> None:
    """If the newest commits, and with them the marks, are lost, rows come again; none is lost that
    an earlier commit had and that was not let go."""
    device = begun(tmp_path, 10)
    acknowledge(device, 4)
    acknowledge(device, 4)

    def cut(path: Path) -> None:
        device.clock.advance(LINGER_S)
        wal = Path(f"{path}-wal")
        os.truncate(wal, max(0, wal.stat().st_size - seed * PAGE_BYTES - 1))

    device.crash(cut)
    left = payloads(device.take_all())
    everything = [b"%d" % number for number in range(10)]
    assert left in (everything, everything[4:], everything[8:], [])
    assert left == [] or left[-2:] == [b"8", b"9"]
    if seed == 0:
        assert left == everything[4:], "the second mark is lost, the first is not"
    device.stop()


def test_a_store_without_watermarks_opens(tmp_path: Path) -> None:
    """Everything is sent again, as a store of schema 1 has it."""
    device = begun(tmp_path, 3)
    acknowledge(device, 2)
    device.stop()
    store = SqliteStore(device.settings.path, device.settings)
    old = store.open().totals
    transaction = Transaction()
    without = Totals(last_ids=old.last_ids, stored=old.stored, accepted=old.accepted)
    transaction.totals = msgspec.json.encode(without)
    store.apply(transaction)
    store.close()
    device.clock.advance(LINGER_S)
    device.start()
    assert payloads(device.take()) == [b"0", b"1", b"2"]
    device.stop()


def test_the_tools_work_beside_a_watermark(tmp_path: Path) -> None:
    """A store with a watermark is sound; after a purge nothing is left."""
    device = begun(tmp_path, 3)
    acknowledge(device, 2)
    device.stop()
    path = device.settings.path
    assert inspection.verify(path) == []
    assert inspection.read_status(path).stored["telemetry"] == 3
    assert maintenance.purge(path, device.settings, device.wall) == 3
    assert inspection.verify(path) == []
    device.start()
    device.put_all([b"new"])
    assert payloads(device.take()) == [b"new"]
    device.stop()


def test_a_row_dropped_while_it_waits_to_be_repeated_stays_away(tmp_path: Path) -> None:
    """What is purged or set aside is not brought back by its mark, and counted once."""
    device = begun(tmp_path, 4)
    acknowledge(device, 3)
    device.crash()
    (first,) = device.take(1)
    device.outbox.bury([first.row_id], "refused")
    assert device.outbox.purge() == 4
    device.turn()
    device.crash(lambda _: device.clock.advance(LINGER_S))
    assert device.take_all() == []
    totals = device.outbox.totals()
    assert totals.accepted.messages == totals.dropped.messages + totals.dead.messages
    assert inspection.verify(device.settings.path) == []
    device.stop()


def change(device: Device, statement: str) -> None:
    with closing(sqlite3.connect(device.settings.path)) as connection:
        connection.execute(statement)
        connection.commit()


def _totals(path: Path) -> Totals:
    totals = inspection.read_status(path).totals
    assert totals is not None
    return totals
