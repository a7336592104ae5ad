"""The way of a message through the outbox: its shares, its times, and what an operator asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from oda.errors import OutboxClosed, OutboxError, OutboxFull
from oda.model import MessageClass, OutboxRow, OutgoingMessage
from oda.outbox.committer import RETRY_S, State
from oda.outbox.limits import Limits, row_cost, side_cost
from oda.outbox.outbox import TICK_S, Outbox, make_outbox
from oda.outbox.queue import Amount, Row, Span
from oda.outbox.sqlite_store import SqliteStore
from oda.outbox.store import Letter, MemoryStore, Opened, Recovered
from oda.outbox.transaction import ANSWER, TELEMETRY, Burial, Totals
from oda.outbox.worker import InlineWorker
from oda.settings import OutboxKind, OutboxSettings
from tests.outbox.chosen import ChosenStore
from tests.outbox.fakes import Device, FakeCounters, FakeWallClock, StepWorker, disk_full

#: Each message costs so many bytes to send besides its own, and answers get three times as much.
MESSAGE = 256


LOST = "lost {messages} of the damaged outbox"


def in_memory(tmp_path: Path, **more: Any) -> Device:
    return Device(tmp_path / "none", make_store=MemoryStore, **more)


def outcome(waiting: Deferred[Any]) -> object:
    found: list[Any] = []
    waiting.addBoth(found.append)
    return getattr(found[0], "value", found[0]) if found else "nothing yet"


def taken(rows: Any) -> list[bytes]:
    return [row.payload[:2] for row in rows]


# -- shares ----------------------------------------------------------------------------------


def test_what_telemetry_is_owed_is_a_third_of_the_answers_less_what_it_sent(
    tmp_path: Path,
) -> None:
    """In bytes, with the cost of each message; it is never negative, and once it is worth a message
    telemetry is first, with as much as it is owed."""
    device = in_memory(tmp_path)
    outbox = device.outbox
    for number in range(5):
        device.put(b"t%d" % number + bytes(98))
    device.put(b"a0" + bytes(998), response=True)
    assert taken(outbox.take(1, 1 << 20)) == [b"a0"]
    assert outbox._shares._deficit == (1000 + MESSAGE) // 3
    device.put(b"a1" + bytes(998), response=True)
    assert taken(outbox.take(2, 1 << 20)) == [b"t0", b"t1"]
    assert outbox._shares._deficit == 0, "no answer was sent"
    device.put(b"a2" + bytes(98), response=True)
    assert taken(outbox.take(2, 1 << 20)) == [b"a1", b"a2"]
    before = (1100 + 2 * MESSAGE) // 3
    assert outbox._shares._deficit == before
    device.put(b"a3" + bytes(98), response=True)
    assert taken(outbox.take(4, 700)) == [b"t2", b"t3", b"t4", b"a3"]
    assert outbox._shares._deficit == 0, "no telemetry waits"


def test_a_debt_below_the_cost_of_a_message_is_kept(tmp_path: Path) -> None:
    """Answers are first until it is worth one; then telemetry is."""
    device = in_memory(tmp_path)
    for number in range(4):
        device.put(b"t%d" % number)
        device.put(b"a%d" % number, response=True)
    third = (2 + MESSAGE) // 3
    for number in range(3):
        assert taken(device.outbox.take(1, 1 << 20)) == [b"a%d" % number]
        assert device.outbox._shares._deficit == (number + 1) * third
    assert 2 * third < MESSAGE <= 3 * third
    assert taken(device.outbox.take(1, 1 << 20)) == [b"t0"]
    assert taken(device.outbox.take(1, 1 << 20)) == [b"a3"]


def test_what_telemetry_sends_beside_answers_is_paid(tmp_path: Path) -> None:
    """With the cost of each message, like that of the answers."""
    device = in_memory(tmp_path)
    for number in range(4):
        device.put(b"t%d" % number + bytes(98))
    device.put(b"a0" + bytes(2998), response=True)
    assert taken(device.outbox.take(3, 1 << 20)) == [b"a0", b"t0", b"t1"]
    assert device.outbox._shares._deficit == (3000 + MESSAGE) // 3 - 2 * (100 + MESSAGE)
    device.put(b"a1" + bytes(98), response=True)
    assert taken(device.outbox.take(1, 1 << 20)) == [b"t2"]


def test_a_debt_has_a_bound(tmp_path: Path) -> None:
    """A flood of large answers does not make telemetry first for hours."""
    device = in_memory(tmp_path, max_bytes=64 << 20)
    device.put(b"t0")
    for _ in range(4):
        device.put(bytes(1 << 20), response=True)
    device.outbox.take(4, 8 << 20)
    assert device.outbox._shares._deficit == 1 << 20


def test_the_bounds_of_a_window_are_those_of_both_classes_together(tmp_path: Path) -> None:
    """What answers take is not there for telemetry; one message at least is given."""
    device = in_memory(tmp_path)
    for number in range(4):
        device.put(b"t%d" % number + bytes(8))
        device.put(b"a%d" % number + bytes(8), response=True)
    assert taken(device.outbox.take(5, 1 << 20)) == [b"a0", b"a1", b"a2", b"a3", b"t0"]
    device.outbox.rewind(False)
    device.outbox._shares._deficit = 0
    assert taken(device.outbox.take(99, 55)) == [b"a0", b"a1", b"a2", b"a3", b"t0"]
    device.outbox.rewind(False)
    device.outbox._shares._deficit = 0
    assert taken(device.outbox.take(99, 5)) == [b"a0"]


def test_a_row_says_what_it_is(tmp_path: Path) -> None:
    """With its class, its kind, its datapoints, and how often it was given."""
    device = in_memory(tmp_path)
    device.put(b"text", is_text=True, datapoints=3)
    device.put(b"\xff", response=True, is_text=False, datapoints=0)
    answer, telemetry = device.outbox.take(9, 99)
    assert telemetry == OutboxRow(1, b"text", TELEMETRY, True, 3, 1)
    assert answer == OutboxRow(answer.row_id, b"\xff", ANSWER, False, 0, 1)
    device.outbox.rewind(False)
    assert [row.attempts for row in device.outbox.take(9, 99)] == [2, 2]


# -- times -----------------------------------------------------------------------------------


def lingering(device: Device) -> int:
    return device.outbox.counts()["lingering"]


def acknowledge(device: Device, rows: int) -> None:
    device.put_all([b"x"] * rows)
    device.outbox.retire([row.row_id for row in device.take_all()])
    device.turn()


def wait(device: Device, seconds: float) -> None:
    """Let time pass, tick by tick."""
    for _ in range(int(seconds)):
        device.clock.advance(1.0)
    device.clock.advance(seconds - int(seconds))


@pytest.mark.parametrize(
    ("linger_s", "rows", "gone_after_s"),
    [(5.0, 1, 10), (5.0, 1024, 10), (5.0, 1025, 5), (45.0, 1, 90), (300.0, 1, 300), (0.5, 1, 1)],
)
def test_acknowledged_rows_go_in_their_time(
    linger_s: float, rows: int, gone_after_s: int, tmp_path: Path
) -> None:
    """Few of them with a commit of their own, at the most once in the linger time or in a minute;
    many of them every second. Never before."""
    device = in_memory(tmp_path, linger_s=linger_s)
    acknowledge(device, rows)
    waited = 0
    while lingering(device) and waited <= 400:
        device.clock.advance(1.0)
        waited += 1
    assert linger_s <= waited <= gone_after_s
    device.stop()


def test_an_empty_outbox_in_memory_has_no_timer(tmp_path: Path) -> None:
    """A thousand agents at rest would each wake the process once a second. With the first row the
    looks begin again: what is acknowledged goes in its time, what is too old is dropped."""
    device = in_memory(tmp_path, linger_s=5.0, max_age_s=20.0)
    wait(device, 2)
    assert device.clock.getDelayedCalls() == []
    acknowledge(device, 1)
    wait(device, 10)
    assert lingering(device) == 0
    wait(device, 1)
    assert device.clock.getDelayedCalls() == []
    device.put_all([b"x"])
    wait(device, 22)
    assert device.outbox.counts()["waiting"] == 0
    assert device.clock.getDelayedCalls() == []
    device.stop()


@pytest.mark.parametrize(("rows", "gone_at_s"), [(1024, 10), (1025, 7)])
def test_many_acknowledged_rows_do_not_wait_for_the_next_look(
    rows: int, gone_at_s: int, tmp_path: Path
) -> None:
    """They are looked for every second; few of them once in the linger time."""
    device = in_memory(tmp_path, linger_s=5.0)
    wait(device, 2.0)
    acknowledge(device, rows)
    while lingering(device):
        device.clock.advance(1.0)
    assert device.clock.seconds() == gone_at_s
    device.stop()


def test_acknowledged_rows_go_with_a_commit_that_is_made_anyway(tmp_path: Path) -> None:
    """Where half of the linger time, or 30 s, has passed since the last look."""
    device = in_memory(tmp_path, linger_s=80.0)
    acknowledge(device, 1)
    wait(device, 85.0)
    assert lingering(device) == 1, "the look of the first minute found nothing"
    device.put_all([b"y"])
    assert lingering(device) == 1
    wait(device, 5.0)
    device.put_all([b"y"])
    assert lingering(device) == 0
    device.stop()


def test_old_rows_go_in_the_next_turns_where_there_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many in each turn, without waiting for the next second; none where there is no limit."""
    from oda.outbox import limits

    monkeypatch.setattr(limits, "_AGED_ROWS", 3)
    device = in_memory(tmp_path, max_age_s=5.0)
    device.put_all([b"x"] * 10)
    wait(device, 5.0)
    device.put_all([b"younger"])
    assert device.outbox.counts()["waiting"] == 11
    device.clock.advance(1.0)
    assert device.outbox.counts()["waiting"] == 1
    assert device.counters["messages_dropped:age"] == 10
    assert [one.getTime() - device.clock.seconds() for one in device.clock.getDelayedCalls()] == [
        TICK_S
    ]
    device.stop()
    device = in_memory(tmp_path, max_age_s=0.0)
    device.put_all([b"x"])
    wait(device, 100.0)
    assert device.outbox.counts()["waiting"] == 1
    device.stop()


