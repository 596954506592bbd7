//! What is told of the life of a VM, an image and a kernel, and to whom.

use super::*;
use crate::{
    spec::SpecChange,
    testing::{VmWorld, silent, soon},
};

async fn all(world: &VmWorld, request: EventRequest) -> Vec<Event> {
    let mut feed = Feed::new(world.store.clone(), &request).unwrap();
    let mut events = Vec::new();
    while let Some(batch) = feed.next().await.unwrap() {
        events.extend(batch);
    }
    events
}

fn told(events: &[Event]) -> Vec<String> {
    let told = events.iter().map(|event| {
        let detail = event.detail.as_deref();
        let detail = detail.map_or(String::new(), |detail| format!(": {detail}"));
        let (subject, what) = (event.subject.as_str(), event.what.as_str());
        format!("{subject} {} {what}{detail}", event.name)
    });
    told.collect()
}

#[tokio::test(start_paused = true)]
async fn a_vm_s_whole_life_is_told_in_order() {
    let world = VmWorld::new();
    let vm = world.vm("a");
    vm.start(silent()).await.unwrap();
    vm.pause().await.unwrap();
    vm.resume().await.unwrap();
    vm.stop(None).await.unwrap();
    vm.rename("b".parse().unwrap()).await.unwrap();
    let change = SpecChange {
        vcpus: Some(2.try_into().unwrap()),
        set_labels: [("team".to_owned(), "red".to_owned())].into(),
        ..SpecChange::default()
    };
    vm.change(change).await.unwrap();
    vm.delete(false).await.unwrap();
    let events = all(&world, EventRequest::default()).await;
    assert_eq!(
        told(&events),
        [
            "image tiny added: from test",
            "vm a created: from image tiny",
            "vm a starting: on qemu (tcg)",
            "vm a running",
            "vm a paused",
            "vm a running",
            "vm a stopping",
            "vm a stopped",
            "vm b renamed: it was a",
            "vm b changed: vcpus, labels",
            "vm b deleting",
            "vm b deleted",
        ]
    );
    assert!(events.is_sorted_by(|a, b| a.seq < b.seq && a.at_ms <= b.at_ms));
}

#[tokio::test(start_paused = true)]
async fn an_end_that_nobody_asked_for_says_why() {
    let world = VmWorld::new();
    let (vm, machine) = world.running("a").await;
    machine.end("signal 9", false);
    crate::testing::reaches(&vm, crate::record::VmState::Error).await;
    let events = told(&all(&world, EventRequest::default()).await);
    assert_eq!(
        events.last().unwrap(),
        "vm a error: the VMM ended unexpectedly: signal 9"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_gets_what_it_asks_for() {
    let world = VmWorld::new();
    let (a, b) = (world.vm("a"), world.vm("b"));
    a.start(silent()).await.unwrap();
    b.delete(false).await.unwrap();
    let check = async |request: EventRequest, expected: &[&str]| {
        let events = all(&world, request.clone()).await;
        assert_eq!(told(&events), expected, "{request:?}");
    };
    let of = |vm: &crate::vm::VmHandle| EventRequest {
        vm: Some(vm.view().record.id),
        ..EventRequest::default()
    };
    let life = [
        "vm b created: from image tiny",
        "vm b deleting",
        "vm b deleted",
    ];
    check(of(&b), &life).await;
    let tail = Some(1);
    check(EventRequest { tail, ..of(&a) }, &["vm a running"]).await;
    let tail = Some(100);
    check(EventRequest { tail, ..of(&b) }, &life).await;
    let since = Some(Since::Event(world.store.last_event().unwrap() - 1));
    check(EventRequest { since, ..of(&b) }, &["vm b deleted"]).await;
    let since = Some(Since::Time { ms: u64::MAX });
    check(EventRequest { since, ..of(&b) }, &[]).await;
    // A VM that is gone is still known by its name and its id.
    let id = b.view().record.id;
    assert_eq!(past_vm(&world.store, "b").unwrap(), id);
    assert_eq!(past_vm(&world.store, &id.to_string()).unwrap(), id);
    assert!(past_vm(&world.store, "c").is_err());
}

#[tokio::test(start_paused = true)]
async fn who_follows_hears_of_what_comes_until_the_vm_is_gone() {
    let world = VmWorld::new();
    let vm = world.vm("a");
    let request = EventRequest {
        vm: Some(vm.view().record.id),
        follow: true,
        ..EventRequest::default()
    };
    let following = tokio::spawn({
        let mut feed = Feed::new(world.store.clone(), &request).unwrap();
        async move {
            let mut events = Vec::new();
            while let Some(batch) = feed.next().await.unwrap() {
                events.extend(batch);
            }
            told(&events)
        }
    });
    vm.start(silent()).await.unwrap();
    world.vm("other");
    vm.delete(true).await.unwrap();
    let heard = soon("the feed ends", following).await.unwrap();
    assert_eq!(
        heard,
        [
            "vm a starting: on qemu (tcg)",
            "vm a running",
            "vm a deleting",
            "vm a deleted"
        ]
    );
}

#[test]
fn a_beginning_is_a_number_or_a_time() {
    let check = |text: &str, expected: Option<Since>| {
        assert_eq!(text.parse::<Since>().ok(), expected, "{text}");
    };
    check("0", Some(Since::Event(0)));
    check("42", Some(Since::Event(42)));
    check("1970-01-01T00:00:01Z", Some(Since::Time { ms: 1000 }));
    check("1970-01-01T00:00:01.5Z", Some(Since::Time { ms: 1500 }));
    check("yesterday", None);
    check("-1", None);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_loses_no_event_and_no_order() {
    let world = VmWorld::new();
    let note = |name: &str| {
        let noted = world.store.note(Subject::Daemon, name, What::Started, None);
        noted.unwrap();
    };
    note("before");
    let before = all(&world, EventRequest::default()).await;
    let before = before.last().expect("one was noted");
    // The clock is set back by two hours, and forth again.
    note("early");
    world.store.backdate_event(7_200_000);
    note("late");
    for since in [
        Since::Event(before.seq - 1),
        Since::Time { ms: before.at_ms },
    ] {
        let request = EventRequest {
            since: Some(since),
            ..EventRequest::default()
        };
        let told = told(&all(&world, request).await);
        let expected = ["before", "early", "late"].map(|name| format!("daemon {name} started"));
        assert!(told.ends_with(&expected), "{since:?}: {told:?}");
    }
}
