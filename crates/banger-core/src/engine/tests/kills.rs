//! A daemon that ends at any moment: before and after each write of the journal, and before each
//! act of the host. What was confirmed is there afterwards, nothing else is, and whoever asks
//! again gets what they asked for.

use std::{collections::BTreeSet, fs, io::Cursor};

use banger_image::{
    ext4::{self, FsUuid},
    kernel::{CommandLine, KernelError, KernelName},
    rootfs::Source,
};

use crate::{
    engine::{CreateRequest, Engine, ForkRequest},
    error::{Error, RegisterError},
    images::Registration,
    journal::{Outcome, Owner, Stage},
    name::{ImageName, SnapshotName, VmId},
    record::VmState,
    spec::SpecChange,
    store::StoreError,
    testing::{
        Act, LONG, World, create, directories, entries, request, silent, time_passes, tiny_tar,
    },
    vm::{AfterSave, VmHandle},
};

/// What a disk grows to.
const LARGER: u64 = 32 << 30;

/// What somebody asks for when the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    Create,
    CreateAndStart,
    Start,
    Stop,
    Kill,
    Restart,
    Pause,
    Resume,
    Delete,
    DeleteRunning,
    Import,
    DeleteImage,
    Register,
    Promote,
    ImportKernel,
    DeleteKernel,
    Grow,
    Save,
    SaveAndEnd,
    GoBack,
    GoOn,
    Fork,
}

impl Story {
    /// What is there before.
    async fn prepare(self, world: &World, engine: &Engine) {
        match self {
            Self::Create | Self::CreateAndStart | Self::Import | Self::ImportKernel => {}
            Self::Start | Self::Delete => {
                create(engine, "story", false, false).await;
            }
            Self::Stop
            | Self::Kill
            | Self::Restart
            | Self::Pause
            | Self::DeleteRunning
            | Self::Grow
            | Self::Save
            | Self::SaveAndEnd
            | Self::Fork => {
                create(engine, "story", true, false).await;
            }
            Self::GoBack => {
                create(engine, "story", true, false).await;
                Self::Save.ask(world, engine).await.unwrap();
            }
            Self::GoOn => {
                let origin = create(engine, "story", true, false).await;
                Self::Save.ask(world, engine).await.unwrap();
                origin.delete(true).await.unwrap();
            }
            Self::Resume => {
                let vm = create(engine, "story", true, false).await;
                vm.pause().await.unwrap();
            }
            Self::DeleteImage => Self::Import.ask(world, engine).await.unwrap(),
            Self::Register => file_system(world),
            Self::Promote => {
                file_system(world);
                Self::Register.ask(world, engine).await.unwrap();
            }
            Self::DeleteKernel => Self::ImportKernel.ask(world, engine).await.unwrap(),
        }
    }

    async fn ask(self, world: &World, engine: &Engine) -> Result<(), Error> {
        let vm = || engine.find("story");
        let image: &ImageName = &"mine".parse().unwrap();
        let kernel: &KernelName = &"own".parse().unwrap();
        match self {
            Self::Create => make(engine, false).await,
            Self::CreateAndStart => make(engine, true).await,
            Self::Start => vm()?.start(silent()).await.map(drop),
            Self::Stop => vm()?.stop(None).await.map(drop),
            Self::Kill => vm()?.kill().await.map(drop),
            Self::Restart => vm()?.restart(None, silent()).await.map(drop),
            Self::Pause => vm()?.pause().await.map(drop),
            Self::Resume => vm()?.resume().await.map(drop),
            Self::Delete => vm()?.delete(false).await,
            Self::DeleteRunning => vm()?.delete(true).await,
            Self::Import => {
                let source = Source::Stream(Box::new(Cursor::new(tiny_tar())));
                let images = engine.images();
                let made = images.import(image, source, "test".into(), silent());
                made.await.map(drop)
            }
            Self::DeleteImage => engine.delete_image(image).await,
            Self::Register => {
                let registration = Registration {
                    name: image.clone(),
                    rootfs: world.path("own.ext4"),
                    kernel: None,
                };
                let registered = engine.register_image(registration, silent());
                registered.await.map(drop)
            }
            Self::Promote => engine.images().promote(image, silent()).await.map(drop),
            Self::ImportKernel => {
                let (from, told) = (world.path("from"), CommandLine::default());
                let imported = engine.kernels().import(kernel, &from, told, false);
                imported.await.map(drop)
            }
            Self::DeleteKernel => engine.delete_kernel(kernel).await,
            Self::Grow => {
                let disk = Some(LARGER.try_into().unwrap());
                let larger = SpecChange {
                    disk,
                    ..SpecChange::default()
                };
                vm()?.change(larger).await.map(drop)
            }
            Self::Save => save(engine, AfterSave::GoOn).await,
            Self::SaveAndEnd => save(engine, AfterSave::End).await,
            Self::GoBack => engine.restore(&vm()?, &saved(), silent()).await.map(drop),
            Self::GoOn => {
                let request = CreateRequest {
                    snapshot: Some(saved()),
                    ..request("story", true, false)
                };
                engine.create(request, silent()).await.map(drop)
            }
            Self::Fork => {
                let request = ForkRequest {
                    count: 2,
                    name_prefix: None,
                };
                engine.fork(&vm()?, request, silent()).await.map(drop)
            }
        }
    }

