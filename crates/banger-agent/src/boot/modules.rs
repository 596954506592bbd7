//! Owns the loading of the kernel modules that the initramfs carries. Which ones these are is the host's decision.

use std::fs::File;
use std::io;
use std::path::Path;
use std::thread::{self, JoinHandle};

use banger_guest_proto::boot::{Channel, MODULES_DIR};
use rustix::io::Errno;

use crate::console;

/// Modules that could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModuleError {
    #[error("cannot read {MODULES_DIR}/order")]
    Order(#[source] io::Error),
    #[error("{MODULES_DIR}/order has the line {0:?}, which names no purpose and file")]
    Line(String),
    #[error("cannot load {name}")]
    Load {
        name: String,
        #[source]
        source: io::Error,
    },
}

/// What a module is loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Bus,
    Root,
    Other,
    Vsock,
}

/// A module whose file is open: the initramfs may go away before it is loaded.
#[derive(Debug)]
struct Module {
    name: String,
    file: File,
}

/// Modules that are being loaded while the root is assembled.
#[derive(Debug)]
pub(super) struct Loading(Option<JoinHandle<Vec<Module>>>);

/// Loads what the root needs, and begins to load the rest beside it: most of the time goes into waiting for devices.
/// A kernel that has everything built in comes without modules.
pub(super) fn load(channel: &Channel) -> Result<Loading, ModuleError> {
    let order = match std::fs::read_to_string(Path::new(MODULES_DIR).join("order")) {
        Ok(order) => order,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loading(None)),
        Err(error) => return Err(ModuleError::Order(error)),
    };
    let (mut root, mut rest) = (Vec::new(), Vec::new());
    for (purpose, name) in parse_order(&order)? {
        match purpose {
            Purpose::Bus => open(name)?.load()?,
            Purpose::Root => root.push(name),
            Purpose::Other => rest.push(open(name)?),
            Purpose::Vsock => match channel {
                Channel::Vsock(_) => rest.push(open(name)?),
                Channel::VirtioSerial(_) => {}
            },
        }
    }
    let rest = thread::Builder::new()
        .spawn(move || {
            rest.into_iter()
                .filter(|module| module.load().is_err())
                .collect()
        })
        .map_err(|source| load_error("the rest", source))?;
    for name in root {
        open(name)?.load()?;
    }
    Ok(Loading(Some(rest)))
}

impl Loading {
    /// Waits until all is loaded. What failed is tried again, one after the other: it may have needed a module that the
    /// root's were to bring.
    pub(super) fn finish(self) -> Result<(), ModuleError> {
        let failed = self.0.map(|thread| thread.join().unwrap_or_default());
        failed
            .into_iter()
            .flatten()
            .try_for_each(|module| module.load())
    }
}

/// The purposes and file names in the order of loading.
fn parse_order(text: &str) -> Result<Vec<(Purpose, &str)>, ModuleError> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| parse_line(line).ok_or_else(|| ModuleError::Line(line.into())))
        .collect()
}

fn parse_line(line: &str) -> Option<(Purpose, &str)> {
    let (purpose, name) = line.split_once(' ')?;
    let purpose = match purpose {
        "bus" => Purpose::Bus,
        "root" => Purpose::Root,
        "other" => Purpose::Other,
        "vsock" => Purpose::Vsock,
        _ => return None,
    };
    let is_file_name = !name.is_empty() && !name.contains('/') && name != "..";
    is_file_name.then_some((purpose, name))
}

fn open(name: &str) -> Result<Module, ModuleError> {
    match File::open(Path::new(MODULES_DIR).join(name)) {
        Ok(file) => Ok(Module {
            name: name.into(),
            file,
        }),
        Err(source) => Err(load_error(name, source)),
    }
}

impl Module {
    fn load(&self) -> Result<(), ModuleError> {
        console::trace(format_args!("loading {}", self.name));
        match rustix::system::finit_module(&self.file, c"", 0) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(load_error(&self.name, error.into())),
        }
    }
}

fn load_error(name: &str, source: io::Error) -> ModuleError {
    ModuleError::Load {
        name: name.into(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_the_lines() {
        let order =
            parse_order("bus 00-virtio.ko\n root 01-virtio_blk.ko \n\nvsock 02-vsock.ko").unwrap();
        assert_eq!(
            order,
            [
                (Purpose::Bus, "00-virtio.ko"),
                (Purpose::Root, "01-virtio_blk.ko"),
                (Purpose::Vsock, "02-vsock.ko"),
            ]
        );
        assert!(parse_order("").unwrap().is_empty());
    }

    #[test]
    fn what_names_no_purpose_and_file_is_refused() {
        for text in [
            "root /etc/passwd",
            "bus ../x",
            "bus ..",
            "00-virtio.ko",
            "sound x.ko",
            "bus ",
        ] {
            assert!(
                matches!(parse_order(text), Err(ModuleError::Line(_))),
                "{text}"
            );
        }
    }
}
