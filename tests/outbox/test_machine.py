"""The durable outbox against a simple model: lists of rows, and what became of each.

Steps are what happens to an agent: messages, commits that take their time or fail, sending,
acknowledgement, broken connections, dead letters, time, stops and crashes.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from twisted.internet.defer import Deferred

from oda.model import MessageClass
from oda.outbox.clock import MAX_REPEATS
from oda.outbox.committer import State
from oda.settings import OutboxSync
from tests.outbox.fakes import Device, StepWorker, disk_full, quick_directory

LINGER_S = 10.0


class Message(msgspec.Struct):
    """A message as the model knows it."""

    row_id: int
    payload: bytes
    is_response: bool
    datapoints: int
    put: Any = None
    is_accepted: bool = False
    is_only_proven: bool = False  # accepted because the platform has it, perhaps not on disk
    state: str = "waiting"
    expires_s: float = 0.0
    attempts: int = 0
    lives: set[int] = msgspec.field(default_factory=set)  # in which it was acknowledged
    acknowledged_s: float = 0.0  # the first time: the disk may know of no later one
    is_owed: bool = False  # the disk knows that it has to be sent (again)


class OutboxMachine(RuleBasedStateMachine):
    """Rows in the model are sorted by id; ``sent`` is the order on the wire of this connection."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = quick_directory()
        self.rows: dict[int, Message] = {}
        self.sent: list[int] = []
        self.gone: dict[int, Message] = {}
        self.count = 0
        self.life = 0

    @initialize(head_rows=st.sampled_from([1, 3, 8]))
    def begin(self, head_rows: int) -> None:
        self.device = Device(
            self.directory / "0.sqlite",
            StepWorker,
            head_rows=head_rows,
            linger_s=LINGER_S,
            sync=OutboxSync.NORMAL,  # a crash here loses no power; it saves time
        )

    def teardown(self) -> None:
        if hasattr(self, "device"):
            self.settle_all()
            self.device.stop()
        shutil.rmtree(self.directory)

    # -- the way in --------------------------------------------------------------------------

    @rule(count=st.integers(1, 6), is_response=st.booleans(), datapoints=st.integers(0, 5))
    def put(self, count: int, is_response: bool, datapoints: int) -> None:
        for _ in range(count):
            self.count += 1
            payload = b"message %d " % self.count * (1 + self.count % 3)
            put = self.device.put(payload, is_response, datapoints)
            row_id = self.device.last_id(is_response)
            message = Message(row_id, payload, is_response, datapoints, put)
            assert row_id not in self.rows, "an id was used twice"
            self.gone.pop(row_id, None)  # the disk never had it
            assert not put.called, "accepted before it was committed"
            put.addCallback(self._was_accepted, message)
            self.rows[row_id] = message

    def _was_accepted(self, row_id: int, message: Message) -> None:
        assert row_id == message.row_id
        message.is_accepted = True

    @rule()
    def turn(self) -> None:
        self.device.turn()

    @precondition(lambda self: self.device.worker.jobs)
    @rule()
    def commit(self) -> None:
        self.device.worker.step()

    @precondition(lambda self: self.device.worker.jobs)
    @rule()
    def fail(self) -> None:
        waiting = [message for message in self.rows.values() if not message.is_accepted]
        self.device.worker.fail(disk_full())
        assert self.device.outbox.state is State.TROUBLE
        for message in waiting:
            # The platform had read it while the commit was under way.
            message.is_only_proven = message.is_only_proven or message.is_accepted

    # -- the way out -------------------------------------------------------------------------

    @rule(count=st.integers(1, 20), size=st.sampled_from([0, 50, 100_000]))
    def take(self, count: int, size: int) -> None:
        self._taken(self.device.take(count, size), count, size, tuple(MessageClass))

    @rule()
    def take_a_response(self) -> None:
        rows = self.device.outbox.take(1, 0, MessageClass.RESPONSE)
        self._taken(rows, 1, 0, (MessageClass.RESPONSE,))

    def _taken(self, rows: Any, count: int, size: int, classes: tuple[MessageClass, ...]) -> None:
        left = size - sum(len(row.payload) for row in rows)
        assert len(rows) <= count
        assert left >= 0 or len(rows) == 1
        expected = {one: self.pending(one) for one in classes}
        for row in rows:
            # In order within the class; how the classes are mixed is another test's matter.
            message = expected[row.message_class].pop(0)
            assert row.row_id == message.row_id
            message.state = "in flight"
            message.attempts += 1
            self.sent.append(row.row_id)
            assert row.payload == message.payload
            assert row.datapoints == message.datapoints
            assert row.attempts >= 1
            assert (row.attempts > 1) == (message.attempts > 1)
        for messages in expected.values():
            if messages and len(rows) < count:
                assert rows, "something waits and nothing was given"
                assert len(messages[0].payload) > left, "there was room for more"

    def pending(self, message_class: MessageClass) -> list[Message]:
        is_response = message_class is MessageClass.RESPONSE
        rows = sorted(self.rows.values(), key=lambda one: one.row_id)
        return [one for one in rows if one.state == "waiting" and one.is_response == is_response]

    @precondition(lambda self: self.sent)
    @rule(share=st.floats(0, 1))
    def acknowledge(self, share: float) -> None:
        count = max(1, round(share * len(self.sent)))
        acknowledged, self.sent = self.sent[:count], self.sent[count:]
        in_trouble = self.device.outbox.state is State.TROUBLE
        self.device.outbox.retire(acknowledged)
        if in_trouble:
            self.device.turn()
        for row_id in acknowledged:
            message = self.rows[row_id]
            message.state = "lingering"
            message.is_owed = False
            if not message.lives:
                message.acknowledged_s = self.device.clock.seconds()
            message.lives.add(self.life)
            message.expires_s = self.device.clock.seconds() + LINGER_S
            if in_trouble:
                message.is_only_proven = True
                assert message.is_accepted, "the platform has it, and nobody was told"

    @rule(replay=st.booleans())
    def lose_the_connection(self, replay: bool) -> None:
        self._forget()
        self.device.outbox.rewind(replay)
        self.sent.clear()
        for message in self.rows.values():
            if message.state == "in flight" or (message.state == "lingering" and replay):
                message.state = "waiting"

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 10))
    def bury(self, which: int) -> None:
        row_id = self.sent.pop(which % len(self.sent))
        self.device.outbox.bury([row_id], "refused three times")
        self.rows[row_id].state = "dead"
        self.gone[row_id] = self.rows.pop(row_id)

    @rule(seconds=st.sampled_from([0.3, 1.0, 4.0, 12.0]))
    def wait(self, seconds: float) -> None:
        self.device.clock.pump([0.3] * round(seconds / 0.3))
        self._forget()

    def _forget(self) -> None:
        """A row may linger a little longer than it has to: up to the next tick."""
        for row_id, message in list(self.rows.items()):
            if message.state == "lingering" and message.expires_s <= self.device.clock.seconds():
                self.gone[row_id] = self.rows.pop(row_id)
        for backlog in self.device.outbox.backlogs.values():
            backlog.expire(self.device.clock.seconds())

    # -- the process -------------------------------------------------------------------------

    def settle_all(self) -> None:
        """Let the disk work until everything is written."""
        self.device.turn()
        for _ in range(3):
            self.device.worker.finish()
            self.device.outbox.check_disk()
        assert self.device.outbox.counts()["uncommitted_bytes"] == 0
        for message in self.rows.values():
            message.is_owed = message.state != "lingering"

    @rule(off_s=st.sampled_from([0.0, 0.0, 12.0]), is_off=st.booleans())
    def restart(self, off_s: float, is_off: bool) -> None:
        """A stop in good order: nothing is lost, nothing comes back."""
        self.settle_all()
        self._forget()
        self.settle_all()
        before = self.device.outbox.totals()
        self.device.stop()
        for message in self.rows.values():
            assert message.is_accepted
            message.is_only_proven = False
        self._be_off(off_s, is_off)
        self.device.start()
        assert self.device.outbox.totals().last_ids == before.last_ids
        self.gone = {}  # a stop in good order has committed every deletion
        self._begin_life()

    @rule(off_s=st.sampled_from([0.0, 0.0, 12.0]), is_off=st.booleans())
    def crash(self, off_s: float, is_off: bool) -> None:
        """What was accepted and not acknowledged is there, unaltered and in order; what was let go
        may come again if its deletion was not committed; nothing else is there."""
        self._forget()
        self.device.crash(lambda _: self._be_off(off_s, is_off))
        self._begin_life()

    @rule(off_s=st.sampled_from([0.0, 0.0, 12.0]), share=st.floats(0, 1))
    def crash_loop(self, off_s: float, share: float) -> None:
        """A short life that gets so far as to have some acknowledged, and to say so on disk."""
        self.crash(0.0, False)
        self.take(20, 100_000)
        if self.sent:
            self.acknowledge(share)
        self.wait(1.0)
        self.settle_all()
        self.crash(off_s, False)

    def _be_off(self, off_s: float, is_off: bool) -> None:
        self.device.clock.advance(off_s)
        if is_off:
            self.device.boot_id += "+"

    def _begin_life(self) -> None:
        now_s = self.device.clock.seconds()
        self.life += 1
        found = self.device.take_all()
        self.device.outbox.rewind(False)
        known = {**self.rows, **self.gone}
        for row in found:
            assert row.payload == known[row.row_id].payload
        for is_response in (True, False):
            ids = [
                row.row_id
                for row in found
                if (row.message_class is MessageClass.RESPONSE) == is_response
            ]
            assert ids == sorted(set(ids))
        kept = {row.row_id for row in found}
        resting = {
            row_id: batch.expires_s
            for backlog in self.device.outbox.backlogs.values()
            for batch in backlog.queue.lingering
            for row_id in range(batch.low, batch.high + 1)
            if row_id in known
        }
        for message in self.rows.values():
            if message.row_id in kept or not message.is_accepted or message.is_only_proven:
                continue
            assert message.lives, "it was never acknowledged and is not sent any more"
            assert not message.is_owed or len(message.lives) > MAX_REPEATS
            if message.row_id in resting:
                assert len(message.lives) > MAX_REPEATS
            else:
                assert message.acknowledged_s + LINGER_S <= now_s
        stored = {kept_id for kept_id in known if kept_id in kept or kept_id in resting}
        self.rows = {row_id: known[row_id] for row_id in sorted(stored)}
        for message in self.rows.values():
            is_resting = message.row_id in resting
            message.state = "lingering" if is_resting else "waiting"
            message.expires_s = resting.get(message.row_id, 0.0)
            message.attempts = 1
            message.is_accepted = True
            message.is_only_proven = False
            message.is_owed = False
        # This life does not know them any more, but their deletion is not committed: after another
        # crash they may be there again (the machine was off, and nobody knows for how long).
        self.gone = {row_id: one for row_id, one in known.items() if row_id not in stored}
        self.sent.clear()

    # -- always ------------------------------------------------------------------------------

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "device"):
            return
        states = [message.state for message in self.rows.values()]
        counts = self.device.outbox.counts()
        assert counts["waiting"] == states.count("waiting")
        assert counts["in_flight"] == states.count("in flight")
        assert counts["lingering"] == states.count("lingering")

    @invariant()
    def every_datapoint_is_accounted_for(self) -> None:
        if not hasattr(self, "device"):
            return
        self.device.outbox.check_invariants()
        totals = self.device.outbox.totals()
        for field in ("messages", "datapoints"):
            stored = "rows" if field == "messages" else field
            assert getattr(totals.accepted, field) == (
                getattr(totals.delivered, field)
                + getattr(totals.dropped, field)
                + getattr(totals.dead, field)
                + sum(getattr(one, stored) for one in totals.stored.values())
            )
        assert totals.stored["telemetry"].datapoints == sum(
            message.datapoints for message in self.rows.values() if not message.is_response
        )
        assert totals.dropped.messages == 0

    @invariant()
    def nothing_fails(self) -> None:
        for message in self.rows.values():
            put: Deferred[int] | None = message.put
            assert put is None or put.called == message.is_accepted or message.is_accepted


TestOutbox = OutboxMachine.TestCase
TestOutbox.settings = settings(
    max_examples=int(os.environ.get("ODA_OUTBOX_EXAMPLES", "60")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
