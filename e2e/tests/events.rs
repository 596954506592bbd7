//! Stories about what is told of machines while they live and afterwards.

use banger_api::event::Event;
use e2e::World;

fn events(world: &World, args: &[&str]) -> Vec<Event> {
    let args = [&["events", "--json"], args].concat();
    let text = world.call_with(&args).run().ok().text();
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("lines of JSON")
}

fn told(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.what.as_str()).collect()
}

#[test]
fn a_machine_s_life_is_told_to_who_follows_and_kept_for_who_comes_later() {
    let world = World::new();
    world
        .banger(["vm", "create", "--no-start", "--name", "web"])
        .ok();
    // One event is there already, so who follows from it on misses none.
    let following = world.call(["vm", "events", "-f", "--json", "--since", "0", "web"]);
    let following = following.spawn();
    world.banger(["vm", "start", "web"]).ok();
    world.banger(["vm", "kill", "web"]).ok();
    world.banger(["vm", "delete", "web"]).ok();
    let text = following.finish().ok().text();
    let heard: Vec<Event> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    let life = [
        "created", "starting", "running", "stopping", "stopped", "deleting", "deleted",
    ];
    assert_eq!(told(&heard), life);

    world.banger(["daemon", "stop"]).ok();
    assert_eq!(events(&world, &["--vm", "web"]), heard);
    let rest = events(
        &world,
        &["--since", &heard[4].seq.to_string(), "--vm", "web"],
    );
    assert_eq!(told(&rest), ["deleting", "deleted"]);
    let all = events(&world, &["--since", "1h"]);
    assert!(
        all.iter()
            .any(|event| event.subject == "daemon" && event.what == "started")
    );
    let killed = heard[4].detail.as_deref().unwrap_or_default();
    assert!(killed.contains("was killed"), "{killed}");
    world
        .banger(["vm", "events", "never"])
        .code(1)
        .stderr_has(["there is no VM \"never\""]);
}
