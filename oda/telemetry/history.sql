-- Schema 3 of the in-memory state manager's history (PRAGMA user_version = 3).
-- One row is one value of one datastream of one device; device_id '' is the host.
-- Ids grow with the order of arrival. arrived_ms is the arrival on the history's own clock, which no
-- setting of the time of day moves (see arrival.py); at_ms is only what the value says of itself.
-- A value that was taken before the time of day was right has at_ms 0, and the moment: taken_ms
-- milliseconds after the start of the machine that taken_boot names.
-- path and value are MessagePack, so that every value comes back with its type.
-- AUTOINCREMENT: an id is never used again, so a late "was published" can't meet another value.
CREATE TABLE kept (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    arrived_ms INTEGER NOT NULL,
    published INTEGER NOT NULL DEFAULT 0,
    datastream_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    feed TEXT,
    at_ms INTEGER NOT NULL,
    from_ms INTEGER,
    path BLOB NOT NULL,
    value BLOB NOT NULL,
    taken_boot TEXT,
    taken_ms INTEGER
);
-- Within a place, an index is in the order of the ids.
CREATE INDEX kept_by_place ON kept (datastream_id, device_id);
CREATE INDEX kept_to_publish ON kept (datastream_id, device_id) WHERE published = 0;
-- Where the clock of arrivals goes on after a restart; one row.
CREATE TABLE clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    age_ms INTEGER NOT NULL,
    wall_ms INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    uptime_ms INTEGER NOT NULL
);
