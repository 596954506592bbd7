//! Files that are real in form and nearly empty: a root file system's tar, a kernel.

use std::{fs, path::Path};

/// A root file system of one directory and one file.
pub(crate) fn tiny_tar() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut directory = tar::Header::new_gnu();
    directory.set_entry_type(tar::EntryType::Directory);
    directory.set_mode(0o755);
    directory.set_size(0);
    tar.append_data(&mut directory, "bin/", &[][..]).unwrap();
    let mut file = tar::Header::new_gnu();
    file.set_mode(0o755);
    file.set_size(5);
    tar.append_data(&mut file, "bin/true", &b"hello"[..])
        .unwrap();
    tar.into_inner().unwrap()
}

/// An ELF executable of x86-64 that says which Linux it is, and no more.
pub(crate) fn vmlinux() -> Vec<u8> {
    let mut kernel = vec![0; 64];
    kernel[..6].copy_from_slice(b"\x7fELF\x02\x01");
    kernel[16..18].copy_from_slice(&2u16.to_le_bytes());
    kernel[18..20].copy_from_slice(&62u16.to_le_bytes());
    kernel.extend(b"Linux version 6.1.0-9-test (builder@example)\0");
    kernel
}

/// A tar of one file.
pub(crate) fn archive(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut file = tar::Header::new_gnu();
    file.set_mode(0o644);
    file.set_size(bytes.len() as u64);
    tar.append_data(&mut file, name, bytes).unwrap();
    tar.into_inner().unwrap()
}

/// The names of the directories in a directory, sorted.
pub(crate) fn directories(directory: &Path) -> Vec<String> {
    let mut names = entries(directory);
    names.retain(|name| directory.join(name).is_dir());
    names
}

/// The names in a directory, sorted; none where there is no directory.
pub(crate) fn entries(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