def test_the_age_of_the_oldest_row_is_told(tmp_path: Path) -> None:
    """Of either class; 0 where none waits."""
    device = in_memory(tmp_path)
    assert device.outbox.counts()["oldest_age_ms"] == 0
    device.put_all([b"x"])
    device.clock.advance(2.0)
    device.put(b"a", response=True)
    device.turn()
    device.clock.advance(0.5)
    assert device.outbox.counts()["oldest_age_ms"] == 2500
    device.outbox.retire([row.row_id for row in device.outbox.take(9, 99, TELEMETRY)])
    assert device.outbox.counts()["oldest_age_ms"] == 500


def test_the_counts_are_what_they_are_called(tmp_path: Path) -> None:
    """Of both classes together."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    device.worker.finish()
    for number in range(5):
        device.put(b"%d" % number)
    device.put(b"abc", response=True)
    assert device.outbox.counts()["uncommitted_bytes"] == 8
    device.turn()
    device.worker.finish()
    first, *_ = device.outbox.take(3, 99, TELEMETRY)
    second = device.outbox.take(1, 99, ANSWER)[0]
    device.outbox.bury([first.row_id], "refused")
    device.outbox.retire([second.row_id])
    counts = device.outbox.counts()
    assert counts == {
        "oldest_age_ms": 0,
        "waiting": 2,
        "in_flight": 2,
        "lingering": 1,
        "recovering": 0,
        "dead": 1,
        "bytes": 4 * row_cost(1) + row_cost(3) + side_cost(1),
        "uncommitted_bytes": 0,
    }
    assert device.outbox.answer_bytes() == 0
    device.put(b"abcd", response=True)
    assert device.outbox.answer_bytes() == row_cost(4)
    device.stop()


# -- what wakes the connector ----------------------------------------------------------------


def test_a_rewind_wakes_the_connector_where_there_is_something(tmp_path: Path) -> None:
    """What was in flight, or lingered and has to be replayed; nothing else."""
    device = in_memory(tmp_path, linger_s=60.0)
    device.put_all([b"1", b"2"])

    def wakes(replay: bool) -> bool:
        before = device.told
        device.outbox.rewind(replay)
        device.turn()
        return device.told > before

    device.take(0)
    assert not wakes(False)
    assert not wakes(True)
    row = device.take(1)[0]
    assert wakes(False)
    row = device.take(1)[0]
    device.outbox.retire([row.row_id])
    device.take(0)
    device.turn()
    assert not wakes(False)
    assert lingering(device) == 1
    assert wakes(True)
    assert lingering(device) == 0


def test_a_rewind_lets_go_what_has_lingered_long_enough(tmp_path: Path) -> None:
    """It is not replayed any more."""
    device = in_memory(tmp_path, linger_s=0.5)
    acknowledge(device, 1)
    device.clock.advance(0.6)
    device.outbox.rewind(True)
    assert device.outbox.counts()["waiting"] == lingering(device) == 0


def test_settled_rows_are_gone_whatever_their_time(tmp_path: Path) -> None:
    """Of both classes: the platform said that it has them."""
    device = in_memory(tmp_path, linger_s=60.0)
    device.put(b"t")
    device.put(b"a", response=True)
    device.outbox.retire([row.row_id for row in device.take_all()])
    assert lingering(device) == 2
    device.outbox.settle()
    assert lingering(device) == 0
    assert device.counters["messages_delivered"] == 2


def test_rows_may_linger_for_a_time_of_their_own(tmp_path: Path) -> None:
    """Longer or shorter than usual; 0 means not at all."""
    device = in_memory(tmp_path, linger_s=60.0)
    device.put_all([b"1", b"2"])
    first, second = device.take_all()
    device.outbox.retire([first.row_id], 0.0)
    assert lingering(device) == 0
    device.outbox.retire([second.row_id], 0.5)
    device.clock.advance(0.4)
    device.outbox.rewind(True)
    assert device.outbox.counts()["waiting"] == 1


def test_an_acknowledgement_while_the_disk_fails_is_an_acceptance(tmp_path: Path) -> None:
    """There is no telling when it can be committed; in a turn of its own."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    device.worker.finish()
    telemetry = device.put(b"t")
    answer = device.put(b"a", response=True)
    device.turn()
    device.worker.fail(disk_full())
    device.outbox.retire([row.row_id for row in device.take_all()])
    assert not telemetry.called
    device.turn()
    assert isinstance(outcome(telemetry), int)
    assert isinstance(outcome(answer), int)


