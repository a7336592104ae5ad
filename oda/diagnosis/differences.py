"""Which keys of ODA's files have another meaning here: docs/migrating-keys.md.

A key with an empty text has the same meaning. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from oda.config.components import (
    COLLECTOR,
    DEVICE_INFO,
    DISPATCHER,
    POLLER,
    SET_CLOCK,
    STATE_MANAGER,
    SYNCHRONIZE_CLOCK,
)
from oda.config.connection import CONNECTOR

#: For each file, the keys that ODA's file may have (as the tables spell them), and what differs.
DIFFERENCES: Mapping[str, Mapping[str, str]] = {
    CONNECTOR.file: {
        "host": "",
        "port": "",
        "path": "",
        "connectionTimeout": "covers the name, TCP, TLS and the WebSocket upgrade together; in ODA"
        " only the TCP connect",
        "keepAliveInterval": "a pong has pongTimeout (30 s) of its own; ODA waits until the next"
        " ping",
    },
    DEVICE_INFO.file: {
        "deviceId": "",
        "apiKey": "",
        "source": "the agent reads it, but does not copy scripts from there to 'path'",
        "path": "",
    },
    DISPATCHER.file: {
        "reducedOutput": "a datapoint that had to wait for the connection still carries its time",
        "eventContentType": "",
        "operationTimeout": "",
    },
    SET_CLOCK.file: {"clockDatastream": ""},
    SYNCHRONIZE_CLOCK.file: {"clockDatastream": ""},
    POLLER.file: {},
    COLLECTOR.file: {},
    STATE_MANAGER.file: {
        "databasePath": "the agent does not take over the values that ODA has kept; it keeps its"
        " own in an SQLite file",
        "maxData": "",
        "forgetTime": "",
        "forgetPeriod": "",
    },
}

#: What differs although no line says so: the key that changes it, and the text.
UNSAID: Mapping[str, Mapping[str, str]] = {
    CONNECTOR.file: {
        "auth": "the API key travels in the header X-ApiKey; for a platform that takes only the"
        " query parameter, as ODA sends it, set auth=query",
        "outbox": "messages that wait for the connection are kept in a file (outboxPath) and"
        " delivered later; ODA loses them",
    },
    DISPATCHER.file: {
        "allowSetClock": "SET_CLOCK_EQUIPMENT and SYNCHRONIZE_CLOCK set the system's clock only"
        " with allowSetClock=true; a plugin's clock datastream does not need it",
    },
}
