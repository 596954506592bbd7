//! `events` and `vm events`.

use std::time::SystemTime;

use banger_api::{
    client::{Client, Documents},
    event::{Event, EventQuery},
};

use crate::{
    cli::{
        event::{EventsArgs, VmEventsArgs, WhichEvents},
        names::Target,
    },
    exec::signals::Signals,
    output,
    report::{Failure, SUCCESS},
    text::escape,
};

pub(super) async fn run(client: &Client, args: EventsArgs) -> Result<u8, Failure> {
    print(client, args.vm.as_ref(), args.which).await
}

pub(super) async fn of_vm(client: &Client, args: VmEventsArgs) -> Result<u8, Failure> {
    print(client, Some(&args.target), args.which).await
}

async fn print(client: &Client, vm: Option<&Target>, which: WhichEvents) -> Result<u8, Failure> {
    let mut signals = Signals::listen()?;
    let query = EventQuery {
        since: which.since.map(|since| since.at(SystemTime::now())),
        vm: vm.map(|target| target.as_ref().to_owned()),
        tail: which.tail,
        follow: which.follow,
    };
    let json = which.json.json;
    let printing = async {
        let events = client.events(&query).await?;
        let last = print_all(events, json).await?;
        if query.follow {
            tell_the_end(last, query.vm.is_some());
        }
        Ok::<_, Failure>(SUCCESS)
    };
    signals
        .interrupt(printing, "there may be more events")
        .await
}

/// Gives back the last one.
async fn print_all(mut events: Documents<Event>, json: bool) -> Result<Option<Event>, Failure> {
    let mut last = None;
    while let Some(event) = events.next().await? {
        if json {
            output::print_line(&event)?;
        } else {
            output::print(&line(&event))?;
        }
        last = Some(event);
    }
    Ok(last)
}

/// Who follows wants to know why it ended, and how to go on.
fn tell_the_end(last: Option<Event>, of_vm: bool) {
    let deleted = last.as_ref().is_some_and(|event| event.what == "deleted");
    if of_vm && deleted {
        return;
    }
    let on = last.map_or(String::new(), |event| format!(" --since {}", event.seq));
    output::remark(format!(
        "the daemon ended; go on with `banger events -f{on}`"
    ));
}

fn line(event: &Event) -> String {
    let Event {
        time,
        subject,
        name,
        what,
        ..
    } = event;
    let detail = event.detail.as_deref();
    let detail = detail.map_or(String::new(), |detail| format!(": {detail}"));
    let text = format!("{time} {subject} {name} {what}{detail}");
    format!("{}\n", escape(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_that_a_terminal_does_not_obey() {
        let event = Event {
            seq: 7,
            time: "1970-01-01T00:00:01.500Z".into(),
            subject: "vm".into(),
            id: None,
            name: "web".into(),
            what: "error".into(),
            detail: Some("it said\n\x1b[2J".into()),
        };
        let expected = "1970-01-01T00:00:01.500Z vm web error: it said\\n\\u{1b}[2J\n";
        assert_eq!(line(&event), expected);
    }
}
