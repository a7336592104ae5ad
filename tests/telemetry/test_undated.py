"""Readings taken before the clock was right: none is lost, none is sent with a wrong time."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from oda.codecs.json import JsonCodec
from oda.codecs.values import check_value
from oda.errors import OutboxClosed, OutboxFull
from oda.interfaces import IDating
from oda.model import Event, Moment
from oda.settings import Schedule
from oda.telemetry import undated as module
from oda.telemetry.dating import Dating
from oda.telemetry.dispatcher import EventDispatcher
from oda.telemetry.undated import LOOK_S, UndatedEvents
from tests.telemetry.fakes import FakeConnector, FakeCounters, FakeWallClock, has_fired

#: 2026-11-01: no clock before this year is right.
BUILT_MS = 1_793_491_200_000
#: 2027-01-15.
TRUE_MS = 1_800_000_000_000
DAY_MS = 86_400_000


class Machine:
    """A device without a battery for its clock: each start of it begins in 1970."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.true_ms = TRUE_MS
        self.boots = 0
        self.connector = FakeConnector()
        self.counters = FakeCounters()
        self.boot()

    def boot(self, off_ms: int = 0) -> None:
        """The machine starts, after it was off for a while."""
        self.true_ms += off_ms
        self.boots += 1
        self.booted_ms = self.true_ms
        self.wall_offset_ms = -self.true_ms
        self.life()

    def life(self, **options: Any) -> None:
        """A process starts."""
        self.clock = Clock()
        self.began_ms = self.true_ms
        self.wall_clock = FakeWallClock()
        self.dating = Dating(
            self.wall_clock,
            f"boot {self.boots}",
            lambda: self.true_ms - self.booted_ms,
            BUILT_MS,
            options.pop("must_sync", lambda: False),
            options.pop("is_synchronised", lambda: None),
        )
        self.undated = UndatedEvents(
            self.clock,
            self.dating,
            self.counters,
            self.path,
            options.pop("max_bytes", 1 << 20),
            options.pop("refuses", False),
        )
        self._tell_time()
        options.setdefault("host_id", "dev-1")
        self.dispatcher = EventDispatcher(
            self.clock,
            self.connector,
            JsonCodec(),
            check_value,
            self.wall_clock,
            self.counters,
            undated=self.undated,
            **options,
        )
        self.publish = self.dispatcher.publish
        self.dispatcher.start()

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.true_ms += int(seconds * 1000)
        self._tell_time()
        self.clock.advance(seconds)

    def turn(self) -> None:
        self.clock.advance(0)

    def set_clock(self) -> None:
        """Somebody sets the clock right."""
        self.wall_offset_ms = 0
        self._tell_time()

    def look(self) -> None:
        """As much time as the agent needs to see that the clock is right, and to send everything
        that waits."""
        self.wait(LOOK_S)
        for _ in range(50):
            self.turn()

    def kill(self) -> None:
        """The process ends without a word; nothing of it goes on."""
        for call in self.clock.getDelayedCalls():
            call.cancel()
        if self.undated._file is not None:
            self.undated._file.close()

    def points(self) -> list[dict[str, Any]]:
        """Every datapoint that went up, in order."""
        return [
            point
            for document in self.connector.documents()
            for stream in document["datastreams"]
            for point in stream["datapoints"]
        ]

    def _tell_time(self) -> None:
        self.wall_clock.time_ms = self.true_ms + self.wall_offset_ms


def failure_of(told: Deferred[None]) -> type[BaseException] | None:
    """What kind of failure it was, None for a success."""
    kinds: list[type[BaseException] | None] = []
    told.addCallbacks(lambda _: kinds.append(None), lambda failure: kinds.append(failure.type))
    return kinds[0]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "undated.sqlite")


def test_it_keeps_the_contract(machine: Machine) -> None:
    """``Dating`` keeps the contract of IDating."""
    verifyObject(IDating, machine.dating)


