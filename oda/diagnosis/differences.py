"""Which keys of ODA's files mean something else here: what docs/migrating.md says, key by key.

A key that is named here with an empty text means the same. Pure.
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

#: By file, each key that ODA's file may have (in the spelling of the tables), and what differs.
DIFFERENCES: Mapping[str, Mapping[str, str]] = {
    CONNECTOR.file: {
        "host": "",
        "port": "",
        "path": "",
        "connectionTimeout": "covers the name, TCP, TLS and the WebSocket upgrade together; in ODA"
        " the TCP connect alone",
        "keepAliveInterval": "a pong has pongTimeout (30 s) of its own; ODA waits until the next"
        " ping",
    },
    DEVICE_INFO.file: {
        "deviceId": "",
        "apiKey": "",
        "source": "is read, but scripts are not copied from there to 'path'",
        "path": "",
    },
    DISPATCHER.file: {
        "reducedOutput": "a datapoint that had to wait for the connection carries its time"
        " nevertheless",
        "eventContentType": "",
        "operationTimeout": "",
    },
    SET_CLOCK.file: {"clockDatastream": ""},
    SYNCHRONIZE_CLOCK.file: {"clockDatastream": ""},
    POLLER.file: {},
    COLLECTOR.file: {},
    STATE_MANAGER.file: {
        "databasePath": "the values that ODA has kept are not taken over; this agent keeps its own"
        " in a file of SQLite",
        "maxData": "",
        "forgetTime": "",
        "forgetPeriod": "",
    },
}

#: What differs though no line says so: the key that changes it, and the text.
UNSAID: Mapping[str, Mapping[str, str]] = {
    CONNECTOR.file: {
        "auth": "the API key travels in the header X-ApiKey; for a platform that takes only the"
        " query parameter, as ODA sends it, write auth=query",
        "outbox": "what waits for the connection is kept in a file (outboxPath) and delivered"
        " later; ODA loses it",
    },
    DISPATCHER.file: {
        "allowSetClock": "SET_CLOCK_EQUIPMENT and SYNCHRONIZE_CLOCK set the system's clock only"
        " with allowSetClock=true; a clock datastream of a plugin does not need it",
    },
}
