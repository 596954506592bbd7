//! `image list`, `show`, `delete`, `import` and `pull`.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use banger_api::{
    client::Client,
    image::{Image, ImportImage, PullImage},
    size::format_size,
};
use bytes::Bytes;
use futures_util::{Stream, stream::unfold};

use crate::{
    cli::{
        store::{ImageCommand, ImageImportArgs, ImagePullArgs},
        values::{Source, StoreName},
    },
    exec::{pipes, signals::Signals},
    output,
    progress::Display,
    report::{Failure, SUCCESS},
    table::{fields, table},
    targets::{distinct, each},
    text::age,
};

pub(super) async fn run(client: &Client, command: ImageCommand) -> Result<u8, Failure> {
    match command {
        ImageCommand::List(args) => list(client, args.json).await,
        ImageCommand::Show(args) => show(client, args.name.as_str(), args.json.json).await,
        ImageCommand::Delete(args) => delete(client, &args.names).await,
        ImageCommand::Import(args) => import(client, args).await,
        ImageCommand::Pull(args) => pull(client, args).await,
    }
}

async fn list(client: &Client, json: bool) -> Result<u8, Failure> {
    let images = client.images().await?;
    if json {
        output::print_json(&images)?;
    } else {
        output::print(&overview(&images, SystemTime::now()))?;
    }
    Ok(SUCCESS)
}

async fn show(client: &Client, name: &str, json: bool) -> Result<u8, Failure> {
    let image = client.image(name).await?;
    if json {
        output::print_json(&image)?;
    } else {
        output::print(&details(&image, SystemTime::now()))?;
    }
    Ok(SUCCESS)
}

async fn delete(client: &Client, names: &[StoreName]) -> Result<u8, Failure> {
    let names = distinct(names.iter().map(StoreName::as_str));
    each(names.into_iter().map(async |name| {
        client.delete_image(&name).await?;
        Ok(name)
    }))
    .await
}

async fn import(client: &Client, args: ImageImportArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let display = Display::new(args.quiet.quiet);
    let mut progress = display.single();
    let name = args.name.as_str();
    let way = way_of(&args.source)?;
    let work = async {
        match way {
            Way::Path(path) => {
                let request = ImportImage {
                    name: name.to_owned(),
                    path,
                };
                client
                    .import_image(&request, |step| progress.step(&step))
                    .await
            }
            Way::Upload(tar) => {
                client
                    .upload_image(name, tar, |step| progress.step(&step))
                    .await
            }
        }
    };
    let image = signals.interrupt(work, "the import was cancelled").await?;
    output::print(&format!("{}\n", image.name))?;
    Ok(SUCCESS)
}

async fn pull(client: &Client, args: ImagePullArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let display = Display::new(args.quiet.quiet);
    let mut progress = display.single();
    let request = PullImage {
        reference: args.name.into(),
        name: None,
    };
    let work = client.pull_image(&request, |step| progress.step(&step));
    let image = signals.interrupt(work, "the pull was cancelled").await?;
    output::print(&format!("{}\n", image.name))?;
    Ok(SUCCESS)
}

/// How a tar reaches the daemon.
enum Way<S> {
    /// The daemon reads the file itself.
    Path(String),
    /// Only this process can read it.
    Upload(S),
}

type Tar = Way<std::pin::Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>>;

fn way_of(source: &Source) -> Result<Tar, Failure> {
    let path = match source {
        Source::TarStdin => return upload(io::stdin()),
        Source::TarFile(path) => path,
    };
    let fail = |operation| {
        move |source| Failure::File {
            operation,
            path: path.clone(),
            source,
        }
    };
    // Opened here, so that a file that cannot be read fails before anything happens.
    let file = File::open(path).map_err(fail("open"))?;
    let regular = file.metadata().map_err(fail("look at"))?.is_file();
    match shareable(path) {
        Some(path) if regular => Ok(Way::Path(path)),
        // A pipe, such as a shell's process substitution, is a file of this process alone.
        Some(_) | None => upload(file),
    }
}

