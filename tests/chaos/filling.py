"""``python -m tests.chaos.filling FILE COUNT``: an outbox with ``COUNT`` telemetry documents, as an
agent without a connection leaves it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from twisted.internet.defer import DeferredList
from twisted.internet.task import react

from oda.assembly import build_outbox
from oda.datastreams.clock import SystemWallClock
from oda.model import MessageClass, OutgoingMessage
from oda.monitor.counters import Counters
from oda.settings import (
    AgentSettings,
    ConnectorSettings,
    DeviceInfoSettings,
    OutboxSettings,
    OutboxSync,
    Secret,
)
from tests.chaos.ledger import datapoint
from tests.chaos.world import DEVICE

STREAM = "backlog"
MAX_BYTES = 4 * 1024**3
#: So many documents share a commit.
_GROUP = 1000


def message(number: int) -> OutgoingMessage:
    """The document with this number."""
    stream = {"id": STREAM, "datapoints": [datapoint(STREAM, number)]}
    document = {"version": "9.0", "device": DEVICE, "datastreams": [stream]}
    return OutgoingMessage(
        payload=json.dumps(document, separators=(",", ":")).encode(),
        message_class=MessageClass.TELEMETRY,
        datapoints=1,
    )


async def fill(reactor: Any, path: Path, count: int) -> None:
    """Put the documents, a group at a time, each when the one before is accepted."""
    settings = AgentSettings(
        connector=ConnectorSettings(host="127.0.0.1", port=1, path="p"),
        device_info=DeviceInfoSettings(device_id=DEVICE, api_key=Secret("k")),
        outbox=OutboxSettings(
            path=path, sync=OutboxSync.NORMAL, max_bytes=MAX_BYTES, max_rows=count + 1
        ),
    )
    outbox = build_outbox(settings, reactor, SystemWallClock(), Counters())
    outbox.open()
    for start in range(0, count, _GROUP):
        numbers = range(start, min(count, start + _GROUP))
        await DeferredList([outbox.put(message(n)) for n in numbers], fireOnOneErrback=True)
    await outbox.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("count", type=int)
    options = parser.parse_args()
    react(lambda reactor: fill(reactor, options.file, options.count))


if __name__ == "__main__":
    main()