    /// Whether this answer to the second request says that the first was done.
    fn was_done(self, answer: &Error) -> bool {
        let is_taken = matches!(
            answer,
            Error::Store(
                StoreError::VmTaken(_) | StoreError::ImageTaken(_) | StoreError::SnapshotTaken(_)
            ) | Error::Kernel(KernelError::Taken { .. })
                | Error::Register(RegisterError::Managed { .. })
        );
        let is_gone = matches!(
            answer,
            Error::NotFound { .. } | Error::Kernel(KernelError::NotFound { .. })
        );
        match self {
            Self::Create
            | Self::CreateAndStart
            | Self::Import
            | Self::Register
            | Self::Promote
            | Self::ImportKernel
            | Self::Save
            | Self::SaveAndEnd
            | Self::GoOn => is_taken,
            Self::Delete | Self::DeleteRunning | Self::DeleteImage | Self::DeleteKernel => is_gone,
            Self::Start
            | Self::Stop
            | Self::Kill
            | Self::Restart
            | Self::Pause
            | Self::Resume
            | Self::Grow
            | Self::GoBack
            | Self::Fork => false,
        }
    }

    /// Asserts that what was asked for is so.
    fn holds(self, engine: &Engine) {
        let is = |state: VmState| {
            let vm = engine.find("story").unwrap();
            assert_eq!(vm.view().record.state, state, "{self:?}");
        };
        let image = || engine.images().get(&"mine".parse().unwrap());
        let kernel = || engine.kernels().get(&"own".parse().unwrap());
        match self {
            Self::Create => is(VmState::Created),
            Self::CreateAndStart
            | Self::Start
            | Self::Restart
            | Self::Resume
            | Self::GoBack
            | Self::GoOn => is(VmState::Running),
            Self::Save | Self::SaveAndEnd => drop(engine.snapshots().get(&saved()).unwrap()),
            Self::Fork => {
                is(VmState::Running);
                let forks = engine.count(|view| view.record.name.as_str().starts_with("story-"));
                assert!(forks >= 2, "{forks} forks");
            }
            Self::Stop | Self::Kill => is(VmState::Stopped),
            Self::Pause => is(VmState::Paused),
            Self::Delete | Self::DeleteRunning => drop(engine.find("story").unwrap_err()),
            Self::Import | Self::Register => drop(image().unwrap()),
            Self::Promote => assert_eq!(image().unwrap().rootfs, None),
            Self::DeleteImage => drop(image().unwrap_err()),
            Self::ImportKernel => drop(kernel().unwrap()),
            Self::DeleteKernel => drop(kernel().unwrap_err()),
            Self::Grow => {
                is(VmState::Running);
                let spec = engine.find("story").unwrap().view().record.spec;
                assert_eq!(spec.disk.bytes(), LARGER);
            }
        }
    }
}

async fn make(engine: &Engine, start: bool) -> Result<(), Error> {
    let made = engine
        .create(request("story", start, false), silent())
        .await;
    made.map(drop)
}

fn saved() -> SnapshotName {
    "saved".parse().unwrap()
}

async fn save(engine: &Engine, after: AfterSave) -> Result<(), Error> {
    let vm = engine.find("story")?;
    let made = engine.snapshot(&vm, saved(), after, silent()).await;
    made.map(drop)
}

