-- Work that takes a while: what for, how far, and what became of it.
CREATE TABLE operations (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    kind     TEXT NOT NULL,
    target   TEXT NOT NULL,
    stage    TEXT,
    began_at INTEGER NOT NULL,
    ended_at INTEGER,
    outcome  TEXT,
    error    TEXT
) STRICT;

CREATE TRIGGER operations_are_bounded AFTER INSERT ON operations BEGIN
    DELETE FROM operations WHERE id <= NEW.id - 1000 AND outcome IS NOT NULL;
END;
