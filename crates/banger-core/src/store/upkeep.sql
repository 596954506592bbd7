-- What a VM's owner wants of it, and how far that was carried out.
ALTER TABLE vms ADD COLUMN restart TEXT NOT NULL DEFAULT 'no';
ALTER TABLE vms ADD COLUMN autostart INTEGER NOT NULL DEFAULT 0;
ALTER TABLE vms ADD COLUMN idle_stop INTEGER;
ALTER TABLE vms ADD COLUMN stopped INTEGER NOT NULL DEFAULT 0;
ALTER TABLE vms ADD COLUMN restarts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE vms ADD COLUMN restart_at INTEGER;
ALTER TABLE vms ADD COLUMN touched_at INTEGER;

CREATE TRIGGER vm_upkeep_changed AFTER UPDATE OF restart, autostart, idle_stop ON vms
WHEN (NEW.restart, NEW.autostart, NEW.idle_stop)
    IS NOT (OLD.restart, OLD.autostart, OLD.idle_stop) BEGIN
    INSERT INTO events (subject, vm, name, what, detail)
    VALUES ('vm', NEW.id, NEW.name, 'changed', ltrim(
        CASE WHEN NEW.restart IS NOT OLD.restart THEN ', restart' ELSE '' END ||
        CASE WHEN NEW.autostart IS NOT OLD.autostart THEN ', autostart' ELSE '' END ||
        CASE WHEN NEW.idle_stop IS NOT OLD.idle_stop THEN ', idle stop' ELSE '' END, ', '));
END;

-- Single values that outlive daemons.
CREATE TABLE facts (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
