//! Rows of snapshots. A row is written when its files are whole, and goes before they do.

use std::time::Duration;

use rusqlite::{OptionalExtension, Row, ffi, named_params};

use super::{
    Store, StoreError, breaches, query,
    vms::{accelerator_of, column, network_of, parse, signed, unsigned, vmm_of},
};
use crate::{
    host::Binding,
    name::SnapshotName,
    record::Seconds,
    snapshot::{Frozen, SnapshotRecord},
    spec::Init,
};

impl Store {
    /// Writes a snapshot whose files are in their place.
    pub fn insert_snapshot(&self, snapshot: &SnapshotRecord) -> Result<(), StoreError> {
        let SnapshotRecord {
            machine, binding, ..
        } = snapshot;
        let paused_ms = u64::try_from(snapshot.paused_for.as_millis()).unwrap_or(u64::MAX);
        let inserted = self.lock().execute(
            "INSERT INTO snapshots (name, directory, origin, origin_id, image, image_digest, kernel,
                    vcpus, memory, disk, init, network, vmm, accelerator, vmm_version, processor,
                    clock_khz, agent_generation, agent_version, paused_ms, memory_bytes, disk_bytes,
                    devices_digest, created_at)
             VALUES (:name, :directory, :origin, :origin_id, :image, :image_digest, :kernel,
                    :vcpus, :memory, :disk, :init, :network, :vmm, :accelerator, :vmm_version, :processor,
                    :clock_khz, :agent_generation, :agent_version, :paused_ms, :memory_bytes, :disk_bytes,
                    :devices_digest, :created_at)",
            named_params! {
                ":name": snapshot.name.as_str(),
                ":directory": &snapshot.directory,
                ":origin": snapshot.origin.as_str(),
                ":origin_id": snapshot.origin_id.to_string(),
                ":image": machine.image.as_str(),
                ":image_digest": &snapshot.image_digest,
                ":kernel": machine.kernel.as_str(),
                ":vcpus": machine.vcpus.get(),
                ":memory": signed(machine.memory.bytes()),
                ":disk": signed(machine.disk.bytes()),
                ":init": String::from(machine.init.clone()),
                ":network": machine.network.as_str(),
                ":vmm": binding.vmm.as_str(),
                ":accelerator": binding.accelerator.as_str(),
                ":vmm_version": &binding.version,
                ":processor": &binding.processor,
                ":clock_khz": signed(binding.clock_khz),
                ":agent_generation": snapshot.agent_generation,
                ":agent_version": &snapshot.agent_version,
                ":paused_ms": signed(paused_ms),
                ":memory_bytes": signed(snapshot.memory_bytes),
                ":disk_bytes": signed(snapshot.disk_bytes),
                ":devices_digest": &snapshot.devices_digest,
                ":created_at": signed(snapshot.created_at),
            },
        );
        match inserted {
            Ok(_) => Ok(()),
            Err(error) if breaches(&error, ffi::SQLITE_CONSTRAINT_PRIMARYKEY) => {
                Err(StoreError::SnapshotTaken(snapshot.name.clone()))
            }
            Err(error) if breaches(&error, ffi::SQLITE_CONSTRAINT_FOREIGNKEY) => {
                Err(StoreError::NoImage(machine.image.clone()))
            }
            Err(error) => Err(query("insert a snapshot")(error)),
        }
    }

    /// Forgets a snapshot. Forgetting it twice is no error.
    pub fn delete_snapshot(&self, name: &SnapshotName) -> Result<(), StoreError> {
        self.lock()
            .execute("DELETE FROM snapshots WHERE name = ?1", [name.as_str()])
            .map(drop)
            .map_err(query("delete a snapshot"))
    }

    pub fn snapshot(&self, name: &SnapshotName) -> Result<Option<SnapshotRecord>, StoreError> {
        let found = self
            .lock()
            .query_row(
                "SELECT * FROM snapshots WHERE name = ?1",
                [name.as_str()],
                |row| Ok(record(row)),
            )
            .optional()
            .map_err(query("read a snapshot"))?;
        found.transpose()
    }

    /// Notes that a machine went on from it.
    pub fn set_snapshot_used(&self, name: &SnapshotName, now: Seconds) -> Result<(), StoreError> {
        self.lock()
            .execute(
                "UPDATE snapshots SET used_at = ?2 WHERE name = ?1",
                (name.as_str(), signed(now)),
            )
            .map(drop)
            .map_err(query("note the use of a snapshot"))
    }

    /// All snapshots, by name.
    pub fn snapshots(&self) -> Result<Vec<SnapshotRecord>, StoreError> {
        self.select("SELECT * FROM snapshots ORDER BY name")
    }

    /// All snapshots, the one that was used or made last first.
    pub fn snapshots_by_use(&self) -> Result<Vec<SnapshotRecord>, StoreError> {
        self.select("SELECT * FROM snapshots ORDER BY max(used_at, created_at) DESC, rowid DESC")
    }

    fn select(&self, statement: &str) -> Result<Vec<SnapshotRecord>, StoreError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare(statement)
            .map_err(query("list snapshots"))?;
        let mut rows = statement.query([]).map_err(query("list snapshots"))?;
        let mut snapshots = Vec::new();
        while let Some(row) = rows.next().map_err(query("list snapshots"))? {
            snapshots.push(record(row)?);
        }
        Ok(snapshots)
    }
}

