-- Pools of machines that are ready. They name an image, and do not keep it.
CREATE TABLE pools (
    name          TEXT PRIMARY KEY,
    size          INTEGER NOT NULL,
    image         TEXT NOT NULL,
    kernel        TEXT NOT NULL,
    kernel_reason TEXT NOT NULL,
    vcpus         INTEGER NOT NULL,
    memory        INTEGER NOT NULL,
    disk          INTEGER NOT NULL,
    init          TEXT NOT NULL,
    network       TEXT NOT NULL,
    wanted_vmm    TEXT,
    created_at    INTEGER NOT NULL
) STRICT;

-- Who has a VM that nobody has asked for.
ALTER TABLE vms ADD COLUMN holder TEXT;

CREATE TRIGGER pool_created AFTER INSERT ON pools BEGIN
    INSERT INTO events (subject, name, what, detail)
    VALUES ('pool', NEW.name, 'created', NEW.size || ' of image ' || NEW.image);
END;

CREATE TRIGGER pool_deleted AFTER DELETE ON pools BEGIN
    INSERT INTO events (subject, name, what) VALUES ('pool', OLD.name, 'deleted');
END;

CREATE TRIGGER vm_taken AFTER UPDATE OF holder ON vms
WHEN NEW.holder IS NULL AND OLD.holder LIKE 'pool %' BEGIN
    INSERT INTO events (subject, vm, name, what, detail)
    VALUES ('vm', NEW.id, NEW.name, 'taken',
        'from pool ' || substr(OLD.holder, 6, instr(substr(OLD.holder, 6), ' ') - 1));
END;
