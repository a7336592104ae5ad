-- Operations and their answers are apart: the ids are kept long after the answers had to go.
-- "has_ended" is 0 while an operation runs; "echo" is what an answer has to repeat of the request,
-- as JSON.

CREATE TABLE record (
    number       INTEGER PRIMARY KEY,
    request_id   TEXT NOT NULL,
    name         TEXT NOT NULL,
    content_type TEXT NOT NULL,
    echo         TEXT,
    at_ms        INTEGER NOT NULL,
    has_ended    INTEGER NOT NULL
);

CREATE TABLE answer (
    number  INTEGER PRIMARY KEY,
    crc     INTEGER NOT NULL,
    payload BLOB NOT NULL
);

INSERT INTO record
    SELECT seq, request_id, name, coalesce(content_type, 'JSON'), request, at_ms,
           payload IS NOT NULL
    FROM journal;
INSERT INTO answer SELECT seq, crc, payload FROM journal WHERE payload IS NOT NULL;
DROP TABLE journal;

-- Row 1: there while an agent has the file open. Row 2: how far the recovery of a damaged file has
-- come, as JSON.
CREATE TABLE state (
    number INTEGER PRIMARY KEY,
    body   TEXT NOT NULL
);