@pytest.mark.parametrize("as_list", [False, True])
def test_nothing_is_sent_before_the_clock_is_right(machine: Machine, as_list: bool) -> None:
    """An event without a time is accepted once it is on disk, and leaves with the time at which it
    was taken as soon as the clock is right; nothing is sent with 1970."""
    machine.wait(100)
    events = [Event("t", 1), Event("t", 2)]
    told = [machine.publish(events)] if as_list else [machine.publish(one) for one in events]
    taken_ms = machine.true_ms
    assert not has_fired(told[0])
    machine.turn()
    assert all(has_fired(one) for one in told)
    machine.wait(500)
    assert machine.connector.payloads == []
    assert len(machine.undated) == 2
    machine.set_clock()
    machine.look()
    assert machine.points() == [{"at": taken_ms, "value": 1}, {"at": taken_ms, "value": 2}]
    assert len(machine.undated) == 0
    assert machine.counters.counts["events_undated"] == 2


def test_with_a_right_clock_there_is_no_file_and_no_timer(machine: Machine) -> None:
    """A device whose clock is right never notices: no file is made and no timer runs."""
    machine.set_clock()
    machine.look()
    machine.kill()
    assert machine.path is not None
    machine.path.unlink(missing_ok=True)
    machine.life()
    machine.publish(Event("t", 1))
    machine.turn()
    assert machine.points() == [{"at": machine.true_ms, "value": 1}]
    assert not machine.path.exists()
    assert machine.clock.getDelayedCalls() == []


def test_what_brings_its_time_is_the_publishers_word(machine: Machine) -> None:
    """An event with ``at_ms`` goes out at once, and alone: those without a time wait."""
    waits = machine.publish([Event("t", 1, at_ms=TRUE_MS - 5), Event("t", 2)])
    machine.turn()
    assert machine.points() == [{"at": TRUE_MS - 5, "value": 1}]
    machine.turn()
    assert has_fired(waits)


def test_the_order_of_a_datastream_stays(machine: Machine) -> None:
    """While older readings leave, a new one lines up behind them."""
    for value in range(3):
        machine.publish(Event("t", value))
        machine.wait(1)
    machine.set_clock()
    machine.connector.hold = True
    machine.look()
    told = machine.publish(Event("t", 3))
    machine.turn()
    machine.turn()
    assert machine.connector.values() == [0, 1, 2]
    machine.connector.hold = False
    machine.connector.waiting.pop().callback(1)
    machine.look()
    assert machine.connector.values() == [0, 1, 2, 3]
    assert has_fired(told)
    assert not machine.undated.is_taking
    machine.publish(Event("t", 4))
    machine.turn()
    assert machine.connector.values() == [0, 1, 2, 3, 4]


def test_a_killed_process_loses_nothing_and_gives_the_same_times(machine: Machine) -> None:
    """A process that is killed before the outbox has accepted sends once more, with the same
    times although the clock was corrected in between."""
    machine.wait(7)
    machine.publish(Event("t", 1))
    machine.turn()
    taken_ms = machine.true_ms
    machine.set_clock()
    machine.connector.hold = True
    machine.look()
    machine.kill()
    machine.wall_offset_ms = 1234
    machine.connector.hold = False
    machine.life()
    machine.look()
    assert machine.points() == [{"at": taken_ms, "value": 1}] * 2
    assert len(machine.undated) == 0


def test_an_earlier_process_of_the_same_start_is_dated_exactly(machine: Machine) -> None:
    """What another process of the same start of the machine left has exact times."""
    machine.wait(60)
    machine.publish(Event("t", 1))
    machine.turn()
    taken_ms = machine.true_ms
    machine.kill()
    machine.wait(60)
    machine.life()
    machine.set_clock()
    machine.look()
    assert machine.points() == [{"at": taken_ms, "value": 1}]


def test_across_a_reboot_the_bounds_are_sent(machine: Machine) -> None:
    """What was taken before the last reboot was not after it, less the time for which the machine
    is known to have run after the reading, and not before the last time of day that was right."""
    machine.set_clock()
    machine.look()
    machine.kill()
    machine.boot(off_ms=DAY_MS)
    machine.wait(50)
    machine.publish(Event("t", 0))
    machine.turn()
    machine.set_clock()
    machine.look()
    machine.kill()
    right_ms = machine.true_ms
    machine.boot(off_ms=DAY_MS)
    machine.wait(10)
    machine.publish(Event("t", 1))
    machine.turn()
    taken_ms = machine.true_ms
    machine.wait(20)
    machine.publish(Event("t", 2))
    machine.turn()
    machine.kill()
    machine.boot(off_ms=2 * DAY_MS)
    began_ms = machine.true_ms
    machine.wait(30)
    machine.set_clock()
    machine.look()
    first, second = machine.points()[1:]
    assert first == {"at": began_ms - 20_000, "value": 1, "from": right_ms + 10_000}
    assert second == {"at": began_ms, "value": 2, "from": right_ms + 30_000}
    assert first["from"] <= taken_ms <= first["at"]


