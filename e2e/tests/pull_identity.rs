//! Who we are to a registry, who it is to us, and what lies between: passwords, tokens, helpers,
//! certificates, proxies, platforms.
#![forbid(unsafe_code)]

use std::{fs, os::unix::fs::PermissionsExt};

use e2e::{Registry, Stumbler, World};

#[test]
fn a_guarded_registry_wants_a_login() {
    let Some(registry) = Registry::with_password() else {
        return;
    };
    let world = World::new();
    let layout = registry.layout("");
    registry.push(
        &format!("oci:{layout}:1"),
        "web:1",
        "--dest-creds me:secret",
    );
    let reference = registry.reference("web:1");
    let refused = world.banger(["image", "pull", &reference]);
    refused
        .code(1)
        .stdout("")
        .stderr_has(["anybody", "banger registry login"]);
    let login = |password: &str| {
        let args = ["registry", "login", "-u", "me", "--password-stdin"];
        let [a, b, c, d, e] = args;
        world
            .call([a, b, c, d, e, registry.address()])
            .stdin(format!("{password}\n"))
            .run()
    };
    login("wrong").code(1).stderr_has(["the user me"]);
    login("secret").ok();
    assert_eq!(world.pull(&[&reference]).image.name, "web-1");
    world
        .banger(["registry", "logout", registry.address()])
        .ok();
    world.banger(["image", "delete", "web-1"]).ok();
    world.banger(["image", "pull", &reference]).code(1);
    // What docker keeps is found without a login.
    let config = registry.directory().join("config.json");
    let auths = format!(
        r#"{{"auths":{{"{}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#,
        registry.address()
    );
    fs::write(config, auths).expect("the directory is writable");
    world.banger(["daemon", "stop"]).ok();
    let pulled = world
        .call(["image", "pull", &reference])
        .env("DOCKER_CONFIG", registry.directory())
        .run();
    pulled.ok().stdout("web-1\n");
}

#[test]
fn a_helper_is_asked_for_credentials() {
    let Some(registry) = Registry::with_password() else {
        return;
    };
    let world = World::new();
    let layout = registry.layout("");
    registry.push(
        &format!("oci:{layout}:1"),
        "web:1",
        "--dest-creds me:secret",
    );
    let reference = registry.reference("web:1");
    let directory = registry.directory();
    let helper = directory.join("docker-credential-stories");
    let answer = r#"#!/bin/sh
[ "$1" = get ] && read -r host && printf '{"Username":"me","Secret":"%s"}' "$(cat "$(dirname "$0")/secret")"
"#;
    let written = fs::write(&helper, answer)
        .and_then(|()| fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)));
    written.expect("the directory is writable");
    let helpers = format!(
        r#"{{"credHelpers":{{"{}":"stories"}}}}"#,
        registry.address()
    );
    fs::write(directory.join("config.json"), helpers).expect("the directory is writable");
    let path = std::env::var("PATH").unwrap_or_default();
    let pull = |secret: &str| {
        fs::write(directory.join("secret"), secret).expect("the directory is writable");
        world
            .call(["image", "pull", &reference])
            .env("DOCKER_CONFIG", directory)
            .env("PATH", format!("{}:{path}", directory.display()))
            .run()
    };
    pull("wrong").code(1).stderr_has(["the user me"]);
    pull("secret").ok().stdout("web-1\n");
}

#[test]
fn a_token_is_got_for_a_password() {
    let Some(registry) = Registry::with_tokens() else {
        return;
    };
    let world = World::new();
    let layout = registry.layout("");
    registry.push(
        &format!("oci:{layout}:1"),
        "web:1",
        "--dest-creds me:secret",
    );
    let reference = registry.reference("web:1");
    let refused = world.banger(["image", "pull", &reference]);
    refused
        .code(1)
        .stderr_has(["anybody", "banger registry login"]);
    let login = |password: &str| {
        world
            .call([
                "registry",
                "login",
                "-u",
                "me",
                "--password-stdin",
                registry.address(),
            ])
            .stdin(password)
            .run()
    };
    login("wrong").code(1);
    login("secret").ok();
    assert_eq!(world.pull(&[&reference]).image.name, "web-1");
    // The token is for one repository, so the registry refuses another.
    let other = world.banger(["image", "pull", &registry.reference("other:1")]);
    other.code(1).stderr_has(["other", "hint:"]);
}

#[test]
fn a_certificate_must_be_known_or_forgiven() {
    let Some(registry) = Registry::encrypted() else {
        return;
    };
    let world = World::new();
    let layout = registry.layout("");
    registry.push(&format!("oci:{layout}:1"), "web:1", "");
    let reference = registry.reference("web:1");
    let refused = world.banger(["image", "pull", &reference]);
    refused
        .code(1)
        .stdout("")
        .stderr_has(["certificate", "extra_ca", "--insecure"]);
    assert_eq!(world.files_below("image-cache/blobs"), 0);
    world
        .banger(["image", "pull", "--insecure", &reference])
        .ok()
        .stdout("web-1\n");
    world.banger(["image", "delete", "web-1"]).ok();

    let another = Registry::encrypted().expect("the tools were there a moment ago");
    let trusting = |ca: String| {
        world.banger(["daemon", "stop"]).ok();
        world.configure_also(&format!("[registries]\nextra_ca = [\"{ca}\"]"));
        world.banger(["image", "pull", &reference])
    };
    trusting(another.ca()).code(1).stderr_has(["certificate"]);
    trusting(registry.ca()).ok().stdout("web-1\n");
    trusting("/no/such/ca.pem".into()).ok(); // It is here already: nobody is asked.
    let wrong = world.banger(["image", "pull", &registry.reference("web:2")]);
    wrong.code(1).stderr_has(["/no/such/ca.pem", "extra_ca"]);
}

