"""What goes when there is no room, and what goes because it is too old, by itself."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from oda.model import MessageClass
from oda.outbox import limits as limits_module
from oda.outbox.backlog import Backlog
from oda.outbox.committer import Committer
from oda.outbox.dead_letters import DeadLetters
from oda.outbox.ledger import Ledger
from oda.outbox.limits import Eviction, Limits
from oda.outbox.queue import Row, Span
from oda.outbox.transaction import ANSWER, CLASSES, TELEMETRY
from oda.settings import OutboxPolicy, OutboxSettings
from tests.outbox.chosen import ChosenStore, NotingWorker, Owner
from tests.outbox.fakes import FakeCounters, disk_full

COST = 100
#: The room of the tests, in bytes: for ten rows, eight of them telemetry.
TOTAL, TELEMETRY_TOTAL = 10 * COST, 8 * COST
MEMORY = 160


class Bench:
    """An outbox with room for ten rows of both classes, and for eight of telemetry."""

    def __init__(
        self,
        policy: OutboxPolicy = OutboxPolicy.DROP_OLDEST,
        max_rows: int = 1000,
        is_durable: bool = True,
    ) -> None:
        settings = OutboxSettings(policy=policy, max_rows=max_rows)
        self.store = ChosenStore([])
        self.store.is_durable = is_durable
        self.worker = NotingWorker()
        self.committer = Committer(self.store, self.worker, Clock(), Owner([]))
        self.uncommitted = self.committer.uncommitted
        self.counters = FakeCounters()
        self.ledger = Ledger(self.counters)
        self.limits = Limits(settings)
        self.limits.total, self.limits.telemetry = TOTAL, TELEMETRY_TOTAL
        self.limits._usable = TOTAL
        self.limits.memory_bytes = MEMORY
        self.backlogs = {
            one: Backlog(
                one,
                100,
                self.committer,
                self.ledger,
                DeadLetters(self.committer, self.ledger, self.limits, lambda: None),
                lambda: None,
            )
            for one in CLASSES
        }
        self.eviction = Eviction(
            settings, self.backlogs, self.committer, self.ledger, self.limits, self._changed
        )
        self.changes = 0
        self.committer.open()

    def _changed(self) -> None:
        self.changes += 1

    def put(self, message_class: MessageClass, ids: Iterable[int], size: int = 0) -> None:
        for row_id in ids:
            row = Row(row_id, bytes(size), True, 1, 1000 + row_id, COST)
            self.backlogs[message_class].queue.append(row)
            if size:
                self.uncommitted.collecting.insert(message_class, row)

    def linger(
        self, message_class: MessageClass, ids: Iterable[int], expires_s: float = 50.0
    ) -> None:
        """These are acknowledged, each in a batch of its own."""
        ids = list(ids)
        self.put(message_class, ids)
        queue = self.backlogs[message_class].queue
        rows = queue.take(1000, 1 << 20, True)
        for row in rows:
            queue.in_flight.pop(row.row_id)
            queue.retire([row], expires_s + row.row_id)

    def ids(self, message_class: MessageClass) -> list[int]:
        return [row.row_id for row in self.backlogs[message_class].queue.head]

    def lingering(self, message_class: MessageClass) -> list[int]:
        return [one.low for one in self.backlogs[message_class].queue.lingering]

    def make_room(self, message_class: MessageClass, cost: int = COST) -> bool:
        return self.eviction.make_room(message_class, cost, 0.0)


def test_where_there_is_room_nothing_goes() -> None:
    """Up to the last byte."""
    bench = Bench()
    bench.put(TELEMETRY, range(1, 7))
    bench.linger(ANSWER, [1, 2, 3])
    assert bench.make_room(TELEMETRY)
    assert bench.make_room(ANSWER)
    assert len(bench.ids(TELEMETRY)) == 6
    assert bench.lingering(ANSWER) == [1, 2, 3]


def test_what_has_lingered_goes_first() -> None:
    """Although there is room."""
    bench = Bench()
    bench.linger(TELEMETRY, [1, 2], -1.0)
    assert bench.make_room(TELEMETRY)
    assert bench.lingering(TELEMETRY) == [2]


@pytest.mark.parametrize("message_class", CLASSES)
def test_acknowledged_rows_go_as_far_as_needed(message_class: MessageClass) -> None:
    """Those of the class itself before those of the other, and nothing that is pending."""
    other = ANSWER if message_class is TELEMETRY else TELEMETRY
    bench = Bench()
    bench.linger(message_class, [1, 2, 3])
    bench.linger(other, [1, 2, 3])
    for one in CLASSES:
        bench.put(one, [11, 12])
    assert bench.make_room(message_class, COST + 1)
    assert bench.lingering(message_class) == [3]
    assert bench.lingering(other) == [1, 2, 3]
    assert bench.make_room(message_class, 5 * COST - 8)
    assert bench.lingering(message_class) == []
    assert bench.lingering(other) == [3]
    assert bench.ids(TELEMETRY) == bench.ids(ANSWER) == [11, 12]


def test_with_the_policy_to_refuse_nothing_pending_goes() -> None:
    """Telemetry has its own bound, answers that of the whole."""
    bench = Bench(OutboxPolicy.REFUSE)
    bench.put(TELEMETRY, range(1, 9))
    assert not bench.make_room(TELEMETRY)
    assert bench.make_room(ANSWER, 2 * COST)
    assert not bench.make_room(ANSWER, 2 * COST + 1)


def test_the_oldest_telemetry_goes_for_what_is_new() -> None:
    """A little more than is missing, so that not every message has to make room; it is counted as
    dropped because the outbox was full."""
    bench = Bench()
    bench.put(TELEMETRY, range(1, 9))
    assert bench.make_room(TELEMETRY)
    assert bench.ids(TELEMETRY) == [3, 4, 5, 6, 7, 8]
    assert bench.counters["messages_dropped:full"] == 2


def test_nothing_is_dropped_in_vain() -> None:
    """A message that is larger than all that waits, or than the room, is refused."""
    bench = Bench()
    bench.put(TELEMETRY, [1, 2])
    bench.put(ANSWER, range(1, 9))
    assert not bench.make_room(TELEMETRY, 2 * COST + 1)
    assert not bench.make_room(TELEMETRY, TELEMETRY_TOTAL + 1)
    assert not bench.make_room(ANSWER, TOTAL + 1)
    assert bench.ids(TELEMETRY) == [1, 2]
    assert bench.make_room(TELEMETRY, 2 * COST)
    assert bench.ids(TELEMETRY) == []


def test_the_number_of_rows_has_a_bound_in_each_class() -> None:
    """The oldest of the class go for it, not those of the other."""
    bench = Bench(max_rows=5)
    bench.put(TELEMETRY, range(1, 6))
    bench.linger(ANSWER, [1, 2])
    assert bench.make_room(ANSWER)
    assert bench.make_room(TELEMETRY)
    assert bench.ids(TELEMETRY) == [2, 3, 4, 5]
    assert bench.lingering(ANSWER) == [1, 2]
    bench.put(TELEMETRY, [6])
    queue = bench.backlogs[TELEMETRY].queue
    queue.take(5, 1 << 20, True)
    assert not bench.make_room(TELEMETRY), "what is in flight can't go"
    assert len(queue.in_flight) == 5


def test_the_only_row_may_go_for_a_new_one() -> None:
    """Where just one is allowed."""
    bench = Bench(max_rows=1)
    bench.put(TELEMETRY, [1])
    assert bench.make_room(TELEMETRY)
    assert bench.ids(TELEMETRY) == []


def test_acknowledged_rows_of_the_class_go_for_the_number_of_rows() -> None:
    """And only so many as have to."""
    bench = Bench(max_rows=5)
    bench.linger(TELEMETRY, range(1, 6))
    assert bench.make_room(TELEMETRY)
    assert bench.lingering(TELEMETRY) == [2, 3, 4, 5]


def test_telemetry_goes_for_answers_and_answers_only_where_they_can_not_be_kept() -> None:
    """On a disk that works every answer is taken: no other one goes for it. Otherwise the oldest
    answers go once they fill the outbox."""
    bench = Bench()
    bench.put(TELEMETRY, [1, 2, 3])
    bench.put(ANSWER, range(1, 8))
    assert bench.make_room(ANSWER, 2 * COST)
    assert bench.ids(TELEMETRY) == []
    bench.put(ANSWER, [8, 9, 10])
    assert not bench.make_room(ANSWER)
    assert len(bench.ids(ANSWER)) == 10
    bench = Bench(is_durable=False)
    bench.put(ANSWER, range(1, 11))
    assert bench.make_room(ANSWER)
    assert bench.ids(ANSWER) == list(range(3, 11))
    bench = Bench(OutboxPolicy.REFUSE, is_durable=False)
    bench.put(ANSWER, range(1, 11))
    assert not bench.make_room(ANSWER)
    assert len(bench.ids(ANSWER)) == 10


def test_answers_may_overdraw_the_room_on_a_disk_that_works() -> None:
    """Otherwise until those that wait, with the dead letters and the journal, fill it."""
    bench = Bench()
    bench.put(ANSWER, range(1, 20))
    assert bench.eviction.may_overdraw()
    for is_durable, fails in ((False, False), (True, True)):
        bench = Bench(is_durable=is_durable)
        if fails:
            bench.committer.read_failed(disk_full())
        bench.put(ANSWER, range(1, 10))
        bench.limits.side_cost = COST - 1
        assert bench.eviction.may_overdraw()
        bench.limits.side_cost = COST
        assert not bench.eviction.may_overdraw()


# -- too old ---------------------------------------------------------------------------------


def test_old_rows_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were accepted before a moment, in both classes: not in that moment. So many at
    once; it says whether there may be more."""
    bench = Bench()
    bench.put(TELEMETRY, range(1, 6))
    bench.put(ANSWER, [2, 9])
    assert not bench.eviction.drop_aged(1001)
    assert not bench.eviction.drop_aged(1003)
    assert bench.ids(TELEMETRY) == [3, 4, 5]
    assert bench.ids(ANSWER) == [9]
    assert bench.counters["messages_dropped:age"] == 3
    monkeypatch.setattr(limits_module, "_AGED_ROWS", 2)
    assert bench.eviction.drop_aged(2000)
    assert bench.ids(TELEMETRY) == [5]
    assert not bench.eviction.drop_aged(2000)


