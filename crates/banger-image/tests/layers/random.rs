//! Random sequences of layers whose entries meet, with `umoci unpack` as the judge of each.
#![allow(clippy::print_stderr, reason = "a test that skips says so")]

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use banger_image::ext4::{Attrs, Special};
use banger_image::layers::BuildOptions;
use banger_image::rootfs::{Content, NewKind, Tree, TreePath, Whiteout};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tar::EntryType;

use crate::support::{Tar, chain, fsck, read_image};
use crate::umoci;
use crate::world::{Layer, World};

/// Few names, so that entries meet: replace each other, link, hide, lie below each other.
fn path() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        4 => Just(b"a".to_vec()),
        4 => Just(b"b".to_vec()),
        2 => Just(b"c".to_vec()),
        1 => Just(b"\xff\n".to_vec()),
        1 => Just(b"lost+found".to_vec()),
        1 => Just(vec![b'n'; 80]),
    ];
    prop::collection::vec(name, 1..4)
        .prop_map(|names| names.join(&b'/'))
        .prop_filter("fits a plain header", |path| path.len() < 86)
}

#[derive(Debug, Clone)]
enum What {
    File(Vec<u8>),
    Dir,
    Symlink(Vec<u8>),
    Hardlink(Vec<u8>),
    Special(u8, u32),
    Whiteout,
    Opaque,
}

#[derive(Clone)]
struct Step {
    path: Vec<u8>,
    what: What,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, u32),
    xattrs: Vec<(&'static str, Vec<u8>)>,
}

/// Short, as a sequence that fails is printed whole.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.escape_ascii();
        match &self.what {
            What::File(data) => write!(f, "file {path} of {}", data.len())?,
            What::Dir => write!(f, "dir {path}")?,
            What::Symlink(to) => write!(f, "symlink {path} -> {}", to.escape_ascii())?,
            What::Hardlink(to) => write!(f, "link {path} = {}", to.escape_ascii())?,
            What::Special(kind, minor) => write!(f, "special {path} {kind} {minor}")?,
            What::Whiteout => write!(f, "without {path}")?,
            What::Opaque => write!(f, "opaque {path}")?,
        }
        write!(f, " {:o} {:?} {:?}", self.mode, self.owner, self.mtime)?;
        for (name, value) in &self.xattrs {
            write!(f, " {name}={}", hex::encode(&value[..value.len().min(60)]))?;
        }
        Ok(())
    }
}

fn what() -> impl Strategy<Value = What> {
    let target = (path(), 0..4_u8).prop_map(|(path, form)| match form {
        0 => path,
        1 => [b"/", &path[..]].concat(),
        2 => [b"../", &path[..]].concat(),
        _ => [b"../../../", &path[..], b"/.."].concat(),
    });
    prop_oneof![
        5 => prop::collection::vec(any::<u8>(), 0..5000).prop_map(What::File),
        5 => Just(What::Dir),
        3 => target.prop_map(What::Symlink),
        2 => path().prop_map(What::Hardlink),
        1 => (0..3_u8, 0..70_000_u32).prop_map(|(kind, minor)| What::Special(kind, minor)),
        3 => Just(What::Whiteout),
        1 => Just(What::Opaque),
    ]
}

/// Attributes that a kernel takes for what they are on.
fn xattrs(what: &What) -> BoxedStrategy<Vec<(&'static str, Vec<u8>)>> {
    let value = || prop::collection::vec(any::<u8>(), 1..200);
    let some = |names: &'static [&'static str]| {
        prop::sample::subsequence(names, 0..=names.len())
            .prop_flat_map(move |names| {
                let values = prop::collection::vec(value(), names.len());
                values.prop_map(move |values| names.iter().copied().zip(values).collect::<Vec<_>>())
            })
            .boxed()
    };
    match what {
        What::File(_) => (some(&["user.a", "user.b", "trusted.c"]), acl())
            .prop_map(|(mut set, acl)| {
                set.extend(acl.map(|acl| ("system.posix_acl_access", acl)));
                set.push(("security.capability", CAPABILITY.to_vec()));
                set
            })
            .boxed(),
        What::Dir => (some(&["user.a", "trusted.c"]), acl(), acl())
            .prop_map(|(mut set, access, default)| {
                set.extend(access.map(|acl| ("system.posix_acl_access", acl)));
                set.extend(default.map(|acl| ("system.posix_acl_default", acl)));
                set
            })
            .boxed(),
        What::Symlink(_) | What::Special(..) => some(&["trusted.c"]),
        What::Hardlink(_) | What::Whiteout | What::Opaque => Just(Vec::new()).boxed(),
    }
}