def test_without_any_right_time_before_the_build_is_the_bound(machine: Machine) -> None:
    """A device that never knew the time: its readings are not older than its software."""
    machine.wait(5)
    machine.publish(Event("t", 1, from_ms=None))
    machine.turn()
    machine.kill()
    machine.boot(off_ms=1000)
    began_ms = machine.true_ms
    machine.set_clock()
    machine.look()
    assert machine.points() == [{"at": began_ms, "value": 1, "from": BUILT_MS + 5000}]


def test_a_moment_of_a_forgotten_start_has_the_widest_bounds(machine: Machine) -> None:
    """The file may be lost while kept values of an earlier start are not: they were not after the
    present start."""
    machine.publish(Event("t", 1, taken=Moment("a boot nobody knows", 99)))
    machine.turn()
    assert machine.connector.payloads == []
    machine.set_clock()
    machine.look()
    machine.publish(Event("t", 2, taken=Moment("a boot nobody knows", 99)))
    machine.turn()
    at = {"at": machine.booted_ms, "from": BUILT_MS}
    assert machine.points() == [{**at, "value": 1}, {**at, "value": 2}]


def test_a_kept_value_has_the_time_at_which_it_was_taken(machine: Machine) -> None:
    """A value that was taken while the clock was wrong, and published when it is right, has the
    time at which it was taken."""
    machine.wait(3)
    taken = machine.dating.moment()
    taken_ms = machine.true_ms
    machine.wait(50)
    machine.set_clock()
    machine.look()
    machine.publish(Event("t", 1, taken=taken))
    machine.publish([Event("t", 2, taken=taken), Event("t", 3)])
    machine.turn()
    assert [(point["at"], point["value"]) for point in machine.points()] == [
        (taken_ms, 1),
        (taken_ms, 2),
        (machine.true_ms, 3),
    ]


def test_a_clock_that_goes_wrong_again(machine: Machine) -> None:
    """A clock that is set back to 1970 while the agent runs: readings are kept again, and have the
    right time once the clock is right."""
    machine.set_clock()
    machine.publish(Event("t", 0))
    machine.look()
    machine.wall_offset_ms = -machine.true_ms
    machine.wait(1)
    told = [machine.publish(Event("t", 1)), machine.publish([Event("t", 2), Event("t", 3)])]
    taken_ms = machine.true_ms
    machine.turn()
    assert all(has_fired(one) for one in told)
    assert machine.connector.values() == [0]
    machine.wait(10)
    machine.set_clock()
    machine.look()
    assert [point["at"] for point in machine.points()[1:]] == [taken_ms] * 3


def test_the_first_synchronisation_counts(machine: Machine) -> None:
    """With timeSync=true a year that may be right is not enough: a clock that was restored from a
    file (fake-hwclock) is behind. After the first synchronisation it is believed whatever the
    kernel says then."""
    machine.kill()
    states = [False]
    machine.wall_offset_ms = -DAY_MS
    machine.life(must_sync=lambda: True, is_synchronised=lambda: states[-1])
    machine.wait(2)
    machine.publish(Event("t", 1))
    taken_ms = machine.true_ms
    machine.wait(5)
    assert machine.connector.payloads == []
    machine.set_clock()
    machine.wait(2)
    assert machine.connector.payloads == []
    states.append(True)
    machine.wait(2)
    machine.turn()
    states.append(False)
    machine.wait(2)
    machine.publish(Event("t", 2))
    machine.turn()
    assert machine.points() == [
        {"at": taken_ms, "value": 1},
        {"at": machine.true_ms, "value": 2},
    ]


def test_the_platform_may_set_the_clock(machine: Machine) -> None:
    """A clock that the platform has set counts as synchronised: the kernel says that it is not."""
    machine.kill()
    machine.wall_offset_ms = -DAY_MS
    machine.life(must_sync=lambda: True, is_synchronised=lambda: False)
    machine.publish(Event("t", 1))
    machine.set_clock()
    machine.dating.clock_was_set()
    machine.look()
    assert machine.connector.values() == [1]


