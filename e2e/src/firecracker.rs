//! A world whose machines run under the real Firecracker: where its programs and a kernel for it
//! come from, and why there may be none.

use std::{
    env,
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::world::World;

/// A kernel for hosts whose /dev/kvm only emulates, packed with xz.
const KERNEL_VARIABLE: &str = "BANGER_TEST_FIRECRACKER_KERNEL";
/// Its name in the worlds that have it.
pub const EMULATION_PROOF: &str = "emulation-proof";
/// What that kernel cannot do without on such a host.
const WORDS: &str = "console=ttyS0 reboot=k panic=-1 lpj=10000000 tsc=reliable 8250.nr_uarts=1 \
                     noxsave clearcpuid=popcnt,cx16,smap,smep,rdtscp,invpcid,pcid,pku,umip quiet \
                     loglevel=1";

/// Set where no story of Firecracker may be left out.
const REQUIRED_VARIABLE: &str = "BANGER_TEST_REQUIRE_FIRECRACKER";

/// Leaves a story of Firecracker out, with a reason on standard error; fails it where this host is
/// said to be able to tell them all.
#[expect(clippy::print_stderr, reason = "a story that is left out says why")]
#[track_caller]
pub fn leave_out(reason: &str) {
    assert!(
        env::var_os(REQUIRED_VARIABLE).is_none(),
        "{REQUIRED_VARIABLE} is set, so no story of Firecracker may be left out, but {reason}"
    );
    eprintln!("SKIPPED: {reason}");
}

/// A world in which machines run under Firecracker; nothing where this host cannot have one.
#[must_use]
#[track_caller]
pub fn firecracker_world() -> Option<World> {
    match kernel() {
        Ok(kernel) => Some(make(&kernel)),
        Err(reason) => {
            leave_out(&reason);
            None
        }
    }
}

fn kernel() -> Result<PathBuf, String> {
    let device = OpenOptions::new().read(true).write(true).open("/dev/kvm");
    device.map_err(|error| format!("/dev/kvm cannot be opened: {error}"))?;
    let packed = env::var_os(KERNEL_VARIABLE).map(PathBuf::from);
    packed.ok_or_else(|| format!("{KERNEL_VARIABLE} names no kernel"))
}

fn make(kernel: &Path) -> World {
    let world = World::new();
    world.configure_also(&format!(
        "allow_emulated_kvm = true\n\
         vmm = \"firecracker\"\n\
         default_kernel = \"{EMULATION_PROOF}\"\n\
         firecracker_bin = \"{}\"\n",
        firecracker_program().display()
    ));
    let directory = world.home().join("kernel");
    fs::create_dir(&directory).expect("the home is writable");
    unpack(kernel, &directory.join("vmlinux"));
    let from = directory.to_str().expect("a home's path is ASCII");
    let import = [
        "kernel",
        "import",
        EMULATION_PROOF,
        "--from",
        from,
        "--cmdline",
        WORDS,
    ];
    world.banger(import).ok();
    world
}

fn unpack(packed: &Path, to: &Path) {
    let target = File::create(to).expect("the home is writable");
    let status = Command::new("xz")
        .args(["--decompress", "--stdout"])
        .arg(packed)
        .stdin(Stdio::null())
        .stdout(target)
        .status();
    let unpacked = status.is_ok_and(|status| status.success());
    assert!(unpacked, "xz cannot unpack {}", packed.display());
}

/// Where `scripts/fetch-firecracker.sh` puts it.
#[must_use]
pub fn firecracker_program() -> PathBuf {
    let named = env::var_os("BANGER_TEST_FIRECRACKER_DIR").map(PathBuf::from);
    let directory = named.unwrap_or_else(|| {
        let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let cache = cache.or(home).expect("a user has a home");
        cache.join("banger-test/firecracker-1.12.1")
    });
    let program = directory.join("firecracker");
    assert!(
        program.is_file(),
        "the stories need {}: run scripts/fetch-firecracker.sh",
        program.display()
    );
    program
}

/// The fetched one may lie where nobody else can read.
const PROGRAM_FOR_ALL: &str = r#"
set -eu
cp "$FIRECRACKER" "$BANGER_HOME"
sed -i "s|^firecracker_bin = .*|firecracker_bin = \"$BANGER_HOME/firecracker\"|" \
    "$BANGER_HOME/config/config.toml"
"#;

/// Lets another user's life in this world have Firecracker, too.
#[track_caller]
pub fn firecracker_for_all(world: &World) {
    world
        .shell(PROGRAM_FOR_ALL)
        .env("FIRECRACKER", firecracker_program())
        .run()
        .ok();
}
