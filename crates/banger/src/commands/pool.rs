//! `pool`: machines that are ready before anybody asks.

use std::time::SystemTime;

use banger_api::{
    client::{Client, Work},
    pool::{ChangePool, CreatePool, Pool},
    size::format_size,
};

use super::operations;
use crate::{
    cli::{
        image_reference::ImageReference,
        pool::{PoolCommand, PoolCreateArgs},
        vm::{Network, Vmm},
    },
    exec::signals::Signals,
    output,
    progress::Display,
    report::{Failure, SUCCESS},
    table::{fields, table},
    targets::{distinct, each},
    text::age,
};

/// A pool is there, and not what was waited for.
const INCOMPLETE: u8 = 1;

pub(super) async fn run(client: &Client, command: PoolCommand) -> Result<u8, Failure> {
    match command {
        PoolCommand::Create(args) => create(client, args).await,
        PoolCommand::List(args) => {
            let pools = client.pools().await?;
            output::print_as(args.json.json, &pools, |pools| {
                overview(pools, SystemTime::now())
            })?;
            Ok(SUCCESS)
        }
        PoolCommand::Show(args) => {
            let pool = client.pool(args.name.as_ref()).await?;
            output::print_as(args.json.json, &pool, |pool| {
                details(pool, SystemTime::now())
            })?;
            Ok(SUCCESS)
        }
        PoolCommand::Set(args) => {
            let request = ChangePool { size: args.size };
            let pool = client.change_pool(args.name.as_ref(), &request).await?;
            output::print_as(args.json.json, &pool, |pool| format!("{}\n", pool.name))?;
            Ok(SUCCESS)
        }
        PoolCommand::Delete(args) => {
            let names = distinct(args.names.iter().map(AsRef::as_ref));
            each(names.into_iter().map(async |name| {
                client.delete_pool(&name).await?;
                Ok(name)
            }))
            .await
        }
    }
}

async fn create(client: &Client, args: PoolCreateArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let display = Display::new(args.quiet.quiet);
    let mut progress = display.single();
    let image = args.image.as_ref().map(ImageReference::resolve).transpose();
    let request = CreatePool {
        name: args.name.into(),
        size: Some(args.size),
        image: image.map_err(Failure::nowhere)?,
        kernel: args.kernel.map(Into::into),
        vcpus: args.vcpu,
        memory_bytes: args.memory.map(|size| size.0),
        disk_bytes: args.disk_size.map(|size| size.0),
        init: args.init,
        network: args.network.map(Network::as_str).map(str::to_owned),
        vmm: args.vmm.map(Vmm::as_str).map(str::to_owned),
        wait: args.wait,
    };
    if args.detach.detach {
        return operations::begin(client, Work::CreatePool(&request)).await;
    }
    let work = client.create_pool(&request, |step| progress.step(&step));
    let outcome = "a pool that is there already fills itself: see `banger pool list`";
    let pool = signals.interrupt(work, outcome).await?;
    if args.json.json {
        output::print_json(&pool)?;
    } else {
        output::print(&format!("{}\n", pool.name))?;
    }
    match &pool.last_error {
        Some(error) if args.wait => {
            let (ready, size) = (pool.ready, pool.size);
            output::remark(format_args!(
                "{ready} of {size} machines are ready; another cannot be made: {error}"
            ));
            Ok(INCOMPLETE)
        }
        Some(_) | None => Ok(SUCCESS),
    }
}

fn overview(pools: &[Pool], now: SystemTime) -> String {
    let rows: Vec<_> = pools
        .iter()
        .map(|pool| {
            [
                pool.name.clone(),
                format!("{}/{}", pool.ready, pool.size),
                pool.image.clone(),
                pool.vcpus.to_string(),
                format_size(pool.memory_bytes),
                age(&pool.created_at, now),
            ]
        })
        .collect();
    table(
        ["NAME", "READY", "IMAGE", "VCPUS", "MEMORY", "CREATED"],
        &rows,
    )
}

fn details(pool: &Pool, now: SystemTime) -> String {
    let of = |value: &str| Some(value.to_owned());
    let machines: Vec<_> = pool
        .machines
        .iter()
        .map(|machine| format!("{} ({})", machine.name, machine.state.as_str()))
        .collect();
    fields(&[
        ("name", of(&pool.name)),
        ("ready", Some(format!("{} of {}", pool.ready, pool.size))),
        ("image", of(&pool.image)),
        ("kernel", of(&pool.kernel)),
        ("vcpus", Some(pool.vcpus.to_string())),
        ("memory", Some(format_size(pool.memory_bytes))),
        ("disk", Some(format_size(pool.disk_bytes))),
        ("init", of(&pool.init)),
        ("network", of(&pool.network)),
        ("vmm", pool.vmm.clone()),
        ("machines", Some(machines.join(", "))),
        ("last error", pool.last_error.clone()),
        ("created", Some(age(&pool.created_at, now))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_how_many_are_ready() {
        let pool = Pool {
            name: "web".into(),
            size: 3,
            ready: 2,
            image: "alpine-3".into(),
            kernel: "debian-6.1".into(),
            vcpus: 1,
            memory_bytes: 512 << 20,
            disk_bytes: 8 << 30,
            init: "auto".into(),
            network: "user".into(),
            vmm: None,
            last_error: None,
            machines: Vec::new(),
            created_at: "2026-01-31T08:00:00Z".into(),
        };
        let text = overview(&[pool], SystemTime::UNIX_EPOCH);
        let line = text.lines().nth(1).unwrap();
        assert!(line.starts_with("web") && line.contains("2/3"), "{text}");
    }
}
