//! The life of a user who is nobody: no group, no subordinate ids, no device.
#![forbid(unsafe_code)]

use e2e::{Devices, World, busybox_tar, is_root};

const LIFE: &str = "
    banger image import own tar:-
    banger vm create --quiet --name web --image own
    banger vm show web
    banger exec web -- sh -c 'id -u; echo kept > /root/word'
    banger vm pause web
    banger vm resume web
    banger vm stop web
    banger vm start web
    banger exec web -- cat /root/word
    banger rm --force web
    banger daemon stop
";

#[test]
fn nobody_needs_no_privilege_at_all() {
    if !is_root() {
        eprintln!("SKIPPED: only root can be another user");
        return;
    }
    let world = World::new();
    let life = world.as_nobody(Devices::Common, LIFE).stdin(busybox_tar());
    let lived = life.run();
    lived.ok().stdout_has(["qemu", "seccomp", "\n0\n", "kept"]);
}
