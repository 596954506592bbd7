//! Machines that are saved and go on: where they were, as often as one likes, in every confinement
//! that has a root of its own.

use std::{fs, os::unix::fs::symlink, path::Path};

use banger_core::{
    host::SnapshotPlaces, host_error::HostError, journal::Unrecorded, spec::Network,
};
use tempfile::TempDir;

use super::{
    guest,
    story::{Story, all_walls, can_be_told},
};
use crate::{
    control::Control,
    firecracker::{
        api::{InstanceInfo, InstanceState},
        client::Client,
        jail::{self, Item, outside},
        launch,
        walls::Walls,
    },
    places,
    process::Process,
};

/// A directory for a saved machine.
struct Place {
    files: SnapshotPlaces,
    _directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let files = SnapshotPlaces {
            directory: directory.path().to_owned(),
        };
        Self {
            files,
            _directory: directory,
        }
    }
}

fn with_names() -> Vec<Walls> {
    let mut walls = all_walls();
    walls.retain(|walls| walls.keep_names());
    walls
}

fn console(story: &Story) -> String {
    fs::read_to_string(story.places().console()).unwrap()
}

/// The letters that a guest has said, each on a line of its own.
fn letters(console: &str) -> Vec<u8> {
    let lines = console.lines().filter(|line| line.len() == 1);
    lines.map(|line| line.as_bytes()[0]).collect()
}

fn after(letter: u8) -> u8 {
    b'a' + (letter - b'a' + 1) % 26
}

fn check_in_order(letters: &[u8]) {
    for pair in letters.windows(2) {
        assert_eq!(
            after(pair[0]),
            pair[1],
            "{}",
            String::from_utf8_lossy(letters)
        );
    }
}

/// Waits until the guest has said so many letters more.
async fn hear_more(story: &Story, more: usize) {
    let wanted = letters(&console(story)).len() + more;
    story
        .heard_that(|console| letters(console).len() >= wanted)
        .await;
}

/// By which way a machine's state leaves its VMM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Memory,
    Disk,
}

/// A machine that runs.
type Running<'a> = (&'a Story, &'a Process, &'a dyn Control);

/// Saves a machine that speaks, which goes on; gives back the last letter from before.
async fn save((story, process, control): Running<'_>, into: &SnapshotPlaces, way: Way) -> u8 {
    control.may_save().unwrap();
    if way == Way::Memory {
        control.prepare_save(process.pid(), into).await.unwrap();
    }
    control.pause().await.unwrap();
    let last = *letters(&console(story)).last().unwrap();
    let taken = control.save(into).await.unwrap();
    let root = format!("/proc/{}/root", process.pid());
    let used = [
        fs::metadata(format!("{root}/run/save/memory")),
        fs::metadata(format!("{root}/run/saved.memory")),
    ];
    let used = used.map(|file| file.is_ok_and(|meta| meta.len() > 0));
    assert_eq!(used, [way == Way::Memory, way == Way::Disk]);
    control.resume().await.unwrap();
    let taken = control.fetch(into, taken).await.unwrap();
    assert!(taken < 8 << 20, "zeros are holes: {taken}");
    let left = fs::read_dir(format!("{root}/run/save")).unwrap();
    assert_eq!(left.count(), 0, "the memory is given back");
    last
}

/// One VM that goes on from files.
fn copy_of(files: &SnapshotPlaces, walls: Walls, network: Network) -> Story {
    let mut story = Story::of(b"nobody boots this", walls);
    story.plan.resume_from = Some(files.clone());
    story.plan.network = network;
    story
}

async fn end(story: &Story, process: Process) {
    process.kill().unwrap();
    process.ended().await;
    story.end().await;
}

