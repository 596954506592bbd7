//! What is fuzzed: each target takes any bytes and must neither panic nor break its promise. The
//! same functions run on the seeds and their mutations in a normal test.

use std::fs::File;
use std::io::Cursor;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use banger_image::bundle::{Bundle, unpack_image};
use banger_image::catalog::{Catalog, Downloads, Place, Signed};
use banger_image::digest::Sha256;
use banger_image::layout::{self, Kind as LayoutKind};
use banger_image::manifest::{ConfigDocument, Document, Platform};
use banger_image::progress::{SharedProgress, Silent};
use banger_image::reference::LayoutRef;
use banger_image::rootfs::{
    self, Content, EntryError, ImportOptions, Kind, Last, Limits, NewKind, NodeId, Source, Tree,
    TreePath, Whiteout,
};
use tokio_util::sync::CancellationToken;

/// Small, so that what a mutation asks for costs no time.
fn limits() -> Limits {
    Limits {
        entries: 1000,
        archive_bytes: 4 << 20,
        content_bytes: 1 << 20,
        file_bytes: 1 << 40,
        sparse_pieces: 100,
        ..Limits::default()
    }
}

fn source(data: &[u8]) -> Source {
    Source::Stream(Box::new(Cursor::new(data.to_vec())))
}

/// An archive, packed or not: what is taken becomes a tree that holds together, and an image that
/// a checker finds clean.
pub(crate) fn tar(data: &[u8]) {
    let Ok(tree) = rootfs::survey([source(data)], &limits(), &CancellationToken::new()) else {
        return;
    };
    check_tree(&tree);
    let dir = tempfile::tempdir().expect("a directory");
    let image = dir.path().join("image");
    let options = ImportOptions {
        limits: limits(),
        ..ImportOptions::default()
    };
    let progress: SharedProgress = Arc::new(Silent);
    if rootfs::import(source(data), &image, &options, &progress).is_ok() {
        let fs = mkext4::reader::Fs::open(File::open(&image).expect("made")).expect("ext4");
        assert_eq!(fs.verify().expect("readable"), []);
    } else {
        assert!(!image.exists(), "what failed leaves nothing");
    }
    let left = std::fs::read_dir(dir.path()).expect("readable").count();
    assert_eq!(left, usize::from(image.exists()), "nothing but the image");
}

/// Layers of entries and markers on few names: bytes are instructions.
pub(crate) fn whiteout(data: &[u8]) {
    let mut tree = Tree::default();
    let mut bytes = data.iter().copied();
    tree.begin_layer();
    while let Some(instruction) = bytes.next() {
        let path = path(&mut bytes);
        let Ok(parsed) = TreePath::parse(&path, 4096) else {
            continue;
        };
        // Refusals are fine; what they leave behind is checked at the end.
        let _ = match instruction % 7 {
            0 => {
                tree.begin_layer();
                Ok(())
            }
            1 => put(&mut tree, &parsed, NewKind::Directory),
            2 => put(&mut tree, &parsed, NewKind::File(Content::default())),
            3 => {
                let target = self::path(&mut bytes);
                put(&mut tree, &parsed, NewKind::Symlink(target.into()))
            }
            4 => match TreePath::parse(&self::path(&mut bytes), 4096) {
                Ok(target) => tree.link(&parsed, &target),
                Err(error) => Err(error),
            },
            5 => take_away(&mut tree, &path, b".wh."),
            _ => take_away(&mut tree, &[&path[..], b"/"].concat(), b".wh..wh..opq"),
        };
    }
    check_tree(&tree);
}

fn put(tree: &mut Tree, path: &TreePath, kind: NewKind) -> Result<(), EntryError> {
    let attrs = banger_image::ext4::Attrs::IMPLIED_DIRECTORY;
    tree.insert(path, attrs, Box::default(), kind)
}

fn take_away(tree: &mut Tree, path: &[u8], prefix: &[u8]) -> Result<(), EntryError> {
    let name = path
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |slash| slash + 1);
    let marker = [&path[..name], prefix, &path[name..]].concat();
    match Whiteout::parse(&TreePath::parse(&marker, 4096)?)? {
        Some(whiteout) => tree.apply(&whiteout),
        None => Ok(()),
    }
}

/// Up to seven names of a few.
fn path(bytes: &mut impl Iterator<Item = u8>) -> Vec<u8> {
    const NAMES: [&[u8]; 8] = [b"a", b"b", b"c", b".", b"..", b"", b"\xff", b"lost+found"];
    let count = bytes.next().unwrap_or(0) % 8;
    let names = (0..count).map(|_| NAMES[usize::from(bytes.next().unwrap_or(0) % 8)]);
    names.collect::<Vec<_>>().join(&b'/')
}