def test_where_nobody_can_tell_the_year_counts(machine: Machine) -> None:
    """A filter of system calls hides the kernel's state: then the year alone decides, and the log
    says so once."""
    machine.kill()
    machine.life(must_sync=lambda: True, is_synchronised=lambda: None)
    machine.publish(Event("t", 1))
    machine.look()
    assert machine.connector.payloads == []
    machine.set_clock()
    machine.look()
    assert machine.connector.values() == [1]


def test_readings_that_waited_go_out_in_the_complete_form(machine: Machine) -> None:
    """The reduced form has no time of its own: the platform would date it at its arrival."""
    machine.kill()
    machine.life(reduced=True)
    machine.publish(Event("t", 1))
    machine.turn()
    machine.set_clock()
    machine.look()
    assert machine.connector.fresh == [None]


def test_lines_of_the_configuration_collect_nothing_twice(machine: Machine) -> None:
    """A reading that has waited for its time does not wait for a line of the configuration too."""
    machine.kill()
    line = Schedule(datastream_id="t", first_s=3600, period_s=3600)
    machine.life(schedules=(line,))
    told = machine.publish(Event("t", 1))
    machine.turn()
    assert has_fired(told)
    machine.set_clock()
    machine.look()
    assert machine.connector.values() == [1]


def test_the_device_id_may_come_later(machine: Machine) -> None:
    """Readings are on disk before the device's id is known, and wait for it after."""
    machine.kill()
    machine.life(host_id=None)
    told = machine.publish(Event("t", 1))
    machine.turn()
    assert has_fired(told)
    machine.set_clock()
    machine.look()
    assert machine.connector.payloads == []
    machine.dispatcher.set_host_id("dev-2")
    machine.look()
    assert machine.connector.documents()[0]["device"] == "dev-2"


def test_the_oldest_are_dropped_and_counted(machine: Machine) -> None:
    """The file is bounded: beyond it the oldest readings go, and each is counted."""
    machine.kill()
    machine.life(max_bytes=2_000)
    told: list[Deferred[None]] = []
    for value in range(100):
        told.append(machine.publish(Event("t", value)))
        machine.turn()
    assert all(has_fired(one) for one in told)
    lost = machine.counters.counts["events_undated_lost"]
    assert lost > 50
    machine.set_clock()
    machine.look()
    assert machine.connector.values() == list(range(lost, 100))


def test_new_ones_are_refused_where_the_policy_says_so(machine: Machine) -> None:
    """With outboxPolicy=refuse nothing that was accepted is dropped."""
    machine.kill()
    machine.life(max_bytes=1_000, refuses=True)
    told: list[Deferred[None]] = []
    for value in range(50):
        told.append(machine.publish(Event("t", value)))
        machine.turn()
    failures = [failure_of(one) for one in told]
    accepted = list(range(failures.index(OutboxFull)))
    assert failures == [None] * len(accepted) + [OutboxFull] * (50 - len(accepted))
    machine.set_clock()
    machine.look()
    assert machine.connector.values() == accepted
    assert machine.counters.counts["events_refused"] == 50 - len(accepted)


def test_a_disk_that_fails_holds_up_the_acceptance(machine: Machine, tmp_path: Path) -> None:
    """While the file can't be written nothing is accepted, and nothing is lost: readings wait in
    memory, bounded, and are accepted once the disk works or the outbox has them."""
    machine.kill()
    place = tmp_path / "no directory"
    place.write_text("")
    machine.path = place / "undated.sqlite"
    machine.life()
    told = machine.publish(Event("t", 1))
    machine.wait(5)
    assert not has_fired(told)
    place.unlink()
    machine.wait(2)
    assert has_fired(told)
    assert machine.path.exists()


def test_a_disk_that_fails_for_ever(machine: Machine, tmp_path: Path, monkeypatch: Any) -> None:
    """Readings that only memory has go to the outbox once the clock is right; more than memory may
    hold are refused."""
    machine.kill()
    monkeypatch.setattr(module, "MAX_UNWRITTEN", 3)
    place = tmp_path / "no directory"
    place.write_text("")
    machine.path = place / "undated.sqlite"
    machine.life()
    told = [machine.publish(Event("t", value)) for value in range(5)]
    machine.wait(5)
    assert [has_fired(one) for one in told] == [False] * 3 + [True] * 2
    assert [failure_of(one) for one in told[3:]] == [OutboxFull] * 2
    machine.set_clock()
    machine.look()
    assert machine.connector.values() == [0, 1, 2]
    assert [failure_of(one) for one in told[:3]] == [None] * 3


