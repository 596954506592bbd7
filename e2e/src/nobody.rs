//! Another user's life beside a world: somebody without any privilege, in a home of their own with
//! what the world has. Only root can arrange that.

use crate::{command::Call, world::World};

/// What such a user may open beside their own files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Devices {
    /// What every user may.
    Common,
    /// /dev/kvm and /dev/net/tun, too.
    Virtual,
}

/// Makes the home, and lives the life in it.
const NOBODY: &str = r#"
set -eu
banger daemon stop
user=$BANGER_HOME/u
mkdir "$user" "$user/bin" "$user/dev"
chmod 711 "$BANGER_HOME"
cp -a --sparse=always "$BANGER_HOME/config" "$BANGER_HOME/state" "$user"
rm -f "$user/state/bangerd.log"
cp "$(command -v banger)" "$(command -v bangerd)" "$user/bin"
mknod "$user/dev/kvm" c 10 232
mknod "$user/dev/tun" c 10 200
chown -R 65534:65534 "$user"
export BANGER_HOME=$user HOME=$user PATH=$user/bin:$PATH
exec unshare --mount sh -euc '
    if [ "$DEVICES" = virtual ]; then
        mount --bind "$HOME/dev/kvm" /dev/kvm
        mount --bind "$HOME/dev/tun" /dev/net/tun
    fi
    exec setpriv --reuid 65534 --regid 65534 --clear-groups sh -euc "$LIFE"
'
"#;

impl World {
    /// Lines of shell in the life of such a user, whose daemon they have to stop at the end. The
    /// world's own daemon has to stop first, so its machines may be gone.
    #[must_use]
    pub fn as_nobody(&self, devices: Devices, life: &str) -> Call {
        let devices = match devices {
            Devices::Common => "common",
            Devices::Virtual => "virtual",
        };
        self.shell(NOBODY).env("DEVICES", devices).env("LIFE", life)
    }
}

/// Whether this user can be another one.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
