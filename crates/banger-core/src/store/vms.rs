//! Rows of VMs.

use rusqlite::{Connection, OptionalExtension, Row, ffi, named_params};

use super::{
    Store, StoreError, breaches, query,
    upkeep::{life, upkeep},
};
use crate::{
    host::{Accelerator, VmmChoice, VmmKind},
    labels::Labels,
    name::{VmId, VmName},
    record::{Seconds, VmRecord, VmState},
    spec::{Init, Network, VmSpec},
    upkeep::Upkeep,
};

impl Store {
    /// Writes a new VM; its name and its image are checked by the same statement.
    pub fn insert_vm(&self, vm: &VmRecord) -> Result<(), StoreError> {
        let spec = &vm.spec;
        let inserted = self.lock().execute(
            "INSERT INTO vms (id, name, image, kernel, kernel_reason, vcpus, memory, disk, init, network,
                              wanted_vmm, auto_remove, labels, expires_at, restart, autostart,
                              idle_stop, holder, state, created_at, updated_at)
             SELECT :id, :name, :image, :kernel, :kernel_reason, :vcpus, :memory, :disk, :init, :network,
                    :wanted_vmm, :auto_remove, :labels, :expires_at, :restart, :autostart,
                    :idle_stop, :holder, :state, :created_at, :updated_at
             WHERE EXISTS (SELECT 1 FROM images WHERE name = :image AND stage = 'ready')",
            named_params! {
                ":id": vm.id.to_string(),
                ":name": vm.name.as_str(),
                ":image": spec.image.as_str(),
                ":kernel": spec.kernel.as_str(),
                ":kernel_reason": &spec.kernel_reason,
                ":vcpus": spec.vcpus.get(),
                ":memory": signed(spec.memory.bytes()),
                ":disk": signed(spec.disk.bytes()),
                ":init": String::from(spec.init.clone()),
                ":network": spec.network.as_str(),
                ":wanted_vmm": spec.vmm.map(VmmKind::as_str),
                ":auto_remove": spec.auto_remove,
                ":labels": spec.labels.to_json(),
                ":expires_at": spec.expires_at.map(signed),
                ":restart": spec.upkeep.restart.to_string(),
                ":autostart": spec.upkeep.autostart,
                ":idle_stop": spec.upkeep.idle_stop.seconds().map(signed),
                ":holder": vm.holder.as_ref().map(ToString::to_string),
                ":state": vm.state.as_str(),
                ":created_at": signed(vm.created_at),
                ":updated_at": signed(vm.updated_at),
            },
        );
        match inserted {
            Ok(0) => Err(StoreError::NoImage(spec.image.clone())),
            Ok(_) => Ok(()),
            Err(error) if breaches(&error, ffi::SQLITE_CONSTRAINT_UNIQUE) => {
                Err(StoreError::VmTaken(vm.name.clone()))
            }
            Err(error) => Err(query("insert a VM")(error)),
        }
    }

    /// Records a state, before or after the act that it stands for.
    pub fn set_vm_state(
        &self,
        id: VmId,
        state: VmState,
        last_error: Option<&str>,
        now: Seconds,
    ) -> Result<(), StoreError> {
        let changed = self
            .lock()
            .execute(
                "UPDATE vms SET state = ?2, last_error = ?3, updated_at = ?4 WHERE id = ?1",
                (id.to_string(), state.as_str(), last_error, signed(now)),
            )
            .map_err(query("record a VM's state"))?;
        if changed == 1 {
            Ok(())
        } else {
            Err(StoreError::NoVm(id))
        }
    }

    /// Records the intention to start with this VMM. Nobody waits for the disk: where the host loses it, it has lost the
    /// VMM as well.
    pub fn set_vm_starting(
        &self,
        id: VmId,
        choice: &VmmChoice,
        now: Seconds,
    ) -> Result<(), StoreError> {
        let changed = self.without_waiting(|connection| {
            connection.execute(
                "UPDATE vms SET state = 'starting', last_error = NULL, vmm = ?2,
                        accelerator = ?3, vmm_reason = ?4, updated_at = ?5 WHERE id = ?1",
                (
                    id.to_string(),
                    choice.vmm.as_str(),
                    choice.accelerator.as_str(),
                    &choice.reason,
                    signed(now),
                ),
            )
        });
        let changed = changed.map_err(query("record a VM's start"))?;
        if changed == 1 {
            Ok(())
        } else {
            Err(StoreError::NoVm(id))
        }
    }

    /// Gives a VM another name; one that is taken is refused by the same statement.
    pub fn rename_vm(&self, id: VmId, name: &VmName) -> Result<(), StoreError> {
        let renamed = self.lock().execute(
            "UPDATE vms SET name = ?2 WHERE id = ?1",
            (id.to_string(), name.as_str()),
        );
        match renamed {
            Ok(0) => Err(StoreError::NoVm(id)),
            Ok(_) => Ok(()),
            Err(error) if breaches(&error, ffi::SQLITE_CONSTRAINT_UNIQUE) => {
                Err(StoreError::VmTaken(name.clone()))
            }
            Err(error) => Err(query("rename a VM")(error)),
        }
    }

    /// Records what a VM is made of from its next start on.
    pub fn set_vm_spec(&self, id: VmId, spec: &VmSpec, now: Seconds) -> Result<(), StoreError> {
        let changed = self
            .lock()
            .execute(
                "UPDATE vms SET vcpus = :vcpus, memory = :memory, disk = :disk, network = :network,
                        labels = :labels, expires_at = :expires_at, restart = :restart,
                        autostart = :autostart, idle_stop = :idle_stop, updated_at = :now
                 WHERE id = :id",
                named_params! {
                    ":id": id.to_string(),
                    ":vcpus": spec.vcpus.get(),
                    ":memory": signed(spec.memory.bytes()),
                    ":disk": signed(spec.disk.bytes()),
                    ":network": spec.network.as_str(),
                    ":labels": spec.labels.to_json(),
                    ":expires_at": spec.expires_at.map(signed),
                    ":restart": spec.upkeep.restart.to_string(),
                    ":autostart": spec.upkeep.autostart,
                    ":idle_stop": spec.upkeep.idle_stop.seconds().map(signed),
                    ":now": signed(now),
                },
            )
            .map_err(query("record what a VM is made of"))?;
        if changed == 1 {
            Ok(())
        } else {
            Err(StoreError::NoVm(id))
        }
    }

    /// Forgets a VM with all that was done for it. Forgetting it twice is no error.
    pub fn delete_vm(&self, id: VmId) -> Result<(), StoreError> {
        let forget = |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            let id = id.to_string();
            transaction.execute("DELETE FROM vms WHERE id = ?1", [&id])?;
            transaction.execute(
                "DELETE FROM journal WHERE owner_kind = 'vm' AND owner = ?1",
                [&id],
            )?;
            transaction.commit()
        };
        forget(&mut self.lock()).map_err(query("delete a VM"))
    }

    /// All VMs, by age.
    pub fn vms(&self) -> Result<Vec<VmRecord>, StoreError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare("SELECT * FROM vms ORDER BY created_at, name")
            .map_err(query("list VMs"))?;
        let mut rows = statement.query([]).map_err(query("list VMs"))?;
        let mut vms = Vec::new();
        while let Some(row) = rows.next().map_err(query("list VMs"))? {
            vms.push(record(row)?);
        }
        Ok(vms)
    }

    /// A VM that uses a kernel, if there is one.
    pub fn vm_with_kernel(&self, kernel: &str) -> Result<Option<String>, StoreError> {
        self.lock()
            .query_row(
                "SELECT name FROM vms WHERE kernel = ?1 LIMIT 1",
                [kernel],
                |row| row.get(0),
            )
            .optional()
            .map_err(query("look for a kernel's users"))
    }
}

