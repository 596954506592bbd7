//! Answers to long requests: a line for each step, then the result, as NDJSON.
//! The work lives in the answer's body: a client that goes away drops it, and so cancels it. One that
//! says beforehand that it goes away (`Prefer: respond-async`) gets the operation, and no body.

use std::{convert::Infallible, pin::Pin, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use banger_api::{
    operation::{OPERATION, RESPOND_ASYNC},
    progress::{Line, NDJSON, Step as WireStep},
};
use banger_core::{
    error::Error,
    operations::{Begun, OperationId, OperationKind},
    progress::{Progress, SharedProgress, Step},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::{
    classify::classify,
    routes::{Failure, operation_document},
    wiring::App,
};

/// Steps that may wait for a slow client; more are dropped, as each replaces the one before.
const STEPS: usize = 64;

/// Writes down that work of this kind begins, for what the request calls so.
pub(crate) fn operation(
    app: &App,
    kind: OperationKind,
    target: &impl ToString,
) -> Result<Begun, Failure> {
    Ok(app.engine.operations().begin(kind, &target.to_string())?)
}

/// Runs `work` as an operation, and tells its progress.
pub(crate) fn long_answer<T, F>(
    operation: Begun,
    work: impl FnOnce(SharedProgress) -> F + Send + 'static,
) -> Response
where
    T: Serialize + Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let (steps, queue) = mpsc::channel(STEPS);
    let id = operation.id();
    let progress = Arc::new(Sender(steps));
    let answer = Answer::Working {
        work: Box::pin(async move { operation.run(progress, work).await }),
        queue,
        after: GiveBack,
    };
    let lines = stream::unfold(answer, next_line);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(NDJSON)),
        (OPERATION, HeaderValue::from(id.0)),
    ];
    let mut response = (headers, Body::from_stream(lines)).into_response();
    response.extensions_mut().insert(id);
    response
}

/// Lets the work of a long answer go on without whoever asked for it, who gets the operation instead.
pub(crate) async fn detach(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    // What is put has its content in the request, which goes with whoever sends it.
    let goes_away = request.method() != Method::PUT && prefers_to_go(request.headers());
    let response = next.run(request).await;
    let Some(id) = response.extensions().get::<OperationId>().copied() else {
        return Ok(response);
    };
    if !goes_away {
        return Ok(response);
    }
    let operations = app.engine.operations();
    operations.detach(id);
    let operation = operation_document(operations.get(id)?);
    let mut lines = response.into_body().into_data_stream();
    let ending = app.ending.clone();
    tokio::spawn(async move {
        let work = async { while lines.next().await.is_some() {} };
        tokio::select! {
            () = work => {}
            () = ending.cancelled() => {}
        }
    });
    let headers = [
        (header::LOCATION, format!("/v1/operations/{id}")),
        (OPERATION, id.to_string()),
    ];
    Ok((StatusCode::ACCEPTED, headers, Json(operation)).into_response())
}

fn prefers_to_go(headers: &HeaderMap) -> bool {
    let preferences = headers.get_all("prefer").into_iter();
    let mut words = preferences
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    words.any(|word| word.trim().eq_ignore_ascii_case(RESPOND_ASYNC))
}

type Work<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

enum Answer<T> {
    Working {
        work: Work<T>,
        queue: mpsc::Receiver<Step>,
        after: GiveBack,
    },
    Over,
}

async fn next_line<T: Serialize>(
    answer: Answer<T>,
) -> Option<(Result<Bytes, Infallible>, Answer<T>)> {
    // Locals are dropped from last to first: the work before what tidies up after it.
    let Answer::Working {
        after,
        mut queue,
        mut work,
    } = answer
    else {
        return None;
    };
    let (line, rest) = tokio::select! {
        biased;
        Some(step) = queue.recv() => (step_line(step), Answer::Working { work, queue, after }),
        result = &mut work => {
            // Work that ends at once has told its last steps just now.
            let mut lines = Vec::new();
            while let Ok(step) = queue.try_recv() {
                lines.extend_from_slice(&step_line(step));
            }
            lines.extend_from_slice(&last_line(result));
            (lines.into(), Answer::Over)
        }
    };
    Some((Ok(line), rest))
}

fn step_line(step: Step) -> Bytes {
    let Step {
        stage,
        detail,
        done,
        total,
    } = step;
    line::<()>(&Line::Step(WireStep {
        stage: stage.to_owned(),
        detail,
        done,
        total,
    }))
}

fn last_line<T: Serialize>(result: Result<T, Error>) -> Bytes {
    match result {
        Ok(result) => line(&Line::Done(result)),
        Err(error) => line::<()>(&Line::Failed(classify(&error))),
    }
}

fn line<T: Serialize>(line: &Line<T>) -> Bytes {
    let mut text = serde_json::to_vec(line).expect("wire types serialise");
    text.push(b'\n');
    text.into()
}

/// Gives back the memory of long work, when that is done or cancelled.
struct GiveBack;

impl Drop for GiveBack {
    fn drop(&mut self) {
        tokio::task::spawn_blocking(banger_host::memory::give_back);
    }
}

struct Sender(mpsc::Sender<Step>);

impl Progress for Sender {
    fn report(&self, step: Step) {
        // A step that finds no room is followed by a newer one.
        let _ = self.0.try_send(step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_is_one_of_several() {
        let check = |values: &[&'static str], expected: bool| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("prefer", HeaderValue::from_static(value));
            }
            assert_eq!(prefers_to_go(&headers), expected, "{values:?}");
        };
        check(&[], false);
        check(&["respond-async"], true);
        check(&["wait=10, Respond-Async"], true);
        check(&["wait=10", "respond-async"], true);
        check(&["respond-asynchronously"], false);
    }
}