fn file_system(world: &World) {
    let (path, label) = (world.path("own.ext4"), "own".parse().unwrap());
    ext4::create_empty(&path, 64 << 20, &label, FsUuid::from_bytes([7; 16])).unwrap();
}

/// Lets a daemon end at each moment of a story in turn, and looks at what the next one makes of it.
fn check(story: Story) {
    for moment in 0.. {
        let world = World::new();
        let kept = world.life(async |engine| {
            let kept = create(&engine, "kept", true, false).await;
            story.prepare(&world, &engine).await;
            kept.view().record.id
        });
        let end = world.life(async |engine| {
            engine.looked_for().await;
            world.host.power().cut_at(moment);
            // Who is cut off may never get an answer.
            let _ = tokio::time::timeout(LONG, story.ask(&world, &engine)).await;
            world.host.power().end()
        });
        let told = format!("{story:?}, ended at moment {moment}: {end:?}");
        world.life(async |engine| {
            engine.looked_for().await;
            time_passes(LONG).await;
            is_tidy(&world, &engine, &told);
            let vm = engine.find("kept").expect("what was confirmed is there");
            runs_on(&world, &vm, kept, &told);
            match story.ask(&world, &engine).await {
                Ok(()) => {}
                Err(answer) => assert!(story.was_done(&answer), "{told}: {answer:?}"),
            }
            story.holds(&engine);
            is_tidy(&world, &engine, &told);
        });
        if end.is_none() {
            assert!(moment > 0, "{story:?} has no moment");
            return;
        }
    }
}

/// That a machine was touched by nobody.
fn runs_on(world: &World, vm: &VmHandle, id: VmId, told: &str) {
    let record = vm.view().record;
    assert_eq!((record.id, record.state), (id, VmState::Running), "{told}");
    let touched = |act: &Act| matches!(act, Act::Launch | Act::Kill | Act::Sweep);
    let acts: Vec<_> = world.host.acts_of(id).into_iter().filter(touched).collect();
    assert_eq!(acts, [Act::Launch], "{told}");
}

/// That all that is there belongs to somebody, and that nothing is half-done.
pub(super) fn is_tidy(world: &World, engine: &Engine, told: &str) {
    let rows = world.rows();
    let views: BTreeSet<_> = engine.views().into_iter().map(|v| v.record.id).collect();
    assert_eq!(views, rows.iter().map(|row| row.id).collect(), "{told}");
    let ids: BTreeSet<_> = rows.iter().map(|row| row.id.to_string()).collect();
    assert_eq!(set(entries(&world.vms())), ids, "{told}: directories");
    let live = |state| matches!(state, VmState::Running | VmState::Paused);
    let running = rows.iter().filter(|row| live(row.state));
    let running: BTreeSet<_> = running.map(|row| row.id).collect();
    let alive: BTreeSet<_> = world.host.alive().into_iter().collect();
    assert_eq!(alive, running, "{told}: machines");
    for row in rows.iter().filter(|row| row.state == VmState::Running) {
        let acts = world.host.acts_of(row.id).into_iter();
        let moves = |act: &Act| matches!(act, Act::Launch | Act::Pause | Act::Resume);
        let last = acts.rev().find(moves);
        assert_ne!(last, Some(Act::Pause), "{told}: it stands still");
    }
    let sockets: BTreeSet<_> = running.iter().map(VmId::short).collect();
    assert_eq!(set(entries(&world.path("run"))), sockets, "{told}: sockets");
    let snapshots = world.store().snapshots().unwrap().into_iter();
    let whole: BTreeSet<_> = snapshots.map(|snapshot| snapshot.directory).collect();
    assert_eq!(set(entries(&world.snapshots())), whole, "{told}: snapshots");
    let images = world.store().images().unwrap();
    let own = images.iter().filter(|row| row.rootfs.is_none());
    let own = own.filter(|row| row.name.as_str() != "tiny");
    let own: BTreeSet<_> = own.map(|row| row.directory.clone()).collect();
    assert_eq!(
        set(directories(&world.images_directory())),
        own,
        "{told}: images"
    );
    journal_is_true(world, engine, told);
}

