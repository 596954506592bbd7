//! `operations list`, `show`, `cancel` and `wait`.

use std::time::SystemTime;

use banger_api::{
    client::{Client, Work},
    operation::Operation,
};

use crate::{
    cli::operations::{OperationArgs, OperationIdsArgs, OperationsCommand, OperationsListArgs},
    output,
    report::{Failure, SUCCESS},
    table::{fields, table},
    text::age,
};

/// An operation that was waited for did not do what it was to do.
const UNDONE: u8 = 1;

pub(super) async fn run(client: &Client, command: OperationsCommand) -> Result<u8, Failure> {
    match command {
        OperationsCommand::List(args) => list(client, &args).await,
        OperationsCommand::Show(args) => show(client, &args).await,
        OperationsCommand::Cancel(args) => cancel(client, args).await,
        OperationsCommand::Wait(args) => wait(client, args).await,
    }
}

/// Begins long work, and prints the number of the operation that it is.
pub(super) async fn begin(client: &Client, work: Work<'_>) -> Result<u8, Failure> {
    let number = number(client, work).await?;
    output::print(&format!("{number}\n"))?;
    Ok(SUCCESS)
}

/// The same for one of several: whoever asks prints the number.
pub(super) async fn number(client: &Client, work: Work<'_>) -> Result<String, Failure> {
    Ok(client.begin(work).await?.id.to_string())
}

async fn list(client: &Client, args: &OperationsListArgs) -> Result<u8, Failure> {
    let mut operations = client.operations().await?;
    operations.retain(|operation| args.all || operation.outcome.is_none());
    if args.json.json {
        output::print_json(&operations)?;
    } else {
        output::print(&overview(&operations, SystemTime::now()))?;
    }
    Ok(SUCCESS)
}

async fn show(client: &Client, args: &OperationArgs) -> Result<u8, Failure> {
    let operation = client.operation(args.id).await?;
    if args.json.json {
        output::print_json(&operation)?;
    } else {
        output::print(&details(&operation))?;
    }
    Ok(SUCCESS)
}

async fn cancel(client: &Client, args: OperationIdsArgs) -> Result<u8, Failure> {
    for id in args.ids {
        let operation = client.cancel_operation(id).await?;
        output::print(&format!("{id}\n"))?;
        match operation.outcome.as_deref() {
            Some("cancelled") | None => {}
            Some(outcome) => output::remark(format_args!("operation {id} was over: {outcome}")),
        }
    }
    Ok(SUCCESS)
}

async fn wait(client: &Client, args: OperationIdsArgs) -> Result<u8, Failure> {
    let mut code = SUCCESS;
    for id in args.ids {
        let operation = client.wait_operation(id).await?;
        let outcome = operation.outcome.unwrap_or_default();
        if outcome != "done" {
            code = UNDONE;
        }
        output::print(&format!("{id} {outcome}\n"))?;
    }
    Ok(code)
}

fn overview(operations: &[Operation], now: SystemTime) -> String {
    let rows: Vec<_> = operations
        .iter()
        .map(|operation| {
            [
                operation.id.to_string(),
                operation.kind.clone(),
                operation.target.clone(),
                operation.outcome.clone().unwrap_or_else(|| at(operation)),
                age(&operation.began_at, now),
            ]
        })
        .collect();
    table(["OPERATION", "KIND", "FOR", "STATE", "BEGAN"], &rows)
}

/// How far it is, while it goes on.
fn at(operation: &Operation) -> String {
    let stage = operation.stage.as_deref().unwrap_or("begins");
    match &operation.step {
        Some(step) => match step.total.filter(|total| *total > 0) {
            Some(total) => format!("{stage} {} %", step.done.min(total) * 100 / total),
            None => stage.to_owned(),
        },
        None => stage.to_owned(),
    }
}

fn details(operation: &Operation) -> String {
    fields(&[
        ("operation", Some(operation.id.to_string())),
        ("kind", Some(operation.kind.clone())),
        ("for", Some(operation.target.clone())),
        ("stage", operation.stage.clone()),
        (
            "doing",
            operation.step.as_ref().map(|step| step.detail.clone()),
        ),
        ("began", Some(operation.began_at.clone())),
        ("ended", operation.ended_at.clone()),
        ("outcome", operation.outcome.clone()),
        ("why", operation.error.clone()),
    ])
}

#[cfg(test)]
mod tests {
    use banger_api::progress::Step;
    use insta::assert_snapshot;

    use super::*;

    #[test]
    fn what_goes_on_says_how_far_it_is() {
        let operation = |id, outcome: Option<&str>, total| Operation {
            id,
            kind: "pull-image".into(),
            target: "alpine:3".into(),
            stage: Some("fetch".into()),
            step: outcome.is_none().then(|| Step {
                stage: "fetch".into(),
                detail: "a layer".into(),
                done: 1,
                total,
            }),
            began_at: "1970-01-01T00:00:00Z".into(),
            ended_at: None,
            outcome: outcome.map(str::to_owned),
            error: None,
        };
        let operations = [
            operation(1, Some("cut-off"), None),
            operation(2, None, None),
            operation(3, None, Some(4)),
        ];
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(60);
        assert_snapshot!(overview(&operations, now), @r"
        OPERATION  KIND        FOR       STATE       BEGAN
        1          pull-image  alpine:3  cut-off     1 minute ago
        2          pull-image  alpine:3  fetch       1 minute ago
        3          pull-image  alpine:3  fetch 25 %  1 minute ago
        ");
    }
}
