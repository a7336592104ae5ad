-- Everything the stand-in platform knows. Times are milliseconds since the Unix epoch.

CREATE TABLE connections (
    number      INTEGER PRIMARY KEY,
    device      TEXT NOT NULL,
    peer        TEXT NOT NULL,
    opened_ms   INTEGER NOT NULL,
    closed_ms   INTEGER,
    close_code  INTEGER,
    close_reason TEXT,
    messages_in INTEGER NOT NULL DEFAULT 0,
    messages_out INTEGER NOT NULL DEFAULT 0,
    pings_in    INTEGER NOT NULL DEFAULT 0,
    pongs_out   INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX connections_by_device ON connections (device, number);

-- What was read and written, in that order. ``position`` counts within one connection and
-- direction, from 1; a message has a row only once the application has read it.
CREATE TABLE messages (
    number      INTEGER PRIMARY KEY,
    connection  INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    device      TEXT NOT NULL,
    direction   TEXT NOT NULL CHECK (direction IN ('in', 'out')),
    at_ms       INTEGER NOT NULL,
    size        INTEGER NOT NULL,
    format      TEXT,
    is_text     INTEGER NOT NULL,
    payload     BLOB NOT NULL
);
CREATE INDEX messages_by_device ON messages (device, number);

CREATE TABLE devices (
    id            TEXT PRIMARY KEY,
    first_seen_ms INTEGER NOT NULL,
    last_seen_ms  INTEGER NOT NULL,
    via           TEXT
);

-- A datapoint is known by device, datastream, feed and time; ``copies`` counts how often it came,
-- ``conflicts`` how often with another value than before.
CREATE TABLE datapoints (
    device     TEXT NOT NULL,
    datastream TEXT NOT NULL,
    feed       TEXT NOT NULL,
    at_ms      INTEGER NOT NULL,
    from_ms    INTEGER,
    value      TEXT NOT NULL,
    arrived_ms INTEGER NOT NULL,
    copies     INTEGER NOT NULL DEFAULT 1,
    conflicts  INTEGER NOT NULL DEFAULT 0,
    number     INTEGER NOT NULL,
    PRIMARY KEY (device, datastream, feed, at_ms)
) WITHOUT ROWID;
CREATE INDEX datapoints_by_number ON datapoints (number);

CREATE TABLE latest (
    device     TEXT NOT NULL,
    datastream TEXT NOT NULL,
    feed       TEXT NOT NULL,
    at_ms      INTEGER NOT NULL,
    value      TEXT NOT NULL,
    arrived_ms INTEGER NOT NULL,
    PRIMARY KEY (device, datastream, feed)
) WITHOUT ROWID;

CREATE TABLE operations (
    number     INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    device     TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    document   TEXT NOT NULL
);
CREATE INDEX operations_by_device ON operations (device, number);

CREATE TABLE transcripts (
    operation TEXT NOT NULL,
    at_ms     INTEGER NOT NULL,
    event     TEXT NOT NULL,
    document  TEXT
);
CREATE INDEX transcripts_by_operation ON transcripts (operation);
