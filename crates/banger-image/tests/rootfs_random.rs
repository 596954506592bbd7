//! Random archives whose entries meet: whatever is taken arrives, consistent and the same twice.

mod support;

use banger_image::rootfs::ImportOptions;
use proptest::prelude::*;
use support::{Tar, fsck, import, import_with, read_image};
use tar::EntryType;

/// One step of a random archive.
#[derive(Debug, Clone)]
enum Step {
    File(Vec<u8>, Vec<u8>),
    Dir(Vec<u8>),
    Symlink(Vec<u8>, Vec<u8>),
    Hardlink(Vec<u8>, Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few names, so that entries meet: replace each other, link, lie below each other.
    let name = prop_oneof![
        Just(b"a".to_vec()),
        Just(b"b".to_vec()),
        Just(b"\xff".to_vec()),
        Just(b"lost+found".to_vec()),
        Just(vec![b'n'; 255]),
    ];
    let path = prop::collection::vec(name, 1..4)
        .prop_map(|names| names.join(&b'/'))
        .prop_filter("fits a plain header", |path| path.len() <= 100);
    let data = prop::collection::vec(any::<u8>(), 0..9000);
    prop::collection::vec(
        prop_oneof![
            3 => (path.clone(), data).prop_map(|(path, data)| Step::File(path, data)),
            2 => path.clone().prop_map(Step::Dir),
            1 => (path.clone(), path.clone()).prop_map(|(path, to)| Step::Symlink(path, to)),
            1 => (path.clone(), path).prop_map(|(path, to)| Step::Hardlink(path, to)),
        ],
        1..25,
    )
}

fn append(tar: Tar, step: &Step) -> Tar {
    let link = |tar: Tar, path: &[u8], kind, to: &[u8]| {
        tar.entry(
            path,
            kind,
            |header| header.set_link_name_literal(to).expect("short"),
            b"",
        )
    };
    match step {
        Step::File(path, data) => tar.entry(path, EntryType::Regular, |_| {}, data),
        Step::Dir(path) => tar.entry(path, EntryType::Directory, |_| {}, b""),
        Step::Symlink(path, to) => link(tar, path, EntryType::Symlink, to),
        Step::Hardlink(path, to) => link(tar, path, EntryType::Link, to),
    }
}

/// Whether the archive of these steps is one that we take.
fn is_taken(steps: &[Step]) -> bool {
    let tar = steps.iter().fold(Tar::new(), append);
    import_with(&tar.finish(), &ImportOptions::default()).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Steps that are refused are left out; of the others, the last at each path is what the
    /// image holds there, unless a later one led elsewhere or took its directory away.
    #[test]
    fn random_trees_arrive_as_declared(steps in steps()) {
        let mut taken: Vec<Step> = Vec::new();
        for step in steps {
            taken.push(step);
            if !is_taken(&taken) {
                taken.pop();
            }
        }
        let tar = taken.iter().fold(Tar::new(), append).finish();
        let imported = import(&tar);
        fsck(&imported.image());
        let found = read_image(&imported.image());
        let last = taken.last();
        let no_links = !taken.iter().any(|step| matches!(step, Step::Symlink(..)));
        if let (Some(Step::File(path, data)), true) = (last, no_links) {
            prop_assert_eq!(&found[&path[..]].data, data);
        }
        for (path, here) in &found {
            let contents: Vec<_> = taken.iter().filter_map(|step| match step {
                Step::File(_, data) => Some(data),
                Step::Dir(_) | Step::Symlink(..) | Step::Hardlink(..) => None,
            }).collect();
            let is_file = here.mode >> 12 == 0o10;
            prop_assert!(!is_file || contents.contains(&&here.data), "{}", path.escape_ascii());
            let same = found.values().filter(|other| other.inode == here.inode).count();
            prop_assert!(here.mode >> 12 == 4 || same == usize::from(here.links));
        }
        prop_assert_eq!(import(&tar).bytes() == imported.bytes(), true);
    }
}
