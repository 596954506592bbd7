//! `image cache list` and `image cache prune`.

use std::time::SystemTime;

use banger_api::{
    cache::{CacheItem, CacheKind, ImageCache, PruneCache, PrunedCache},
    client::Client,
    size::format_size,
};

use crate::{
    cli::store::{CacheCommand, CachePruneArgs},
    output,
    report::{Failure, SUCCESS},
    table::table,
    text::{age, count, escape},
};

pub(super) async fn run(client: &Client, command: CacheCommand) -> Result<u8, Failure> {
    match command {
        CacheCommand::List(args) => list(client, args.json).await,
        CacheCommand::Prune(args) => prune(client, args).await,
    }
}

async fn list(client: &Client, json: bool) -> Result<u8, Failure> {
    let cache = client.image_cache().await?;
    if json {
        output::print_json(&cache)?;
    } else {
        output::print(&overview(&cache.items, SystemTime::now()))?;
        output::remark(total(&cache));
    }
    Ok(SUCCESS)
}

async fn prune(client: &Client, args: CachePruneArgs) -> Result<u8, Failure> {
    let request = PruneCache {
        keep: args.keep.0,
        dry_run: args.dry_run,
    };
    let pruned = client.prune_image_cache(request).await?;
    if args.json.json {
        output::print_json(&pruned)?;
    } else {
        let digests = pruned.items.iter().map(|item| escape(&item.digest));
        let lines: String = digests.map(|digest| format!("{digest}\n")).collect();
        output::print(&lines)?;
        output::remark(outcome(&pruned));
    }
    Ok(SUCCESS)
}

fn overview(items: &[CacheItem], now: SystemTime) -> String {
    let rows: Vec<_> = items
        .iter()
        .map(|item| {
            [
                kind(item.kind).to_owned(),
                short(&item.digest).to_owned(),
                format_size(item.bytes),
                age(&item.last_used, now),
                if item.in_use { "yes" } else { "no" }.to_owned(),
            ]
        })
        .collect();
    table(["KIND", "DIGEST", "SIZE", "USED", "IN USE"], &rows)
}

fn kind(kind: CacheKind) -> &'static str {
    match kind {
        CacheKind::Layer => "layer",
        CacheKind::Blob => "blob",
    }
}

/// Enough of a digest to tell it from others.
fn short(digest: &str) -> &str {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    hex.get(..12).unwrap_or(hex)
}

fn total(cache: &ImageCache) -> String {
    let things = count(cache.items.len() as u64, "item");
    let budget = cache.budget.map(format_size);
    let budget = budget.map_or_else(String::new, |budget| format!(", the most is {budget}"));
    format!("{things}, {} in all{budget}", format_size(cache.bytes))
}

fn outcome(pruned: &PrunedCache) -> String {
    let verb = match pruned.dry_run {
        true => "would remove",
        false => "removed",
    };
    format!(
        "{verb} {}, {} freed, {} left",
        count(pruned.items.len() as u64, "item"),
        format_size(pruned.freed),
        format_size(pruned.left),
    )
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use insta::assert_snapshot;

    use super::*;

    fn item(kind: CacheKind, bytes: u64) -> CacheItem {
        CacheItem {
            kind,
            digest: format!("sha256:{}", "0123456789abcdef".repeat(4)),
            bytes,
            last_used: "1970-01-01T00:00:00Z".into(),
            in_use: kind == CacheKind::Blob,
        }
    }

    #[test]
    fn the_cache_is_listed() {
        let cache = ImageCache {
            items: vec![
                item(CacheKind::Layer, 8 << 10),
                item(CacheKind::Blob, 90 << 20),
            ],
            bytes: (90 << 20) + (8 << 10),
            budget: Some(10 << 30),
        };
        assert_snapshot!(overview(&cache.items, UNIX_EPOCH), @r"
        KIND   DIGEST        SIZE    USED      IN USE
        layer  0123456789ab  8 KiB   just now  no
        blob   0123456789ab  90 MiB  just now  yes
        ");
        assert_eq!(total(&cache), "2 items, 90 MiB in all, the most is 10 GiB");
    }

    #[test]
    fn pruning_says_what_it_did_or_would() {
        let check = |dry_run: bool, expected: &str| {
            let pruned = PrunedCache {
                items: vec![item(CacheKind::Layer, 1 << 20)],
                freed: 1 << 20,
                left: 0,
                dry_run,
            };
            assert_eq!(outcome(&pruned), expected);
        };
        check(false, "removed 1 item, 1 MiB freed, 0 B left");
        check(true, "would remove 1 item, 1 MiB freed, 0 B left");
    }
}
