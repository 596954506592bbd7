//! One command for several targets: duplicates dropped, all at once, results in the order in
//! which they were first mentioned, failures collected.

use std::collections::HashSet;

use banger_api::{
    client::{Client, ClientError},
    vm::VmState,
};
use futures_util::{StreamExt, future::join_all, stream::FuturesOrdered};

use crate::{
    cli::{names::Target, vm::TargetsArgs},
    output,
    report::{Failure, SUCCESS},
};

/// One of several VMs that a command is for.
#[derive(Debug)]
pub(crate) struct Picked {
    /// What the user called it.
    pub(crate) asked: String,
    /// What to call it towards the daemon, or why there is no such VM.
    pub(crate) resolved: Result<String, ClientError>,
}

/// Asks the daemon whom the targets mean, and drops those that mean the same. Without targets all
/// VMs in a state that the command is `for_all` of.
pub(crate) async fn pick(
    client: &Client,
    TargetsArgs { targets, all }: &TargetsArgs,
    for_all: impl Fn(VmState) -> bool,
) -> Result<Vec<Picked>, Failure> {
    if !all {
        return Ok(named(client, targets).await);
    }
    let vms = client.overview().await?.into_iter();
    let meant = vms.filter(|vm| for_all(vm.state));
    let picked = meant.map(|vm| Picked {
        asked: vm.name,
        resolved: Ok(vm.id),
    });
    Ok(picked.collect())
}

async fn named(client: &Client, targets: &[Target]) -> Vec<Picked> {
    let asked = distinct(targets.iter().map(AsRef::as_ref));
    // The command itself resolves a single one.
    if let [only] = asked.as_slice() {
        return vec![Picked {
            asked: only.clone(),
            resolved: Ok(only.clone()),
        }];
    }
    let found = asked.into_iter().map(async |asked| {
        let resolved = client.vm(&asked).await.map(|vm| vm.id);
        Picked { asked, resolved }
    });
    without_twins(join_all(found).await)
}

/// Texts in the order of their first mention.
pub(crate) fn distinct<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut seen = HashSet::new();
    let first = texts.into_iter().filter(|text| seen.insert(*text));
    first.map(str::to_owned).collect()
}

fn without_twins(mut picked: Vec<Picked>) -> Vec<Picked> {
    let mut seen = HashSet::new();
    picked.retain(|one| match &one.resolved {
        Ok(id) => seen.insert(id.clone()),
        Err(_) => true,
    });
    picked
}

/// Does all the work at once. A line of output for each success, a report for each failure.
pub(crate) async fn each<F>(work: impl IntoIterator<Item = F>) -> Result<u8, Failure>
where
    F: Future<Output = Result<String, Failure>>,
{
    let mut results: FuturesOrdered<F> = work.into_iter().collect();
    let single = results.len() == 1;
    let mut failed = false;
    while let Some(result) = results.next().await {
        match result {
            Ok(line) => output::print(&format!("{line}\n"))?,
            // Alone it is the command's own failure, with its own exit code.
            Err(failure) if single => return Err(failure),
            Err(failure) => {
                failed = true;
                output::remark(failure.render().trim_end());
            }
        }
    }
    if failed {
        Err(Failure::Told)
    } else {
        Ok(SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use banger_api::error::{ApiError, ErrorCode};

    use super::*;

    fn picked(asked: &str, id: Option<&str>) -> Picked {
        let unknown = || ApiError::new(ErrorCode::NotFound, "no such VM").into();
        Picked {
            asked: asked.into(),
            resolved: id.map(str::to_owned).ok_or_else(unknown),
        }
    }

    #[test]
    fn the_first_mention_counts() {
        assert_eq!(distinct(["b", "a", "b", "c", "a"]), ["b", "a", "c"]);
        let all = vec![
            picked("web", Some("1")),
            picked("gone", None),
            picked("1", Some("1")),
            picked("db", Some("2")),
            picked("lost", None),
        ];
        let kept: Vec<_> = without_twins(all)
            .into_iter()
            .map(|one| one.asked)
            .collect();
        assert_eq!(kept, ["web", "gone", "db", "lost"]);
    }

    #[tokio::test]
    async fn one_failure_keeps_its_own_code_and_several_share_one() {
        let fail = async || Err::<String, _>(Failure::NoEnding);
        assert!(matches!(each([fail()]).await, Err(Failure::NoEnding)));
        assert!(matches!(each([fail(), fail()]).await, Err(Failure::Told)));
    }
}