# -- what an operator asks for ---------------------------------------------------------------


def bury_one(device: Device, payload: bytes = b"dead") -> None:
    device.put_all([payload])
    device.outbox.bury([device.take(1)[0].row_id], "refused")
    device.turn()


def test_a_purge_counts_messages_and_dead_letters(tmp_path: Path) -> None:
    """And leaves neither."""
    device = in_memory(tmp_path)
    bury_one(device)
    device.put(b"t")
    device.put(b"a", response=True)
    assert device.outbox.purge() == 3
    assert device.outbox.counts()["bytes"] == 0
    device.turn()
    assert device.outbox.counts()["dead"] == device.outbox.counts()["waiting"] == 0
    assert device.store.dead == {}
    assert device.outbox.counts()["bytes"] == 0


def test_dead_letters_come_back_as_they_were(tmp_path: Path) -> None:
    """Kind, class and datapoints; the letter is gone with the same commit, and accepted once."""
    device = in_memory(tmp_path)
    device.put(b"\xff", response=True, is_text=False, datapoints=4)
    device.turn()
    device.outbox.bury([device.take(1)[0].row_id], "refused")
    device.turn()
    before = device.outbox.totals().accepted.messages
    assert device.outbox.retry_dead() == 1
    assert device.outbox.counts()["bytes"] == row_cost(1)
    device.turn()
    (row,) = device.take(9)
    assert (row.payload, row.message_class) == (b"\xff", ANSWER)
    assert (row.is_text, row.datapoints) == (False, 4)
    assert device.store.dead == {}
    assert device.outbox.totals().accepted.messages == before
    assert device.outbox.totals().dead.messages == 0
    device.outbox.check_invariants()
    assert device.outbox.retry_dead() == 0


