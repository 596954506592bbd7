//! `kernel list`, `show`, `rm`, `import`, `pull` and `publish`.

use std::time::SystemTime;

use banger_api::{
    client::{Client, Work},
    kernel::{AvailableKernel, ImportKernel, Kernel, KernelSource, PullKernel},
    progress::Step,
    size::format_size,
};

use super::{catalog, operations};
use crate::{
    cli::{
        names::StoreName,
        store::{
            KernelCommand, KernelImportArgs, KernelListArgs, KernelPublishArgs, KernelPullArgs,
        },
    },
    exec::signals::Signals,
    output,
    progress::Display,
    report::{Failure, SUCCESS},
    table::{fields, table},
    targets::{distinct, each},
    text::age,
};

pub(super) async fn run(client: &Client, command: KernelCommand) -> Result<u8, Failure> {
    match command {
        KernelCommand::List(args) => list(client, &args).await,
        KernelCommand::Show(args) => show(client, args.name.as_ref(), args.json.json).await,
        KernelCommand::Rm(args) => remove(client, &args.names).await,
        KernelCommand::Import(args) => import(client, args).await,
        KernelCommand::Pull(args) => pull(client, args).await,
        KernelCommand::Publish(args) => publish(client, args).await,
    }
}

async fn list(client: &Client, args: &KernelListArgs) -> Result<u8, Failure> {
    let json = args.json.json;
    if args.available {
        catalog::refresh(client).await?;
        let kernels = client.available_kernels().await?;
        output::print_as(json, &kernels, |kernels| offers(kernels))?;
    } else {
        let kernels = client.kernels().await?;
        output::print_as(json, &kernels, |kernels| {
            overview(kernels, SystemTime::now())
        })?;
    }
    Ok(SUCCESS)
}

async fn show(client: &Client, name: &str, json: bool) -> Result<u8, Failure> {
    let kernel = client.kernel(name).await?;
    output::print_as(json, &kernel, |kernel| details(kernel, SystemTime::now()))?;
    Ok(SUCCESS)
}

async fn remove(client: &Client, names: &[StoreName]) -> Result<u8, Failure> {
    let names = distinct(names.iter().map(AsRef::as_ref));
    each(names.into_iter().map(async |name| {
        client.delete_kernel(&name).await?;
        Ok(name)
    }))
    .await
}

async fn import(client: &Client, args: KernelImportArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let display = Display::new(args.quiet.quiet);
    let mut progress = display.single();
    let fail = |source| Failure::File {
        operation: "open",
        path: args.from.clone(),
        source,
    };
    let directory = args
        .from
        .canonicalize()
        .map_err(fail)?
        .into_os_string()
        .into_string();
    let directory = directory.map_err(|_| fail(std::io::ErrorKind::InvalidFilename.into()))?;
    let request = ImportKernel {
        name: args.name.into(),
        directory,
        cmdline: args.cmdline,
        force: args.force,
    };
    if args.detach.detach {
        return operations::begin(client, Work::ImportKernel(&request)).await;
    }
    let work = client.import_kernel(&request, |step| progress.step(&step));
    let kernel = signals.interrupt(work, "the import was cancelled").await?;
    output::print(&format!("{}\n", kernel.name))?;
    Ok(SUCCESS)
}

async fn pull(client: &Client, args: KernelPullArgs) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let display = Display::new(args.quiet.quiet);
    let mut progress = display.single();
    let request = PullKernel {
        name: args.name.into(),
        force: args.force,
    };
    if args.detach.detach {
        return operations::begin(client, Work::PullKernel(&request)).await;
    }
    let work = client.pull_kernel(&request, |step| progress.step(&step));
    let kernel = signals.interrupt(work, "the pull was cancelled").await?;
    output::print(&format!("{}\n", kernel.name))?;
    Ok(SUCCESS)
}

async fn publish(client: &Client, args: KernelPublishArgs) -> Result<u8, Failure> {
    let KernelPublishArgs { name, publish } = args;
    let send = async |request, on_step: &mut dyn FnMut(Step)| {
        client
            .publish_kernel(name.as_ref(), &request, on_step)
            .await
    };
    catalog::publish(publish, send).await
}

