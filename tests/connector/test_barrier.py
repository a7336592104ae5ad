"""The acknowledgement barrier, against a platform that may answer what it likes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from oda.connector.acknowledgement import EPOCH_BYTES, AckBarrier, Pong

EPOCH = b"epoch-01"


#: What a ping of this epoch begins with.
PREFIX = b"ODA1-ZXBvY2gtMDE-"


def test_the_payload_says_whose_ping_it_is() -> None:
    """A ping holds magic, epoch and number, below the 125 bytes of RFC 6455."""
    barrier = AckBarrier(EPOCH)
    barrier.sent = 258
    assert barrier.ping() == PREFIX + b"258"


@given(st.binary(min_size=EPOCH_BYTES, max_size=EPOCH_BYTES), st.integers(0, 2**64 - 1))
def test_the_payload_is_printable_ascii(epoch: bytes, sent: int) -> None:
    """Servers exist that take a ping's payload for a text, and drop the connection when it is
    none."""
    barrier = AckBarrier(epoch)
    barrier.sent = sent
    payload = barrier.ping()
    assert payload.isascii()
    assert payload.decode().isprintable()
    assert len(payload) <= 125


def test_a_pong_proves_what_was_sent_before_its_ping() -> None:
    """Messages sent after the ping are not proven by its pong."""
    barrier = AckBarrier(EPOCH)
    barrier.sent = 3
    ping = barrier.ping()
    barrier.sent = 5
    assert barrier.pong_received(ping) is Pong.MATCHES
    assert barrier.acknowledged == 3
    assert barrier.unproven == 2


def test_pings_that_cover_the_same_are_not_outstanding_together() -> None:
    """Their pongs could not be told apart."""
    barrier = AckBarrier(EPOCH)
    barrier.ping()
    with pytest.raises(RuntimeError):
        barrier.ping()
    barrier.sent = 1
    barrier.ping()
    assert barrier.outstanding == 2


def test_a_pong_answers_all_pings_before_its_own() -> None:
    """A peer may answer only the newest (RFC 6455, section 5.5.3); what an older pong proves does
    not touch a newer ping."""
    barrier = AckBarrier(EPOCH)
    pings = []
    for now_s, sent in enumerate((2, 5, 9)):
        barrier.sent = sent
        pings.append(barrier.ping(float(now_s)))
    assert barrier.pong_received(pings[1]) is Pong.MATCHES
    assert (barrier.acknowledged, barrier.outstanding, barrier.ping_sent_s) == (5, 1, 1.0)
    assert barrier.pong_received(pings[0]) is Pong.FOREIGN
    assert barrier.acknowledged == 5
    assert barrier.pong_received(pings[2]) is Pong.MATCHES
    assert (barrier.acknowledged, barrier.outstanding, barrier.ping_sent_s) == (9, 0, 2.0)


def test_giving_up_keeps_what_the_newest_ping_proves() -> None:
    """It covers what all the others do."""
    barrier = AckBarrier(EPOCH)
    barrier.sent = 2
    first = barrier.ping()
    barrier.sent = 4
    second = barrier.ping()
    barrier.abandon()
    assert barrier.outstanding == 0
    assert barrier.pong_received(first) is Pong.FOREIGN
    assert barrier.pong_received(second) is Pong.LATE
    assert barrier.acknowledged == 4


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"x",
        b"ODA1-ZXBvY2gtMDA-3",
        PREFIX + b"2",
        PREFIX + b"4",
        PREFIX + b"3x",
        PREFIX + b"03",
        PREFIX,
    ],
)
def test_a_foreign_pong_proves_nothing(payload: bytes) -> None:
    """Empty, unsolicited, mangled pongs and those of another connection acknowledge nothing."""
    barrier = AckBarrier(EPOCH)
    barrier.sent = 3
    barrier.ping()
    assert barrier.pong_received(payload) is Pong.FOREIGN
    assert barrier.acknowledged == 0
    assert barrier.is_outstanding


def test_a_pong_counts_once() -> None:
    """The same pong again is a foreign one."""
    barrier = AckBarrier(EPOCH)
    ping = barrier.ping()
    assert barrier.pong_received(ping) is Pong.MATCHES
    assert barrier.pong_received(ping) is Pong.FOREIGN


def test_a_late_pong_still_proves() -> None:
    """A ping that was given up proves what it covers when its answer comes after all, and leaves
    the next one outstanding."""
    barrier = AckBarrier(EPOCH)
    barrier.sent = 2
    first = barrier.ping()
    barrier.abandon()
    assert not barrier.is_outstanding
    barrier.sent = 4
    second = barrier.ping()
    assert barrier.pong_received(first) is Pong.LATE
    assert barrier.acknowledged == 2
    assert barrier.is_outstanding
    assert barrier.pong_received(second) is Pong.MATCHES
    assert barrier.acknowledged == 4


def test_epoch_has_its_length() -> None:
    """A wrong epoch is a mistake of the caller."""
    with pytest.raises(ValueError, match="8"):
        AckBarrier(b"short")


class BarrierMachine(RuleBasedStateMachine):
    """``covered`` is, for every ping ever sent, how many messages went before it."""

    def __init__(self) -> None:
        super().__init__()
        self.barrier = AckBarrier(EPOCH)
        self.covered: dict[bytes, int] = {}
        self.proven = 0

    @rule(count=st.integers(1, 100))
    def send(self, count: int) -> None:
        self.barrier.sent += count

    @precondition(lambda self: self.barrier.unproven or not self.barrier.is_outstanding)
    @rule()
    def ping(self) -> None:
        payload = self.barrier.ping()
        self.covered[payload] = self.barrier.sent

    @rule()
    def abandon(self) -> None:
        self.barrier.abandon()

    @precondition(lambda self: self.covered)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        payload = data.draw(st.sampled_from(sorted(self.covered)))
        if self.barrier.pong_received(payload) is not Pong.FOREIGN:
            self.proven = max(self.proven, self.covered[payload])

    @rule(payload=st.binary(max_size=125))
    def answer_something_else(self, payload: bytes) -> None:
        if payload not in self.covered:
            assert self.barrier.pong_received(payload) is Pong.FOREIGN

    @invariant()
    def nothing_is_acknowledged_without_proof(self) -> None:
        assert self.barrier.acknowledged == self.proven <= self.barrier.sent
        assert 0 <= self.barrier.unproven <= self.barrier.sent


TestBarrierMachine = BarrierMachine.TestCase
assert len(EPOCH) == EPOCH_BYTES