def test_dead_letters_that_find_no_room_stay(tmp_path: Path) -> None:
    """Those before them are back."""
    device = in_memory(tmp_path)
    for size in (100, 5000, 100):
        bury_one(device, bytes(size))
    device.outbox._limits.telemetry = row_cost(5000) - 1
    with pytest.raises(OutboxFull, match=r"only room for 1 dead letter$"):
        device.outbox.retry_dead()
    device.turn()
    assert device.outbox.counts()["dead"] == 2
    assert device.outbox.counts()["waiting"] == 1
    device.outbox.check_invariants()


def test_dead_letters_stay_where_the_store_can_not_be_read(tmp_path: Path) -> None:
    """Now, or while they are read; damaged ones stay in any case."""
    store = ChosenStore([])
    device = Device(tmp_path / "none", make_store=lambda: store)
    bury_one(device)
    store.dead[1].is_damaged = True
    assert device.outbox.retry_dead() == 0
    store.dead[1].is_damaged = False

    def fails(row_id: int) -> Letter:
        raise disk_full()

    letter = store.letter
    store.letter = fails  # type: ignore[method-assign]
    with pytest.raises(OutboxFull, match="can't be read now: database or disk is full"):
        device.outbox.retry_dead()
    store.letter = letter  # type: ignore[method-assign]
    assert device.outbox.counts()["dead"] == 1
    device.clock.advance(3.0)
    store.is_moved_away = True
    device.clock.advance(1.0)
    device.outbox._committer._fault = None
    store.is_moved_away = False
    assert device.outbox.retry_dead() == 1