def test_more_old_rows_of_either_class_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever comes first."""
    monkeypatch.setattr(limits_module, "_AGED_ROWS", 2)
    for message_class in CLASSES:
        bench = Bench()
        bench.put(message_class, range(1, 4))
        assert bench.eviction.drop_aged(2000)


def test_a_purge_drops_all_that_is_pending(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many; what is in flight or lingers goes its way."""
    monkeypatch.setattr(limits_module, "_AGED_ROWS", 2)
    bench = Bench()
    bench.linger(TELEMETRY, [1])
    bench.put(TELEMETRY, range(2, 8))
    bench.put(ANSWER, [1])
    bench.backlogs[TELEMETRY].queue.take(1, 1 << 20, True)
    assert bench.eviction.purge() == 6
    assert bench.ids(TELEMETRY) == bench.ids(ANSWER) == []
    assert bench.lingering(TELEMETRY) == [1]
    assert len(bench.backlogs[TELEMETRY].queue.in_flight) == 1
    assert bench.counters["messages_dropped:purged"] == 6
    assert bench.eviction.purge() == 0


def test_so_many_go_as_are_asked_for() -> None:
    """Until so many bytes and so many rows are free, or none is left."""
    for over, rows, left in (
        (0, 0, [1, 2, 3, 4]),
        (1, 0, [2, 3, 4]),
        (COST, 0, [2, 3, 4]),
        (COST + 1, 0, [3, 4]),
        (0, 3, [4]),
        (COST, 2, [3, 4]),
        (99 * COST, 0, []),
    ):
        bench = Bench()
        bench.put(TELEMETRY, range(1, 5))
        amount = bench.eviction.drop(TELEMETRY, over, rows, "full")
        assert bench.ids(TELEMETRY) == left
        assert amount.rows == 4 - len(left)