#[tokio::test]
async fn a_saved_machine_goes_on_where_it_was_and_often() {
    if !can_be_told() {
        return;
    }
    let ways = [Way::Memory, Way::Disk];
    for (walls, way) in with_names()
        .into_iter()
        .flat_map(|walls| ways.map(|way| (walls, way)))
    {
        let mut origin = Story::of(&guest::spelling(), walls);
        origin.plan.network = Network::User;
        let (process, _, control) = origin.start().await.unwrap();
        origin.heard("c\n").await;
        let place = Place::new();
        let last = save((&origin, &process, &*control), &place.files, way).await;
        let memory = fs::read(place.files.memory()).unwrap();
        assert_eq!(memory.len() as u64, origin.plan.memory.bytes());

        let mut copies = Vec::new();
        for walls in with_names() {
            let copy = copy_of(&place.files, walls, Network::User);
            let (process, note, control) = copy.start().await.unwrap();
            assert_eq!(note.confinement, walls.confinement());
            hear_more(&copy, 3).await;
            copies.push((copy, process, control));
        }
        for (copy, ..) in &copies {
            let said = letters(&console(copy));
            // The last one may have been said without the end of its line.
            let next = [after(last), after(after(last))];
            assert!(next.contains(&said[0]), "{last} {said:?}");
            assert!(!console(copy).contains("up"));
            check_in_order(&said);
        }
        assert!(fs::read(place.files.memory()).unwrap() == memory);
        // What they need of the files they have.
        drop(place);
        for (copy, ..) in &copies {
            hear_more(copy, 3).await;
            check_in_order(&letters(&console(copy)));
        }
        // The origin is none the wiser, and takes no room on the way.
        hear_more(&origin, 3).await;
        check_in_order(&letters(&console(&origin)));
        for path in [Item::SavedMemory, Item::SavedDevices] {
            let left = fs::metadata(outside(origin.places(), path)).unwrap();
            assert_eq!(left.len(), 0);
        }
        for (copy, process, _) in copies {
            end(&copy, process).await;
        }
        end(&origin, process).await;
    }
}

#[tokio::test]
async fn a_copy_can_be_saved_like_its_origin_and_each_save_is_of_its_own_moment() {
    if !can_be_told() {
        return;
    }
    for walls in with_names() {
        let mut story = Story::of(&guest::spelling(), walls);
        let mut places = Vec::new();
        for _ in 0..3 {
            let (process, _, control) = story.start().await.unwrap();
            hear_more(&story, 2).await;
            for _ in 0..2 {
                hear_more(&story, 1).await;
                let place = Place::new();
                save((&story, &process, &*control), &place.files, Way::Memory).await;
                places.push(place);
            }
            check_in_order(&letters(&console(&story)));
            end(&story, process).await;
            let last = places.last().unwrap();
            story = copy_of(&last.files, walls, Network::None);
        }
    }
}

fn told(error: &HostError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn a_state_that_is_no_state_is_refused_and_leaves_nothing() {
    if !can_be_told() {
        return;
    }
    for walls in with_names() {
        let origin = Story::of(&guest::spelling(), walls);
        let (process, _, control) = origin.start().await.unwrap();
        origin.heard("b\n").await;
        let place = Place::new();
        save((&origin, &process, &*control), &place.files, Way::Memory).await;
        end(&origin, process).await;
        let damages: [fn(&Path); 3] = [
            |devices| fs::write(devices, "no state").unwrap(),
            |devices| {
                let mut bytes = fs::read(devices).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(devices, bytes).unwrap();
            },
            |devices| {
                let memory = devices.with_file_name("memory");
                let memory = fs::OpenOptions::new().write(true).open(memory).unwrap();
                memory.set_len(4096).unwrap();
            },
        ];
        let whole = fs::read(place.files.devices()).unwrap();
        for damage in damages {
            fs::write(place.files.devices(), &whole).unwrap();
            damage(&place.files.devices());
            let copy = copy_of(&place.files, walls, Network::User);
            let refused = copy.start().await.map(drop).unwrap_err();
            let text = told(&refused);
            assert!(text.contains("/snapshot/load"), "{text}");
            copy.end().await;
        }
    }
}

#[tokio::test]
async fn what_a_vmm_left_in_the_place_of_its_state_is_not_followed() {
    if !can_be_told() {
        return;
    }
    for walls in with_names() {
        let origin = Story::of(&guest::spelling(), walls);
        let (process, _, control) = origin.start().await.unwrap();
        origin.heard("b\n").await;
        control.pause().await.unwrap();
        let place = Place::new();
        control.save(&place.files).await.unwrap();
        let secret = place.files.directory.join("secret");
        fs::write(&secret, "of the host").unwrap();
        let run = jail::root(origin.places()).join("run");
        let left = run.join("saved.memory");
        fs::remove_file(&left).unwrap();
        symlink(&secret, &left).unwrap();
        let refused = control.fetch(&place.files, 0).await.unwrap_err();
        assert!(told(&refused).contains("saved.memory"), "{refused:?}");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "of the host");
        end(&origin, process).await;
    }
}

