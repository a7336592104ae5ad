"""The table of the connector's file, the longest of all. The others are in ``components``."""

from __future__ import annotations

from oda.config.keys import Component, Key, Section
from oda.config.parsers import (
    BYTES,
    CONTENT_TYPE,
    COUNT,
    PORT,
    TIMEOUT,
    boolean,
    choice,
    host,
    integer,
    origin,
    path,
    seconds,
    url_path,
    user_name,
)
from oda.settings import (
    Auth,
    ConnectorSettings,
    FrameType,
    OutboxKind,
    OutboxPolicy,
    OutboxSettings,
    OutboxSync,
)

#: The prefix of all file names.
PREFIX = "es.amplia.oda."

_ONE_LINE = path(
    "a file that holds only that; relative to the configuration directory",
    anchored=True,
)
_PEM = path("a PEM file; relative to the configuration directory", anchored=True)

CONNECTOR = Component(
    file=PREFIX + "connector.websocket.cfg",
    about="The connection to the platform, and the outbox that feeds it.",
    environment=True,
    sections=(
        Section(
            ConnectorSettings,
            (
                Key("host", "host", host(), "the platform's host"),
                Key("port", "port", PORT, "the platform's port"),
                Key(
                    "path",
                    "path",
                    url_path(),
                    "the URL's path before the device id; slashes at its ends make no difference",
                    aliases=("generalPath",),
                    empty_is_absent=True,
                ),
                Key(
                    "connectionTimeout",
                    "connection_timeout_s",
                    TIMEOUT,
                    "limit for name resolution, TCP, TLS and WebSocket upgrade together; the "
                    "addresses of a name share it; 0 is read as one day, with a warning",
                    off=86_400.0,
                ),
                Key(
                    "keepAliveInterval",
                    "keep_alive_interval_s",
                    TIMEOUT,
                    "how often a ping is sent; 0 is read as one day, with a warning",
                    off=86_400.0,
                ),
                Key(
                    "pongTimeout",
                    "pong_timeout_s",
                    TIMEOUT,
                    "how long a ping waits for its pong before the connection is given up",
                ),
                Key(
                    "closeTimeout",
                    "close_timeout_s",
                    TIMEOUT,
                    "how long a closing handshake may take",
                ),
                Key("secure", "secure", boolean(), "TLS (wss instead of ws)"),
                Key("caFile", "ca_file", _PEM, "certificates to trust instead of the system's"),
                Key("certFile", "cert_file", _PEM, "the client's certificate, for mutual TLS"),
                Key("keyFile", "key_file", _PEM, "the private key of certFile"),
                Key(
                    "keyPassphraseFile",
                    "key_passphrase_file",
                    _ONE_LINE,
                    "the file with the passphrase of keyFile, if the key is encrypted",
                    content="key_passphrase",
                    holds="the passphrase",
                ),
                Key(
                    "skipVerify",
                    "skip_verify",
                    boolean(),
                    "accept any certificate: for tests "
                    "only, because anybody can then read and change the data",
                ),
                Key(
                    "auth",
                    "auth",
                    choice(Auth),
                    "where the API key travels: header X-ApiKey or query parameter X-ApiKey",
                ),
                Key(
                    "origin",
                    "origin",
                    origin(),
                    "the header Origin of the upgrade, for platforms that ask for one",
                ),
                Key(
                    "contentType",
                    "content_type",
                    CONTENT_TYPE,
                    "the format of what the device "
                    "sends unasked; an answer has the format of its request",
                ),
                Key(
                    "frameType",
                    "frame_type",
                    choice(FrameType),
                    "the WebSocket frame of JSON; the other formats are always binary",
                ),
                Key("compression", "compression", boolean(), "offer permessage-deflate"),
                Key(
                    "proxyHost", "proxy_host", host(), "an HTTP proxy to connect through (CONNECT)"
                ),
                Key("proxyPort", "proxy_port", PORT, "the proxy's port"),
                Key(
                    "proxyUser",
                    "proxy_user",
                    user_name(),
                    "the user name for the proxy (Basic authentication: anybody who can read the "
                    "traffic to the proxy can read the password)",
                ),
                Key(
                    "proxyPasswordFile",
                    "proxy_password_file",
                    _ONE_LINE,
                    "the file with the password of proxyUser",
                    content="proxy_password",
                    holds="the proxy's password",
                ),
                Key(
                    "reconnectMaxDelay",
                    "reconnect_max_delay_s",
                    TIMEOUT,
                    "the longest pause between two attempts to connect",
                ),
                Key(
                    "reconnectSpread",
                    "reconnect_spread_s",
                    seconds(0, 86_400),
                    "after an end that the platform may have given to all its devices, the first "
                    "pause is between 0 and this (at most reconnectMaxDelay), so that the devices "
                    "don't come back at the same moment; 0: within a second",
                ),
                Key(
                    "maxMessageSize",
                    "max_message_size_bytes",
                    integer(1024, 1 << 30, "bytes"),
                    "the largest message accepted and sent",
                ),
            ),
        ),
        Section(
            OutboxSettings,
            (
                Key(
                    "outbox",
                    "kind",
                    choice(OutboxKind),
                    "where messages wait: in a file, or in memory, which loses them when the "
                    "process ends",
                ),
                Key(
                    "outboxPath",
                    "path",
                    path("a file", anchored=False),
                    "the outbox's file, on a writable file system with locks; relative to the "
                    "working directory",
                ),
                Key(
                    "outboxMaxBytes",
                    "max_bytes",
                    integer(256 * 1024, 1 << 40, "bytes"),
                    "how large the outbox may grow on disk; three quarters are for telemetry",
                ),
                Key("outboxMaxRows", "max_rows", COUNT, "how many messages the outbox may hold"),
                Key(
                    "outboxMaxAge",
                    "max_age_s",
                    seconds(0, 10 * 365 * 86_400),
                    "messages that wait longer are dropped; 0: never",
                ),
                Key(
                    "outboxPolicy",
                    "policy",
                    choice(OutboxPolicy),
                    "what a full outbox drops: the oldest messages, or the new one",
                ),
                Key(
                    "outboxSync",
                    "sync",
                    choice(OutboxSync),
                    "full: accepted messages survive a power failure; normal: faster, and spares "
                    "flash memory, but a power failure may lose the last messages",
                ),
                Key(
                    "journalMaxEntries",
                    "journal_max_entries",
                    COUNT,
                    "how many answered operations are remembered, so that none runs twice",
                ),
                Key(
                    "journalMaxAge",
                    "journal_max_age_s",
                    seconds(1, 365 * 86_400),
                    "how long they are remembered at most",
                ),
                Key(
                    "ackWindow",
                    "window_messages",
                    COUNT,
                    "how many messages may be in flight without an acknowledgement",
                ),
                Key("ackWindowBytes", "window_bytes", BYTES, "how many bytes may be in flight"),
                Key(
                    "outboxMaxRate",
                    "max_rate_per_s",
                    integer(0, 1_000_000, "messages a second"),
                    "the maximum rate of telemetry (answers are not delayed); 0: no limit",
                ),
                Key(
                    "ackLinger",
                    "linger_s",
                    seconds(0, 86_400),
                    "how long acknowledged messages "
                    "are retained, to be sent again after an abnormal close",
                ),
                Key(
                    "ackCommitDelay",
                    "ack_commit_delay_s",
                    seconds(0, 3600),
                    "an acknowledgement is written with the next message, or after this time at "
                    "the latest; a longer time spares flash memory, but a killed agent repeats "
                    "more",
                ),
                Key(
                    "outboxCommitWindow",
                    "commit_window_s",
                    seconds(0, 60),
                    "how long telemetry of a steady stream is gathered into shared messages and "
                    "commits; a datapoint after a pause is not delayed; gathered datapoints are "
                    "not accepted yet; 0: one turn of the reactor",
                ),
            ),
        ),
    ),
)
