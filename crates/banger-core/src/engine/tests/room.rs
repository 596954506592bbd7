//! A disk is not overfilled: what would take the last of it is refused before anything is made.

use banger_image::kernel::CommandLine;

use crate::{
    error::Error,
    host_error::HostError,
    record::VmState,
    testing::{Act, World, create, request, silent},
};

const MIB: u64 = 1 << 20;

#[test]
fn nothing_is_made_where_there_is_no_room() {
    let world = World::new();
    world.life(async |engine| {
        world.host.has_free(511 * MIB, 512 * MIB);
        let refused = engine.create(request("a", false, false), silent()).await;
        assert!(
            matches!(refused, Err(Error::Host(HostError::Space { .. }))),
            "{refused:?}"
        );
        assert!(engine.views().is_empty() && world.rows().is_empty());
        assert_eq!(world.host.count(Act::ChooseVmm), 0);
        let name = "own".parse().unwrap();
        let from = world.path("from");
        let import = engine
            .kernels()
            .import(&name, &from, CommandLine::default(), false);
        let refused = import.await;
        assert!(
            matches!(refused, Err(Error::Host(HostError::Space { .. }))),
            "{refused:?}"
        );
        world.host.has_free(512 * MIB, 512 * MIB);
        let vm = create(&engine, "a", false, false).await;
        assert_eq!(vm.view().record.state, VmState::Created);
    });
}

#[test]
fn what_takes_room_is_known() {
    let world = World::new();
    world.life(async |engine| {
        create(&engine, "a", false, false).await;
        world.host.has_free(7, 3);
        let usage = engine.disk_usage().unwrap();
        let told: Vec<_> = usage
            .things
            .iter()
            .map(|taken| (taken.kind.as_str(), taken.name.as_str(), taken.vms))
            .collect();
        assert_eq!(
            told,
            [
                ("image", "tiny", 1),
                ("vm", "a", 1),
                ("kernel", "test", 1),
                ("cache", "layers and blobs", 0),
                ("cache", "boot files", 0),
                ("other", "store, logs, work", 0),
            ]
        );
        assert_eq!((usage.space.free, usage.space.reserve), (7, 3));
        let sum: u64 = usage.things.iter().map(|taken| taken.unique).sum();
        assert!(sum > 0 && sum <= usage.total);
    });
}
