//! `host journal`, and the plan of `vm create --plan`.

use banger_api::{
    client::Client,
    journal::{CreatePlan, HostJournal, JournalOwner},
};

use crate::{
    cli::{JsonArgs, host::HostCommand},
    output,
    report::{Failure, SUCCESS},
    table::table,
    text::count,
};

pub(super) async fn run(client: &Client, command: HostCommand) -> Result<u8, Failure> {
    match command {
        HostCommand::Journal(JsonArgs { json }) => journal(client, json).await,
    }
}

async fn journal(client: &Client, json: bool) -> Result<u8, Failure> {
    let journal = client.host_journal().await?;
    if json {
        output::print_json(&journal)?;
        return Ok(SUCCESS);
    }
    output::print(&overview(&journal))?;
    if !journal.adopted.is_empty() {
        let names = journal.adopted.join(", ");
        output::remark(format_args!("taken over from an earlier daemon: {names}"));
    }
    for act in &journal.settled {
        let (owner, was) = (called(&act.owner), &act.was);
        let (word, operand, outcome) = (&act.act, &act.operand, &act.outcome);
        output::remark(format_args!(
            "left {was} by an earlier daemon, and {outcome}: {word} {operand} of {owner}"
        ));
    }
    Ok(SUCCESS)
}

fn overview(journal: &HostJournal) -> String {
    let rows: Vec<_> = journal
        .entries
        .iter()
        .map(|entry| {
            [
                called(&entry.owner),
                entry.act.clone(),
                entry.stage.clone(),
                entry.operand.clone(),
            ]
        })
        .collect();
    table(["FOR", "ACT", "STAGE", "WHAT"], &rows)
}

fn called(owner: &JournalOwner) -> String {
    let kind = match owner.kind.as_str() {
        "vm" => "VM",
        other => other,
    };
    format!("{kind} {}", owner.name.as_ref().unwrap_or(&owner.id))
}

/// Shows what a creation would do.
pub(super) fn show_plan(plan: &CreatePlan, json: bool) -> Result<(), Failure> {
    if json {
        return output::print_json(plan);
    }
    let rows: Vec<_> = plan
        .acts
        .iter()
        .map(|act| [act.act.clone(), act.operand.clone()])
        .collect();
    output::print(&table(["ACT", "WHAT"], &rows))?;
    let (vmm, accelerator, reason) = (&plan.vmm, &plan.accelerator, &plan.vmm_reason);
    let acts = count(plan.acts.len() as u64, "act");
    output::remark(format_args!(
        "{acts}, none of them done; {vmm} on {accelerator}: {reason}"
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use banger_api::journal::JournalEntry;
    use insta::assert_snapshot;

    use super::*;

    #[test]
    fn the_journal_names_vms_as_people_do() {
        let entry = |kind: &str, name: Option<&str>, act: &str, stage: &str| JournalEntry {
            owner: JournalOwner {
                kind: kind.into(),
                id: "0123".into(),
                name: name.map(str::to_owned),
            },
            act: act.into(),
            operand: "/s/x".into(),
            stage: stage.into(),
            at: "2026-01-01T00:00:00Z".into(),
        };
        let journal = HostJournal {
            entries: vec![
                entry("vm", Some("web"), "disk", "confirmed"),
                entry("vm", None, "directory", "undoing"),
                entry("image", Some("alpine"), "image", "intended"),
            ],
            ..HostJournal::default()
        };
        assert_snapshot!(overview(&journal), @r"
        FOR           ACT        STAGE      WHAT
        VM web        disk       confirmed  /s/x
        VM 0123       directory  undoing    /s/x
        image alpine  image      intended   /s/x
        ");
    }
}
