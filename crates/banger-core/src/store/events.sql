-- What happens is written by the statement that makes it so: no change of a row goes untold, and
-- nothing is told that was not confirmed.
CREATE TABLE events (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
    subject TEXT NOT NULL,
    vm      TEXT,
    name    TEXT NOT NULL,
    what    TEXT NOT NULL,
    detail  TEXT
) STRICT;

CREATE TRIGGER events_are_bounded AFTER INSERT ON events BEGIN
    DELETE FROM events WHERE seq <= NEW.seq - 10000;
END;

CREATE TRIGGER vm_created AFTER INSERT ON vms BEGIN
    INSERT INTO events (subject, vm, name, what, detail)
    VALUES ('vm', NEW.id, NEW.name, 'created', 'from image ' || NEW.image);
END;

CREATE TRIGGER vm_changes_state AFTER UPDATE OF state, last_error ON vms
WHEN NEW.state IS NOT OLD.state
    OR (NEW.last_error IS NOT NULL AND NEW.last_error IS NOT OLD.last_error) BEGIN
    INSERT INTO events (subject, vm, name, what, detail)
    VALUES ('vm', NEW.id, NEW.name, NEW.state, CASE NEW.state
        WHEN 'starting' THEN 'on ' || NEW.vmm || ' (' || NEW.accelerator || ')'
        ELSE NEW.last_error END);
END;

CREATE TRIGGER vm_renamed AFTER UPDATE OF name ON vms WHEN NEW.name IS NOT OLD.name BEGIN
    INSERT INTO events (subject, vm, name, what, detail)
    VALUES ('vm', NEW.id, NEW.name, 'renamed', 'it was ' || OLD.name);
END;

CREATE TRIGGER vm_changed AFTER UPDATE OF vcpus, memory, disk, network, labels, expires_at ON vms
WHEN (NEW.vcpus, NEW.memory, NEW.disk, NEW.network, NEW.labels, NEW.expires_at)
    IS NOT (OLD.vcpus, OLD.memory, OLD.disk, OLD.network, OLD.labels, OLD.expires_at) BEGIN
    INSERT INTO events (subject, vm, name, what, detail)
    VALUES ('vm', NEW.id, NEW.name, 'changed', ltrim(
        CASE WHEN NEW.vcpus IS NOT OLD.vcpus THEN ', vcpus' ELSE '' END ||
        CASE WHEN NEW.memory IS NOT OLD.memory THEN ', memory' ELSE '' END ||
        CASE WHEN NEW.disk IS NOT OLD.disk THEN ', disk' ELSE '' END ||
        CASE WHEN NEW.network IS NOT OLD.network THEN ', network' ELSE '' END ||
        CASE WHEN NEW.labels IS NOT OLD.labels THEN ', labels' ELSE '' END ||
        CASE WHEN NEW.expires_at IS NOT OLD.expires_at THEN ', ttl' ELSE '' END, ', '));
END;

CREATE TRIGGER vm_deleted AFTER DELETE ON vms BEGIN
    INSERT INTO events (subject, vm, name, what) VALUES ('vm', OLD.id, OLD.name, 'deleted');
END;

CREATE TRIGGER image_added AFTER UPDATE OF stage ON images
WHEN NEW.stage = 'ready' AND OLD.stage IS NOT 'ready' BEGIN
    INSERT INTO events (subject, name, what, detail)
    VALUES ('image', NEW.name, 'added', 'from ' || NEW.source);
END;

CREATE TRIGGER image_deleted AFTER DELETE ON images WHEN OLD.stage = 'ready' BEGIN
    INSERT INTO events (subject, name, what) VALUES ('image', OLD.name, 'deleted');
END;