fn journal_is_true(world: &World, engine: &Engine, told: &str) {
    let journal = engine.ledger().rows().unwrap();
    for row in &journal {
        assert_eq!(row.stage, Stage::Confirmed, "{told}: {row:?}");
        let there = row.act.trace().is_none_or(std::path::Path::exists);
        assert!(there, "{told}: {row:?}");
    }
    let of_vms = journal.iter().filter_map(|row| match &row.owner {
        Owner::Vm(id) => Some(*id),
        Owner::Image(_) | Owner::Kernel(_) => None,
    });
    let of_vms: BTreeSet<_> = of_vms.collect();
    let rows: BTreeSet<_> = world.rows().iter().map(|row| row.id).collect();
    assert_eq!(of_vms, rows, "{told}: owners");
    let settled = engine.ledger().report().settled;
    let left = settled.iter().filter(|one| one.outcome == Outcome::Left);
    assert_eq!(left.count(), 0, "{told}: {settled:?}");
}

fn set(names: Vec<String>) -> BTreeSet<String> {
    names.into_iter().collect()
}

macro_rules! survives {
    ($($name:ident: $story:ident,)*) => {
        $(#[test]
        fn $name() {
            check(Story::$story);
        })*
    };
}

survives! {
    a_creation_survives_a_kill_at_any_moment: Create,
    a_creation_with_a_start_survives_a_kill_at_any_moment: CreateAndStart,
    a_start_survives_a_kill_at_any_moment: Start,
    a_stop_survives_a_kill_at_any_moment: Stop,
    an_end_survives_a_kill_at_any_moment: Kill,
    a_restart_survives_a_kill_at_any_moment: Restart,
    a_pause_survives_a_kill_at_any_moment: Pause,
    a_resumption_survives_a_kill_at_any_moment: Resume,
    a_deletion_survives_a_kill_at_any_moment: Delete,
    a_forced_deletion_survives_a_kill_at_any_moment: DeleteRunning,
    an_import_survives_a_kill_at_any_moment: Import,
    the_deletion_of_an_image_survives_a_kill_at_any_moment: DeleteImage,
    a_registration_survives_a_kill_at_any_moment: Register,
    a_promotion_survives_a_kill_at_any_moment: Promote,
    the_import_of_a_kernel_survives_a_kill_at_any_moment: ImportKernel,
    the_deletion_of_a_kernel_survives_a_kill_at_any_moment: DeleteKernel,
    a_growth_survives_a_kill_at_any_moment: Grow,
    a_save_survives_a_kill_at_any_moment: Save,
    a_save_and_an_end_survive_a_kill_at_any_moment: SaveAndEnd,
    a_way_back_to_a_snapshot_survives_a_kill_at_any_moment: GoBack,
    a_machine_of_a_snapshot_survives_a_kill_at_any_moment: GoOn,
    forks_survive_a_kill_at_any_moment: Fork,
}

#[test]
fn what_an_earlier_daemon_left_half_done_is_told_of() {
    let world = World::new();
    world.life(async |engine| {
        world.host.power().cut_at(6);
        let _ = tokio::time::timeout(LONG, make(&engine, false)).await;
        let end = world.host.power().end();
        assert_eq!(end.as_deref(), Some("after directory is confirmed"));
    });
    let left = world.store().journal().unwrap();
    assert!(left.iter().any(|row| row.stage != Stage::Confirmed));
    world.life(async |engine| {
        engine.looked_for().await;
        time_passes(LONG).await;
        let settled = engine.ledger().report().settled;
        let outcomes: Vec<_> = settled
            .iter()
            .map(|one| (one.act.word(), one.outcome))
            .collect();
        assert_eq!(outcomes, [("vm", Outcome::Undone)]);
    });
    world.is_empty();
}

#[test]
fn what_is_in_no_row_is_undone() {
    let world = World::new();
    let id = world.life(async |engine| {
        let vm = create(&engine, "story", true, false).await;
        vm.view().record.id
    });
    let journal = world.store().journal().unwrap();
    let store = world.store();
    store.delete_vm(id).unwrap();
    for row in &journal {
        let entry = crate::journal::Entry::At(Stage::Intended);
        store.write_journal(&row.owner, &row.act, entry, 1).unwrap();
    }
    drop(store);
    fs::metadata(world.vms().join(id.to_string())).unwrap();
    world.life(async |engine| engine.looked_for().await);
    world.is_empty();
}
