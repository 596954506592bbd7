//! `man`: a manual page for each command, from the definitions that help is made of.

use std::{fs, path::Path};

use clap::CommandFactory;

use crate::{
    cli::Cli,
    output,
    report::{Failure, SUCCESS},
};

pub(super) fn run(directory: &Path) -> Result<u8, Failure> {
    let failed = |operation: &'static str| {
        let path = directory.to_owned();
        move |source| Failure::File {
            operation,
            path,
            source,
        }
    };
    fs::create_dir_all(directory).map_err(failed("make"))?;
    let pages = clap_mangen::generate_to(Cli::command(), directory);
    pages.map_err(failed("write manual pages into"))?;
    output::remark(format!("wrote manual pages into {}", directory.display()));
    Ok(SUCCESS)
}
