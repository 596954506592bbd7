//! Claims about what people read and what scripts get when something fails.

use insta::assert_snapshot;

use super::*;

fn api(code: ErrorCode) -> Failure {
    Failure::Client(ClientError::Api(ApiError::new(code, "no")))
}

fn not_started(reason: NotStarted) -> Failure {
    Failure::NotStarted {
        reason,
        message: "cannot run x".into(),
    }
}

fn interrupted(signal: u8) -> Failure {
    Failure::Interrupted {
        signal,
        outcome: "nothing was made".into(),
    }
}

fn pipe(kind: io::ErrorKind) -> Failure {
    Failure::output(kind.into())
}

#[test]
fn each_failure_has_one_exit_code_per_role() {
    let unreachable = Failure::Client(ClientError::Unreachable {
        socket: "/s".into(),
        source: io::ErrorKind::NotFound.into(),
    });
    let truncated = Failure::Client(ClientError::Truncated {
        operation: "GET /".into(),
    });
    let cases = [
        (api(ErrorCode::InvalidArgument), 2, 125),
        (api(ErrorCode::NotFound), 1, 125),
        (api(ErrorCode::AlreadyExists), 1, 125),
        (api(ErrorCode::Conflict), 1, 125),
        (api(ErrorCode::Ambiguous), 1, 125),
        (api(ErrorCode::HostUnfit), 1, 125),
        (api(ErrorCode::HostFailed), 1, 125),
        (api(ErrorCode::GuestFailed), 1, 125),
        (api(ErrorCode::SourceFailed), 1, 125),
        (api(ErrorCode::Cancelled), 1, 125),
        (api(ErrorCode::Internal), 1, 125),
        (unreachable, 1, 125),
        (truncated, 1, 125),
        (Failure::NoEnding, 1, 125),
        (Failure::Places(PlacesError::NoHome), 1, 125),
        (Failure::Told, 1, 125),
        (not_started(NotStarted::NotFound), 127, 127),
        (not_started(NotStarted::NoShell), 127, 127),
        (not_started(NotStarted::NotExecutable), 126, 126),
        (not_started(NotStarted::NoSuchUser), 125, 125),
        (not_started(NotStarted::NoSuchDirectory), 125, 125),
        (not_started(NotStarted::Other), 125, 125),
        (interrupted(2), 130, 130),
        (interrupted(15), 143, 143),
        (pipe(io::ErrorKind::BrokenPipe), 141, 141),
        (pipe(io::ErrorKind::StorageFull), 1, 125),
    ];
    for (failure, ordinary, guest) in cases {
        assert_eq!(failure.exit_code(Role::Ordinary), ordinary, "{failure:?}");
        assert_eq!(failure.exit_code(Role::GuestCommand), guest, "{failure:?}");
    }
    assert_eq!(signal_code(255), 255);
}

#[test]
fn a_failed_boot_tells_everything_and_hides_control_characters() {
    let mut error = ApiError::new(ErrorCode::GuestFailed, "VM calm-otter did not boot")
        .with_hint("banger vm logs calm-otter");
    error.causes = vec![
        "the agent said nothing for 60 s".into(),
        "broken pipe".into(),
    ];
    error.left = Some("the stopped VM calm-otter".into());
    error.console = vec!["[    1.2] Kernel panic\x1b[2J".into(), "---[ end".into()];
    error.log = vec!["qemu: bye".into()];
    assert_snapshot!(Failure::Client(error.into()).render(), @r"
    banger: VM calm-otter did not boot
      caused by: the agent said nothing for 60 s
      caused by: broken pipe
      left behind: the stopped VM calm-otter
    last lines of the guest's console:
      | [    1.2] Kernel panic\u{1b}[2J
      | ---[ end
    last lines of the log:
      | qemu: bye
    hint: banger vm logs calm-otter
    ");
}

#[test]
fn causes_stand_below_what_failed() {
    let failure = Failure::File {
        operation: "read",
        path: "/x\n/y".into(),
        source: io::Error::other("the disk is on fire"),
    };
    assert_snapshot!(failure.render(), @r"
    banger: cannot read /x\n/y
      caused by: the disk is on fire
    ");
    let unreachable = Failure::Client(ClientError::Unreachable {
        socket: "/run/banger/bangerd.sock".into(),
        source: io::Error::other("no such file"),
    });
    assert_snapshot!(unreachable.render(), @r"
    banger: cannot reach the daemon at /run/banger/bangerd.sock
      caused by: no such file
    hint: banger daemon start
    ");
    assert_snapshot!(not_started(NotStarted::NoShell).render(), @r"
    banger: cannot run x
    hint: the image has no shell: name a program behind --
    ");
}

#[test]
fn who_closed_the_pipe_is_told_nothing() {
    assert_eq!(pipe(io::ErrorKind::BrokenPipe).render(), "");
    assert_eq!(Failure::Told.render(), "");
}
