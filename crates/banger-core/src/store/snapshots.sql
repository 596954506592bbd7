-- What a VMM would read without a look at it.
ALTER TABLE snapshots ADD COLUMN devices_digest TEXT NOT NULL DEFAULT '';

-- Those that banger makes by itself are told of nowhere.
CREATE TRIGGER snapshot_created AFTER INSERT ON snapshots WHEN NEW.name NOT LIKE 'boot.%' BEGIN
    INSERT INTO events (subject, name, what, detail)
    VALUES ('snapshot', NEW.name, 'created', 'of VM ' || NEW.origin);
END;

CREATE TRIGGER snapshot_deleted AFTER DELETE ON snapshots WHEN OLD.name NOT LIKE 'boot.%' BEGIN
    INSERT INTO events (subject, name, what) VALUES ('snapshot', OLD.name, 'deleted');
END;