/// SQLite's integers are signed; sizes and times of ours are far below the limit.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn record(row: &Row<'_>) -> Result<VmRecord, StoreError> {
    let choice = match column::<Option<String>>(row, "vmm")? {
        None => None,
        Some(vmm) => Some(VmmChoice {
            vmm: parse("VMM", &vmm, vmm_of)?,
            accelerator: parse(
                "accelerator",
                &column::<String>(row, "accelerator")?,
                accelerator_of,
            )?,
            reason: column(row, "vmm_reason")?,
        }),
    };
    Ok(VmRecord {
        id: parse("VM id", &column::<String>(row, "id")?, |text| {
            text.parse().ok()
        })?,
        name: parse("VM name", &column::<String>(row, "name")?, |text| {
            text.parse().ok()
        })?,
        spec: spec(row)?,
        holder: match column::<Option<String>>(row, "holder")? {
            None => None,
            Some(holder) => Some(parse("holder of a VM", &holder, |text| text.parse().ok())?),
        },
        state: parse("VM state", &column::<String>(row, "state")?, VmState::parse)?,
        choice,
        last_error: column(row, "last_error")?,
        life: life(row)?,
        created_at: unsigned(row, "created_at")?,
        updated_at: unsigned(row, "updated_at")?,
    })
}

