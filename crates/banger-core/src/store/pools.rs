//! Rows of pools, and the moment at which a machine of one becomes somebody's. Knows no machine.

use rusqlite::{Row, ffi, named_params};

use super::{
    Store, StoreError, breaches, query,
    vms::{column, made_of, parse, signed, unsigned},
};
use crate::{
    host::VmmKind,
    name::{PoolName, VmId, VmName},
    pool::{PoolRecord, PoolSize},
    record::Seconds,
    spec::VmSpec,
};

impl Store {
    pub fn insert_pool(&self, pool: &PoolRecord) -> Result<(), StoreError> {
        let spec = &pool.spec;
        let inserted = self.lock().execute(
            "INSERT INTO pools (name, size, image, kernel, kernel_reason, vcpus, memory, disk, init,
                    network, wanted_vmm, created_at)
             VALUES (:name, :size, :image, :kernel, :kernel_reason, :vcpus, :memory, :disk, :init,
                    :network, :wanted_vmm, :created_at)",
            named_params! {
                ":name": pool.name.as_str(),
                ":size": pool.size.get(),
                ":image": spec.image.as_str(),
                ":kernel": spec.kernel.as_str(),
                ":kernel_reason": &spec.kernel_reason,
                ":vcpus": spec.vcpus.get(),
                ":memory": signed(spec.memory.bytes()),
                ":disk": signed(spec.disk.bytes()),
                ":init": String::from(spec.init.clone()),
                ":network": spec.network.as_str(),
                ":wanted_vmm": spec.vmm.map(VmmKind::as_str),
                ":created_at": signed(pool.created_at),
            },
        );
        match inserted {
            Ok(_) => Ok(()),
            Err(error) if breaches(&error, ffi::SQLITE_CONSTRAINT_PRIMARYKEY) => {
                Err(StoreError::PoolTaken(pool.name.clone()))
            }
            Err(error) => Err(query("insert a pool")(error)),
        }
    }

    /// Writes down how many machines of a pool are to be ready.
    pub fn set_pool_size(&self, name: &PoolName, size: PoolSize) -> Result<(), StoreError> {
        let statement = "UPDATE pools SET size = ?2 WHERE name = ?1";
        let changed = self
            .lock()
            .execute(statement, (name.as_str(), size.get()))
            .map_err(query("change a pool"))?;
        match changed {
            0 => Err(StoreError::NoPool(name.clone())),
            _ => Ok(()),
        }
    }

    /// Forgets a pool; whether there was one.
    pub fn delete_pool(&self, name: &PoolName) -> Result<bool, StoreError> {
        self.lock()
            .execute("DELETE FROM pools WHERE name = ?1", [name.as_str()])
            .map(|deleted| deleted == 1)
            .map_err(query("delete a pool"))
    }

    /// All pools, by name.
    pub fn pools(&self) -> Result<Vec<PoolRecord>, StoreError> {
        let failed = "list pools";
        let connection = self.lock();
        let mut statement = connection
            .prepare("SELECT * FROM pools ORDER BY name")
            .map_err(query(failed))?;
        let mut rows = statement.query([]).map_err(query(failed))?;
        let mut pools = Vec::new();
        while let Some(row) = rows.next().map_err(query(failed))? {
            pools.push(record(row)?);
        }
        Ok(pools)
    }

    /// Gives a VM that was held to somebody: name, wishes and an owner in one statement.
    pub fn take_vm(
        &self,
        id: VmId,
        name: &VmName,
        spec: &VmSpec,
        now: Seconds,
    ) -> Result<(), StoreError> {
        let taken = self.lock().execute(
            "UPDATE vms SET name = :name, holder = NULL, state = 'starting', last_error = NULL,
                    auto_remove = :auto_remove, labels = :labels, expires_at = :expires_at,
                    restart = :restart, autostart = :autostart, idle_stop = :idle_stop,
                    created_at = :now, updated_at = :now
             WHERE id = :id AND holder IS NOT NULL",
            named_params! {
                ":id": id.to_string(),
                ":name": name.as_str(),
                ":auto_remove": spec.auto_remove,
                ":labels": spec.labels.to_json(),
                ":expires_at": spec.expires_at.map(signed),
                ":restart": spec.upkeep.restart.to_string(),
                ":autostart": spec.upkeep.autostart,
                ":idle_stop": spec.upkeep.idle_stop.seconds().map(signed),
                ":now": signed(now),
            },
        );
        match taken {
            Ok(0) => Err(StoreError::NoVm(id)),
            Ok(_) => Ok(()),
            Err(error) if breaches(&error, ffi::SQLITE_CONSTRAINT_UNIQUE) => {
                Err(StoreError::VmTaken(name.clone()))
            }
            Err(error) => Err(query("take a VM of a pool")(error)),
        }
    }
}

pub(super) fn record(row: &Row<'_>) -> Result<PoolRecord, StoreError> {
    let name: String = column(row, "name")?;
    let size = unsigned(row, "size")?;
    Ok(PoolRecord {
        name: parse("pool's name", &name, |text| text.parse().ok())?,
        size: parse("pool's size", &size.to_string(), |_| {
            u32::try_from(size).ok()?.try_into().ok()
        })?,
        spec: made_of(row)?,
        created_at: unsigned(row, "created_at")?,
    })
}
