//! The commands and flags that concern catalogs: trusting them, and publishing.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};
use clap_complete::engine::ArgValueCandidates;

use super::{JsonArgs, QuietArgs, names::CatalogName};
use crate::complete;

#[derive(Debug, Subcommand)]
pub(crate) enum CatalogCommand {
    /// Trust a catalog, if it is signed with this key
    Add(CatalogAddArgs),
    /// List the catalogs that are trusted, in the order in which they are asked
    #[command(visible_alias = "ls")]
    #[command(after_help = "Example:\n  banger catalog list --json")]
    List(JsonArgs),
    /// Trust catalogs no longer; what was pulled from them stays
    #[command(visible_alias = "rm")]
    Remove(CatalogRemoveArgs),
    /// Keys to publish with
    #[command(subcommand)]
    Key(KeyCommand),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger catalog add acme https://images.example.com/banger --key acme+0f3c…+AZ…
  banger catalog add acme file:///srv/banger --key \"$(cat acme.pub)\"

The address is that of the directory that `banger image publish` and `banger kernel publish` made;
whoever made it gives you the key. `banger image list --available` shows what it has.")]
pub(crate) struct CatalogAddArgs {
    /// What to call it here: a-z, 0-9 and -
    pub(crate) name: CatalogName,
    /// https://, http://, or file:///DIRECTORY
    #[arg(value_hint = ValueHint::Url)]
    pub(crate) url: String,
    /// Public key that it must be signed with
    #[arg(long)]
    pub(crate) key: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  banger catalog remove acme")]
pub(crate) struct CatalogRemoveArgs {
    #[arg(required = true, value_name = "NAME", add = ArgValueCandidates::new(complete::catalogs))]
    pub(crate) names: Vec<CatalogName>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key, and print the public half
    Generate(KeyGenerateArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banger catalog key generate
  banger catalog key generate --signer acme ~/acme.key

The file is for its owner alone and has no password; FILE.pub has the public key. Nothing is
overwritten.")]
pub(crate) struct KeyGenerateArgs {
    /// File for the secret key [default: catalog.key beside the configuration]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
    /// Who signs: stands in the key and beside signatures
    #[arg(long, default_value = "banger")]
    pub(crate) signer: String,
}

/// Where and how something is published.
#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    /// Directory for the bundle and the catalog; made where it is not there
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) to: PathBuf,
    /// Secret key to sign with [default: catalog.key beside the configuration]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) key: Option<PathBuf>,
    /// What readers see beside the name
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// The catalog is not believed any more so many days from now
    #[arg(long, value_name = "DAYS")]
    pub(crate) valid_days: Option<u32>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) quiet: QuietArgs,
}
