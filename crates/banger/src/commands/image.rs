//! `image list`, `show`, `delete`, `import`, `pull`, `register`, `promote` and `publish`.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use banger_api::{
    catalog::AvailableImage,
    client::{Client, Work},
    image::{Image, ImportImage, PullImage, PulledImage, RegisterImage},
    kernel::ImportKernel,
    progress::{Line, Step},
    size::format_size,
};
use bytes::Bytes;
use futures_util::{Stream, stream::unfold};

use super::{catalog, image_cache, operations};
use crate::{
    cli::{
        names::StoreName,
        store::{
            ImageCommand, ImageImportArgs, ImageListArgs, ImagePromoteArgs, ImagePublishArgs,
            ImagePullArgs, ImageRegisterArgs,
        },
        values::Source,
    },
    exec::{pipes, signals::Signals},
    output,
    progress::Display,
    report::{Failure, SUCCESS},
    table::{fields, table},
    targets::{distinct, each},
    text::{age, escape},
};

pub(super) async fn run(client: &Client, command: ImageCommand) -> Result<u8, Failure> {
    match command {
        ImageCommand::List(args) => list(client, &args).await,
        ImageCommand::Publish(args) => publish(client, args).await,
        ImageCommand::Show(args) => show(client, args.name.as_ref(), args.json.json).await,
        ImageCommand::Delete(args) => delete(client, &args.names).await,
        ImageCommand::Prune(args) => super::prune::images(client, &args).await,
        ImageCommand::Import(args) => import(client, args).await,
        ImageCommand::Pull(args) => pull(client, args).await,
        ImageCommand::Register(args) => register(client, args).await,
        ImageCommand::Promote(args) => promote(client, args).await,
        ImageCommand::Cache(command) => image_cache::run(client, command).await,
    }
}

async fn list(client: &Client, args: &ImageListArgs) -> Result<u8, Failure> {
    let json = args.json.json;
    if args.available {
        catalog::refresh(client).await?;
        let images = client.available_images().await?;
        if json {
            output::print_json(&images)?;
        } else {
            output::print(&offers(&images))?;
        }
        return Ok(SUCCESS);
    }
    let images = client.images().await?;
    if json {
        output::print_json(&images)?;
    } else {
        output::print(&overview(&images, SystemTime::now()))?;
    }
    Ok(SUCCESS)
}

async fn publish(client: &Client, args: ImagePublishArgs) -> Result<u8, Failure> {
    let ImagePublishArgs { name, publish } = args;
    let send = async |request, on_step: &mut dyn FnMut(Step)| {
        client.publish_image(name.as_ref(), &request, on_step).await
    };
    catalog::publish(publish, send).await
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
    let names = distinct(names.iter().map(AsRef::as_ref));
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
    let name: &str = args.name.as_ref();
    let way = way_of(&args.source)?;
    if args.detach.detach {
        let request = match way {
            Way::Path(path) => ImportImage {
                name: name.to_owned(),
                path,
            },
            Way::Upload(_) => return Err(Failure::Needed { what: "the tar" }),
        };
        return operations::begin(client, Work::ImportImage(&request)).await;
    }
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
    let display = Display::new(args.quiet.quiet || args.json);
    let mut progress = display.single();
    let request = PullImage {
        reference: args.reference.resolve().map_err(Failure::nowhere)?,
        name: args.name.map(Into::into),
        platform: args.platform,
        insecure: args.insecure,
    };
    if args.detach.detach {
        return operations::begin(client, Work::PullImage(&request)).await;
    }
    let begin = Instant::now();
    let mut printed = Ok(());
    let work = client.pull_image(&request, |step| {
        if args.json && printed.is_ok() {
            printed = output::print_line(&Line::<()>::Step(step));
        } else {
            progress.step(&step);
        }
    });
    let pulled = signals.interrupt(work, "the pull was cancelled").await;
    drop(progress);
    printed?;
    if args.json {
        output::print_line(&last_line(&pulled))?;
    }
    let pulled = pulled?;
    if !args.json {
        if !args.quiet.quiet {
            output::remark(outcome(&pulled, begin.elapsed()));
        }
        output::print(&format!("{}\n", pulled.image.name))?;
    }
    Ok(SUCCESS)
}

/// How a pull ended, for programs.
fn last_line(pulled: &Result<PulledImage, Failure>) -> Line<&PulledImage> {
    match pulled {
        Ok(pulled) => Line::Done(pulled),
        Err(failure) => Line::Failed(failure.document()),
    }
}

/// How a pull ended, for people.
fn outcome(pulled: &PulledImage, took: Duration) -> String {
    let PulledImage { image, pull } = pulled;
    let name = escape(&image.name);
    if pull.was_here {
        return format!("{name} was here already");
    }
    let took = format!("{:.1} s", took.as_secs_f64());
    let content = format_size(image.content_bytes);
    let layers = match (pull.layers, pull.reused_layers) {
        (0, _) => return format!("{name}: {content} of files in {took}"),
        (1, 0) => "1 layer".to_owned(),
        (layers, 0) => format!("{layers} layers"),
        (layers, reused) => format!("{layers} layers, {reused} of them reused"),
    };
    let fetched = match pull.fetched_bytes {
        0 => "nothing fetched".to_owned(),
        bytes => format!("{} fetched", format_size(bytes)),
    };
    format!("{name}: {content} of files in {took} ({layers}, {fetched})")
}