const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn acl() -> impl Strategy<Value = Option<Vec<u8>>> {
    let rights = || 0..8_u8;
    let named = prop::option::of((rights(), rights(), 0..70_000_u32));
    let list = (rights(), rights(), rights(), named).prop_map(|(owner, group, other, named)| {
        let mut raw = vec![2, 0, 0, 0];
        let mut add = |tag: u8, rights: u8, id: u32| {
            raw.extend_from_slice(&[tag, 0, rights, 0]);
            raw.extend_from_slice(&id.to_le_bytes());
        };
        add(1, owner, u32::MAX);
        if let Some((rights, _, id)) = named {
            add(2, rights, id);
        }
        add(4, group, u32::MAX);
        if let Some((rights, mask, id)) = named {
            add(8, rights, id + 1);
            add(16, mask, u32::MAX);
        }
        add(32, other, u32::MAX);
        raw
    });
    prop::option::weighted(0.3, list)
}

fn step() -> impl Strategy<Value = Step> {
    let attrs = (0..0o10000_u32, any::<u16>(), any::<u32>());
    let mtime = (-1000_i64..1_500_000_000, 0..1_000_000_000_u32);
    (path(), what(), attrs, mtime).prop_flat_map(|(path, what, (mode, uid, gid), mtime)| {
        xattrs(&what).prop_map(move |xattrs| Step {
            path: path.clone(),
            what: what.clone(),
            mode,
            // Beyond this a kernel takes an id for "none".
            owner: (u32::from(uid), gid.min(u32::MAX - 1)),
            mtime,
            xattrs,
        })
    })
}

fn marker(path: &[u8], opaque: bool) -> Vec<u8> {
    if opaque {
        return [path, b"/.wh..wh..opq"].concat();
    }
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    let parents = &path[..path.len() - name.len()];
    [parents, b".wh.", name].concat()
}

fn append(tar: Tar, step: &Step) -> Tar {
    let (secs, nanos) = step.mtime;
    // Tar writes a fraction away from zero, seconds before 1970 included.
    let time = match (secs, nanos) {
        (secs, 0) => secs.to_string(),
        (..0, nanos) => format!("-{}.{:09}", -secs - 1, 1_000_000_000 - nanos),
        (secs, nanos) => format!("{secs}.{nanos:09}"),
    };
    let gid = step.owner.1.to_string();
    let names: Vec<String> = step
        .xattrs
        .iter()
        .map(|(name, _)| format!("SCHILY.xattr.{name}"))
        .collect();
    let mut records: Vec<(&str, &[u8])> = vec![("mtime", time.as_bytes()), ("gid", gid.as_bytes())];
    let values = step.xattrs.iter().map(|(_, value)| &value[..]);
    records.extend(names.iter().map(String::as_str).zip(values));
    let tar = tar.pax(&records);
    let (path, kind, link, data): (Vec<u8>, EntryType, &[u8], &[u8]) = match &step.what {
        What::File(data) => (step.path.clone(), EntryType::Regular, b"", data),
        What::Dir => (step.path.clone(), EntryType::Directory, b"", b""),
        What::Symlink(to) => (step.path.clone(), EntryType::Symlink, to, b""),
        What::Hardlink(to) => (step.path.clone(), EntryType::Link, to, b""),
        What::Special(0, _) => (step.path.clone(), EntryType::Fifo, b"", b""),
        What::Special(1, _) => (step.path.clone(), EntryType::Char, b"", b""),
        What::Special(..) => (step.path.clone(), EntryType::Block, b"", b""),
        What::Whiteout => (marker(&step.path, false), EntryType::Regular, b"", b""),
        What::Opaque => (marker(&step.path, true), EntryType::Regular, b"", b""),
    };
    let change = |header: &mut tar::Header| {
        header.set_mode(step.mode);
        header.set_uid(u64::from(step.owner.0));
        header.set_link_name_literal(link).expect("short");
        if let What::Special(1.., minor) = step.what {
            header.set_device_major(minor % 500).expect("short");
            header.set_device_minor(minor).expect("short");
        }
    };
    tar.entry(&path, kind, change, data)
}

