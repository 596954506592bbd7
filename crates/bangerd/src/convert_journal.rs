//! From the domain's journal to the wire's.

use std::collections::BTreeMap;

use banger_api::{
    journal::{CreatePlan, Found, HostJournal, JournalEntry, JournalOwner, PlannedAct, SettledAct},
    progress::rfc3339,
};
use banger_core::{
    engine::{Planned, Preview},
    journal::{Outcome, Owner, Report, Settled},
    name::{VmId, VmName},
    store::JournalRow,
};

type Names = BTreeMap<VmId, VmName>;

pub(crate) fn journal(rows: Vec<JournalRow>, report: Report, names: &Names) -> HostJournal {
    let entry = |row: JournalRow| JournalEntry {
        owner: owner(&row.owner, names),
        act: row.act.word().to_owned(),
        operand: row.act.operand(),
        stage: row.stage.as_str().to_owned(),
        at: rfc3339(row.at),
    };
    let adopted = report.adopted.iter().map(ToString::to_string).collect();
    let settled = report.settled.into_iter();
    HostJournal {
        entries: rows.into_iter().map(entry).collect(),
        adopted,
        settled: settled.map(|one| settled_act(&one, names)).collect(),
    }
}

fn settled_act(settled: &Settled, names: &Names) -> SettledAct {
    SettledAct {
        owner: owner(&settled.owner, names),
        act: settled.act.word().to_owned(),
        operand: settled.act.operand(),
        was: settled.was.as_str().to_owned(),
        outcome: settled.outcome.as_str().to_owned(),
    }
}

fn owner(owner: &Owner, names: &Names) -> JournalOwner {
    let name = match owner {
        Owner::Vm(id) => names.get(id).map(ToString::to_string),
        Owner::Image(name) => Some(name.to_string()),
        Owner::Kernel(name) => Some(name.to_string()),
    };
    JournalOwner {
        kind: owner.word().to_owned(),
        id: owner.name(),
        name,
    }
}

pub(crate) fn found(report: &Report) -> Found {
    let count = |outcome| {
        let settled = report.settled.iter();
        settled.filter(|one| one.outcome == outcome).count() as u64
    };
    Found {
        adopted: report.adopted.len() as u64,
        finished: count(Outcome::Finished),
        undone: count(Outcome::Undone),
        left: count(Outcome::Left),
    }
}

pub(crate) fn plan(preview: Preview) -> CreatePlan {
    let planned = |act: &str, operand: String| PlannedAct {
        act: act.to_owned(),
        operand,
    };
    let acts = preview.acts.into_iter().map(|act| match act {
        Planned::Kernel(name) => planned("fetch kernel", name),
        Planned::Image(target) => planned("fetch image", target),
        Planned::Act(act) => planned(act.word(), act.operand()),
    });
    CreatePlan {
        vmm: preview.choice.vmm.as_str().to_owned(),
        accelerator: preview.choice.accelerator.as_str().to_owned(),
        vmm_reason: preview.choice.reason,
        acts: acts.collect(),
    }
}
