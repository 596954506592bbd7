//! Claims about sessions on a terminal, made with a real pseudo-terminal.

use std::{fs::File, io::Write, os::fd::OwnedFd, process::Stdio};

use banger_api::exec::ExecStart;
use rustix::{
    io::Errno,
    process::Signal,
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use crate::fake::{Fake, Reaped};

/// A terminal and a program on it.
struct Session {
    controller: File,
    user: OwnedFd,
    child: Reaped,
}

impl Session {
    fn start(fake: &Fake, arguments: &[&str]) -> Self {
        let size = Winsize {
            ws_row: 40,
            ws_col: 132,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = rustix_openpty::openpty(None, Some(&size)).unwrap();
        let end = || Stdio::from(pty.user.try_clone().unwrap());
        let mut command = fake.banger(arguments);
        command
            .env("TERM", "vt220")
            .stdin(end())
            .stdout(end())
            .stderr(end());
        let child = Reaped(command.spawn().unwrap());
        drop(command);
        Self {
            controller: pty.controller.into(),
            user: pty.user,
            child,
        }
    }

    /// Reads until this text appears, and gives back everything so far.
    fn read_until(&self, wanted: &str) -> String {
        let mut got = Vec::new();
        let mut buffer = [0; 1024];
        while !String::from_utf8_lossy(&got).contains(wanted) {
            match rustix::io::read(&self.controller, &mut buffer) {
                Ok(0) | Err(Errno::IO) => break,
                Ok(read) => got.extend_from_slice(&buffer[..read]),
                Err(error) => panic!("cannot read the terminal: {error}"),
            }
        }
        String::from_utf8(got).unwrap()
    }

    fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.user).unwrap().local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }
}

fn wait_for_start(fake: &Fake) -> ExecStart {
    loop {
        let asked = fake.asked();
        if asked.starts_with(r#"{"argv""#) {
            return serde_json::from_str(&asked).unwrap();
        }
    }
}

fn wait_for(fake: &Fake, line: &str) {
    while fake.asked() != line {}
}

#[test]
fn a_shell_gets_the_terminal_and_gives_it_back() {
    let fake = Fake::start();
    let mut session = Session::start(&fake, &["run", "-q"]);
    let start = wait_for_start(&fake);
    assert!(start.argv.is_empty());
    assert_eq!(start.env, [("TERM".to_owned(), "vt220".to_owned())]);
    assert_eq!(
        start.tty.map(|size| (size.cols, size.rows)),
        Some((132, 40))
    );
    wait_for(&fake, "listening");
    // The echo comes from the guest: the keys went through raw.
    session.controller.write_all(b"a\x03").unwrap();
    assert_eq!(session.read_until("A\x03"), "A\x03");
    assert!(session.is_raw());
    session.controller.write_all(b"q").unwrap();
    assert_eq!(session.child.code(), Some(3));
    assert!(!session.is_raw());
}

#[test]
fn who_leaves_a_shell_is_reminded_of_its_vm() {
    let fake = Fake::start();
    let mut session = Session::start(&fake, &["run", "-q", "--name", "web"]);
    wait_for(&fake, "listening");
    session.controller.write_all(b"q").unwrap();
    assert_eq!(session.child.code(), Some(3));
    let mut loud = Session::start(&fake, &["run"]);
    wait_for(&fake, "listening");
    loud.controller.write_all(b"q").unwrap();
    let seen = loud.read_until("rm -f web");
    assert!(seen.contains("VM web is still running"), "{seen}");
    assert_eq!(loud.child.code(), Some(3));
}

#[test]
fn the_window_s_size_follows() {
    let fake = Fake::start();
    let mut session = Session::start(&fake, &["exec", "web"]);
    wait_for(&fake, "listening");
    let size = Winsize {
        ws_row: 30,
        ws_col: 100,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&session.controller, size).unwrap();
    // Only the controlling terminal sends this by itself.
    session.child.signal(Signal::WINCH);
    assert_eq!(fake.asked(), "Resize(Window { cols: 100, rows: 30 })");
    session.controller.write_all(b"q").unwrap();
    assert_eq!(session.child.code(), Some(3));
}

#[test]
fn a_killed_session_leaves_the_terminal_as_it_was() {
    let fake = Fake::start();
    for (signal, code) in [(Signal::TERM, 143), (Signal::HUP, 129)] {
        let mut session = Session::start(&fake, &["exec", "web"]);
        wait_for(&fake, "listening");
        session.controller.write_all(b"a").unwrap();
        session.read_until("A");
        session.child.signal(signal);
        assert_eq!(session.child.code(), Some(code));
        assert!(!session.is_raw());
        wait_for(&fake, "gone");
    }
}

#[test]
fn a_terminal_can_be_refused_and_forced() {
    let fake = Fake::start();
    let mut session = Session::start(&fake, &["exec", "-T", "web", "--", "exit", "0"]);
    assert_eq!(wait_for_start(&fake).tty, None);
    assert_eq!(session.child.code(), Some(0));
    let forced = ["exec", "-t", "web", "--", "exit", "0"];
    let status = fake
        .banger(&forced)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let size = wait_for_start(&fake).tty.map(|size| (size.cols, size.rows));
    assert_eq!(size, Some((80, 24)));
}
