//! Snapshots and forks: a running machine is written down once and goes on many times. Knows the
//! order; what is written is the task's and the host's business.

use std::sync::Arc;

use banger_image::progress::{SharedProgress, Step};
use tokio::task::JoinSet;

use super::{CreateRequest, DeleteUnfinished, Engine};
use crate::{
    error::Error,
    host::VmmChoice,
    journal::{Act, Page},
    labels::Labels,
    name::{SnapshotName, VmName},
    snapshot::{Frozen, Restoration, SnapshotError, SnapshotRecord, fit},
    snapshots::{Snapshots, Staging},
    spec::{Network, VmSpec},
    upkeep::Upkeep,
    vm::{AfterSave, Saved, Standing, View, VmHandle},
};

/// Forks of one call at most.
const MOST_FORKS: u32 = 100;
const KERNEL_REASON: &str = "the saved machine was booted with it";

/// What a fork is asked for.
#[derive(Debug, Clone)]
pub struct ForkRequest {
    pub count: u32,
    /// The forks are called by it and a number; by the origin's name where it is absent.
    pub name_prefix: Option<String>,
}

/// The copies of a machine.
#[derive(Debug, Clone)]
pub struct Forked {
    pub views: Vec<View>,
    /// How long the origin stood still.
    pub paused_for: std::time::Duration,
}

impl Engine {
    #[must_use]
    pub fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    /// Saves a running VM under a name.
    pub async fn snapshot(
        &self,
        vm: &VmHandle,
        name: SnapshotName,
        after: AfterSave,
        progress: SharedProgress,
    ) -> Result<SnapshotRecord, Error> {
        self.snapshots.refuse_taken(&name)?;
        let (staging, saved, standing) = self.write_down(vm, after, &progress).await?;
        let image_digest = self.images.get(&saved.machine.image)?.digest;
        let record = saved.into_record(name, &staging, image_digest, self.now());
        let record = self.snapshots.publish(&staging, record).await?;
        // Nothing is awaited between these: who goes away has a snapshot, or a VM that goes on.
        if let Some(standing) = standing {
            standing.end().await?;
        }
        Ok(record)
    }

    /// Refuses what would take the last of the disk before a machine stands still for it.
    async fn write_down(
        &self,
        vm: &VmHandle,
        after: AfterSave,
        progress: &SharedProgress,
    ) -> Result<(Arc<Staging>, Saved, Option<Standing>), Error> {
        let state = &self.directories.state;
        self.surroundings.host.has_room(state, 0)?;
        let staging = Arc::new(self.snapshots.stage()?);
        report(progress, "save", &vm.name());
        let (saved, standing) = vm.save(staging.clone(), after).await?;
        Ok((staging, saved, standing))
    }

    /// Takes a VM back to what it was when it was saved.
    pub async fn restore(
        &self,
        vm: &VmHandle,
        name: &SnapshotName,
        progress: SharedProgress,
    ) -> Result<View, Error> {
        let snapshot = self.snapshots.get(name)?;
        let own = vm.view().record;
        if own.id != snapshot.origin_id {
            return Err(SnapshotError::Foreign {
                snapshot: snapshot.name,
                origin: snapshot.origin,
                vm: own.name,
            }
            .into());
        }
        vm.restore(self.restoration(&snapshot)?, progress).await
    }

    /// Copies a running VM, which goes on: as many new VMs, each with a name, a disk and an identity
    /// of its own. Either all are made or none.
    pub async fn fork(
        &self,
        vm: &VmHandle,
        request: ForkRequest,
        progress: SharedProgress,
    ) -> Result<Forked, Error> {
        let ForkRequest { count, name_prefix } = request;
        if !(1..=MOST_FORKS).contains(&count) {
            let (asked, most) = (count, MOST_FORKS);
            return Err(SnapshotError::Forks { asked, most }.into());
        }
        let prefix = name_prefix.unwrap_or_else(|| vm.name().to_string());
        let names = self.fork_names(&prefix, count)?;
        let labels = vm.view().record.spec.labels;
        // The copies map its files; when they have them, the names are of no use any more.
        let (staging, saved, _) = self.write_down(vm, AfterSave::GoOn, &progress).await?;
        let from = Restoration {
            files: staging.files.clone(),
            hold: Arc::default(),
            origin_id: saved.origin_id,
            machine: saved.machine.clone(),
            binding: saved.binding.clone(),
        };
        let specs = names.into_iter().map(|name| {
            let spec = copy_of(&from, labels.clone());
            (name, spec)
        });
        let views = self.go_on_as(specs.collect(), &from, &progress).await?;
        Ok(Forked {
            views,
            paused_for: saved.paused_for,
        })
    }

    /// Makes a VM that goes on from a snapshot. Dropping the future leaves nothing behind.
    pub(super) async fn create_from(
        &self,
        snapshot: &SnapshotName,
        request: CreateRequest,
        progress: SharedProgress,
    ) -> Result<View, Error> {
        refuse_fixed(&request)?;
        let snapshot = self.snapshots.get(snapshot)?;
        let from = self.restoration(&snapshot)?;
        let spec = VmSpec {
            auto_remove: request.auto_remove,
            expires_at: request.expires_at,
            upkeep: request.upkeep,
            ..copy_of(&from, request.labels)
        };
        let copy = self.intend_copy(request.name.as_ref(), spec)?;
        let view = copy.go_on(from, progress).await?;
        copy.confirm()?;
        Ok(view)
    }