# -- memory ----------------------------------------------------------------------------------


def test_one_message_fits_into_memory_whatever_its_size() -> None:
    """Where nothing else is in it; then up to the bound."""
    bench = Bench()
    assert bench.eviction.fits_in_memory(MEMORY * 9, False)
    bench.put(TELEMETRY, [1], size=MEMORY - 10)
    assert bench.eviction.fits_in_memory(10, False)
    assert bench.ids(TELEMETRY) == [1]


def test_the_oldest_telemetry_in_memory_gives_way() -> None:
    """A sixteenth of memory more than is needed; what was sent once stays, and so does all with
    the policy to refuse."""
    bench = Bench()
    bench.put(TELEMETRY, range(1, 9), size=20)
    queue = bench.backlogs[TELEMETRY].queue
    queue.take(1, 1 << 20, True)
    queue.rewind()
    assert bench.eviction.fits_in_memory(11, False)
    assert bench.ids(TELEMETRY) == [1, 4, 5, 6, 7, 8]
    assert bench.counters["messages_dropped:disk"] == 2
    assert bench.uncommitted.size_bytes == 6 * 20
    queue.check()
    bench = Bench()
    bench.put(TELEMETRY, range(1, 9), size=20)
    assert bench.eviction.fits_in_memory(10, False)
    assert bench.ids(TELEMETRY) == [2, 3, 4, 5, 6, 7, 8]
    bench = Bench(OutboxPolicy.REFUSE)
    bench.put(TELEMETRY, range(1, 9), size=20)
    assert not bench.eviction.fits_in_memory(1, False)
    assert len(bench.ids(TELEMETRY)) == 8


