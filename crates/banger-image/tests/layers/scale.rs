//! Sizes that break what is not built for them: many names in one directory, a very large file,
//! very many layers.

use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use banger_image::digest::{Hashing, Sha256};
use banger_image::layers::{self, BuildOptions, Compression, LayerDescriptor, LayerSource};

use crate::support::{Tar, fsck, read_image, silent};
use crate::world::{Layer, World};

#[test]
fn a_hundred_layers_are_one_image() {
    let layers: Vec<_> = (0..100)
        .map(|i| {
            let tar = Tar::new()
                .file(&format!("own-{i}"), format!("{i}").as_bytes())
                .file("shared", format!("{i}").as_bytes())
                .file(&format!(".wh.own-{}", i - i % 2 - 1), b"");
            Layer::plain(&tar.finish())
        })
        .collect();
    let world = World::new();
    world.build("image", &layers);
    let found = read_image(&world.image("image"));
    assert_eq!(found[&b"shared"[..]].data, b"99");
    // Of each pair, the second is hidden by both layers of the next pair.
    assert_eq!(found.len(), 1 + 1 + 50 + 1);
}

#[test]
fn a_directory_of_many_names_is_indexed_and_complete() {
    let mut tar = Tar::new().dir("flat/");
    for i in 0..20_000 {
        tar = tar.file(&format!("flat/name-{i:06}"), &[7; 100]);
    }
    let world = World::new();
    world.build("image", &[Layer::plain(&tar.finish())]);
    let found = read_image(&world.image("image"));
    assert_eq!(found.len(), 20_002);
    assert!(
        found
            .values()
            .filter(|file| file.mode >> 12 == 8)
            .all(|file| file.data == [7; 100])
    );
}

/// One file of zeros with a little data at its end, as an archive without knowledge of holes has
/// it: three gibibytes that exist nowhere.
struct Endless(LayerDescriptor);

const LARGE: u64 = 3 << 30;

fn endless() -> impl Read + Send {
    let tar = Tar::new().entry(
        b"large",
        tar::EntryType::Regular,
        |header| header.set_size(LARGE),
        b"",
    );
    let head = Cursor::new(tar.unfinished());
    let zeros = std::io::repeat(0).take(LARGE - 512);
    let tail = std::io::repeat(9).take(512);
    head.chain(zeros)
        .chain(tail)
        .chain(std::io::repeat(0).take(1024))
}

impl LayerSource for Endless {
    fn descriptor(&self) -> &LayerDescriptor {
        &self.0
    }

    fn open(&self) -> std::io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(endless()))
    }
}

#[test]
fn a_file_of_three_gibibytes_takes_the_room_of_its_data() {
    let mut hashing = Hashing::new(endless());
    std::io::copy(&mut hashing, &mut std::io::sink()).expect("read");
    let digest: Sha256 = hashing.finish().1;
    let layer: Arc<dyn LayerSource> = Arc::new(Endless(LayerDescriptor {
        compression: Compression::Plain,
        digest,
        size: None,
        diff_id: digest,
    }));
    let world = World::new();
    let image = world.image("image");
    let options = BuildOptions::default();
    let built = layers::build(
        &[layer],
        world.cache().layers(),
        &image,
        &options,
        &silent(),
    );
    assert_eq!(built.expect("built").content_bytes, LARGE);
    fsck(&image);
    let on_disk = |path: &Path| {
        let meta = path.metadata().expect("there");
        std::os::unix::fs::MetadataExt::blocks(&meta) * 512
    };
    assert!(on_disk(&image) < 4 << 20, "{} bytes", on_disk(&image));
    let fs = mkext4::reader::Fs::open(std::fs::File::open(&image).expect("open")).expect("ext4");
    let ino = fs.resolve("/large").expect("there");
    let inode = fs.inode(ino).expect("an inode");
    let mut end = [0; 600];
    let extents = fs.extents(ino, &inode).expect("a map");
    let read = fs.read_file_at(&inode, &extents, LARGE - 600, &mut end);
    assert_eq!(read.expect("readable"), 600);
    assert_eq!(
        (inode.size, &end[..88], &end[88..]),
        (LARGE, &[0; 88][..], &[9; 512][..])
    );
}
