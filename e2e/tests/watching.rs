//! Stories about looking at machines that run: what they use, what listens in them, what they say.

use banger_api::usage::VmPorts;
use e2e::World;
use serde_json::Value;

#[test]
fn what_a_machine_uses_and_what_listens_in_it_can_be_seen() {
    let world = World::new();
    world.start("web");
    let line = "nc -l -p 8080 >/dev/null 2>&1 & while ! netstat -ltn | grep -q :8080; do :; done";
    assert_eq!(world.guest("web", line), "");

    let ports: Vec<VmPorts> = world.banger(["vm", "ports", "--json", "web"]).ok().json();
    let found = ports[0].listeners.iter().find(|l| l.port == 8080);
    let found = found.unwrap_or_else(|| panic!("{ports:?}"));
    assert_eq!(
        (found.protocol.as_str(), found.process.as_deref()),
        ("tcp", Some("nc"))
    );
    let table = world.banger(["vm", "ports", "--all"]).ok().text();
    assert!(table.contains("8080"), "{table}");

    let stats: Value = world.banger(["vm", "stats", "--json"]).ok().json();
    let web = &stats[0];
    assert_eq!(web["name"], "web");
    let at_least = |path: &str, least: f64| {
        let value = web.pointer(path).and_then(Value::as_f64);
        assert!(value.is_some_and(|value| value >= least), "{path}: {web}");
    };
    at_least("/cpu_percent", 0.0);
    at_least("/host/memory_bytes", 1e7);
    at_least("/host/cpu_ms", 1.0);
    at_least("/guest/memory_total_bytes", 1e8);
    at_least("/guest/uptime_ms", 1.0);
    at_least("/disk_used_bytes", 1.0);

    let log = world.banger(["vm", "logs", "--agent", "web"]).ok().text();
    assert!(
        log.contains("is ready") && log.contains("a host has connected"),
        "{log}"
    );
    let console = world.banger(["vm", "logs", "web"]).ok().text();
    let tail = world
        .banger(["vm", "logs", "--tail", "2", "web"])
        .ok()
        .text();
    assert!(console.ends_with(&tail), "{tail}");
    assert_eq!(tail.lines().count(), console.lines().count().min(2));

    world.banger(["vm", "pause", "web"]).ok();
    let paused: Value = world.banger(["vm", "stats", "--json", "web"]).ok().json();
    assert_eq!(
        (&paused[0]["state"], &paused[0]["guest"]),
        (&"paused".into(), &Value::Null)
    );
    world
        .banger(["vm", "ports", "web"])
        .code(1)
        .stderr_has(["paused", "banger vm resume"]);
    world.banger(["vm", "kill", "web"]).ok();
    world
        .banger(["vm", "ports", "web"])
        .code(1)
        .stderr_has(["cannot tell its ports", "banger vm start"]);
    world
        .banger(["vm", "logs", "--agent", "web"])
        .code(1)
        .stderr_has(["cannot tell its agent's log", "console"]);
}
