//! Answers to long requests: a line for each step, then the result, as NDJSON.
//! The work lives in the answer's body: a client that goes away drops it, and so cancels it.

use std::{convert::Infallible, pin::Pin, sync::Arc};

use axum::{
    body::Body,
    http::header,
    response::{IntoResponse, Response},
};
use banger_api::progress::{Line, NDJSON, Step as WireStep};
use banger_core::{
    error::Error,
    operations::{OperationKind, Operations},
    progress::{Progress, SharedProgress, Step},
};
use bytes::Bytes;
use futures_util::stream;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::{classify::classify, wiring::App};

/// Steps that may wait for a slow client; more are dropped, as each replaces the one before.
const STEPS: usize = 64;

/// What a long answer is written down as.
pub(crate) struct Operation {
    operations: Arc<Operations>,
    kind: OperationKind,
    target: String,
}

/// Work of this kind, for what the request calls so.
pub(crate) fn operation(app: &App, kind: OperationKind, target: &impl ToString) -> Operation {
    Operation {
        operations: app.engine.operations().clone(),
        kind,
        target: target.to_string(),
    }
}

/// Runs `work` as an operation, and tells its progress.
pub(crate) fn long_answer<T, F>(
    operation: Operation,
    work: impl FnOnce(SharedProgress) -> F + Send + 'static,
) -> Response
where
    T: Serialize + Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let (steps, queue) = mpsc::channel(STEPS);
    let Operation {
        operations,
        kind,
        target,
    } = operation;
    let progress = Arc::new(Sender(steps));
    let answer = Answer::Working {
        work: Box::pin(async move { operations.run(kind, target, progress, work).await }),
        queue,
        after: GiveBack,
    };
    let lines = stream::unfold(answer, next_line);
    ([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response()
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