async fn register(client: &Client, args: ImageRegisterArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let name = String::from(args.name);
    let display = Display::new(args.quiet.quiet);
    let mut progress = display.single();
    let kernel = match &args.kernel {
        None => args.kernel_ref.map(Into::into),
        Some(kernel) => {
            let request = ImportKernel {
                name: name.clone(),
                directory: text_of(kernel)?,
                cmdline: String::new(),
                force: false,
            };
            let work = client.import_kernel(&request, |step| progress.step(&step));
            let imported = signals.interrupt(work, "nothing was registered").await?;
            Some(imported.name)
        }
    };
    let request = RegisterImage {
        name,
        rootfs: text_of(&args.rootfs)?,
        kernel,
    };
    if args.detach.detach {
        return operations::begin(client, Work::RegisterImage(&request)).await;
    }
    let work = client.register_image(&request, |step| progress.step(&step));
    let image = signals.interrupt(work, "nothing was registered").await?;
    output::print(&format!("{}\n", image.name))?;
    Ok(SUCCESS)
}

async fn promote(client: &Client, args: ImagePromoteArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let display = Display::new(args.quiet.quiet);
    let mut progress = display.single();
    if args.detach.detach {
        return operations::begin(client, Work::PromoteImage(args.name.as_ref())).await;
    }
    let work = client.promote_image(args.name.as_ref(), |step| progress.step(&step));
    let outcome = "the image is what it was";
    let image = signals.interrupt(work, outcome).await?;
    output::print(&format!("{}\n", image.name))?;
    Ok(SUCCESS)
}

/// The whole path of a file that the daemon will open itself.
fn text_of(path: &Path) -> Result<String, Failure> {
    let failed = |source| Failure::File {
        operation: "find",
        path: path.to_owned(),
        source,
    };
    let resolved = path.canonicalize().map_err(failed)?;
    let text = resolved.into_os_string().into_string();
    text.map_err(|_| failed(io::Error::other("its name is no text")))
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

fn offers(images: &[AvailableImage]) -> String {
    let rows: Vec<_> = images
        .iter()
        .map(|image| {
            [
                image.name.clone(),
                image.catalog.clone().unwrap_or_else(|| "-".to_owned()),
                image.bytes.map_or_else(|| "-".to_owned(), format_size),
                if image.present { "yes" } else { "no" }.to_owned(),
                image.source.clone(),
                image.description.clone(),
            ]
        })
        .collect();
    table(
        [
            "NAME",
            "CATALOG",
            "FETCH",
            "PRESENT",
            "SOURCE",
            "DESCRIPTION",
        ],
        &rows,
    )
}

fn words(words: &[String]) -> Option<String> {
    (!words.is_empty()).then(|| words.join(" "))
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
        (
            "digest",
            Some(image.digest.clone()).filter(|digest| !digest.is_empty()),
        ),
        ("platform", image.platform.clone()),
        ("kernel", image.kernel.clone()),
        ("entrypoint", words(&image.config.entrypoint)),
        ("command", words(&image.config.cmd)),
        ("user", image.config.user.clone()),
        ("workdir", image.config.workdir.clone()),
        ("ports", words(&image.config.exposed_ports)),
        ("managed", (!image.managed).then(|| "no".to_owned())),
        ("created", Some(age(&image.created_at, now))),
        ("vms", vms),
        ("rootfs path", Some(image.rootfs_path.clone())),
    ])
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use banger_api::image::{ImageConfig, PullSummary};
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
            managed: true,
            reference: None,
            platform: None,
            kernel: None,
            config: ImageConfig::default(),
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
    fn what_can_be_had_is_shown_with_its_catalog() {
        let offer = AvailableImage {
            name: "web".into(),
            description: "a page".into(),
            catalog: Some("acme".into()),
            source: "https://example.com/".into(),
            bytes: Some(3 << 20),
            image_bytes: Some(9 << 20),
            present: false,
        };
        assert_snapshot!(offers(&[offer]), @r"
        NAME  CATALOG  FETCH  PRESENT  SOURCE                DESCRIPTION
        web   acme     3 MiB  no       https://example.com/  a page
        ");
    }

    #[test]
    fn a_pull_says_what_it_was() {
        let check = |pull: PullSummary, expected: &str| {
            let pulled = PulledImage {
                image: image(),
                pull,
            };
            assert_eq!(outcome(&pulled, Duration::from_millis(1240)), expected);
        };
        let layers = PullSummary {
            layers: 3,
            reused_layers: 2,
            layer_bytes: 90 << 20,
            fetched_bytes: 30 << 20,
            was_here: false,
        };
        check(
            layers,
            "debian-bookworm: 300 MiB of files in 1.2 s (3 layers, 2 of them reused, 30 MiB fetched)",
        );
        let local = PullSummary {
            layers: 1,
            ..PullSummary::default()
        };
        check(
            local,
            "debian-bookworm: 300 MiB of files in 1.2 s (1 layer, nothing fetched)",
        );
        check(
            PullSummary::default(),
            "debian-bookworm: 300 MiB of files in 1.2 s",
        );
        let here = PullSummary {
            was_here: true,
            ..PullSummary::default()
        };
        check(here, "debian-bookworm was here already");
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
