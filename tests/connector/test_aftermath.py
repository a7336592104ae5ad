"""What becomes of a connection's messages when it has ended, as the outbox is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from oda.connector.outcome import Outcome
from oda.connector.redelivery import Aftermath
from oda.connector.session import Flight
from oda.errors import OutboxError
from oda.model import MessageClass

DEAD = Outcome(reason="no pong", was_open=True, by_us=True)
NORMAL = Outcome(reason="bye", was_open=True, close_code=1000)


class Outbox:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def rewind(self, replay_lingering: bool, max_bytes: int | None = None) -> None:
        """See ``IOutbox``."""
        self.calls.append(("rewind", replay_lingering, max_bytes))

    def settle(self) -> None:
        """See ``IOutbox``."""
        self.calls.append(("settle",))

    def bury(self, row_ids: Sequence[int], reason: str) -> None:
        """See ``IOutbox``."""
        self.calls.append(("bury", list(row_ids), reason))


class Session:
    """A session that has ended."""

    sent = 2
    is_proven = True

    def __init__(self, replay_bytes: int | None, has_let_go: bool) -> None:
        self.replay_bytes = replay_bytes
        self.flight = Flight()
        self.flight.messages.extend(
            [(1, 10, MessageClass.RESPONSE, 0), (2, 10, MessageClass.TELEMETRY, 1)]
        )
        if has_let_go:
            self.flight.let_answers_go()


@pytest.mark.parametrize(
    ("outcome", "replay_bytes", "has_let_go", "calls"),
    [
        (DEAD, None, False, [("rewind", True, None)]),
        (DEAD, 1000, False, [("rewind", True, 1000)]),
        (DEAD, 1000, True, [("rewind", True, None)]),
        (NORMAL, None, False, [("rewind", False, None), ("settle",)]),
        (NORMAL, 1000, True, [("rewind", True, None), ("settle",)]),
    ],
)
def test_what_is_sent_again(
    outcome: Outcome, replay_bytes: int | None, has_let_go: bool, calls: list[Any]
) -> None:
    """After an end by the agent all that lingers is sent again, on a slow link no more of it than
    the link carries at once. Answers that were let go were never proven: all of them come back,
    whatever the end and the link."""
    outbox = Outbox()
    session = Session(replay_bytes, has_let_go)
    Aftermath().connection_ended(cast(Any, outbox), cast(Any, session), outcome)
    assert outbox.calls == calls


class Unburied(Outbox):
    """Can't set anything aside."""

    def bury(self, row_ids: Sequence[int], reason: str) -> None:
        raise OutboxError("not now")


def test_what_can_not_be_set_aside_is_given_back_all_the_same() -> None:
    """The outbox's failure is raised after everything that was taken is pending again."""
    outbox, aftermath = Unburied(), Aftermath()
    refusal = Outcome(reason="too big", was_open=True, close_code=1009)
    session = Session(None, has_let_go=False)
    session.sent = 1
    session.flight.messages.pop()
    with pytest.raises(OutboxError):
        aftermath.connection_ended(cast(Any, outbox), cast(Any, session), refusal)
    assert [call[0] for call in outbox.calls] == ["rewind"]