fn overview(kernels: &[Kernel], now: SystemTime) -> String {
    let rows: Vec<_> = kernels
        .iter()
        .map(|kernel| {
            [
                kernel.name.clone(),
                kernel.version.clone(),
                kernel.arch.clone(),
                format_size(kernel.size_bytes),
                age(&kernel.imported_at, now),
            ]
        })
        .collect();
    table(["NAME", "VERSION", "ARCH", "SIZE", "IMPORTED"], &rows)
}

fn offers(kernels: &[AvailableKernel]) -> String {
    let rows: Vec<_> = kernels
        .iter()
        .map(|kernel| {
            [
                kernel.name.clone(),
                kernel.catalog.clone().unwrap_or_else(|| "-".to_owned()),
                kernel.arch.clone(),
                if kernel.present { "yes" } else { "no" }.to_owned(),
                kernel.source.clone(),
                kernel.description.clone(),
            ]
        })
        .collect();
    table(
        [
            "NAME",
            "CATALOG",
            "ARCH",
            "PRESENT",
            "SOURCE",
            "DESCRIPTION",
        ],
        &rows,
    )
}

fn details(kernel: &Kernel, now: SystemTime) -> String {
    let (source, digest) = match &kernel.source {
        KernelSource::Debian {
            package,
            package_version,
            url,
            digest,
        } => (
            format!("{package} {package_version} from {url}"),
            Some(digest.clone()),
        ),
        KernelSource::Bundle {
            catalog,
            file,
            digest,
        } => (format!("{file} from {catalog}"), Some(digest.clone())),
        KernelSource::Directory { path } => (path.clone(), None),
    };
    fields(&[
        ("name", Some(kernel.name.clone())),
        ("version", Some(kernel.version.clone())),
        ("arch", Some(kernel.arch.clone())),
        (
            "command line",
            Some(kernel.cmdline.clone()).filter(|words| !words.is_empty()),
        ),
        ("size", Some(format_size(kernel.size_bytes))),
        ("source", Some(source)),
        ("source digest", digest),
        ("vmlinux digest", Some(kernel.vmlinux_digest.clone())),
        ("imported", Some(age(&kernel.imported_at, now))),
        ("vmlinux path", Some(kernel.vmlinux_path.clone())),
        ("modules path", kernel.modules_path.clone()),
    ])
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use insta::assert_snapshot;

    use super::*;

    fn kernel() -> Kernel {
        Kernel {
            name: "debian-6.1".into(),
            version: "6.1.0-1-cloud-amd64".into(),
            arch: "x86_64".into(),
            source: KernelSource::Debian {
                package: "linux-image".into(),
                package_version: "6.1.1-1".into(),
                url: "mirror/pool/linux.deb".into(),
                digest: "sha256:01".into(),
            },
            vmlinux_digest: "sha256:02".into(),
            vmlinux_path: "/s/vmlinux".into(),
            modules_path: None,
            cmdline: String::new(),
            size_bytes: 50 << 20,
            imported_at: "1970-01-01T00:00:00Z".into(),
        }
    }

    #[test]
    fn kernels_are_listed_shown_and_offered() {
        assert_snapshot!(overview(&[kernel()], UNIX_EPOCH), @r"
        NAME        VERSION              ARCH    SIZE    IMPORTED
        debian-6.1  6.1.0-1-cloud-amd64  x86_64  50 MiB  just now
        ");
        assert_snapshot!(details(&kernel(), UNIX_EPOCH), @r"
        name            debian-6.1
        version         6.1.0-1-cloud-amd64
        arch            x86_64
        size            50 MiB
        source          linux-image 6.1.1-1 from mirror/pool/linux.deb
        source digest   sha256:01
        vmlinux digest  sha256:02
        imported        just now
        vmlinux path    /s/vmlinux
        ");
        let offer = AvailableKernel {
            name: "debian-6.1".into(),
            catalog: None,
            arch: "x86_64".into(),
            description: "for clouds".into(),
            source: "debian".into(),
            present: false,
        };
        assert_snapshot!(offers(&[offer]), @r"
        NAME        CATALOG  ARCH    PRESENT  SOURCE  DESCRIPTION
        debian-6.1  -        x86_64  no       debian  for clouds
        ");
    }
}
