-- The outbox and the journal of operations. "accepted_ms" and "at_ms" are milliseconds on the
-- outbox's own clock, which starts at the time of day and is not moved when that is set.
-- There is no index: everything is found by the number of its row, and a table without one can
-- be read around a damaged page.

CREATE TABLE response (
    id          INTEGER PRIMARY KEY,
    is_text     INTEGER NOT NULL,
    datapoints  INTEGER NOT NULL,
    accepted_ms INTEGER NOT NULL,
    crc         INTEGER NOT NULL,
    payload     BLOB NOT NULL
);

CREATE TABLE telemetry (
    id          INTEGER PRIMARY KEY,
    is_text     INTEGER NOT NULL,
    datapoints  INTEGER NOT NULL,
    accepted_ms INTEGER NOT NULL,
    crc         INTEGER NOT NULL,
    payload     BLOB NOT NULL
);

-- Messages that are not sent any more. The id is the one they had; "class" is the table's name.
-- "crc" is NULL for a message that was found damaged: it is never sent again.
CREATE TABLE dead (
    id          INTEGER PRIMARY KEY,
    class       TEXT NOT NULL,
    is_text     INTEGER NOT NULL,
    datapoints  INTEGER NOT NULL,
    accepted_ms INTEGER NOT NULL,
    crc         INTEGER,
    reason      TEXT NOT NULL,
    payload     BLOB NOT NULL
);

-- Operations by the id of their request; "payload" is NULL while they run. "request" is what an
-- answer has to echo, as JSON.
CREATE TABLE journal (
    seq          INTEGER PRIMARY KEY,
    request_id   TEXT NOT NULL,
    name         TEXT NOT NULL,
    content_type TEXT,
    request      TEXT,
    at_ms        INTEGER NOT NULL,
    crc          INTEGER,
    payload      BLOB
);

-- One row: what the tables amount to after the last transaction, and the totals since ever.
CREATE TABLE totals (
    only  INTEGER PRIMARY KEY CHECK (only = 1),
    body  TEXT NOT NULL,
    crc   INTEGER NOT NULL
);