def test_what_is_on_its_way_does_not_give_way() -> None:
    """Nor what the platform has acknowledged: then there is no room for telemetry, and for an
    answer only where it may overdraw."""
    bench = Bench()
    bench.put(TELEMETRY, range(1, 9), size=20)
    queue = bench.backlogs[TELEMETRY].queue
    queue.take(8, 1 << 20, True)
    assert not bench.eviction.fits_in_memory(1, False)
    assert bench.eviction.fits_in_memory(1, True)
    bench.committer.read_failed(disk_full())
    assert bench.eviction.fits_in_memory(1, True)
    bench.limits.side_cost = TOTAL
    assert not bench.eviction.fits_in_memory(1, True)
    assert len(queue.in_flight) == 8


def test_acknowledged_rows_in_memory_give_way_to_answers() -> None:
    """As many as are needed, before any telemetry is dropped."""
    bench = Bench()
    bench.put(TELEMETRY, range(1, 9), size=20)
    queue = bench.backlogs[TELEMETRY].queue
    for row in queue.take(4, 1 << 20, True):
        queue.in_flight.pop(row.row_id)
        queue.retire([row], 50.0 + 2 * row.row_id)
    assert bench.eviction.fits_in_memory(20, True)
    assert bench.lingering(TELEMETRY) == [2, 3, 4]
    assert bench.ids(TELEMETRY) == [5, 6, 7, 8]
    assert bench.uncommitted.size_bytes == 7 * 20
    assert bench.eviction.fits_in_memory(21, False)
    assert bench.lingering(TELEMETRY) == [2, 3, 4], "for telemetry they stay"
    assert bench.ids(TELEMETRY) == [7, 8]
    assert bench.uncommitted.collecting.deleted[TELEMETRY] == []
    assert Span(1, 1) not in bench.uncommitted.collecting.deleted[TELEMETRY]


def test_room_in_memory_is_made_for_more_than_one_answer() -> None:
    """A sixteenth of memory, in bytes on disk: so not every answer has to make room."""
    bench = Bench()
    bench.limits.memory_bytes = 16 * (COST + 1)
    bench.put(TELEMETRY, range(1, 5), size=4 * (COST + 1))
    queue = bench.backlogs[TELEMETRY].queue
    for row in queue.take(4, 1 << 20, True):
        queue.in_flight.pop(row.row_id)
        queue.retire([row], 50.0 + 2 * row.row_id)
    assert bench.eviction.fits_in_memory(1, True)
    assert bench.lingering(TELEMETRY) == [3, 4]


# -- admission -------------------------------------------------------------------------------


@pytest.mark.parametrize(("cost", "is_admitted"), [(2 * COST, True), (2 * COST + 1, False)])
def test_a_message_is_admitted_up_to_the_last_byte(cost: int, is_admitted: bool) -> None:
    """One byte more is refused where nothing may be dropped, and the disk is not asked."""
    bench = Bench(OutboxPolicy.REFUSE)
    bench.put(TELEMETRY, range(1, 7))
    refusal = bench.eviction.admit(TELEMETRY, 7, cost, 0.0)
    assert refusal == (None if is_admitted else "no room for 7 bytes")
    assert (len(bench.worker.jobs), bench.changes) == (0, 0)


@pytest.mark.parametrize(("size", "is_full"), [(40, False), (41, True)])
def test_a_full_transaction_is_committed_before_more_is_admitted(size: int, is_full: bool) -> None:
    """What would not fit into the transaction waits for the next one; whoever is to be told is told
    at the end of the turn."""
    bench = Bench()
    bench.put(TELEMETRY, [1], size=60)
    bench.limits.transaction_bytes = 100
    assert bench.eviction.admit(TELEMETRY, size, 1, 0.0) is None
    assert len(bench.worker.jobs) == bench.changes == int(is_full)
    assert (bench.uncommitted.running is not None) is is_full


def test_an_outbox_in_memory_that_ends_says_what_is_lost() -> None:
    """What waits and what is on its way is dropped and said, once; without any nothing is said."""
    bench = Bench()
    with capturedLogs() as logs:
        bench.eviction.give_up()
    assert logs == []
    bench.put(TELEMETRY, [1, 2])
    bench.put(ANSWER, [1])
    bench.backlogs[TELEMETRY].queue.take(1, 1 << 20, True)
    with capturedLogs() as logs:
        bench.eviction.give_up()
    assert [one["count"] for one in logs] == [3]
    assert bench.counters["messages_dropped:stopped"] == 3