#[tokio::test]
async fn where_files_have_other_names_nothing_is_saved_and_nothing_goes_on() {
    if !can_be_told() {
        return;
    }
    let story = Story::of(&guest::spelling(), Walls::Landlock);
    let (process, _, control) = story.start().await.unwrap();
    story.heard("up").await;
    let refused = control.may_save().unwrap_err();
    assert!(refused.to_string().contains("snapshots"), "{refused}");
    end(&story, process).await;
    let copy = copy_of(&Place::new().files, Walls::Landlock, Network::None);
    let refused = copy.start().await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("snapshots"), "{refused}");
    assert_eq!(copy.left(), Vec::<String>::new());
}

/// A daemon that ended while it saved: the next one finds a machine that stands still, and what was
/// written of it.
#[tokio::test]
async fn a_save_that_nobody_finished_is_forgotten_and_its_machine_goes_on() {
    if !can_be_told() {
        return;
    }
    let ways = [Way::Memory, Way::Disk];
    for (walls, way) in with_names()
        .into_iter()
        .flat_map(|walls| ways.map(|way| (walls, way)))
    {
        let story = Story::of(&guest::spelling(), walls);
        let (process, _, control) = story.start().await.unwrap();
        story.heard("b\n").await;
        if way == Way::Memory {
            let files = Place::new().files;
            control.prepare_save(process.pid(), &files).await.unwrap();
        }
        control.pause().await.unwrap();
        control.save(&Place::new().files).await.unwrap();
        drop((process, control));
        let lock = places::vmm_lock(story.places());
        let (process, _) = Process::adopt(&lock).unwrap().unwrap();
        let adopted = launch::adopt(story.places(), process, &Unrecorded).await;
        let (process, control) = adopted.unwrap().unwrap();
        let left = fs::metadata(outside(story.places(), Item::SavedMemory)).unwrap();
        assert_eq!(left.len(), 0);
        let left = fs::read_dir(format!("/proc/{}/root/run/save", process.pid())).unwrap();
        assert_eq!(left.count(), 0);
        control.resume().await.unwrap();
        hear_more(&story, 2).await;
        check_in_order(&letters(&console(&story)));
        end(&story, process).await;
    }
}

#[tokio::test]
async fn a_vmm_that_has_not_been_given_its_machine_is_ended_by_the_next_daemon() {
    if !can_be_told() {
        return;
    }
    for walls in with_names() {
        let place = Place::new();
        fs::write(place.files.memory(), "").unwrap();
        fs::write(place.files.devices(), "").unwrap();
        let copy = copy_of(&place.files, walls, Network::User);
        let start = copy.about_to_start();
        let jail = start.prepare().unwrap();
        let process = Process::start(start.detached(&jail, start.note()).unwrap()).unwrap();
        let socket = outside(copy.places(), Item::ApiSocket);
        let mut api = Client::over(crate::arrivals::connect_when_there(&socket).await)
            .await
            .unwrap();
        let info: InstanceInfo = api.get("/").await.unwrap();
        assert_eq!(info.state, InstanceState::NotStarted);
        drop((api, process));
        let lock = places::vmm_lock(copy.places());
        let (again, _) = Process::adopt(&lock).unwrap().unwrap();
        let adopted = launch::adopt(copy.places(), again, &Unrecorded).await;
        assert!(adopted.unwrap().is_none());
        copy.end().await;
    }
}
