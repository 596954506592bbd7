//! The route of events.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Query, State},
    http::header,
    response::{IntoResponse, Response},
};
use banger_api::{
    error::ApiError,
    event::{Event, EventQuery},
    progress::NDJSON,
};
use banger_core::{
    error::Error,
    events::{EventRequest, Feed},
};
use bytes::Bytes;
use futures_util::stream;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::Failure;
use crate::{convert, wiring::App};

/// What happened to VMs, images, kernels and the daemon, a line each. With `follow`, until the
/// daemon ends, the client goes away, or the VM that was asked for is deleted.
#[utoipa::path(get, path = "/v1/events",
    params(("since" = Option<String>, Query), ("vm" = Option<String>, Query),
           ("tail" = Option<u32>, Query), ("follow" = Option<bool>, Query)),
    responses((status = 200, body = Event, content_type = "application/x-ndjson"),
              (status = "4XX", body = ApiError)))]
pub(crate) async fn stream(
    State(app): State<Arc<App>>,
    Query(query): Query<EventQuery>,
) -> Result<Response, Failure> {
    let vm = query.vm.map(|target| app.engine.event_vm(&target));
    let since = query.since.map(|text| text.parse()).transpose();
    let request = EventRequest {
        since: since.map_err(Error::from)?,
        vm: vm.transpose()?,
        tail: query.tail,
        follow: query.follow,
    };
    let feed = app.engine.events(&request)?;
    let lines = stream::unfold((feed, app.ending.clone()), next_lines);
    Ok(([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response())
}

type Following = (Feed, CancellationToken);

async fn next_lines((mut feed, ending): Following) -> Option<(Result<Bytes, Error>, Following)> {
    let events = tokio::select! {
        events = feed.next() => events,
        () = ending.cancelled() => return None,
    };
    let lines = match events {
        Ok(None) => return None,
        Ok(Some(events)) => Ok(events.into_iter().flat_map(line).collect()),
        // The answer has begun: all that is left is to break it off.
        Err(error) => {
            warn!(error = error.chain(), "cannot read events");
            Err(error)
        }
    };
    Some((lines, (feed, ending)))
}

fn line(event: banger_core::events::Event) -> Vec<u8> {
    let mut text = serde_json::to_vec(&convert::event(event)).expect("wire types serialise");
    text.push(b'\n');
    text
}
