//! Owns the loading of the kernel modules that the initramfs carries. Which ones these are is the host's decision.

use std::fs::File;
use std::io;
use std::path::Path;

use banger_guest_proto::boot::MODULES_DIR;
use rustix::io::Errno;

use crate::console;

/// Modules that could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModuleError {
    #[error("cannot read {MODULES_DIR}/order")]
    Order(#[source] io::Error),
    #[error("{MODULES_DIR}/order names {0:?}, which is no file name")]
    Name(String),
    #[error("cannot load {name}")]
    Load {
        name: String,
        #[source]
        source: io::Error,
    },
}

/// Loads all modules in their order; a kernel that has everything built in comes without.
pub(super) fn load_all() -> Result<(), ModuleError> {
    let order = match std::fs::read_to_string(Path::new(MODULES_DIR).join("order")) {
        Ok(order) => order,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ModuleError::Order(error)),
    };
    parse_order(&order)?.into_iter().try_for_each(|name| {
        console::trace(format_args!("loading {name}"));
        load(name).map_err(|source| ModuleError::Load {
            name: name.into(),
            source,
        })
    })
}

/// The file names in the order of loading.
fn parse_order(text: &str) -> Result<Vec<&str>, ModuleError> {
    let names = text.lines().map(str::trim).filter(|line| !line.is_empty());
    names
        .map(|name| match name.contains('/') || name == ".." {
            true => Err(ModuleError::Name(name.into())),
            false => Ok(name),
        })
        .collect()
}

fn load(name: &str) -> io::Result<()> {
    let file = File::open(Path::new(MODULES_DIR).join(name))?;
    match rustix::system::finit_module(&file, c"", 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_the_lines() {
        let names = parse_order("00-virtio.ko\n 01-virtio_blk.ko \n\n02-overlay.ko").unwrap();
        assert_eq!(names, ["00-virtio.ko", "01-virtio_blk.ko", "02-overlay.ko"]);
        assert!(parse_order("").unwrap().is_empty());
    }

    #[test]
    fn a_path_is_no_name() {
        for text in ["/etc/passwd", "../x", ".."] {
            assert!(
                matches!(parse_order(text), Err(ModuleError::Name(_))),
                "{text}"
            );
        }
    }
}
