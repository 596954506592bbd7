//! Owns a session: the greeting, and the way of each request to what answers it. Knows no channel.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use banger_guest_proto::frame::Kind;
use banger_guest_proto::hello::{self, HelloError};
use banger_guest_proto::message::{
    ClockRequest, ExecId, ExecStart, GrowRequest, IdentityRequest, MAX_DOCUMENT, Refusal, Route,
    RouteError, ShutdownRequest, SignalRequest, WindowSize,
};
use banger_guest_proto::session::frames::{FrameReceiver, FrameSender};
use banger_guest_proto::session::{read_document, serve};
use banger_guest_proto::wire::Session;
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::agent::Agent;
use crate::assume;
use crate::boot::clock;
use crate::exec;
use crate::exec::registry::{Control, Registry, Undelivered};
use crate::{boot, journal, listeners, shutdown};

/// A host that has reset the channel greets at once, or has died.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// A session that ended otherwise than by the host's wish. The next one is unaffected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("the host did not greet")]
    Silent,
    #[error("cannot greet the host")]
    Hello(#[from] HelloError),
    #[error("the session broke off")]
    Lost(#[from] h2::Error),
}

/// Serves one session to its end.
pub(crate) async fn serve_session<IO>(
    mut session: Session<'_, IO>,
    agent: &Rc<Agent>,
) -> Result<(), SessionError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let greeting = async {
        let host = hello::receive_host(&mut session).await?;
        hello::answer(&mut session, &host, &agent.greeted(&host)).await?;
        Ok::<_, HelloError>(host.identity)
    };
    let greeted = tokio::time::timeout(GREETING_TIMEOUT, greeting).await;
    if let Some(identity) = greeted.map_err(|_| SessionError::Silent)?? {
        // While the host makes up its first request, which is read when this is done.
        let rest = [
            assume::in_files(&identity),
            assume::on_the_network(&identity, agent.card),
        ];
        for problem in rest.concat() {
            journal::note(format_args!("not a copy's own: {problem}"));
        }
    }
    let mut connection = serve(session).await?;
    let registry = Rc::new(Registry::default());
    while let Some(request) = connection.accept().await {
        let (request, respond) = request?;
        dispatch(request, Responder(respond), agent, &registry);
    }
    Ok(())
}

/// Finds who answers. An exec is registered here, in the order of arrival, so that a signal right behind it finds it.
fn dispatch(
    request: Request<RecvStream>,
    mut responder: Responder,
    agent: &Rc<Agent>,
    registry: &Rc<Registry>,
) {
    let route = Route::find(request.method(), request.uri().path());
    let body = request.into_body();
    let agent = Rc::clone(agent);
    match route {
        Ok(Route::Health) => responder.json(&agent.health()),
        Ok(Route::Ports) => {
            tokio::task::spawn_local(async move {
                // Reads many files of /proc, while other requests go on.
                match tokio::task::spawn_blocking(listeners::listeners).await {
                    Ok(listeners) => responder.json(&listeners),
                    Err(error) => responder.refuse(&Refused::internal(&io::Error::other(error))),
                }
            });
        }
        Ok(Route::Log) => responder.json(&journal::log()),
        Ok(Route::GrowDisk) => {
            tokio::task::spawn_local(async move {
                let answer = grow_disk(body).await;
                responder.finish(answer);
            });
        }
        Ok(Route::Exec(id)) => start_exec(id, body, responder, agent, registry),
        Ok(Route::Signal(id)) => {
            let registry = Rc::clone(registry);
            tokio::task::spawn_local(async move {
                let answer = signal(body, id, &registry).await;
                responder.finish(answer);
            });
        }
        Ok(Route::Resize(id)) => {
            let registry = Rc::clone(registry);
            tokio::task::spawn_local(async move {
                let answer = resize(body, id, &registry).await;
                responder.finish(answer);
            });
        }
        Ok(Route::Sync) => {
            tokio::task::spawn_local(async move {
                let answer = shutdown::sync().await;
                responder.finish(answer.map_err(|error| Refused::internal(&error)));
            });
        }
        Ok(Route::Identity) => {
            tokio::task::spawn_local(async move {
                match document::<IdentityRequest>(body).await {
                    Ok(request) => responder.json(&assume::assume(&request, agent.card)),
                    Err(refused) => responder.refuse(&refused),
                }
            });
        }
        Ok(Route::Clock) => {
            tokio::task::spawn_local(async move {
                responder.finish(set_clock(body).await);
            });
        }
        Ok(Route::Shutdown) => {
            tokio::task::spawn_local(async move {
                let answer = document::<ShutdownRequest>(body).await;
                responder.finish(answer.map(|request| agent.shut_down(request)));
            });
        }
        Err(error @ RouteError::NoSuchPath) => {
            responder.refuse(&Refused::new(StatusCode::NOT_FOUND, error.to_string()));
        }
        Err(error @ RouteError::WrongMethod(_)) => {
            responder.refuse(&Refused::new(
                StatusCode::METHOD_NOT_ALLOWED,
                error.to_string(),
            ));
        }
    }
}