def message(payload: bytes, message_class: MessageClass = TELEMETRY) -> OutgoingMessage:
    return OutgoingMessage(payload, message_class)


def test_what_is_taken_over_displaces_nothing_that_waits(tmp_path: Path) -> None:
    """Only what was acknowledged goes for it. Nothing is taken over while the disk fails, or after
    the end."""
    device = in_memory(tmp_path, max_bytes=1 << 20, linger_s=60.0)
    acknowledge(device, 1)
    room = device.outbox._limits.telemetry
    size = room // 2
    assert isinstance(outcome(device.outbox.take_over(message(bytes(size)))), str)
    device.turn()
    refused = device.outbox.take_over(message(bytes(size)))
    assert isinstance(outcome(refused), OutboxFull)
    assert device.outbox.counts()["waiting"] == 1
    assert lingering(device) == 0
    device.outbox._committer.read_failed(disk_full())
    assert "disk" in str(outcome(device.outbox.take_over(message(b"x"))))
    device.stop()
    assert isinstance(outcome(device.outbox.take_over(message(b"x"))), OutboxClosed)


def letter_of(payload: bytes = b"abc", table: str = "telemetry", is_sound: bool = True) -> Letter:
    row = Row(99, payload, False, 3, 777, row_cost(len(payload)))
    return Letter(row, table, "refused", is_sound)


@pytest.mark.parametrize("is_sound", [True, False])
def test_a_dead_letter_of_another_outbox_is_kept(is_sound: bool, tmp_path: Path) -> None:
    """With an id of this one, and as it was; it fires once it is committed."""
    device = Device(tmp_path / "none", StepWorker, make_store=MemoryStore)
    device.worker.finish()
    device.put_all([b"1"])
    kept = device.outbox.take_over_letter(letter_of(is_sound=is_sound))
    assert kept is not None
    assert outcome(kept) == "nothing yet"
    device.worker.finish()
    device.turn()
    device.worker.finish()
    assert kept.called
    (burial,) = device.store.dead.values()
    assert burial.row.row_id == 2
    assert (burial.row.payload, burial.row.is_text, burial.row.datapoints) == (b"abc", False, 3)
    assert (burial.row.accepted_ms, burial.row.cost) == (777, row_cost(3))
    assert (burial.reason, burial.is_damaged) == ("refused", not is_sound)
    assert device.put_all([b"2"])[0] is not None
    assert device.last_id() == 3
    assert device.outbox.totals().dead.messages == 1
    device.outbox.check_invariants()


def test_a_dead_letter_that_can_not_be_kept_is_left(tmp_path: Path) -> None:
    """For want of room, of a class, or of a disk."""
    device = in_memory(tmp_path, max_bytes=1 << 20)
    room = Limits(device.settings).side_bytes
    assert device.outbox.take_over_letter(letter_of(table="nothing")) is None
    assert device.outbox.take_over_letter(letter_of(bytes(room))) is None
    assert device.outbox.take_over_letter(letter_of(table="response")) is not None
    device.outbox._committer.read_failed(disk_full())
    assert device.outbox.take_over_letter(letter_of()) is None
    device.clock.advance(3.0)
    assert device.outbox.take_over_letter(letter_of()) is not None
    device.stop()
    assert device.outbox.take_over_letter(letter_of()) is None