def test_a_full_disk_holds_up_the_acceptance(machine: Machine) -> None:
    """A commit that fails accepts nothing, and is tried again until there is room."""
    machine.publish(Event("t", 0))
    machine.turn()
    assert machine.undated._file is not None
    machine.undated._file._db.execute("PRAGMA max_page_count = 1")  # no page more than now
    told = machine.publish(Event("t", "x" * 100_000))
    machine.wait(3)
    assert not has_fired(told)
    assert len(machine.undated) == 2
    machine.undated._file._db.execute("PRAGMA max_page_count = 100000")
    machine.wait(2)
    assert has_fired(told)
    assert machine.connector.payloads == []


def test_an_outbox_that_is_full_is_asked_again(machine: Machine) -> None:
    """What the outbox does not accept stays in the file, and is handed over again."""
    machine.publish(Event("t", 1))
    machine.turn()
    machine.set_clock()
    machine.connector.full = True
    machine.wait(5)
    assert len(machine.undated) == 1
    machine.connector.full = False
    machine.look()
    assert machine.connector.values() == [1]
    assert len(machine.undated) == 0


def test_what_fits_in_no_message_does_not_block_the_others(machine: Machine) -> None:
    """A reading that can't be sent at all is counted and left out."""
    machine.kill()
    machine.life(max_message_bytes=300)
    machine.publish([Event("t", 1), Event("t", "x" * 500), Event("t", 2)])
    machine.turn()
    machine.set_clock()
    machine.look()
    assert machine.connector.values() == [1, 2]
    assert machine.counters.counts["events_rejected"] == 1
    assert len(machine.undated) == 0


def test_a_stop_leaves_them_for_the_next_start(machine: Machine) -> None:
    """A stop in good order keeps what is on disk, leaves no timer and refuses what comes later."""
    told = machine.publish(Event("t", 1))
    stopped = machine.dispatcher.stop()
    assert has_fired(told)
    assert has_fired(stopped)
    assert failure_of(machine.publish(Event("t", 2))) is OutboxClosed
    assert machine.clock.getDelayedCalls() == []
    machine.life()
    machine.set_clock()
    machine.look()
    assert machine.connector.values() == [1]


def test_a_damaged_file_is_set_aside_and_what_can_be_read_is_saved(machine: Machine) -> None:
    """A row that was changed on the disk is lost and counted; the others are sent."""
    for value in range(3):
        machine.publish(Event("t", value))
        machine.turn()
    machine.kill()
    assert machine.path is not None
    with sqlite3.connect(machine.path) as database:
        database.execute("UPDATE event SET body = x'00' WHERE id = 2")
    database.close()
    machine.life()
    machine.set_clock()
    machine.look()
    machine.look()
    assert machine.connector.values() == [0, 2]
    assert machine.counters.counts["events_undated_lost"] == 1
    assert machine.path.with_name(f"{machine.path.name}.damaged").exists()


def test_a_file_that_is_none_is_set_aside(machine: Machine) -> None:
    """Rubbish at the path keeps no reading from being kept."""
    machine.kill()
    assert machine.path is not None
    machine.path.write_bytes(b"rubbish" * 1000)
    machine.life()
    told = machine.publish(Event("t", 1))
    machine.turn()
    assert has_fired(told)
    machine.set_clock()
    machine.look()
    assert machine.connector.values() == [1]


def test_the_file_follows_the_outbox(machine: Machine, tmp_path: Path) -> None:
    """Where the outbox is moved, what waits for the right time goes along."""
    machine.publish(Event("t", 1))
    machine.turn()
    old, machine.path = machine.path, tmp_path / "elsewhere" / "undated.sqlite"
    machine.undated.move(machine.path)
    assert old is not None
    assert not old.exists()
    machine.publish(Event("t", 2))
    machine.turn()
    machine.kill()
    machine.life()
    machine.set_clock()
    machine.look()
    assert machine.connector.values() == [1, 2]