async fn grow_disk(body: RecvStream) -> Result<(), Refused> {
    let GrowRequest { bytes } = document(body).await?;
    let grown = tokio::task::spawn_blocking(move || boot::grow_written(bytes)).await;
    let grown = grown.map_err(io::Error::other).flatten();
    journal::note(format_args!("the disk has {bytes} bytes: {grown:?}"));
    grown.map_err(|error| Refused::internal(&error))
}

fn start_exec(
    id: ExecId,
    body: RecvStream,
    mut responder: Responder,
    agent: Rc<Agent>,
    registry: &Rc<Registry>,
) {
    let Some((registration, controls)) = registry.register(id) else {
        let reason = "an exec with this id is running";
        return responder.refuse(&Refused::new(StatusCode::CONFLICT, reason.into()));
    };
    tokio::task::spawn_local(async move {
        let _registration = registration;
        let mut receiver = FrameReceiver::new(body);
        match exec_start(&mut receiver).await {
            Ok(start) => {
                if let Some(sender) = responder.frames() {
                    exec::run(start, receiver, sender, controls, &agent.reaper).await;
                }
            }
            Err(refused) => responder.refuse(&refused),
        }
    });
}

async fn exec_start(receiver: &mut FrameReceiver) -> Result<ExecStart, Refused> {
    let piece = receiver
        .next()
        .await
        .map_err(|error| Refused::bad(&error))?;
    match piece {
        Some(piece) if piece.kind == Kind::Start => {
            serde_json::from_slice(&piece.payload).map_err(|error| Refused::bad(&error))
        }
        Some(_) | None => {
            let reason = "an exec begins with a start frame";
            Err(Refused::new(StatusCode::BAD_REQUEST, reason.into()))
        }
    }
}

async fn set_clock(body: RecvStream) -> Result<(), Refused> {
    let ClockRequest { wall_clock_ns } = document(body).await?;
    clock::set(wall_clock_ns)
        .map_err(|error| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

async fn signal(body: RecvStream, id: ExecId, registry: &Registry) -> Result<(), Refused> {
    let SignalRequest { signal } = document(body).await?;
    if !(1..=64).contains(&signal) {
        let reason = format!("there is no signal {signal}");
        return Err(Refused::new(StatusCode::BAD_REQUEST, reason));
    }
    deliver(registry, id, Control::Signal(signal))
}

async fn resize(body: RecvStream, id: ExecId, registry: &Registry) -> Result<(), Refused> {
    let size: WindowSize = document(body).await?;
    deliver(registry, id, Control::Resize(size))
}

fn deliver(registry: &Registry, id: ExecId, control: Control) -> Result<(), Refused> {
    registry
        .send(id, control)
        .map_err(|undelivered| match undelivered {
            Undelivered::NoSuchExec => {
                Refused::new(StatusCode::NOT_FOUND, "no such exec is running".into())
            }
            Undelivered::Busy => {
                Refused::new(StatusCode::TOO_MANY_REQUESTS, "the exec is busy".into())
            }
        })
}

async fn document<T: DeserializeOwned>(mut body: RecvStream) -> Result<T, Refused> {
    let bytes = read_document(&mut body, MAX_DOCUMENT)
        .await
        .map_err(|error| Refused::bad(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| Refused::bad(&error))
}

/// Why a request was not carried out.
#[derive(Debug)]
struct Refused {
    status: StatusCode,
    reason: String,
}

impl Refused {
    fn new(status: StatusCode, reason: String) -> Self {
        Self { status, reason }
    }

    fn bad(error: &dyn std::error::Error) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }

    fn internal(error: &io::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

/// Answers one request. A host that has gone away does not hear the answer, which is its own affair.
#[derive(Debug)]
struct Responder(SendResponse<Bytes>);

impl Responder {
    fn json(&mut self, document: &impl Serialize) {
        let document = serde_json::to_vec(document).expect("our documents are plain data");
        self.document(StatusCode::OK, document);
    }

    fn finish(&mut self, answer: Result<(), Refused>) {
        match answer {
            Ok(()) => self.document(StatusCode::NO_CONTENT, Vec::new()),
            Err(refused) => self.refuse(&refused),
        }
    }

    fn refuse(&mut self, refused: &Refused) {
        let refusal = Refusal {
            error: refused.reason.clone(),
        };
        let document = serde_json::to_vec(&refusal).expect("our documents are plain data");
        self.document(refused.status, document);
    }

    fn document(&mut self, status: StatusCode, document: Vec<u8>) {
        let end = document.is_empty();
        if let Ok(mut body) = self.0.send_response(response(status), end)
            && !end
        {
            let _ = body.send_data(document.into(), true);
        }
    }

    fn frames(&mut self) -> Option<FrameSender> {
        self.0
            .send_response(response(StatusCode::OK), false)
            .ok()
            .map(FrameSender::new)
    }
}

fn response(status: StatusCode) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
