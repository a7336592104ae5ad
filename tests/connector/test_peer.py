"""What is learnt about a platform from its pongs."""

from __future__ import annotations

from oda.connector.peer import Peer, PeerClass


def silent_connection(peer: Peer) -> PeerClass:
    peer.connected()
    return peer.missed(saw_foreign_pong=False)


def test_a_peer_is_expected_to_answer() -> None:
    """Until shown otherwise a missing pong means a dead connection."""
    peer = Peer()
    assert peer.peer_class is PeerClass.PONG
    assert silent_connection(peer) is PeerClass.PONG


def test_two_silent_connections_make_a_peer_that_does_not_answer() -> None:
    """The second connection without any answer is not given up any more."""
    peer = Peer()
    silent_connection(peer)
    assert silent_connection(peer) is PeerClass.NONE


def test_who_has_answered_once_is_dead_when_silent() -> None:
    """Silence of a peer that has answered before, on whatever connection, is never taken for its
    nature."""
    peer = Peer()
    peer.connected()
    peer.answered()
    assert [silent_connection(peer) for _ in range(5)] == [PeerClass.PONG] * 5


def test_an_answer_between_silences_counts() -> None:
    """The two silent connections have to follow each other."""
    peer = Peer()
    silent_connection(peer)
    peer.connected()
    peer.answered()
    assert silent_connection(peer) is PeerClass.PONG


def test_wrong_payloads_are_unusable_at_once() -> None:
    """A peer that answers with another payload is known after one ping."""
    peer = Peer()
    peer.connected()
    assert peer.missed(saw_foreign_pong=True) is PeerClass.UNUSABLE


def test_unsolicited_pongs_do_not_hide_a_dead_connection() -> None:
    """Where this connection has given usable pongs, others beside them change nothing."""
    peer = Peer()
    peer.connected()
    peer.answered()
    assert peer.missed(saw_foreign_pong=True) is PeerClass.PONG


def test_a_usable_pong_rehabilitates() -> None:
    """Whatever a peer was taken for, a matching pong makes it one that answers."""
    for wrong in (True, False):
        peer = Peer()
        for _ in range(2):
            peer.connected()
            peer.missed(saw_foreign_pong=wrong)
        assert peer.peer_class is not PeerClass.PONG
        peer.answered()
        assert peer.peer_class is PeerClass.PONG