@pytest.mark.parametrize("was_open", [True, False])
def test_what_is_not_open_takes_nothing(was_open: bool, tmp_path: Path) -> None:
    """Neither a message nor a new place, before it was opened and after it was closed; closing it
    is done at once."""
    device = in_memory(tmp_path)
    device.stop()
    outbox = device.outbox
    if not was_open:
        settings = device.settings
        outbox = Outbox(
            settings, MemoryStore(), InlineWorker(), device.clock, device.wall, device.counters
        )
    assert isinstance(outcome(outbox.put(message(b"x"))), OutboxClosed)
    assert isinstance(outcome(outbox.move(Path("/new"))), OutboxClosed)
    assert outcome(outbox.close()) is None
    assert not device.clock.getDelayedCalls()


def test_an_outbox_that_another_agent_uses_stays_closed(tmp_path: Path) -> None:
    """It can be opened once that has ended."""
    device = Device(tmp_path / "outbox.sqlite")
    other = object.__new__(Device)
    other.__dict__.update(device.__dict__)
    with pytest.raises(OutboxError, match="in use"):
        other.start()
    assert isinstance(outcome(other.put(b"x")), OutboxClosed)
    device.stop()
    other.outbox.open()
    assert isinstance(outcome(other.put(b"x")), str)
    other.outbox.close()


def test_the_outbox_that_the_settings_ask_for(tmp_path: Path) -> None:
    """A file, or memory."""
    device = in_memory(tmp_path)
    for kind, store, is_durable in (
        (OutboxKind.DURABLE, SqliteStore, True),
        (OutboxKind.MEMORY, MemoryStore, False),
    ):
        settings = OutboxSettings(kind=kind, path=tmp_path / "outbox.sqlite")

        class Reactor:
            callFromThread = staticmethod(lambda function: function())
            seconds = device.clock.seconds
            callLater = device.clock.callLater

        outbox = make_outbox(settings, Reactor(), FakeWallClock(device.clock), FakeCounters())
        assert isinstance(outbox._committer.store, store)
        assert outbox.is_durable is is_durable
        assert outbox.path == (settings.path if is_durable else None)


def test_the_larger_file_lowers_the_bounds(tmp_path: Path) -> None:
    """Once it has more than a MiB: below that its fixed pages say more about it than its rows."""
    store = ChosenStore([])
    device = Device(tmp_path / "none", make_store=lambda: store, max_bytes=64 << 20)
    before = device.outbox._limits.total
    used = 1 << 20
    apply = store.apply

    def uses(transaction: Any) -> int:
        apply(transaction)
        return used

    store.apply = uses  # type: ignore[method-assign]
    device.put_all([b"x"])
    assert device.outbox._limits.total == before
    used += 1
    device.put_all([bytes(700_000)])
    assert before * 0.6 < device.outbox._limits.total < before


@pytest.mark.parametrize("is_counted", [True, False])
def test_it_is_said_where_nobody_knows_what_is_lost(is_counted: bool, tmp_path: Path) -> None:
    """At the end of a recovery from a store whose rows could not be counted."""
    store = ChosenStore([])
    store.opened = [Opened(Totals(), "", "old", {TELEMETRY: ([Span(1, 9)], Amount(1, 34, 1))})]
    store.steps = [Recovered((), False, 0, "old", is_counted)]
    store.steps += [Recovered((), True, 0, "old", is_counted)]
    with capturedLogs() as logs:
        device = Device(tmp_path / "none", make_store=lambda: store)
        device.recover()
    said = [one for one in logs if "their number is unknown" in str(one.get("log_format"))]
    assert len(said) == (0 if is_counted else 1)
    lost = [one["rows"] for one in logs if one.get("log_format") == LOST]
    assert lost == [1]
    assert device.counters["messages_dropped:damaged"] == 1
    device.stop()


def test_a_late_store_with_newer_rows_is_left_for_the_next_start(tmp_path: Path) -> None:
    """Its rows could not be told from those that were put meanwhile: it is closed as it is, nothing
    is written into it, and the outbox goes on in memory."""
    store = ChosenStore([])
    totals = Totals()
    totals.last_ids["telemetry"] = 1 << 60
    store.opened = [disk_full(), Opened(totals)]
    device = Device(tmp_path / "none", make_store=lambda: store)
    device.put_all([b"x"])
    device.clock.advance(RETRY_S)
    device.put_all([b"y"])
    device.clock.advance(100.0)
    assert device.outbox.state is State.TROUBLE
    assert store.events.count("open") == 2
    assert store.events.count("close") == 1
    assert store.tables[TELEMETRY].rows == {}
    assert [row.payload for row in device.take_all()] == [b"x", b"y"]
    device.stop()


