//! Between the wire's pools and the domain's.

use banger_api::{
    pool::{CreatePool, Pool, PoolMachine},
    progress::rfc3339,
    vm::CreateVm,
};
use banger_core::{
    engine::{PoolRequest, PoolView},
    error::Error,
    host::VmmKind,
    record::Seconds,
    vm::View,
};

use crate::convert;

/// Parses a request for a pool: what is wrong with its machines is wrong as in a request for one.
pub(crate) fn request(request: CreatePool, now: Seconds) -> Result<PoolRequest, Error> {
    let CreatePool {
        name,
        size,
        image,
        kernel,
        vcpus,
        memory_bytes,
        disk_bytes,
        init,
        network,
        vmm,
        wait,
    } = request;
    let machine = CreateVm {
        image,
        kernel,
        vcpus,
        memory_bytes,
        disk_bytes,
        init,
        network,
        vmm,
        ..CreateVm::default()
    };
    Ok(PoolRequest {
        name: name.parse()?,
        size: size.unwrap_or(1).try_into()?,
        machine: convert::create_request(machine, now)?,
        wait,
    })
}

/// A pool as clients see it.
pub(crate) fn pool(view: PoolView) -> Pool {
    let PoolView {
        record,
        status,
        machines,
    } = view;
    let spec = record.spec;
    Pool {
        name: record.name.to_string(),
        size: record.size.get(),
        ready: u32::try_from(status.ready).unwrap_or(u32::MAX),
        image: spec.image.to_string(),
        kernel: spec.kernel.to_string(),
        vcpus: spec.vcpus.get(),
        memory_bytes: spec.memory.bytes(),
        disk_bytes: spec.disk.bytes(),
        init: spec.init.into(),
        network: spec.network.as_str().to_owned(),
        vmm: spec.vmm.map(VmmKind::as_str).map(str::to_owned),
        last_error: status.last_error,
        machines: machines.into_iter().map(machine).collect(),
        created_at: rfc3339(record.created_at),
    }
}

fn machine(view: View) -> PoolMachine {
    let record = view.record;
    PoolMachine {
        id: record.id.to_string(),
        name: record.name.to_string(),
        state: convert::state(record.state),
        created_at: rfc3339(record.created_at),
    }
}
