//! `vm prune`, `image prune` and `prune`: delete what nobody needs, after asking.

use std::{
    collections::HashSet,
    io::{self, BufRead, IsTerminal},
};

use banger_api::{
    cache::PruneCache,
    client::{Client, ClientError},
    df::DiskUsage,
    size::format_size,
    vm::{DeleteVm, Vm},
};
use futures_util::StreamExt;

use super::show::is_up;
use crate::{
    cli::{
        prune::{ImagePruneArgs, PruneArgs, PruneWhat},
        vm::PruneArgs as VmPruneArgs,
    },
    exec::signals::Signals,
    output,
    report::{Failure, SUCCESS},
    targets::each,
    text::escape,
};

/// `vm prune`.
pub(super) async fn vms(client: &Client, args: &VmPruneArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let mut vms = client.vms().await?;
    vms.retain(|vm| !is_up(vm.state));
    if args.dry_run || vms.is_empty() {
        let names: String = vms.iter().map(|vm| format!("{}\n", vm.name)).collect();
        output::print(&names)?;
        return Ok(SUCCESS);
    }
    let names: Vec<_> = vms.iter().map(|vm| vm.name.as_str()).collect();
    let loss = format!("{} with all that they wrote", names.join(", "));
    if !args.force && !agreed("delete VMs", &loss)? {
        output::remark("nothing was deleted");
        return Ok(SUCCESS);
    }
    // One that was started in the meantime stays: it is deleted without force.
    let work = vms.into_iter().map(async |vm| {
        client.delete_vm(&vm.id, DeleteVm::default()).await?;
        Ok(vm.name)
    });
    signals
        .interrupt(each(work), "the daemon goes on deleting")
        .await
}

/// `image prune`.
pub(super) async fn images(client: &Client, args: &ImagePruneArgs) -> Result<u8, Failure> {
    let plan = plan(client, PruneWhat::IMAGES).await?;
    carry_out(client, plan, args.dry_run, args.force).await
}

/// `prune`.
pub(super) async fn all(client: &Client, args: &PruneArgs) -> Result<u8, Failure> {
    let plan = plan(client, args.what.or_all()).await?;
    carry_out(client, plan, args.dry_run, args.force).await
}

/// Something that nobody needs.
#[derive(Debug, PartialEq, Eq)]
enum Thing {
    Vm { id: String, name: String },
    Image(String),
    Kernel(String),
    Cache,
}

impl Thing {
    /// As lines and questions have it, and as `df` calls it.
    fn called(&self) -> (&'static str, &str) {
        match self {
            Self::Vm { name, .. } => ("vm", name),
            Self::Image(name) => ("image", name),
            Self::Kernel(name) => ("kernel", name),
            Self::Cache => ("cache", "layers and blobs"),
        }
    }
}

/// What is to go, in the order in which it can, and what that frees.
#[derive(Debug, Default)]
struct Plan {
    things: Vec<(Thing, u64)>,
}

impl Plan {
    fn freed(&self) -> u64 {
        self.things.iter().map(|(_, bytes)| bytes).sum()
    }
}

async fn plan(client: &Client, what: PruneWhat) -> Result<Plan, Failure> {
    let usage = client.disk_usage().await?;
    let (goes, stays): (Vec<Vm>, Vec<Vm>) = client
        .vms()
        .await?
        .into_iter()
        .partition(|vm| what.vms && !is_up(vm.state));
    let mut things: Vec<Thing> = Vec::new();
    let images = client.images().await?;
    // A snapshot needs what its VM was made of, whether or not that VM is still there.
    let snapshots = client.snapshots().await?;
    let of_vms = stays.iter().map(|vm| vm.image.as_str());
    let of_snapshots = snapshots.iter().map(|snapshot| snapshot.image.as_str());
    let used: HashSet<&str> = of_vms.chain(of_snapshots).collect();
    let (unused, needed): (Vec<_>, Vec<_>) = images
        .into_iter()
        .partition(|image| what.images && !used.contains(image.name.as_str()));
    if what.kernels {
        let of_vms = stays.iter().map(|vm| vm.kernel.as_str());
        let of_images = needed.iter().filter_map(|image| image.kernel.as_deref());
        let of_snapshots = snapshots.iter().map(|snapshot| snapshot.kernel.as_str());
        let used: HashSet<&str> = of_vms.chain(of_images).chain(of_snapshots).collect();
        let kernels = client.kernels().await?.into_iter();
        let unused = kernels.filter(|kernel| !used.contains(kernel.name.as_str()));
        things.extend(unused.map(|kernel| Thing::Kernel(kernel.name)));
    }
    let images = unused.into_iter().map(|image| Thing::Image(image.name));
    let vms = goes.into_iter().map(|vm| Thing::Vm {
        id: vm.id,
        name: vm.name,
    });
    // What needs goes before what is needed.
    let mut order: Vec<Thing> = vms.chain(images).collect();
    order.append(&mut things);
    if what.cache {
        order.push(Thing::Cache);
    }
    Ok(sized(order, &usage))
}