fn upload(file: impl std::os::fd::AsFd + Send + 'static) -> Result<Tar, Failure> {
    let chunks = pipes::read(file)?;
    let stream = unfold(chunks, async |mut chunks| {
        let chunk = chunks.recv().await?;
        Some((chunk, chunks))
    });
    Ok(Way::Upload(Box::pin(stream)))
}

/// The file's name as another process of this user can open it, where JSON can say it.
fn shareable(path: &Path) -> Option<String> {
    let resolved: PathBuf = path.canonicalize().ok()?;
    resolved.into_os_string().into_string().ok()
}

fn overview(images: &[Image], now: SystemTime) -> String {
    let rows: Vec<_> = images
        .iter()
        .map(|image| {
            [
                image.name.clone(),
                image.os.clone().unwrap_or_else(|| "-".to_owned()),
                format_size(image.size_bytes),
                image.vms.len().to_string(),
                age(&image.created_at, now),
            ]
        })
        .collect();
    table(["NAME", "OS", "SIZE", "VMS", "CREATED"], &rows)
}

fn details(image: &Image, now: SystemTime) -> String {
    let yes = |flag: bool| Some(if flag { "yes" } else { "no" }.to_owned());
    let vms = Some(image.vms.join(" ")).filter(|vms| !vms.is_empty());
    fields(&[
        ("name", Some(image.name.clone())),
        ("os", image.os.clone()),
        ("size", Some(format_size(image.size_bytes))),
        ("content", Some(format_size(image.content_bytes))),
        ("entries", Some(image.entries.to_string())),
        ("systemd", yes(image.has_systemd)),
        ("shell", yes(image.has_shell)),
        ("source", Some(image.source.clone())),
        ("digest", Some(image.digest.clone())),
        ("created", Some(age(&image.created_at, now))),
        ("vms", vms),
        ("rootfs path", Some(image.rootfs_path.clone())),
    ])
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use insta::assert_snapshot;

    use super::*;

    fn image() -> Image {
        Image {
            name: "debian-bookworm".into(),
            rootfs_path: "/s/rootfs.ext4".into(),
            size_bytes: 400 << 20,
            content_bytes: 300 << 20,
            entries: 9_000,
            digest: "sha256:00".into(),
            source: "debian".into(),
            os: Some("Debian\x1b 12".into()),
            has_systemd: true,
            has_shell: true,
            created_at: "1970-01-01T00:00:00Z".into(),
            vms: vec!["a".into(), "b".into()],
        }
    }

    #[test]
    fn images_are_listed_and_shown() {
        assert_snapshot!(overview(&[image()], UNIX_EPOCH), @r"
        NAME             OS               SIZE     VMS  CREATED
        debian-bookworm  Debian\u{1b} 12  400 MiB  2    just now
        ");
        assert_snapshot!(details(&image(), UNIX_EPOCH), @r"
        name         debian-bookworm
        os           Debian\u{1b} 12
        size         400 MiB
        content      300 MiB
        entries      9000
        systemd      yes
        shell        yes
        source       debian
        digest       sha256:00
        created      just now
        vms          a b
        rootfs path  /s/rootfs.ext4
        ");
    }

    #[test]
    fn only_regular_files_are_left_to_the_daemon() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let given = Source::TarFile(file.path().to_owned());
        assert!(matches!(way_of(&given), Ok(Way::Path(path)) if path.starts_with('/')));
        let device = Source::TarFile("/dev/null".into());
        assert!(way_of(&device).is_ok_and(|way| matches!(way, Way::Upload(_))));
        let gone = Source::TarFile("/nonexistent.tar".into());
        assert!(matches!(
            way_of(&gone),
            Err(Failure::File {
                operation: "open",
                ..
            })
        ));
    }
}
