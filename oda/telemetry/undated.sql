-- Schema 1 of the readings that have no time yet (PRAGMA user_version = 1).
-- One row of boot is one start of the machine, see boots.py. One row of event is one datapoint,
-- taken uptime_ms after the start that boot_id names. Ids grow with the order of arrival.
-- body is MessagePack; crc is its CRC-32.
CREATE TABLE boot (
    number INTEGER PRIMARY KEY,
    boot_id TEXT NOT NULL,
    not_before_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    starts_ms INTEGER,
    is_exact INTEGER NOT NULL,
    right_ms INTEGER NOT NULL
);
CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    boot_id TEXT NOT NULL,
    uptime_ms INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    body BLOB NOT NULL
);