    /// On what a VM would go on from a snapshot, if it would.
    pub(super) async fn foresee_going_on(
        &self,
        snapshot: &SnapshotName,
        request: &CreateRequest,
    ) -> Result<(VmmChoice, Network), Error> {
        refuse_fixed(request)?;
        let from = self.restoration(&self.snapshots.get(snapshot)?)?;
        let host = &self.surroundings.host;
        let choice = host.choose_vmm(Some(from.binding.vmm)).await?;
        let here = host.binding(choice.vmm, choice.accelerator).await?;
        fit(&from.binding, &here)?;
        Ok((choice, from.machine.network))
    }

    /// The row of a VM that is about to go on, and its task.
    fn intend_copy(&self, name: Option<&VmName>, spec: VmSpec) -> Result<Copy, Error> {
        let (record, made) = self.insert(name, spec)?;
        let page = self.page(record.id);
        let unfinished = DeleteUnfinished(Some(self.spawn(record)));
        Ok(Copy {
            unfinished,
            page,
            made,
        })
    }

    async fn go_on_as(
        &self,
        specs: Vec<(VmName, VmSpec)>,
        from: &Restoration,
        progress: &SharedProgress,
    ) -> Result<Vec<View>, Error> {
        let mut work = JoinSet::new();
        for (index, (name, spec)) in specs.into_iter().enumerate() {
            let copy = self.intend_copy(Some(&name), spec)?;
            let (from, progress) = (from.clone(), progress.clone());
            work.spawn(async move { (index, copy.go_on(from, progress).await, copy) });
        }
        let mut copies = work.join_all().await;
        copies.sort_by_key(|(index, ..)| *index);
        let (views, copies): (Vec<_>, Vec<_>) = copies
            .into_iter()
            .map(|(_, went_on, copy)| (went_on, copy))
            .unzip();
        match views.into_iter().collect() {
            Ok(views) => {
                // Only now: a daemon that ends before leaves none.
                copies.into_iter().try_for_each(Copy::confirm)?;
                Ok(views)
            }
            Err(error) => {
                for copy in &copies {
                    copy.unfinished.delete().await;
                }
                Err(error)
            }
        }
    }

    /// The first free names of this kind.
    fn fork_names(&self, prefix: &str, count: u32) -> Result<Vec<VmName>, Error> {
        let mut names = Vec::new();
        let mut number = 0_u32;
        while names.len() < count as usize {
            number += 1;
            let name: VmName = format!("{prefix}-{number}").parse()?;
            if self.refuse_taken(&name).is_ok() {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// What a VM needs to go on, if the image is still what the saved machine reads.
    fn restoration(&self, snapshot: &SnapshotRecord) -> Result<Restoration, Error> {
        let image = self.images.get(&snapshot.machine.image)?;
        if image.digest != snapshot.image_digest {
            return Err(SnapshotError::Unfit {
                what: "image",
                was: snapshot.image_digest.clone(),
                is: image.digest,
            }
            .into());
        }
        self.snapshots.restoration(snapshot)
    }

    /// A snapshot of such a machine that somebody asked for.
    pub(super) fn snapshot_of(
        &self,
        is: impl Fn(&Frozen) -> bool,
    ) -> Result<Option<SnapshotName>, Error> {
        let mut snapshots = self.snapshots.list()?.into_iter();
        Ok(snapshots
            .find(|one| is(&one.machine))
            .map(|snapshot| snapshot.name))
    }
}

/// A VM that is to be made of a saved machine, and goes unless whoever asked for it has it.
struct Copy {
    unfinished: DeleteUnfinished,
    page: Page,
    made: Act,
}

impl Copy {
    /// A new VM that could not go on is of no use.
    async fn go_on(&self, from: Restoration, progress: SharedProgress) -> Result<View, Error> {
        let handle = self.unfinished.handle();
        match handle.restore(from, progress).await {
            Err(Error::Start { vm, source, .. }) => {
                let kept = handle.delete(true).await.is_err();
                Err(Error::Start { vm, kept, source })
            }
            Err(refused) => {
                // It was never started: what is left of it is its row.
                handle.delete(true).await?;
                Err(refused)
            }
            Ok(view) => Ok(view),
        }
    }

    fn confirm(self) -> Result<(), Error> {
        self.page.journal().confirm(&self.made)?;
        self.unfinished.disarm();
        Ok(())
    }
}

fn copy_of(from: &Restoration, labels: Labels) -> VmSpec {
    let Frozen {
        image,
        kernel,
        vcpus,
        memory,
        disk,
        init,
        network,
    } = from.machine.clone();
    VmSpec {
        image,
        kernel,
        kernel_reason: KERNEL_REASON.to_owned(),
        vcpus,
        memory,
        disk,
        init,
        network,
        vmm: Some(from.binding.vmm),
        auto_remove: false,
        labels,
        expires_at: None,
        upkeep: Upkeep::default(),
    }
}

/// A machine that goes on is what it was.
fn refuse_fixed(request: &CreateRequest) -> Result<(), SnapshotError> {
    if !request.start {
        return Err(SnapshotError::NotStarted);
    }
    match request.chosen_parts().next() {
        Some(what) => Err(SnapshotError::Fixed { what }),
        None => Ok(()),
    }
}

fn report(progress: &SharedProgress, stage: &'static str, vm: &VmName) {
    progress.report(Step {
        stage,
        detail: format!("VM {vm}"),
        done: 0,
        total: None,
    });
}
