-- Schema 1 of the in-memory state manager's history (PRAGMA user_version = 1).
-- One row is one value of one datastream of one device; device_id '' is the host.
-- path and value are MessagePack, so that every value comes back with its type.
-- AUTOINCREMENT: an id is never used again, so a late "was published" can't meet another value.
CREATE TABLE kept (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    datastream_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    feed TEXT,
    at_ms INTEGER NOT NULL,
    from_ms INTEGER,
    path BLOB NOT NULL,
    value BLOB NOT NULL,
    published INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX kept_by_place ON kept (datastream_id, device_id, at_ms, id);
CREATE INDEX kept_by_age ON kept (at_ms);
CREATE INDEX kept_to_publish ON kept (datastream_id, device_id, at_ms, id) WHERE published = 0;
