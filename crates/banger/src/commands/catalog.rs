//! `catalog add`, `list`, `remove` and `key generate`, and what both kinds of `publish` share.

use std::{
    io,
    path::{Path, PathBuf, absolute},
    time::SystemTime,
};

use banger_api::{
    catalog::{AddCatalog, Catalog, GenerateKey, Publish, Published},
    client::{Client, ClientError},
    places::Places,
    progress::Step,
    size::format_size,
};

use crate::{
    cli::catalog::{
        CatalogAddArgs, CatalogCommand, CatalogRemoveArgs, KeyCommand, KeyGenerateArgs, PublishArgs,
    },
    exec::signals::Signals,
    output,
    progress::Display,
    report::{Failure, SUCCESS},
    table::table,
    targets::{distinct, each},
    text::{age, escape},
};

/// The key that is used where none is named.
const DEFAULT_KEY: &str = "catalog.key";
const DAY: u64 = 86_400;

pub(super) async fn run(
    client: &Client,
    places: &Places,
    command: CatalogCommand,
) -> Result<u8, Failure> {
    match command {
        CatalogCommand::Add(args) => add(client, args).await,
        CatalogCommand::List(args) => list(client, args.json).await,
        CatalogCommand::Remove(args) => remove(client, &args).await,
        CatalogCommand::Key(KeyCommand::Generate(args)) => generate(client, places, args).await,
    }
}

async fn add(client: &Client, args: CatalogAddArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let request = AddCatalog {
        name: args.name.into(),
        url: args.url,
        key: args.key,
    };
    let work = client.add_catalog(&request);
    let catalog = signals.interrupt(work, "nothing was added").await?;
    output::remark(format_args!(
        "{} has {} and {}",
        escape(&catalog.name),
        count(catalog.images, "image"),
        count(catalog.kernels, "kernel"),
    ));
    output::print(&format!("{}\n", catalog.name))?;
    Ok(SUCCESS)
}

fn count(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

async fn list(client: &Client, json: bool) -> Result<u8, Failure> {
    let catalogs = client.catalogs().await?;
    if json {
        output::print_json(&catalogs)?;
    } else {
        output::print(&overview(&catalogs, SystemTime::now()))?;
    }
    Ok(SUCCESS)
}

async fn remove(client: &Client, args: &CatalogRemoveArgs) -> Result<u8, Failure> {
    let names = distinct(args.names.iter().map(AsRef::as_ref));
    each(names.into_iter().map(async |name| {
        client.remove_catalog(&name).await?;
        Ok(name)
    }))
    .await
}

async fn generate(client: &Client, places: &Places, args: KeyGenerateArgs) -> Result<u8, Failure> {
    let path = args.file.unwrap_or_else(|| places.config.join(DEFAULT_KEY));
    let request = GenerateKey {
        path: text(&path)?,
        signer: args.signer,
    };
    let made = client.generate_key(&request).await?;
    output::remark(format_args!("the secret key is in {}", escape(&made.path)));
    output::print(&format!("{}\n", made.key))?;
    Ok(SUCCESS)
}

/// Has catalogs read anew, and says which could not be.
pub(super) async fn refresh(client: &Client) -> Result<(), Failure> {
    for catalog in client.refresh_catalogs().await? {
        let Some(problem) = catalog.problem else {
            continue;
        };
        output::remark(format_args!("warning: {}", escape(&problem.to_string())));
        if let Some(hint) = problem.hint {
            output::remark(format_args!("hint: {}", escape(&hint)));
        }
    }
    Ok(())
}

/// Publishes by a request, and tells what others need.
pub(super) async fn publish(
    args: PublishArgs,
    send: impl AsyncFnOnce(Publish, &mut dyn FnMut(Step)) -> Result<Published, ClientError>,
) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let display = Display::new(args.quiet.quiet || args.json);
    let mut progress = display.single();
    let key = match args.key {
        Some(key) => key,
        None => Places::from_env()?.config.join(DEFAULT_KEY),
    };
    let request = Publish {
        directory: text(&args.to)?,
        key: text(&key)?,
        description: args.description,
        valid_seconds: args.valid_days.map(|days| u64::from(days) * DAY),
    };
    let mut on_step = |step: Step| progress.step(&step);
    let work = send(request, &mut on_step);
    let published = signals
        .interrupt(work, "the catalog is what it was")
        .await?;
    drop(progress);
    if args.json {
        output::print_json(&published)?;
        return Ok(SUCCESS);
    }
    if !args.quiet.quiet {
        output::remark(format_args!(
            "{} in {}; whoever trusts the catalog needs the key {}",
            format_size(published.bytes),
            escape(&args.to.to_string_lossy()),
            escape(&published.key),
        ));
    }
    output::print(&format!("{}\n", published.file))?;
    Ok(SUCCESS)
}

/// A path as the daemon understands it, whose working directory is another. It need not be there.
fn text(path: &Path) -> Result<String, Failure> {
    let failed = |source| Failure::File {
        operation: "find",
        path: path.to_owned(),
        source,
    };
    let whole: PathBuf = absolute(path).map_err(failed)?;
    let text = whole.into_os_string().into_string();
    text.map_err(|_| failed(io::Error::other("its name is no text")))
}

fn overview(catalogs: &[Catalog], now: SystemTime) -> String {
    let rows: Vec<_> = catalogs
        .iter()
        .map(|catalog| {
            [
                catalog.name.clone(),
                catalog.url.clone(),
                signer(&catalog.key),
                catalog.images.to_string(),
                catalog.kernels.to_string(),
                age(&catalog.seen_at, now),
            ]
        })
        .collect();
    table(["NAME", "URL", "KEY", "IMAGES", "KERNELS", "READ"], &rows)
}

/// A key's name and id, which are enough to tell it from others.
fn signer(key: &str) -> String {
    let end = key
        .match_indices('+')
        .nth(1)
        .map_or(key.len(), |(at, _)| at);
    key[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use insta::assert_snapshot;

    use super::*;

    #[test]
    fn catalogs_are_listed_with_who_signs_them() {
        let catalog = Catalog {
            name: "acme".into(),
            url: "https://example.com/images/".into(),
            key: "acme+01234567+AZabc+def=".into(),
            serial: 7,
            expires: None,
            images: 2,
            kernels: 1,
            added_at: "1970-01-01T00:00:00Z".into(),
            seen_at: "1970-01-01T00:00:00Z".into(),
            problem: None,
        };
        assert_snapshot!(overview(&[catalog], UNIX_EPOCH), @r"
        NAME  URL                          KEY            IMAGES  KERNELS  READ
        acme  https://example.com/images/  acme+01234567  2       1        just now
        ");
    }
}
