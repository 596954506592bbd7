//! `recover`: VMs, images, snapshots and pools that lie on the disk and that the store does not know.

use banger_api::{
    client::Client,
    recover::{Recover, Recovered},
};

use crate::{
    cli::host::RecoverArgs,
    output,
    report::{Failure, SUCCESS},
    text::escape,
};

/// Something is there that could not be had again.
const INCOMPLETE: u8 = 1;

pub(super) async fn run(client: &Client, args: RecoverArgs) -> Result<u8, Failure> {
    let request = Recover {
        dry_run: args.dry_run,
    };
    let recovered = client.recover(request).await?;
    if args.json.json {
        output::print_json(&recovered)?;
    } else {
        output::print(&lines(&recovered))?;
        for problem in &recovered.problems {
            let (path, reason) = (escape(&problem.path), escape(&problem.reason));
            output::remark(format_args!("{path} stays as it is: {reason}"));
        }
        if recovered == Recovered::default() {
            output::remark("nothing is there that is not known");
        }
    }
    match recovered.problems.is_empty() {
        true => Ok(SUCCESS),
        false => Ok(INCOMPLETE),
    }
}

fn lines(recovered: &Recovered) -> String {
    let images = recovered.images.iter().map(|name| ("image", name));
    let vms = recovered.vms.iter().map(|name| ("VM", name));
    let snapshots = recovered.snapshots.iter().map(|name| ("snapshot", name));
    let pools = recovered.pools.iter().map(|name| ("pool", name));
    let all = images.chain(vms).chain(snapshots).chain(pools);
    all.map(|(kind, name)| format!("{kind} {}\n", escape(name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_come_before_the_vms_that_are_made_of_them() {
        let recovered = Recovered {
            vms: vec!["web".into(), "db".into()],
            images: vec!["alpine".into()],
            snapshots: vec!["ready".into()],
            pools: vec!["ci".into()],
            problems: Vec::new(),
        };
        assert_eq!(
            lines(&recovered),
            "image alpine\nVM web\nVM db\nsnapshot ready\npool ci\n"
        );
    }
}
