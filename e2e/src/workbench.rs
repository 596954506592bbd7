//! An image with the tools that try a kernel, and the kernel that they try. Knows no story.

use std::{env, time::Duration};

use crate::world::{KERNEL, World};

/// The image with tools in it.
pub const WORKBENCH: &str = "workbench";

/// A directory with a build of `generic-6.12`, as `kernel import --from` takes it.
const VARIABLE: &str = "BANGER_TEST_GENERIC_KERNEL";
const GENERIC: &str = "generic-6.12";
const IMPORTING: Duration = Duration::from_secs(60);

/// Makes the image with the host's mmdebstrap, from the archive that the default image came from.
pub(crate) const MAKE: &str = "\
set -euo pipefail
cd \"$BANGER_HOME\"
banger run --rm --image debian-bookworm --init agent -- \
    sh -c 'cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null ||:' >archive.list
mmdebstrap --quiet --variant=minbase \
    --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --include=bindfs,busybox-static,dbus,dbus-user-session,dmsetup,docker.io,e2fsprogs,fuse3,iproute2,ipset,iptables,libpam-systemd,nftables,squashfs-tools,systemd-sysv \
    bookworm - archive.list | banger image import workbench tar:-
rm archive.list
";

/// Which kernel the machines of a story run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelUnderTest {
    /// The build that was given.
    Generic,
    Debian,
}

impl KernelUnderTest {
    /// The one that this run of the tests is about.
    #[must_use]
    pub fn of_this_run() -> Self {
        match env::var_os(VARIABLE) {
            Some(_) => Self::Generic,
            None => Self::Debian,
        }
    }

    /// Brings the kernel that was given into a world, where one was.
    pub(crate) fn bring(world: &World) {
        if let Some(directory) = env::var_os(VARIABLE) {
            let directory = directory.to_str().expect("a path in UTF-8");
            let import = ["kernel", "import", GENERIC, "--from", directory];
            world.call(import).limit(IMPORTING).run().ok();
        }
    }

    /// What its machines call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Generic => GENERIC,
            Self::Debian => KERNEL,
        }
    }
}
