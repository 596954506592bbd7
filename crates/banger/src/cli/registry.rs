//! The commands and flags that concern registries.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    /// Keep credentials for a registry, once it has taken them
    Login(LoginArgs),
    /// Forget the credentials for a registry
    Logout(LogoutArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger registry login quay.io
  banger registry login -u robot --password-stdin 127.0.0.1:5000 < token

Credentials of docker, podman and skopeo, and their helpers, are used without a login.")]
pub(crate) struct LoginArgs {
    /// Host of the registry, with its port where it has one
    #[arg(default_value = "docker.io")]
    pub(crate) registry: String,
    /// The user's name [default: it is asked for]
    #[arg(short, long)]
    pub(crate) username: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// The registry may be plain HTTP or have any certificate
    #[arg(long)]
    pub(crate) insecure: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  banger registry logout quay.io")]
pub(crate) struct LogoutArgs {
    /// Host of the registry, with its port where it has one
    #[arg(default_value = "docker.io")]
    pub(crate) registry: String,
}