fn tar_of(steps: &[Step]) -> Vec<u8> {
    steps.iter().fold(Tar::new(), append).finish()
}

/// Leaves out entries that cannot be taken where they stand: below a file, links to nothing, and
/// links to themselves, which umoci removes before it looks.
fn legal(layers: Vec<Vec<Step>>) -> Vec<Vec<Step>> {
    let mut tree = Tree::default();
    let mut legal = Vec::new();
    for mut layer in layers {
        tree.begin_layer();
        layer.retain(|step| is_taken(&mut tree, step).is_some());
        legal.push(layer);
    }
    legal
}

fn is_taken(tree: &mut Tree, step: &Step) -> Option<()> {
    let parse = |raw: &[u8]| TreePath::parse(raw, 4096).ok();
    let path = parse(&step.path)?;
    let kind = match &step.what {
        What::File(_) => NewKind::File(Content::default()),
        What::Special(..) => NewKind::Special(Special::Fifo),
        What::Dir => NewKind::Directory,
        What::Symlink(to) => NewKind::Symlink(to.as_slice().into()),
        What::Hardlink(to) if *to == step.path => return None,
        What::Hardlink(to) => return tree.link(&path, &parse(to)?).ok(),
        What::Whiteout | What::Opaque => {
            let is_opaque = matches!(step.what, What::Opaque);
            let marker = parse(&marker(&step.path, is_opaque))?;
            let whiteout = Whiteout::parse(&marker).ok()??;
            return tree.apply(&whiteout).ok();
        }
    };
    tree.insert(&path, Attrs::IMPLIED_DIRECTORY, Box::default(), kind)
        .ok()
}

fn sources(layers: &[Vec<Step>]) -> Vec<Arc<Layer>> {
    layers
        .iter()
        .map(|steps| Layer::plain(&tar_of(steps)))
        .collect()
}

/// `BANGER_CASES` asks for more than the few of a common run.
fn cases() -> u32 {
    let asked = std::env::var("BANGER_CASES").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(24)
}

#[test]
fn random_layers_are_merged_as_umoci_does() {
    if !umoci::is_here() {
        return;
    }
    let layers = prop::collection::vec(prop::collection::vec(step(), 1..9), 1..5);
    let (judged, refused) = (Cell::new(0_u32), Cell::new(0_u32));
    let config = Config {
        cases: cases(),
        max_shrink_iters: 100,
        failure_persistence: None,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&layers, |layers| {
        let layers = legal(layers);
        let tars: Vec<_> = layers.iter().map(|steps| tar_of(steps)).collect();
        let start = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970");
        // What umoci refuses is not legal, and ours to decide.
        let Ok(judge) = umoci::unpack(&tars) else {
            refused.set(refused.get() + 1);
            return Ok(());
        };
        judged.set(judged.get() + 1);
        let world = World::new();
        let built = world.try_build("image", &sources(&layers), &BuildOptions::default());
        built.map_err(|error| TestCaseError::fail(chain(&error)))?;
        fsck(&world.image("image"));
        let ours = umoci::listing_of(&read_image(&world.image("image")));
        let start = i64::try_from(start.as_secs()).expect("in range");
        umoci::compare(&ours, &judge, start).map_err(TestCaseError::fail)
    });
    eprintln!(
        "{} judged, {} refused by umoci",
        judged.get(),
        refused.get()
    );
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(judged.get() > refused.get(), "most sequences are legal");
}
