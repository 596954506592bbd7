//! `registry login` and `logout`: who we are to registries. Keeps nothing itself.

use std::io::{self, BufRead, IsTerminal, Read};

use banger_api::{
    client::Client,
    image::{Login, Logout},
};

use crate::{
    cli::registry::{LoginArgs, LogoutArgs, RegistryCommand},
    exec::{signals::Signals, terminal::Unseen},
    output,
    report::{Failure, SUCCESS},
};

/// No password is longer; what is, was not meant to be one.
const LONGEST: u64 = 64 << 10;

pub(super) async fn run(client: &Client, command: RegistryCommand) -> Result<u8, Failure> {
    match command {
        RegistryCommand::Login(args) => login(client, args).await,
        RegistryCommand::Logout(args) => logout(client, args).await,
    }
}

async fn login(client: &Client, args: LoginArgs) -> Result<u8, Failure> {
    let username = match args.username {
        Some(username) => username,
        None => ask("Username: ")?,
    };
    let password = if args.password_stdin {
        let mut text = String::new();
        let read = io::stdin().take(LONGEST).read_to_string(&mut text);
        read.map_err(cannot_read)?;
        text.trim_end_matches(['\r', '\n']).to_owned()
    } else {
        let _unseen = Unseen::enter().map_err(cannot_read)?;
        let password = ask("Password: ");
        // The newline that was typed was not seen either.
        output::remark("");
        password?
    };
    let mut signals = Signals::listen()?;
    let request = Login {
        registry: args.registry,
        username,
        password,
        insecure: args.insecure,
    };
    let state = signals
        .interrupt(client.login(&request), "nothing was kept")
        .await?;
    output::remark(format_args!("logged in to {}", state.registry));
    Ok(SUCCESS)
}

async fn logout(client: &Client, args: LogoutArgs) -> Result<u8, Failure> {
    let request = Logout {
        registry: args.registry,
    };
    let state = client.logout(&request).await?;
    let outcome = if state.known {
        "logged out of"
    } else {
        "there was no login to"
    };
    output::remark(format_args!("{outcome} {}", state.registry));
    Ok(SUCCESS)
}

/// A line that is typed, or that a script gives.
fn ask(prompt: &str) -> Result<String, Failure> {
    if io::stdin().is_terminal() {
        output::prompt(prompt);
    }
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    if read.map_err(cannot_read)? == 0 {
        return Err(cannot_read(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn cannot_read(source: io::Error) -> Failure {
    Failure::Host {
        operation: "read the credentials from standard input",
        source,
    }
}