fn sized(things: Vec<Thing>, usage: &DiskUsage) -> Plan {
    let bytes = |thing: &Thing| {
        let called = thing.called();
        let mut taken = usage.things.iter();
        let found = taken.find(|taken| (taken.kind.as_str(), taken.name.as_str()) == called);
        found.map_or(0, |taken| taken.unique_bytes)
    };
    let sized = things.into_iter().map(|thing| {
        let bytes = bytes(&thing);
        (thing, bytes)
    });
    // An empty cache is nothing that could go.
    let sized = sized.filter(|(thing, bytes)| *thing != Thing::Cache || *bytes > 4096);
    Plan {
        things: sized.collect(),
    }
}

async fn carry_out(client: &Client, plan: Plan, dry_run: bool, force: bool) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let freed = format_size(plan.freed());
    if dry_run || plan.things.is_empty() {
        let lines: String = plan.things.iter().map(line).collect();
        output::print(&lines)?;
        output::remark(format!("that would free about {freed}"));
        return Ok(SUCCESS);
    }
    let names = plan.things.iter().map(|(thing, _)| {
        let (kind, name) = thing.called();
        format!("{kind} {name}")
    });
    let names = names.collect::<Vec<_>>().join(", ");
    if !force && !agreed("delete what nobody needs", &names)? {
        output::remark("nothing was deleted");
        return Ok(SUCCESS);
    }
    let work = delete_all(client, plan);
    let code = signals
        .interrupt(work, "what is deleted already stays so")
        .await?;
    output::remark(format!("freed about {freed}"));
    Ok(code)
}

fn line((thing, bytes): &(Thing, u64)) -> String {
    let (kind, name) = thing.called();
    let size = format_size(*bytes);
    format!("{kind} {}  {size}\n", escape(name))
}

/// One after the other: an image can go once its VMs have.
async fn delete_all(client: &Client, plan: Plan) -> Result<u8, Failure> {
    let mut failures = Vec::new();
    let mut things = futures_util::stream::iter(plan.things);
    while let Some(thing) = things.next().await {
        match delete(client, &thing.0).await {
            Ok(()) => output::print(&line(&thing))?,
            Err(error) => failures.push(error.into()),
        }
    }
    super::ports::finish(failures)
}

/// Without force: what somebody began to need in the meantime stays.
async fn delete(client: &Client, thing: &Thing) -> Result<(), ClientError> {
    match thing {
        Thing::Vm { id, .. } => client.delete_vm(id, DeleteVm::default()).await,
        Thing::Image(name) => client.delete_image(name).await,
        Thing::Kernel(name) => client.delete_kernel(name).await,
        Thing::Cache => {
            let request = PruneCache {
                keep: 0,
                dry_run: false,
            };
            client.prune_image_cache(request).await.map(drop)
        }
    }
}

pub(super) fn agreed(what: &'static str, loss: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Unasked {
            what,
            flag: "--force",
        });
    }
    output::remark(format!("this deletes {}. Go on? [y/N]", escape(loss)));
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|source| Failure::Host {
            operation: "read the answer",
            source,
        })?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use banger_api::df::Taken;

    use super::*;

    #[test]
    fn a_plan_says_what_would_come_back() {
        let taken = |kind: &str, name: &str, unique_bytes, shared_bytes| Taken {
            kind: kind.into(),
            name: name.into(),
            unique_bytes,
            shared_bytes,
            vms: 0,
        };
        let usage = |cache| DiskUsage {
            path: "/s".into(),
            size_bytes: 0,
            free_bytes: 0,
            reserve_bytes: 0,
            total_bytes: 0,
            things: vec![
                taken("vm", "web", 1 << 20, 1 << 30),
                // A name of one kind is none of another.
                taken("image", "web", 5 << 20, 0),
                taken("cache", "layers and blobs", cache, 0),
            ],
        };
        let web = || Thing::Vm {
            id: "1".into(),
            name: "web".into(),
        };
        let full = sized(vec![web(), Thing::Cache], &usage(1 << 21));
        assert_eq!(full.freed(), 3 << 20);
        assert_eq!(line(&full.things[0]), "vm web  1 MiB\n");
        let empty = sized(vec![web(), Thing::Cache], &usage(4096));
        assert_eq!(empty.things.len(), 1);
    }
}
