"""The age clock and the ids, by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.task import Clock

from oda.model import MessageClass
from oda.outbox.clock import FIRST_IDS, OutboxClock, Uptime, this_machine
from oda.outbox.transaction import ANSWER, TELEMETRY, Totals
from tests.outbox.fakes import START_MS, FakeWallClock

#: 2020-01-01T00:00:00Z
BELIEVABLE_MS = 1_577_836_800_000


class Bench:
    def __init__(self, wall_ms: int = START_MS, boot_id: str = "a boot") -> None:
        self.reactor = Clock()
        self.reactor.advance(50.0)
        self.wall = FakeWallClock(self.reactor, wall_ms - 50_000)
        self.clock = OutboxClock(
            self.reactor, self.wall, Uptime(boot_id, lambda: self.reactor.seconds() + 1000)
        )


def totals_of(clock_ms: int = 0, wall_ms: int = 0, telemetry: int = 0, answer: int = 0) -> Totals:
    totals = Totals(clock_ms=clock_ms, wall_ms=wall_ms)
    totals.last_ids = {"telemetry": telemetry, "response": answer}
    return totals


def test_the_classes_have_ids_of_their_own() -> None:
    """An id tells its class; the distance is more than any device sends."""
    assert FIRST_IDS == {TELEMETRY: 1, ANSWER: 10**15 + 1}


def test_ages_follow_the_monotonic_clock() -> None:
    """It begins at the time of day; a step of that, forward or back, changes nothing."""
    bench = Bench()
    assert bench.clock.now_ms() == START_MS
    bench.reactor.advance(1.5)
    for step_ms in (10**12, -(10**12)):
        bench.wall.start_ms += step_ms
        assert bench.clock.now_ms() == START_MS + 1500


@pytest.mark.parametrize(
    ("clock_ms", "before_ms", "off_ms", "expected_ms"),
    [
        (7000, START_MS, 60_000, 67_000),
        (7000, START_MS, 0, 7000),
        (7000, START_MS, -1, 7000),
        (7000, BELIEVABLE_MS, 60_000, 67_000),
        (7000, BELIEVABLE_MS - 1, 60_000, 7000),
        (0, START_MS, 60_000, START_MS + 60_000),
    ],
)
def test_the_time_off_counts_where_the_time_of_day_can_be_believed(
    clock_ms: int, before_ms: int, off_ms: int, expected_ms: int
) -> None:
    """Before and after; and never backwards. A store that was never used has no reading."""
    bench = Bench(before_ms + off_ms)
    bench.reactor.advance(0.25)
    bench.wall.start_ms -= 250
    bench.clock.go_on_from(totals_of(clock_ms, before_ms))
    assert bench.clock.now_ms() == expected_ms + (250 if not clock_ms else 0)
    bench.reactor.advance(1.0)
    assert bench.clock.now_ms() == expected_ms + 1000 + (250 if not clock_ms else 0)


def test_ids_go_on_after_the_last_one() -> None:
    """Of each class; those of a new store begin at the first."""
    bench = Bench()
    assert bench.clock.next_ids == FIRST_IDS
    bench.clock.go_on_from(totals_of(telemetry=7, answer=10**15 + 9))
    assert bench.clock.next_ids == {TELEMETRY: 8, ANSWER: 10**15 + 10}
    bench.clock.go_on_from(totals_of())
    assert bench.clock.next_ids == FIRST_IDS


@pytest.mark.parametrize(("wall_ms", "seconds"), [(START_MS, START_MS // 1000), (0, 1), (-5000, 1)])
def test_without_a_store_ids_are_beyond_those_of_any(wall_ms: int, seconds: int) -> None:
    """So many for each second since 1970 that no store has as many; at least one second's, where
    the device does not know the time."""
    bench = Bench(wall_ms)
    bench.clock.begin_without_store()
    for message_class, first in FIRST_IDS.items():
        assert bench.clock.next_ids[message_class] == first + seconds * 2**18


@pytest.mark.parametrize("message_class", [TELEMETRY, ANSWER])
def test_a_late_store_joins_where_all_its_rows_are_older(message_class: MessageClass) -> None:
    """Than the first id that was given since, in each class, however many were given."""
    bench = Bench()
    bench.clock.begin_without_store()
    first = bench.clock.next_ids[message_class]
    bench.clock.next_ids[message_class] += 100
    totals = totals_of()
    assert bench.clock.can_join(totals)
    totals.last_ids[message_class.value] = first - 1
    assert bench.clock.can_join(totals)
    totals.last_ids[message_class.value] = first
    assert not bench.clock.can_join(totals)


def test_the_next_process_goes_on_from_what_was_said() -> None:
    """Ids, both clocks, and the uptime of this start of the machine."""
    bench = Bench()
    bench.clock.next_ids[TELEMETRY] = 8
    bench.reactor.advance(2.0)
    totals = Totals()
    bench.clock.enter_into(totals)
    assert totals.last_ids == {"telemetry": 7, "response": 10**15}
    assert totals.clock_ms == totals.wall_ms == START_MS + 2000
    assert (totals.boot_id, totals.uptime_ms) == ("a boot", 1_052_000)
    bench.reactor.advance(3.0)
    assert bench.clock.off_ms(totals) == 3000


@pytest.mark.parametrize(
    ("boot_id", "earlier", "uptime_ms", "expected"),
    [
        ("a", "a", 2000, 3000),
        ("a", "a", 6000, 0),
        ("a", "b", 2000, 0),
        ("", "", 2000, 0),
        ("a", "", 2000, 0),
    ],
)
def test_only_one_start_of_the_machine_is_compared(
    boot_id: str, earlier: str, uptime_ms: int, expected: int
) -> None:
    """Nobody knows how long a machine was off; a reading of the future is none."""
    assert Uptime(boot_id, lambda: 5.0).since_ms(earlier, uptime_ms) == expected


def test_this_machine_may_have_no_name(tmp_path: Path) -> None:
    """Only Linux names its starts."""
    name = tmp_path / "boot_id"
    assert this_machine(name).boot_id == ""
    name.write_text("6e-4f\n")
    assert this_machine(name).boot_id == "6e-4f"
    name.write_bytes(b"\xff")
    assert this_machine(name).boot_id == ""
    assert this_machine(name).now_ms() > 0