/// A tree is a tree: each directory has one place, each name is one that a file system takes,
/// and each path leads to what it names.
fn check_tree(tree: &Tree) {
    let mut directories = vec![false; tree.node_count()];
    let mut stack = vec![NodeId::ROOT];
    while let Some(id) = stack.pop() {
        let first = !std::mem::replace(&mut directories[id.index()], true);
        assert!(first, "a directory with two places");
        let directory = tree.directory(id).expect("only directories are pushed");
        for (name, child) in directory.children() {
            let fine = !name.is_empty() && name.len() <= 255 && name != b"." && name != b"..";
            assert!(fine && !name.contains(&b'/') && !name.contains(&0));
            match &tree.node(child).kind {
                Kind::Directory(_) => stack.push(child),
                Kind::File(_) | Kind::Symlink(_) | Kind::Special(_) => {}
            }
        }
        let path = tree.path_of(id);
        if let Ok(path) = std::str::from_utf8(&path)
            && path.len() < 4096
        {
            assert_eq!(tree.lookup(path, Last::Keep), Some(id), "{path:?}");
        }
    }
}

/// A catalog, signed or not: what is read is what was signed, and reads the same again.
pub(crate) fn catalog(data: &[u8]) {
    const KEY: &str = "seed+2271d73a+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
    let signed = include_bytes!("seeds/catalog/signed");
    let plain = Catalog::parse(include_bytes!("seeds/catalog/plain")).expect("a catalog");
    if let Ok(opened) = Signed::open(data, &KEY.parse().expect("a key")) {
        assert!(
            data.starts_with(&signed[..signed.len() - 200]),
            "nobody has signed that"
        );
        assert_eq!(opened.catalog, plain);
    }
    if let Ok(catalog) = Catalog::parse(data) {
        let again = Catalog::parse(catalog.to_json().as_bytes());
        assert_eq!(again.expect("its own JSON"), catalog);
        for entry in catalog.images() {
            assert!(!entry.bundle.file.as_str().contains('/'));
        }
    }
    let _ = data
        .utf8_chunks()
        .next()
        .map(|chunk| chunk.valid().parse::<Place>());
}

/// A bundle with any content, of which a catalog promises just this: an image of the size that
/// was promised comes out, or nothing.
pub(crate) fn bundle(data: &[u8]) {
    const SIZE: u64 = 4096;
    let dir = tempfile::tempdir().expect("a directory");
    let file = "web.tar".to_owned();
    std::fs::write(dir.path().join(&file), data).expect("written");
    let bundle = Bundle {
        file: file.try_into().expect("a name"),
        sha256: Sha256::of(data),
        bytes: data.len() as u64,
    };
    let (place, downloads) = (
        Place::Directory(dir.path().to_owned()),
        Downloads::default(),
    );
    let progress: SharedProgress = Arc::new(Silent);
    let opening = pin!(place.bundle(&bundle, dir.path(), &downloads, &progress));
    // What lies on this host is there at once.
    let Poll::Ready(opened) = opening.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("a file is waited for");
    };
    let image = dir.path().join("image");
    let cancel = CancellationToken::new();
    let opened = opened.expect("it is there");
    let unpacked = unpack_image(opened, SIZE, &image, &cancel, &progress);
    match unpacked {
        Ok(_) => assert_eq!(image.metadata().expect("made").len(), SIZE),
        Err(_) => assert!(!image.exists()),
    }
    let left = std::fs::read_dir(dir.path()).expect("readable").count();
    assert_eq!(
        left,
        1 + usize::from(image.exists()),
        "nothing but the image"
    );
}

/// A manifest or an index, as a registry could send it.
pub(crate) fn manifest(data: &[u8]) {
    let types = [
        None,
        Some("application/vnd.oci.image.manifest.v1+json"),
        Some("application/vnd.docker.distribution.manifest.v2+json"),
    ];
    for content_type in types {
        let Ok(Document::Manifest(manifest)) = Document::parse(data, content_type) else {
            continue;
        };
        let ids: Vec<_> = manifest
            .layers
            .iter()
            .map(|layer| layer.descriptor.digest)
            .collect();
        let layers = manifest.layers_with(&ids);
        assert!(layers.is_err() || layers.is_ok_and(|layers| layers.len() == ids.len()));
    }
    if let Ok(config) = ConfigDocument::parse(data) {
        let _ = config.hold_to(&Platform::host());
    }
}

/// An index, from which a platform's manifest is chosen.
pub(crate) fn index(data: &[u8]) {
    let types = [
        None,
        Some("application/vnd.oci.image.index.v1+json"),
        Some("application/vnd.docker.distribution.manifest.list.v2+json"),
    ];
    for content_type in types {
        let Ok(Document::Index(index)) = Document::parse(data, content_type) else {
            continue;
        };
        let _ = index.choose(&Platform::host());
        for name in index.names() {
            assert!(!index.named(Some(&name)).is_empty(), "{name:?}");
        }
    }
}

/// A file that says to be an archive of an image; its layers are read as well.
pub(crate) fn layout(data: &[u8]) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("archive");
    std::fs::write(&path, data).expect("written");
    let at = LayoutRef {
        path: path.clone(),
        name: None,
    };
    for kind in [LayoutKind::OciArchive, LayoutKind::DockerArchive] {
        let Ok(found) = layout::find(kind, &at, &Platform::host(), dir.path()) else {
            continue;
        };
        let opened = found.layers.iter().filter_map(|layer| layer.open().ok());
        let sources = opened.map(Source::Stream);
        if let Ok(tree) = rootfs::survey(sources, &limits(), &CancellationToken::new()) {
            check_tree(&tree);
        }
    }
    let left = std::fs::read_dir(dir.path()).expect("readable").count();
    assert_eq!(left, 1, "nothing but the archive");
}
