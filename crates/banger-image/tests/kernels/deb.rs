//! Packages: only what is wanted comes out, and nothing hostile goes in.

use std::path::Path;

use banger_image::debian::DebError;
use banger_image::debian::package::{Verdict, unpack};

use crate::support::fakes::{deb, deb_of, gzip, tar, xz};

fn members(names: &[&str]) -> Vec<(String, Vec<u8>)> {
    names
        .iter()
        .map(|name| ((*name).to_owned(), name.as_bytes().to_vec()))
        .collect()
}

/// Unpacks what is below `wanted`; returns the files that came out.
fn check(package: &[u8]) -> Result<Vec<String>, DebError> {
    let into = tempfile::tempdir().unwrap();
    let choose = |member: &Path| match member.strip_prefix("wanted") {
        Ok(rest) => Verdict::Place(into.path().join(rest)),
        Err(_) => Verdict::Skip,
    };
    let unpacked = unpack(package, choose, |_| true)?;
    let mut files: Vec<String> = std::fs::read_dir(into.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(unpacked.files, files.len() as u64);
    Ok(files)
}

/// A tar archive with one member, whose header is what the test says.
fn raw_tar(name: &[u8], kind: tar::EntryType, contents: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(contents.len() as u64);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, contents).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn every_packing_of_packages_is_read() {
    let data = tar(&members(&["./wanted/a", "./other/b", "./wanted/c"]));
    let packages = [
        deb_of("data.tar.xz", &xz(&data)),
        deb_of("data.tar.gz", &gzip(&data)),
        deb_of("data.tar.zst", &zstd::encode_all(&data[..], 1).unwrap()),
        deb_of("data.tar", &data),
    ];
    for package in packages {
        assert_eq!(check(&package).unwrap(), ["a", "c"]);
    }
}

#[test]
fn long_names_are_read() {
    let long = "x".repeat(180);
    let name = format!("./wanted/{long}");
    assert_eq!(check(&deb(&members(&[&name]))).unwrap(), [long]);
}

#[test]
fn names_that_climb_are_refused_wherever_they_stand() {
    for name in [
        &b"/etc/passwd"[..],
        b"../x",
        b"./wanted/../../x",
        b"other/../x",
        b"wanted/\xff",
    ] {
        let data = raw_tar(name, tar::EntryType::Regular, b"x");
        let error = check(&deb_of("data.tar", &data)).unwrap_err();
        assert!(matches!(error, DebError::UnsafeName { .. }), "{error:?}");
    }
}

#[test]
fn only_plain_files_are_placed() {
    for kind in [
        tar::EntryType::Symlink,
        tar::EntryType::Link,
        tar::EntryType::Char,
    ] {
        let error = check(&deb_of("data.tar", &raw_tar(b"wanted/x", kind, b""))).unwrap_err();
        assert!(matches!(error, DebError::NotAFile { .. }), "{error:?}");
        assert!(check(&deb_of("data.tar", &raw_tar(b"other/x", kind, b""))).is_ok());
    }
}

#[test]
fn a_member_comes_once() {
    let error = check(&deb(&members(&["./wanted/a", "wanted/a"]))).unwrap_err();
    assert!(matches!(error, DebError::Twice { .. }), "{error:?}");
}

#[test]
fn endless_long_names_and_foreign_dialects_are_refused() {
    let long = raw_tar(b"././@LongLink", tar::EntryType::GNULongName, &[b'x'; 5000]);
    assert!(matches!(
        check(&deb_of("data.tar", &long)),
        Err(DebError::Read { .. })
    ));
    let pax = raw_tar(b"pax", tar::EntryType::XHeader, b"12 path=a/b\n");
    assert!(matches!(
        check(&deb_of("data.tar", &pax)),
        Err(DebError::Dialect)
    ));
}

#[test]
fn what_is_no_package_is_refused() {
    let good = deb(&members(&["./wanted/a"]));
    assert!(matches!(check(b""), Err(DebError::Format)));
    assert!(matches!(
        check(b"not an archive at all"),
        Err(DebError::Format)
    ));
    assert!(matches!(
        check(&good[..good.len() / 2]),
        Err(DebError::Read { .. })
    ));
    assert!(matches!(
        check(&deb_of("other", b"")),
        Err(DebError::NoData)
    ));
}

#[test]
fn unpacking_stops_when_it_is_given_up() {
    let package = deb(&members(&["./wanted/a"]));
    let result = unpack(&package[..], |_| Verdict::Skip, |_| false);
    assert!(matches!(result, Err(DebError::GivenUp)));
}
