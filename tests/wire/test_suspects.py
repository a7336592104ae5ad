"""A message over which the platform closes the connection is found, and the rest goes on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from oda.settings import OutboxSettings
from tests.wire.platform import Peer
from tests.wire.test_delivery import numbered
from tests.wire.world import World

MakeWorld = Callable[..., World]

BAD = b'{"n":"bad"}'


def close_over(bad: bytes, code: int | None) -> Callable[[Peer, bytes], None]:
    """A platform that ends the connection when it reads ``bad``: with ``code``, or None: without a
    close frame."""

    def act(peer: Peer, payload: bytes) -> None:
        if payload != bad:
            return
        if code is None:
            peer.dropConnection(abort=True)
        else:
            peer.sendCloseFrame(code)

    return act


@pytest.mark.parametrize("code", [1009, 1003, 1007, 1008, 1011, 4000, None])
def test_the_culprit_is_set_aside_and_the_rest_arrives(world: World, code: int | None) -> None:
    """One message among many: it alone becomes a dead letter, whatever the close is."""
    world.platform.on_message = close_over(BAD, code)
    sent = [*numbered(40), BAD, *numbered(40, start=40)]
    for payload in sent:
        world.uplink(payload)
    world.start()
    world.pass_time(3600)
    counts = world.outbox.counts()
    assert (counts["dead"], counts["waiting"], counts["in_flight"]) == (1, 0, 0)
    first = list(dict.fromkeys(world.platform.received))
    assert [one for one in first if one != BAD] == numbered(80)
    assert world.log.count("is set aside") == 1
    assert len(world.platform.peers) <= 9


def test_suspects_are_sent_one_at_a_time(world: World) -> None:
    """After a refusal each message that was in flight is acknowledged before the next one is sent;
    what was accepted later follows at full speed."""
    world.platform.on_message = close_over(BAD, 1009)
    for payload in [*numbered(3), BAD, *numbered(3, start=3)]:
        world.uplink(payload)
    world.start()
    world.platform.on_message = None
    world.pass_time(0.01)
    for payload in numbered(20, start=10):
        world.uplink(payload)
    world.pass_time(5)
    peer = world.peer
    assert len(world.platform.peers) == 2
    assert peer.payloads == [*numbered(3), BAD, *numbered(3, start=3), *numbered(20, start=10)]
    assert len(peer.pings) == 1 + 7 + 1  # the probe, one per suspect, one for all the others
    assert world.outbox.counts()["dead"] == 0


def test_a_platform_that_throws_the_device_out_costs_no_message(world: World) -> None:
    """1008 before anything was proven is about the device: here it comes instead of a pong."""
    world.platform.pong = lambda payload: world.peer.sendCloseFrame(1008)
    world.uplink(b'{"n":1}')
    world.start()
    world.pass_time(3600)
    assert world.outbox.counts()["dead"] == 0
    assert world.outbox.counts()["waiting"] == 1


def test_a_flaky_network_costs_no_message(world: World) -> None:
    """Connections that break again and again with messages in flight, but now and then get
    something through: everything arrives, nothing is set aside."""
    world.start()
    for payload in numbered(30):
        world.uplink(payload)
        world.wire.hold(down=False)
        world.uplink(payload + b" ")
        world.wire.reset()
        world.pass_time(120)
    world.pass_time(600)
    assert world.outbox.counts()["dead"] == 0
    first = dict.fromkeys(world.platform.received)
    assert list(first) == [one for payload in numbered(30) for one in (payload, payload + b" ")]


def test_stopping_delivers_what_is_held_behind_a_suspect(world: World) -> None:
    """At a stop the search goes on within the time that draining has."""
    world.platform.on_message = close_over(BAD, 1009)
    for payload in [*numbered(3), BAD, *numbered(3, start=3)]:
        world.uplink(payload)
    world.start()
    world.platform.on_message = None
    world.pass_time(0.51)
    stopped = world.stop()
    world.pass_time(5)
    assert stopped.called
    assert world.platform.received[-7:] == [*numbered(3), BAD, *numbered(3, start=3)]
    assert world.outbox.counts()["waiting"] == 0


@pytest.mark.parametrize("code", [1000, 1011, 1006, 1008, 1009])
@pytest.mark.parametrize("every", [2, 10, 100])
def test_a_platform_that_ends_each_connection_after_some_messages(
    world: World, every: int, code: int
) -> None:
    """Everything arrives in the end, and nothing is set aside unless the code says that it was
    about the message."""

    def act(peer: Peer, payload: bytes) -> None:
        if len(peer.messages) == every:
            if code == 1006:
                peer.dropConnection(abort=True)
            else:
                peer.sendCloseFrame(code)

    world.platform.on_message = act
    for payload in numbered(300):
        world.uplink(payload)
    world.start()
    for _ in range(14 * 24):  # two weeks at most
        world.pass_time(3600)
        counts = world.outbox.counts()
        if counts["waiting"] == counts["in_flight"] == 0:
            break
    first = dict.fromkeys(world.platform.received)
    assert list(first) == numbered(300)
    if code != 1009:
        assert world.outbox.counts()["dead"] == 0


def test_a_suspect_is_not_kept_from_its_pong_by_requests(make_world: MakeWorld) -> None:
    """Where the answers that wait are so many that nothing more is read, and one of them is under
    suspicion, its pong is read all the same: every request gets its answer, on one connection."""
    world = make_world(window=OutboxSettings(max_bytes=4 * 1024 * 1024))
    world.dispatcher.answer = lambda payload: b'{"answer":%s}' % payload
    world.start()
    world.platform.pong = lambda _: None
    answers = [b'{"n":%d}' % number for number in range(3)]
    for payload in answers:
        world.respond(payload)
    world.peer.sendCloseFrame(1008)
    world.settle()
    for number in range(400):
        answers.append(b'{"n":%d,"x":"%s"}' % (3 + number, b"x" * 3000))
        world.respond(answers[-1])
    requests: list[bytes] = []

    def ask_first(ping: bytes) -> bytes:
        requests.append(b"%d" % len(requests))
        world.peer.sendMessage(requests[-1])
        return ping

    world.platform.pong = ask_first
    world.pass_time(300.0)
    assert len(world.platform.peers) == 2
    assert world.peer.payloads[: len(answers)] == answers
    assert world.peer.payloads[len(answers) :] == [b'{"answer":%s}' % one for one in requests]