def test_the_connector_is_woken_for_what_a_store_has(tmp_path: Path) -> None:
    """At a start, where something waits in it; and where there is a new one."""
    device = Device(tmp_path / "outbox.sqlite")
    device.restart()
    assert device.told == 0
    device.put_all([b"x"])
    device.restart()
    assert device.told == 1
    device.stop()
    store = ChosenStore([])
    device = Device(tmp_path / "none", make_store=lambda: store)
    assert device.told == 0
    store.is_moved_away = True
    device.clock.advance(TICK_S)
    store.is_moved_away = False
    device.turn()
    assert store.events.count("replace") == 1
    assert device.told == 1
    device.stop()


def test_the_dead_letters_of_a_store_are_known(tmp_path: Path) -> None:
    """They cost what they cost; those that are too many go, the oldest first."""
    store = ChosenStore([])
    room = Limits(OutboxSettings(max_bytes=1 << 20)).side_bytes
    for row_id, size in ((1, room // 2), (2, room // 2), (3, 10)):
        row = Row(row_id, bytes(size), True, 1, 0, row_cost(size))
        store.dead[row_id] = Burial(TELEMETRY, row, "refused")
    device = Device(tmp_path / "none", make_store=lambda: store, max_bytes=1 << 20)
    assert device.outbox.counts()["dead"] == 2
    assert device.outbox.counts()["bytes"] == side_cost(room // 2) + side_cost(10)
    assert sorted(store.dead) == [2, 3]
    device.stop()


def test_a_store_whose_letters_can_not_be_read_is_in_trouble(tmp_path: Path) -> None:
    """What they are is not known, and the disk is tried again."""
    store = ChosenStore([])

    def fails() -> Any:
        raise disk_full()

    store.letters = fails  # type: ignore[method-assign]
    device = Device(tmp_path / "none", make_store=lambda: store)
    assert device.outbox.state is State.TROUBLE
    device.clock.advance(RETRY_S)
    assert device.outbox.state is State.OPEN
    device.stop()


def test_who_waits_for_a_dead_letter_hears_of_the_end(tmp_path: Path) -> None:
    """Committed, and so accepted; or never to be."""
    for fails in (False, True):
        device = Device(tmp_path / "none", StepWorker, make_store=MemoryStore)
        device.worker.finish()
        kept = device.outbox.take_over_letter(letter_of())
        assert kept is not None
        closed = device.outbox.close()
        while device.worker.jobs:
            if fails and device.outbox._uncommitted.running is not None:
                device.worker.fail(disk_full())
            else:
                device.worker.step()
        assert closed.called
        assert isinstance(outcome(kept), OutboxClosed if fails else int)


def test_a_commit_that_fails_releases_what_it_held(tmp_path: Path) -> None:
    """An answer that waited for its commit may be sent: there is no telling when it can be made.
    What was acknowledged meanwhile is accepted, and so is what was let go."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker, linger_s=60.0)
    device.worker.finish()
    lingers, gone = device.put(b"1"), device.put(b"2")
    device.put(b"held", response=True, waits_for_commit=True)
    device.turn()
    told = device.told
    first, second = device.outbox.take(9, 99, TELEMETRY)
    assert device.outbox.take(9, 99, ANSWER) == []
    device.outbox.retire([first.row_id])
    device.outbox.retire([second.row_id], 0.0)
    assert not lingers.called
    device.worker.fail(disk_full())
    assert device.told == told + 1
    assert [outcome(one) for one in (lingers, gone)] == [1, 2]
    assert [row.payload for row in device.outbox.take(9, 99, ANSWER)] == [b"held"]
    device.clock.advance(RETRY_S)
    device.worker.finish()
    assert device.outbox.state is State.OPEN
    device.stop()


def test_a_buried_row_is_accepted_with_its_commit(tmp_path: Path) -> None:
    """It was set aside while it was being committed, or before: whoever put it hears that it is
    kept."""
    device = Device(tmp_path / "outbox.sqlite", StepWorker)
    device.worker.finish()
    waiting = device.put(b"1")
    device.outbox.bury([device.take(1)[0].row_id], "refused")
    device.turn()
    assert outcome(waiting) == "nothing yet"
    device.worker.finish()
    assert waiting.called
    device.stop()
