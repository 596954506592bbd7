//! `df`: what takes room on the host's disk.

use banger_api::{client::Client, df::DiskUsage, size::format_size};

use crate::{
    cli::DfArgs,
    output,
    report::{Failure, SUCCESS},
    table::table,
};

pub(super) async fn run(client: &Client, args: DfArgs) -> Result<u8, Failure> {
    let usage = client.disk_usage().await?;
    if args.json.json {
        output::print_json(&usage)?;
    } else {
        output::print(&overview(&usage))?;
        output::remark(summary(&usage));
    }
    Ok(SUCCESS)
}

fn overview(usage: &DiskUsage) -> String {
    let rows: Vec<_> = usage
        .things
        .iter()
        .map(|taken| {
            [
                taken.kind.clone(),
                taken.name.clone(),
                format_size(taken.unique_bytes),
                format_size(taken.shared_bytes),
                taken.vms.to_string(),
            ]
        })
        .collect();
    table(["KIND", "NAME", "UNIQUE", "SHARED", "VMS"], &rows)
}

fn summary(usage: &DiskUsage) -> String {
    let (total, free) = (
        format_size(usage.total_bytes),
        format_size(usage.free_bytes),
    );
    let (size, reserve) = (
        format_size(usage.size_bytes),
        format_size(usage.reserve_bytes),
    );
    format!("{total} in all; {free} of {size} are free, of which {reserve} are kept free")
}

#[cfg(test)]
mod tests {
    use banger_api::df::Taken;
    use insta::assert_snapshot;

    use super::*;

    #[test]
    fn what_takes_room_is_told_in_sizes_for_people() {
        let usage = DiskUsage {
            path: "/s".into(),
            size_bytes: 100 << 30,
            free_bytes: 30 << 30,
            reserve_bytes: 512 << 20,
            total_bytes: 3 << 30,
            things: vec![Taken {
                kind: "image".into(),
                name: "debian-bookworm".into(),
                unique_bytes: 300 << 20,
                shared_bytes: 1 << 20,
                vms: 2,
            }],
        };
        assert_snapshot!(overview(&usage), @r"
        KIND   NAME             UNIQUE   SHARED  VMS
        image  debian-bookworm  300 MiB  1 MiB   2
        ");
        assert_snapshot!(summary(&usage), @"3 GiB in all; 30 GiB of 100 GiB are free, of which 512 MiB are kept free");
    }
}