def test_a_file_that_is_deleted_is_written_anew(machine: Machine) -> None:
    """A file without a name is lost with the process: nothing is told accepted that is only in
    one."""
    machine.publish(Event("t", 1))
    machine.turn()
    assert machine.path is not None
    for suffix in ("", "-wal", "-shm"):
        machine.path.with_name(machine.path.name + suffix).unlink()
    told = machine.publish(Event("t", 2))
    machine.turn()
    assert has_fired(told)
    machine.kill()
    machine.life()
    machine.set_clock()
    machine.look()
    assert machine.connector.values() == [1, 2]


def test_the_file_is_private(machine: Machine) -> None:
    """It holds what passes through the device."""
    machine.publish(Event("t", 1))
    machine.turn()
    assert machine.path is not None
    assert machine.path.stat().st_mode & 0o077 == 0


def test_one_large_list_is_taken(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound of what memory holds refuses no list that the disk takes."""
    monkeypatch.setattr(module, "MAX_UNWRITTEN", 3)
    told = machine.publish([Event("t", value) for value in range(5)])
    machine.turn()
    assert failure_of(told) is None


def test_memory_only_is_told(tmp_path: Path) -> None:
    """With outbox=memory the end of the process loses what waits, and counts it."""
    machine = Machine(None)
    machine.publish(Event("t", 1))
    machine.turn()
    machine.dispatcher.stop()
    assert machine.counters.counts["events_undated_lost"] == 1


def test_many_pages(machine: Machine) -> None:
    """More than one page of readings leaves in order, without recursion."""
    machine.publish([Event("t", value) for value in range(9_999)])
    machine.turn()
    machine.set_clock()
    machine.look()
    assert machine.connector.values() == list(range(9_999))


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 3)),
        st.tuples(st.just("wait"), st.integers(1, 5000)),
        st.sampled_from(
            [
                ("turn", 0),
                ("kill", 0),
                ("stop", 0),
                ("boot", 0),
                ("boot", DAY_MS),
                ("right", 0),
                ("wrong", 0),
                ("hold", 0),
                ("accept", 0),
                ("full", 0),
                ("room", 0),
            ]
        ),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(ACTIONS)
def test_whatever_happens(tmp_path_factory: pytest.TempPathFactory, actions: Any) -> None:
    """Whatever happens in whatever order: each accepted reading arrives at last, in order, with a
    time that is right or bounds that hold; one that is sent again has the same time."""
    machine = Machine(tmp_path_factory.mktemp("machine") / "undated.sqlite")
    truth: dict[int, int] = {}
    accepted: list[int] = []
    for action, amount in [*actions, ("room", 0), ("right", 0), ("accept", 0)]:
        if action == "publish":
            for _ in range(amount):
                number = len(truth)
                truth[number] = machine.true_ms
                machine.publish(Event("t", {"n": number, "pad": "x" * 3000})).addCallbacks(
                    lambda _, number=number: accepted.append(number), lambda _: None
                )
        elif action == "wait":
            machine.wait(amount / 100)
        elif action == "turn":
            machine.turn()
        elif action == "kill":
            machine.connector.waiting.clear()
            machine.kill()
            machine.life()
        elif action == "stop":
            machine.dispatcher.stop()
            machine.connector.waiting.clear()
            machine.kill()
            machine.life()
        elif action == "boot":
            machine.connector.waiting.clear()
            machine.kill()
            machine.boot(amount)
        elif action == "right":
            machine.set_clock()
        elif action == "wrong":
            machine.wall_offset_ms = -machine.true_ms
            machine.wait(0)
        elif action in ("full", "room"):
            # As a disk without room: commits fail with SQLITE_FULL.
            if machine.undated._file is not None:
                most = 1 if action == "full" else 1 << 20
                machine.undated._file._db.execute(f"PRAGMA max_page_count = {most}")
        elif action == "hold":
            machine.connector.hold = True
        else:
            machine.connector.hold = False
            waiting, machine.connector.waiting = machine.connector.waiting, []
            for one in waiting:
                one.callback(1)
    for _ in range(5):
        machine.look()
    assert len(machine.undated) == 0
    points = machine.points()
    seen: dict[int, tuple[Any, Any]] = {}
    for point in points:
        number, at, since = point["value"]["n"], point["at"], point.get("from")
        assert seen.setdefault(number, (at, since)) == (at, since), "sent with another time"
        if since is None:
            assert at == truth[number]
        else:
            assert since <= truth[number] <= at
    assert set(accepted) <= set(seen), "an accepted reading is lost"
    firsts = list(seen)
    assert firsts == sorted(firsts), "out of order"
    machine.kill()
