"""What a running agent does when ``oda outbox`` asks."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from oda.errors import OutboxError
from oda.model import MessageClass, OutgoingMessage
from oda.monitor.counters import Counters
from oda.outbox.worker import InlineWorker
from oda.settings import OutboxSettings
from oda.upkeep import Upkeep
from tests.wire.fakes import memory_outbox


def test_an_outbox_in_memory_is_described_and_left_alone() -> None:
    """It has no file, and nothing in it can be dropped or retried from outside."""
    outbox = memory_outbox(OutboxSettings(), Clock(), Counters())
    outbox.put(OutgoingMessage(payload=b"{}", message_class=MessageClass.TELEMETRY))
    handlers = Upkeep(outbox, OutboxSettings(), InlineWorker).handlers()
    described = handlers["outbox"]({})
    assert described["path"] is None
    assert described["counts"]["pending"] == 1
    for command in ("outbox-purge", "outbox-retry-dead"):
        with pytest.raises(OutboxError, match="in memory"):
            handlers[command]({})
    assert outbox.counts()["pending"] == 1
