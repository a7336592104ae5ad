"""When the agent is ready, and what is said of certificates."""

from __future__ import annotations

import pytest

from oda.model import LinkState
from oda.monitor.health import expiring_certificates, judge
from oda.troubles import Trouble, TroubleKind
from tests.monitor.snapshots import NOW_MS, connection

DAY_MS = 86_400_000


def test_connected_and_acknowledged_is_ready() -> None:
    """An open connection without a ping on its way is ready, without reasons."""
    readiness = judge(connection())
    assert (readiness.ready, readiness.reasons, readiness.acknowledges) == (True, (), True)


@pytest.mark.parametrize("state", [state for state in LinkState if state is not LinkState.OPEN])
def test_only_an_open_connection_is_ready(state: LinkState) -> None:
    """Every other state gives a reason, with that of the last end."""
    readiness = judge(connection(state=state, last_end="refused"))
    assert not readiness.ready
    (reason,) = readiness.reasons
    assert reason.endswith("(refused)")


def test_a_connection_without_any_pong_yet_is_not_ready() -> None:
    """A platform that died may still accept connections: one is believed after its first pong, or
    the agent would look well for the time of each deadline, again and again."""
    readiness = judge(connection(is_proven=False, ping_waits_s=0.1))
    assert not readiness.ready
    assert "has not answered a ping on this connection" in readiness.reasons[0]
    assert judge(connection(is_proven=False, peer_class="none")).ready


@pytest.mark.parametrize(("waits_s", "ready"), [(29.9, True), (30.0, False), (90.0, False)])
def test_a_ping_unanswered_for_the_deadline_is_not_ready(waits_s: float, ready: bool) -> None:
    """A cut uplink shows at the pong's deadline, though progress may keep the connection longer."""
    readiness = judge(connection(ping_waits_s=waits_s))
    assert readiness.ready is ready
    assert len(readiness.reasons) == (not ready)


@pytest.mark.parametrize("peer_class", ["none", "unusable"])
def test_a_platform_without_pongs_is_believed(peer_class: str) -> None:
    """Waiting for its pong would never end; the answer says that nothing is acknowledged."""
    shown = connection(peer_class=peer_class, ping_waits_s=1000.0)
    readiness = judge(shown)
    assert (readiness.ready, readiness.acknowledges) == (True, False)
    assert readiness.body(shown, ())["acknowledges"] is False


def test_trouble_makes_no_agent_unready_but_is_told() -> None:
    """A program reads one word, and the kinds: their texts are for the operator alone."""
    trouble = Trouble(kind=TroubleKind.DISK, subject="", text="secret place", since_s=0.0)
    shown = connection()
    readiness = judge(shown)
    body = readiness.body(shown, [trouble, trouble])
    assert (body["state"], body["ready"], body["troubles"]) == ("troubled", True, ["disk"])
    assert "secret" not in str(body)
    assert readiness.body(shown, ())["state"] == "ready"
    lost = connection(state=LinkState.WAITING)
    assert judge(lost).body(lost, [trouble])["state"] == "not_ready"


@pytest.mark.parametrize(
    ("days", "words"),
    [(31, None), (30, "expires in 30 days"), (0, "expires in 0 days"), (-1, "has expired")],
)
def test_certificates_are_warned_of_in_time(days: int, words: str | None) -> None:
    """From thirty days before the end on."""
    endings = expiring_certificates(
        connection(client_certificate_ends_ms=NOW_MS + days * DAY_MS), NOW_MS
    )
    if words is None:
        assert endings == []
    else:
        (ending,) = endings
        assert "certFile" in ending.whose
        assert words in str(ending)
        assert ending.lasts_s == (30 - days) * DAY_MS / 1000