pub(super) fn record(row: &Row<'_>) -> Result<SnapshotRecord, StoreError> {
    let text = |name: &str| column::<String>(row, name);
    Ok(SnapshotRecord {
        name: parse("snapshot name", &text("name")?, |text| text.parse().ok())?,
        directory: text("directory")?,
        origin: parse("VM name", &text("origin")?, |text| text.parse().ok())?,
        origin_id: parse("VM id", &text("origin_id")?, |text| text.parse().ok())?,
        machine: machine(row)?,
        image_digest: text("image_digest")?,
        binding: Binding {
            vmm: parse("VMM", &text("vmm")?, vmm_of)?,
            accelerator: parse("accelerator", &text("accelerator")?, accelerator_of)?,
            version: text("vmm_version")?,
            processor: text("processor")?,
            clock_khz: unsigned(row, "clock_khz")?,
        },
        agent_generation: column(row, "agent_generation")?,
        agent_version: text("agent_version")?,
        paused_for: Duration::from_millis(unsigned(row, "paused_ms")?),
        memory_bytes: unsigned(row, "memory_bytes")?,
        disk_bytes: unsigned(row, "disk_bytes")?,
        devices_digest: text("devices_digest")?,
        created_at: unsigned(row, "created_at")?,
    })
}

fn machine(row: &Row<'_>) -> Result<Frozen, StoreError> {
    let text = |name: &str| column::<String>(row, name);
    let number = |what, name: &str| -> Result<_, StoreError> {
        let value = unsigned(row, name)?;
        let unreadable = StoreError::Unreadable {
            what,
            value: value.to_string(),
        };
        Ok((value, unreadable))
    };
    let (memory, no_memory) = number("memory size", "memory")?;
    let (disk, no_disk) = number("disk size", "disk")?;
    let (vcpus, no_vcpus) = number("vCPU count", "vcpus")?;
    let vcpus = u32::try_from(vcpus).ok().and_then(|n| n.try_into().ok());
    Ok(Frozen {
        image: parse("image name", &text("image")?, |text| text.parse().ok())?,
        kernel: parse("kernel name", &text("kernel")?, |text| text.parse().ok())?,
        vcpus: vcpus.ok_or(no_vcpus)?,
        memory: memory.try_into().map_err(|_| no_memory)?,
        disk: disk.try_into().map_err(|_| no_disk)?,
        init: parse("init", &text("init")?, |text| {
            Init::try_from(text.to_owned()).ok()
        })?,
        network: parse("network", &text("network")?, network_of)?,
    })
}
