//! The store against real SQLite files.

use super::*;
use crate::{
    events::{EventFilter, Subject, What},
    host::{Accelerator, VmmChoice, VmmKind},
    labels::Labels,
    record::{VmRecord, VmState},
    spec::{Init, Network, VmSpec},
    upkeep::{Life, Upkeep},
};

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("state.db")).unwrap();
    (directory, store)
}

fn image(store: &Store, name: &str) -> ImageName {
    let name: ImageName = name.parse().unwrap();
    store
        .reserve_image(&name, &format!("dir-{name}"), "test", 1)
        .unwrap();
    let mut row = store.image(&name).unwrap().unwrap();
    row.digest = "sha256:00".into();
    row.size_bytes = 7;
    store.publish_image(&row).unwrap();
    name
}

fn vm(name: &str, image: &ImageName) -> VmRecord {
    VmRecord {
        id: VmId::random(),
        name: name.parse().unwrap(),
        spec: VmSpec {
            image: image.clone(),
            kernel: "debian-6.1".parse().unwrap(),
            kernel_reason: "it was asked for".into(),
            vcpus: 2.try_into().unwrap(),
            memory: (512 << 20).try_into().unwrap(),
            disk: (8 << 30).try_into().unwrap(),
            init: Init::Auto,
            network: Network::User,
            vmm: None,
            auto_remove: true,
            labels: Labels::default(),
            expires_at: None,
            upkeep: Upkeep::default(),
        },
        state: VmState::Created,
        choice: None,
        last_error: None,
        holder: None,
        life: Life::default(),
        created_at: 10,
        updated_at: 10,
    }
}

#[test]
fn a_vm_survives_its_row() {
    let (directory, store) = store();
    let image = image(&store, "busybox");
    let mut vm = vm("a", &image);
    store.insert_vm(&vm).unwrap();
    let choice = VmmChoice {
        vmm: VmmKind::Qemu,
        accelerator: Accelerator::Tcg,
        reason: "no hardware virtualization".into(),
    };
    store.set_vm_starting(vm.id, &choice, 11).unwrap();
    store
        .set_vm_state(vm.id, VmState::Error, Some("why"), 12)
        .unwrap();
    drop(store);
    let reopened = Store::open(&directory.path().join("state.db")).unwrap();
    vm.state = VmState::Error;
    vm.choice = Some(choice);
    vm.last_error = Some("why".into());
    vm.updated_at = 12;
    assert_eq!(reopened.vms().unwrap(), [vm]);
}

#[test]
fn names_are_taken_once() {
    let (_directory, store) = store();
    let image = image(&store, "busybox");
    store.insert_vm(&vm("a", &image)).unwrap();
    let second = store.insert_vm(&vm("a", &image));
    assert!(matches!(second, Err(StoreError::VmTaken(_))), "{second:?}");
    let again = store.reserve_image(&image, "elsewhere", "test", 2);
    assert!(matches!(again, Err(StoreError::ImageTaken(_))), "{again:?}");
}

#[test]
fn a_vm_needs_a_finished_image_and_keeps_it() {
    let (_directory, store) = store();
    let half: ImageName = "half".parse().unwrap();
    store.reserve_image(&half, "half", "test", 1).unwrap();
    let refused = store.insert_vm(&vm("a", &half));
    assert!(
        matches!(refused, Err(StoreError::NoImage(_))),
        "{refused:?}"
    );
    let whole = image(&store, "whole");
    let user = vm("a", &whole);
    store.insert_vm(&user).unwrap();
    let refused = store.delete_image(&whole);
    assert!(
        matches!(refused, Err(StoreError::ImageUsed(_))),
        "{refused:?}"
    );
    store.delete_vm(user.id).unwrap();
    store.delete_image(&whole).unwrap();
}

#[test]
fn a_newer_schema_is_refused() {
    let (directory, store) = store();
    store
        .lock()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    drop(store);
    let opened = Store::open(&directory.path().join("state.db"));
    assert!(
        matches!(opened, Err(StoreError::Newer { found: 99, .. })),
        "{opened:?}"
    );
}

#[test]
fn only_so_many_events_are_kept_and_no_number_comes_twice() {
    let (_directory, store) = store();
    let note = "INSERT INTO events (subject, name, what) VALUES ('kernel', 'k', 'added');";
    let many = format!("BEGIN; {} COMMIT;", note.repeat(10_050));
    store.lock().execute_batch(&many).unwrap();
    let first = store.events(&EventFilter::default(), 1).unwrap();
    assert_eq!(first[0].seq, 51);
    assert_eq!(store.last_event().unwrap(), 10_050);
    store.lock().execute_batch("DELETE FROM events;").unwrap();
    store
        .note(Subject::Kernel, "k", What::Deleted, None)
        .unwrap();
    assert_eq!(store.last_event().unwrap(), 10_051);
}