#[test]
fn a_proxy_is_used_for_other_hosts_and_never_for_the_loopback() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let world = World::new();
    let layout = registry.layout("");
    registry.push(&format!("oci:{layout}:1"), "web:1", "");
    let proxy = Stumbler::before(registry.address());
    let pull = |no_proxy: &str, reference: &str| {
        // The environment of the daemon is that of the command which starts it.
        world.banger(["daemon", "stop"]).ok();
        world
            .call(["image", "pull", "--insecure", reference])
            .env("HTTP_PROXY", format!("http://{}", proxy.address()))
            .env("HTTPS_PROXY", format!("http://{}", proxy.address()))
            .env("NO_PROXY", no_proxy)
            .run()
    };
    // Nobody but the proxy knows where this host is.
    let reference = "registry.invalid:5000/web:1";
    pull("registry.invalid", reference).code(1);
    assert_eq!(proxy.asked("/"), 0);
    pull("", reference).ok().stdout("web-1\n");
    assert!(proxy.asked("http://registry.invalid:5000/v2/web/blobs/") >= 2);
    let before = proxy.asked("/");
    pull("", &registry.reference("web:1")).ok();
    assert_eq!(proxy.asked("/"), before, "the loopback needs no proxy");
}

#[test]
fn an_encrypted_registry_is_reached_through_a_proxy_that_learns_nothing() {
    let Some(registry) = Registry::encrypted() else {
        return;
    };
    let world = World::new();
    let layout = registry.layout("");
    registry.push(&format!("oci:{layout}:1"), "web:1", "");
    let proxy = Stumbler::leading_to(registry.address());
    let pull = || {
        world.banger(["daemon", "stop"]).ok();
        world
            .call(["image", "pull", "registry.invalid:5000/web:1"])
            .env("HTTPS_PROXY", format!("http://{}", proxy.address()))
            .run()
    };
    pull().code(1).stderr_has(["certificate", "extra_ca"]);
    world.configure_also(&format!("[registries]\nextra_ca = [\"{}\"]", registry.ca()));
    pull().ok().stdout("web-1\n");
    assert!(proxy.asked("CONNECT registry.invalid:5000 ") >= 2);
    assert_eq!(proxy.asked("/v2/"), 0);
}

#[test]
fn an_index_gives_the_image_of_the_platform() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let world = World::new();
    let layout = registry.layout("--config.cmd amd64");
    let exact = "--preserve-digests";
    registry.push(&format!("oci:{layout}:1"), "web:a", exact);
    let layout = registry.layout("--architecture arm64 --config.cmd arm64");
    registry.push(&format!("oci:{layout}:1"), "web:b", exact);
    registry.push_index("web", "1", &[("arm64", "web:b"), ("amd64", "web:a")]);
    let reference = registry.reference("web:1");
    let here = world.pull(&[&reference]).image;
    assert_eq!(here.platform.as_deref(), Some("linux/amd64"));
    assert_eq!(here.config.cmd, ["amd64"]);
    let other = world.pull(&["--platform", "linux/arm64", &reference]);
    assert_eq!(other.image.platform.as_deref(), Some("linux/arm64"));
    assert_eq!(other.image.config.cmd, ["arm64"]);
    assert_eq!(other.pull.reused_layers, 1, "both have the same files");
    assert_ne!(other.image.name, here.name);
    let missing = world.banger(["image", "pull", "--platform", "linux/s390x", &reference]);
    missing
        .code(1)
        .stderr_has(["linux/s390x", "linux/arm64", "--platform"]);
}

#[test]
fn platforms_and_names_that_are_not_there_are_refused_by_name() {
    let Some(registry) = Registry::start() else {
        return;
    };
    let world = World::new();
    let layout = registry.layout("");
    registry.push(&format!("oci:{layout}:1"), "web:1", "");
    let reference = registry.reference("web:1");
    let other = world.banger(["image", "pull", "--platform", "linux/riscv64", &reference]);
    other.code(1).stderr_has(["linux/riscv64", "--platform"]);
    let missing = world.banger(["image", "pull", &registry.reference("web:2")]);
    missing.code(1).stderr_has(["web:2", "has no image"]);
    world.banger(["image", "pull", "docker-daemon:x"]).code(2);
    world.banger(["image", "pull", "Not/A/Reference"]).code(2);
    assert!(
        world
            .banger(["image", "show", "web-1"])
            .code(1)
            .bytes()
            .is_empty()
    );
}