fn spec(row: &Row<'_>) -> Result<VmSpec, StoreError> {
    Ok(VmSpec {
        auto_remove: column(row, "auto_remove")?,
        labels: parse(
            "labels",
            &column::<String>(row, "labels")?,
            Labels::from_json,
        )?,
        expires_at: column::<Option<i64>>(row, "expires_at")?
            .map(|value| u64::try_from(value).unwrap_or_default()),
        upkeep: upkeep(row)?,
        ..made_of(row)?
    })
}

/// What a machine is made of, with no wishes beside.
pub(super) fn made_of(row: &Row<'_>) -> Result<VmSpec, StoreError> {
    let (memory, disk) = (unsigned(row, "memory")?, unsigned(row, "disk")?);
    let vcpus: u32 = column(row, "vcpus")?;
    let unreadable = |what, value: u64| StoreError::Unreadable {
        what,
        value: value.to_string(),
    };
    Ok(VmSpec {
        image: parse("image name", &column::<String>(row, "image")?, |text| {
            text.parse().ok()
        })?,
        kernel: parse("kernel name", &column::<String>(row, "kernel")?, |text| {
            text.parse().ok()
        })?,
        kernel_reason: column(row, "kernel_reason")?,
        vcpus: vcpus
            .try_into()
            .map_err(|_| unreadable("vCPU count", vcpus.into()))?,
        memory: memory
            .try_into()
            .map_err(|_| unreadable("memory size", memory))?,
        disk: disk.try_into().map_err(|_| unreadable("disk size", disk))?,
        init: parse("init", &column::<String>(row, "init")?, |text| {
            Init::try_from(text.to_owned()).ok()
        })?,
        network: parse("network", &column::<String>(row, "network")?, network_of)?,
        vmm: match column::<Option<String>>(row, "wanted_vmm")? {
            None => None,
            Some(vmm) => Some(parse("VMM", &vmm, vmm_of)?),
        },
        auto_remove: false,
        labels: Labels::default(),
        expires_at: None,
        upkeep: Upkeep::default(),
    })
}

pub(super) fn column<T: rusqlite::types::FromSql>(
    row: &Row<'_>,
    name: &str,
) -> Result<T, StoreError> {
    row.get(name).map_err(query("read a row"))
}

pub(super) fn unsigned(row: &Row<'_>, name: &str) -> Result<u64, StoreError> {
    column::<i64>(row, name).map(|value| u64::try_from(value).unwrap_or_default())
}

pub(super) fn parse<T>(
    what: &'static str,
    value: &str,
    parser: impl FnOnce(&str) -> Option<T>,
) -> Result<T, StoreError> {
    parser(value).ok_or_else(|| StoreError::Unreadable {
        what,
        value: value.to_owned(),
    })
}

pub(super) fn vmm_of(text: &str) -> Option<VmmKind> {
    [VmmKind::Qemu, VmmKind::Firecracker]
        .into_iter()
        .find(|vmm| vmm.as_str() == text)
}

pub(super) fn accelerator_of(text: &str) -> Option<Accelerator> {
    [Accelerator::Kvm, Accelerator::Tcg]
        .into_iter()
        .find(|a| a.as_str() == text)
}

pub(super) fn network_of(text: &str) -> Option<Network> {
    [Network::User, Network::None]
        .into_iter()
        .find(|network| network.as_str() == text)
}
