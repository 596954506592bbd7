//! What stands around a Firecracker: of its place, what it sees, and of its privileges, what it
//! keeps. Makes nothing; a child puts it up on its way to its exec.

use std::{
    ffi::CString,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use banger_core::{
    host::{Confinement, LaunchPlan},
    host_error::HostError,
    spec::Network,
};

use super::{
    jail::{Item, Jail, KVM, TUN, URANDOM, below_root, files},
    saved::IN_MEMORY,
};
use crate::sys::{
    Bind, Fence, IdMaps, InMemory, Mounts, PidSpace, Privileges, Surroundings, Taps, Use,
    landlock_version,
};

/// More than the state of all devices ever takes.
const DEVICES_ROOM: u64 = 16 << 20;

/// What stands around a Firecracker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walls {
    /// Its own jailer, which root alone can use.
    Jailer,
    /// Namespaces and a root of its own, made by us.
    Namespaces,
    /// A fence around its files, where this user gets no namespaces.
    Landlock,
}

impl Walls {
    /// Whether a machine within finds its files under the same names as every other one: a saved
    /// machine's state names them, and can be told no others.
    pub(crate) fn keep_names(self) -> bool {
        match self {
            Self::Jailer | Self::Namespaces => true,
            Self::Landlock => false,
        }
    }

    /// What stands there on this kernel.
    pub(crate) fn confinement(self) -> Confinement {
        self.confinement_with(landlock_version())
    }

    /// A kernel without Landlock puts up no fence, and the VMM's own filter of calls is all.
    fn confinement_with(self, landlock: Option<i64>) -> Confinement {
        match (self, landlock) {
            (Self::Jailer, _) => Confinement::Jailer,
            (Self::Namespaces, _) => Confinement::Namespaces,
            (Self::Landlock, Some(_)) => Confinement::Landlock,
            (Self::Landlock, None) => Confinement::Seccomp,
        }
    }
}

impl Jail {
    /// The surroundings that the VMM gets on its way to this place.
    pub(crate) fn surroundings(
        &self,
        plan: &LaunchPlan,
        program: &Path,
    ) -> Result<Surroundings, HostError> {
        let network = match plan.network {
            Network::User => Taps::Cable {
                owner: self.user().unwrap_or(0),
            },
            Network::None => Taps::None,
        };
        Ok(match self.walls {
            Walls::Jailer => Surroundings {
                network: Some(network),
                mounts: Some(self.mounts(plan, None)),
                pid: PidSpace::Own,
                ..Surroundings::default()
            },
            Walls::Namespaces => Surroundings {
                user: (!self.as_root).then(IdMaps::of_this_user),
                network: Some(network),
                mounts: Some(self.mounts(plan, Some(program))),
                pid: PidSpace::Own,
                privileges: self.privileges(),
                fence: self.fence(plan, program)?,
                ..Surroundings::default()
            },
            Walls::Landlock => Surroundings {
                privileges: Privileges::Fewest,
                fence: self.fence(plan, program)?,
                ..Surroundings::default()
            },
        })
    }

    fn privileges(&self) -> Privileges {
        match self.user() {
            Some(id) => Privileges::FewestAs { id },
            None => Privileges::Fewest,
        }
    }

    /// The files of the plan below the root; with a program, that and the devices too, and
    /// nothing else of the host.
    fn mounts(&self, plan: &LaunchPlan, program: Option<&Path>) -> Mounts {
        let root = self.root();
        let bind = |from: &Path, name: &str, read_only| Bind {
            from: c_path(from),
            to: c_path(&root.join(name)),
            read_only,
        };
        let mut binds: Vec<_> = files(plan)
            .into_iter()
            .map(|item| {
                bind(
                    &self.outside(item, plan),
                    below_root(item),
                    item != Item::Disk,
                )
            })
            .collect();
        if let Some(program) = program {
            binds.push(bind(program, "firecracker", true));
            if !self.as_root {
                for device in [KVM, TUN, URANDOM] {
                    binds.push(bind(
                        Path::new(device),
                        device.trim_start_matches('/'),
                        false,
                    ));
                }
            }
        }
        Mounts {
            binds,
            in_memory: Some(self.in_memory(plan)),
            root: program.map(|_| c_path(&root)),
        }
    }

    /// Room for the machine's own state, empty as long as it is not saved.
    fn in_memory(&self, plan: &LaunchPlan) -> InMemory {
        let size = plan.memory.bytes() + DEVICES_ROOM;
        let owner = match self.user() {
            Some(id) => format!(",uid={id},gid={id}"),
            None => String::new(),
        };
        let options = format!("mode=0700,nr_inodes=8,size={size}{owner}");
        InMemory {
            at: c_path(&self.root().join(IN_MEMORY)),
            options: CString::new(options).expect("numbers have no zero byte"),
        }
    }

    /// Its files, its devices and its sockets' directory, and nothing else.
    fn fence(&self, plan: &LaunchPlan, program: &Path) -> Result<Option<Fence>, HostError> {
        let node = |device: &str| match self.walls {
            Walls::Namespaces if self.as_root => self.root().join(device.trim_start_matches('/')),
            Walls::Namespaces | Walls::Jailer | Walls::Landlock => PathBuf::from(device),
        };
        let run = match self.walls {
            Walls::Landlock => self.places.runtime.clone(),
            Walls::Namespaces | Walls::Jailer => self.root().join("run"),
        };
        let mut inside = vec![
            (program.to_owned(), Use::Execute),
            (run, Use::Sockets),
            (node(KVM), Use::ReadWrite),
            (node(URANDOM), Use::Read),
        ];
        inside.extend(files(plan).map(|item| {
            let wanted = if item == Item::Disk {
                Use::ReadWrite
            } else {
                Use::Read
            };
            (self.outside(item, plan), wanted)
        }));
        if self.walls.keep_names() {
            inside.extend(self.saved().map(|path| (path, Use::ReadWrite)));
        }
        match plan.network {
            Network::User => inside.push((node(TUN), Use::ReadWrite)),
            Network::None => {}
        }
        let inside: Vec<_> = inside
            .iter()
            .map(|(path, wanted)| (path.as_path(), *wanted))
            .collect();
        Fence::around(&inside).map_err(|source| HostError::Spawn {
            program: program.display().to_string(),
            source,
        })
    }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("a path that was opened has no zero byte")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_fence_is_told_of_where_there_is_none() {
        let check = |walls: Walls, landlock, wanted| {
            assert_eq!(walls.confinement_with(landlock), wanted);
        };
        check(Walls::Landlock, Some(1), Confinement::Landlock);
        check(Walls::Landlock, None, Confinement::Seccomp);
        check(Walls::Namespaces, None, Confinement::Namespaces);
    }
}
