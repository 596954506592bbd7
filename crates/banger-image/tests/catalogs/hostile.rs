//! Bundles that a publisher with a good key made to do harm, or by mistake.

use std::fs;
use std::io::Write as _;

use banger_image::bundle::{Bundle, ImageManifest};
use banger_image::digest::Sha256;
use tar::{EntryType, Header};

use crate::world::{SIZE, World, chain, disk, manifest};

fn member(kind: EntryType, name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
    let mut bytes = [header.as_bytes(), content].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    member(EntryType::Regular, name, content)
}

fn described(manifest: &ImageManifest) -> Vec<u8> {
    file("manifest.json", &serde_json::to_vec(manifest).unwrap())
}

fn packed(members: &[Vec<u8>]) -> Vec<u8> {
    let mut tar = members.concat();
    tar.resize(tar.len() + 1024, 0);
    zstd::encode_all(&tar[..], 1).unwrap()
}

/// Has a catalog promise exactly these bytes.
async fn check(bytes: Vec<u8>, expected: &str) {
    let mut world = World::new().await;
    world.entry.bundle = Bundle {
        sha256: Sha256::of(&bytes),
        bytes: bytes.len() as u64,
        ..world.entry.bundle.clone()
    };
    world.server.put(&world.bundle_path(), bytes);
    let text = match world.pull().await {
        Ok(_) => "taken".to_owned(),
        Err(error) => chain(&error),
    };
    assert!(text.contains(expected), "{text}, but not {expected}");
    assert_eq!(world.image().exists(), text == "taken");
    let left = fs::read_dir(world.root.path()).unwrap().flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().contains("unfinished"));
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn only_a_description_and_a_disk_image_are_taken() {
    let (about, disk) = (described(&manifest()), file("rootfs.ext4", &disk()));
    let check = async |members: &[&Vec<u8>], expected: &str| {
        let members: Vec<_> = members.iter().copied().cloned().collect();
        check(packed(&members), expected).await;
    };
    check(&[&about, &disk], "taken").await;
    check(&[&disk, &about], "does not begin with").await;
    check(&[&about], "no rootfs.ext4 follows").await;
    check(&[], "does not begin with").await;
    check(&[&about, &disk, &about], "more in it").await;
    let elsewhere = file("../rootfs.ext4", b"");
    check(&[&about, &elsewhere], "no rootfs.ext4 follows").await;
    let link = member(EntryType::Symlink, "rootfs.ext4", b"");
    check(&[&about, &link], "no rootfs.ext4 follows").await;
    let long = member(EntryType::GNULongName, "././@LongLink", &[b'a'; 9000]);
    check(&[&long, &about, &disk], "does not begin with").await;
    check(&[&about, &long, &disk], "no rootfs.ext4 follows").await;
}

#[tokio::test]
async fn a_disk_image_is_what_was_promised() {
    let about = described(&manifest());
    let image = |content: &[u8]| packed(&[about.clone(), file("rootfs.ext4", content)]);
    check(image(&disk()[..SIZE - 512]), "another size").await;
    check(image(&vec![0; SIZE]), "no ext4 file system").await;
    let whole = image(&disk());
    check(whole[..whole.len() - 9].to_vec(), "cannot unpack").await;
    check(b"not packed at all".to_vec(), "cannot unpack").await;
    let mut other = manifest();
    other.size_bytes += 1;
    let lying = packed(&[described(&other), file("rootfs.ext4", &disk())]);
    check(lying, "another size").await;
    other.format = 2;
    let newer = packed(&[described(&other), file("rootfs.ext4", &disk())]);
    check(newer, "does not know its format").await;
    let nothing = packed(&[file("manifest.json", b"{}"), file("rootfs.ext4", &disk())]);
    check(nothing, "is not valid").await;
}

#[tokio::test]
async fn bombs_do_not_go_off() {
    let zeros = vec![0; 8 << 20];
    check(
        packed(&[file("manifest.json", &zeros)]),
        "unpacks to too much",
    )
    .await;
    // Much more behind the image than an archive has at its end.
    let (about, disk) = (described(&manifest()), file("rootfs.ext4", &disk()));
    let mut tar = [about, disk].concat();
    tar.resize(tar.len() + (16 << 20), 0);
    let mut zstd = zstd::Encoder::new(Vec::new(), 1).unwrap();
    zstd.write_all(&tar).unwrap();
    check(zstd.finish().unwrap(), "taken").await;
}
