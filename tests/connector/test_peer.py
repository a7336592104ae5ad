"""What is learnt about a platform from its pongs."""

from __future__ import annotations

import pytest

from oda.connector.peer import Peer, PeerClass, Peers


def silent_connection(peer: Peer, saw_foreign_pong: bool = False) -> PeerClass:
    return peer.missed(saw_foreign_pong)


def test_a_peer_is_expected_to_answer() -> None:
    """Until shown otherwise a missing pong means a dead connection."""
    peer = Peer()
    assert peer.peer_class is PeerClass.PONG
    assert silent_connection(peer) is PeerClass.PONG


@pytest.mark.parametrize(
    ("saw_foreign_pong", "peer_class"), [(False, PeerClass.NONE), (True, PeerClass.UNUSABLE)]
)
def test_two_connections_without_a_usable_pong_make_another_kind_of_peer(
    saw_foreign_pong: bool, peer_class: PeerClass
) -> None:
    """The second one is not given up any more; until then foreign pongs say nothing."""
    peer = Peer()
    assert silent_connection(peer, saw_foreign_pong) is PeerClass.PONG
    assert silent_connection(peer, saw_foreign_pong) is peer_class


@pytest.mark.parametrize("saw_foreign_pong", [False, True])
def test_who_has_answered_once_is_dead_when_silent(saw_foreign_pong: bool) -> None:
    """Silence of a peer that has answered before, on whatever connection, is never taken for its
    nature, whatever unsolicited pongs come beside it."""
    peer = Peer()
    peer.answered()
    assert [silent_connection(peer, saw_foreign_pong) for _ in range(5)] == [PeerClass.PONG] * 5


def test_an_answer_between_silences_counts() -> None:
    """The two silent connections have to follow each other."""
    peer = Peer()
    silent_connection(peer)
    peer.answered()
    assert silent_connection(peer) is PeerClass.PONG


def test_a_silence_that_the_network_explains_says_nothing() -> None:
    """The ping may never have reached the peer."""
    peer = Peer()
    for _ in range(5):
        assert peer.missed(saw_foreign_pong=False, is_explained=True) is PeerClass.PONG
    assert silent_connection(peer) is PeerClass.PONG
    assert silent_connection(peer) is PeerClass.NONE


@pytest.mark.parametrize("saw_foreign_pong", [False, True])
def test_a_usable_pong_rehabilitates(saw_foreign_pong: bool) -> None:
    """Whatever a peer was taken for, a matching pong makes it one that answers."""
    peer = Peer()
    for _ in range(2):
        silent_connection(peer, saw_foreign_pong)
    assert peer.peer_class is not PeerClass.PONG
    peer.answered()
    assert peer.peer_class is PeerClass.PONG


def test_each_address_has_a_peer_of_its_own() -> None:
    """What one does not answer says nothing about another; the addresses kept have a bound."""
    peers = Peers()
    for _ in range(2):
        silent_connection(peers.at("192.0.2.1"))
    assert peers.at("192.0.2.1").peer_class is PeerClass.NONE
    assert peers.at("192.0.2.2").peer_class is PeerClass.PONG
    for number in range(63):
        peers.at(number)
    assert peers.at("192.0.2.2") is not peers.at("192.0.2.1")
    assert peers.at("192.0.2.1").peer_class is PeerClass.PONG, "the one used longest ago went"
