//! What is left over is found and removed; what anybody may need is not.

use std::fs;

use crate::{
    host::Verdict,
    journal::{Act, Owner},
    leftovers::Leftover,
    testing::{World, create},
};

#[test]
fn only_what_nobody_needs_is_removed() {
    let world = World::new();
    world.life(async |engine| {
        let live = create(&engine, "live", true, false).await.view().places;
        let idle = create(&engine, "idle", false, false).await.view().places;
        let checks = engine.leftover_checks();
        assert!(
            checks.iter().all(|check| check.verdict == Verdict::Pass),
            "{checks:?}"
        );

        let runtimes = engine.directories().runtime.join("vm");
        let stale = runtimes.join("0123456789ab");
        fs::create_dir_all(&stale).unwrap();
        fs::write(stale.join("agent.sock"), "").unwrap();
        let half = idle.state.join("disk.ext4.partial");
        fs::write(&half, "half").unwrap();
        let fresh = engine.directories().state.join("scratch/pull");
        fs::create_dir_all(&fresh).unwrap();
        let forgotten = engine.directories().state.join("vms").join("00".repeat(16));
        fs::create_dir_all(&forgotten).unwrap();

        let page = engine.ledger().page(Owner::Kernel("gone".parse().unwrap()));
        let gone = Act::Kernel(engine.directories().state.join("gone"));
        page.journal().intend(&gone).unwrap();
        page.journal().confirm(&gone).unwrap();
        let group = Act::Group("/groups/banger-0123456789ab".into());
        world.host.has_stray(group.clone());

        let found = engine.leftovers();
        let [
            Leftover::File(socket),
            Leftover::File(disk),
            Leftover::Stray(stray),
            Leftover::Entry(row),
        ] = &found[..]
        else {
            panic!("{found:?}");
        };
        assert_eq!((socket, disk), (&stale, &half));
        assert_eq!((stray, &row.act), (&group, &gone));
        let [left, lost] = engine.leftover_checks().try_into().unwrap();
        assert!(left.verdict == Verdict::Warn && left.detail.contains("0123456789ab"));
        assert!(lost.verdict == Verdict::Warn && lost.detail.contains("0000"));
        for (leftover, removed) in engine.remove_leftovers() {
            assert!(removed.is_ok(), "{leftover:?}");
        }
        assert!(!stale.exists() && !half.exists());
        assert_eq!(engine.leftovers(), []);
        assert!(live.disk().exists() && idle.disk().exists());
        assert!(fresh.exists() && forgotten.exists());
    });
}
