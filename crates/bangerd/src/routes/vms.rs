//! Routes of VMs.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, Query, State, WebSocketUpgrade},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use banger_api::{
    error::ApiError,
    exec::MAX_MESSAGE,
    progress::Line,
    usage::{VmPorts, VmStats},
    vm::{
        ChangeVm, CreateVm, DeleteVm, LogKind, LogQuery, RenameVm, StopVm, Vm, VmBrief, WaitFor,
        WaitVm, Waited,
    },
};
use banger_core::{error::Error, operations::OperationKind, vm::View};

use super::{Body, Failure};
use crate::{
    convert, exec_stream, follow,
    long_answer::{long_answer, operation},
    wiring::App,
};

/// All VMs, by age. Those that wait in pools are nobody's yet, and their pools' to tell.
#[utoipa::path(get, path = "/v1/vms", responses((status = 200, body = Vec<Vm>)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Json<Vec<Vm>> {
    let views = app.engine.views().into_iter();
    let owned = views.filter(|view| view.record.holder.is_none());
    Json(owned.map(convert::vm).collect())
}

/// All VMs in brief, by age.
#[utoipa::path(get, path = "/v1/overview", responses((status = 200, body = Vec<VmBrief>)))]
pub(crate) async fn overview(State(app): State<Arc<App>>) -> Json<Vec<VmBrief>> {
    let owned = |view: &View| view.record.holder.is_none().then(|| convert::brief(view));
    let briefs = app.engine.each_view(owned).into_iter();
    Json(briefs.flatten().collect())
}

/// Makes a VM, and starts it when asked to. Going away cancels it and leaves nothing.
#[utoipa::path(post, path = "/v1/vms", request_body = CreateVm,
    responses((status = 200, body = Line<Vm>, content_type = "application/x-ndjson"),
              (status = "4XX", body = ApiError)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Body(request): Body<CreateVm>,
) -> Result<Response, Failure> {
    let request = convert::create_request(request, app.engine.now())?;
    let target = request
        .name
        .as_ref()
        .map_or_else(|| "a VM without a name".to_owned(), ToString::to_string);
    let operation = operation(&app, OperationKind::CreateVm, &target)?;
    let id = operation.id();
    Ok(long_answer(operation, move |progress| async move {
        let view = app.engine.create(request, progress).await?;
        // Whoever does not wait finds its name there.
        let name = view.record.name.as_str();
        app.engine.operations().is_for(id, name);
        Ok(convert::vm(view))
    }))
}

/// One VM, by name, id or unique prefix.
#[utoipa::path(get, path = "/v1/vms/{vm}", params(("vm" = String, Path)),
    responses((status = 200, body = Vm), (status = "4XX", body = ApiError)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Path(target): Path<String>,
) -> Result<Json<Vm>, Failure> {
    Ok(Json(convert::vm(app.engine.find(&target)?.view())))
}

/// Deletes a VM and its disk. Carried through once it is accepted.
#[utoipa::path(delete, path = "/v1/vms/{vm}",
    params(("vm" = String, Path), ("force" = Option<bool>, Query)),
    responses((status = 204), (status = "4XX", body = ApiError)))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Path(target): Path<String>,
    Query(query): Query<DeleteVm>,
) -> Result<StatusCode, Failure> {
    app.engine.find(&target)?.delete(query.force).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Starts a VM and waits until its agent answers. Going away ends the start.
#[utoipa::path(post, path = "/v1/vms/{vm}/start", params(("vm" = String, Path)),
    responses((status = 200, body = Line<Vm>, content_type = "application/x-ndjson"),
              (status = "4XX", body = ApiError)))]
pub(crate) async fn start(
    State(app): State<Arc<App>>,
    Path(target): Path<String>,
) -> Result<Response, Failure> {
    let vm = app.engine.find(&target)?;
    let operation = operation(&app, OperationKind::StartVm, &vm.name())?;
    Ok(long_answer(operation, move |progress| async move {
        vm.start(progress).await.map(convert::vm)
    }))
}

/// Stops a VM gracefully. Carried through once it is accepted.
#[utoipa::path(post, path = "/v1/vms/{vm}/stop", params(("vm" = String, Path)),
    request_body = StopVm,
    responses((status = 200, body = Vm), (status = "4XX", body = ApiError)))]
pub(crate) async fn stop(
    State(app): State<Arc<App>>,
    Path(target): Path<String>,
    Body(request): Body<StopVm>,
) -> Result<Json<Vm>, Failure> {
    let vm = app.engine.find(&target)?;
    Ok(Json(convert::vm(vm.stop(patience(request)).await?)))
}

fn patience(request: StopVm) -> Option<Duration> {
    let seconds = request.timeout_seconds?;
    Some(Duration::from_secs(seconds.min(3600)))
}

/// Stops a VM and starts it again. The stop is carried through; going away ends the start.
#[utoipa::path(post, path = "/v1/vms/{vm}/restart", params(("vm" = String, Path)),
    request_body = StopVm,
    responses((status = 200, body = Line<Vm>, content_type = "application/x-ndjson"),
              (status = "4XX", body = ApiError)))]
pub(crate) async fn restart(
    State(app): State<Arc<App>>,
    Path(target): Path<String>,
    Body(request): Body<StopVm>,
) -> Result<Response, Failure> {
    let vm = app.engine.find(&target)?;
    let operation = operation(&app, OperationKind::RestartVm, &vm.name())?;
    Ok(long_answer(operation, move |progress| async move {
        vm.restart(patience(request), progress)
            .await
            .map(convert::vm)
    }))
}

/// Ends a VM at once; what its guest has not written is lost.
#[utoipa::path(post, path = "/v1/vms/{vm}/kill", params(("vm" = String, Path)),
    responses((status = 200, body = Vm), (status = "4XX", body = ApiError)))]
pub(crate) async fn kill(
    State(app): State<Arc<App>>,
    Path(target): Path<String>,
) -> Result<Json<Vm>, Failure> {
    Ok(Json(convert::vm(app.engine.find(&target)?.kill().await?)))
}

/// Gives a VM another name. A guest that runs has it from its next start.
#[utoipa::path(post, path = "/v1/vms/{vm}/rename", params(("vm" = String, Path)),
    request_body = RenameVm,
    responses((status = 200, body = Vm), (status = "4XX", body = ApiError)))]
pub(crate) async fn rename(
    State(app): State<Arc<App>>,
    Path(target): Path<String>,
    Body(request): Body<RenameVm>,
) -> Result<Json<Vm>, Failure> {
    let name = request.name.parse().map_err(Error::from)?;
    let vm = app.engine.find(&target)?;
    Ok(Json(convert::vm(vm.rename(name).await?)))
}

/// Makes a VM of something else: its disk at once, the rest from its next start on.
#[utoipa::path(patch, path = "/v1/vms/{vm}", params(("vm" = String, Path)),
    request_body = ChangeVm,
    responses((status = 200, body = Vm), (status = "4XX", body = ApiError)))]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    Path(target): Path<String>,
    Body(request): Body<ChangeVm>,
) -> Result<Json<Vm>, Failure> {
    let change = convert::spec_change(request, app.engine.now())?;
    let vm = app.engine.find(&target)?;
    Ok(Json(convert::vm(vm.change(change).await?)))
}

/// Waits until a VM is what is asked for, or is no more.
#[utoipa::path(get, path = "/v1/vms/{vm}/wait",
    params(("vm" = String, Path), ("for" = Option<WaitFor>, Query)),
    responses((status = 200, body = Waited), (status = "4XX", body = ApiError)))]
pub(crate) async fn wait(
    State(app): State<Arc<App>>,
    Path(target): Path<String>,
    Query(query): Query<WaitVm>,
) -> Result<Json<Waited>, Failure> {
    let vm = app.engine.find(&target)?;
    let reached = vm.reaches(convert::wanted(query.wanted)).await;
    Ok(Json(Waited {
        vm: reached.map(convert::vm),
    }))
}

/// Makes a VM stand still; its memory stays.
#[utoipa::path(post, path = "/v1/vms/{vm}/pause", params(("vm" = String, Path)),
    responses((status = 200, body = Vm), (status = "4XX", body = ApiError)))]
pub(crate) async fn pause(
    State(app): State<Arc<App>>,
    Path(target): Path<String>,
) -> Result<Json<Vm>, Failure> {
    Ok(Json(convert::vm(app.engine.find(&target)?.pause().await?)))
}

/// Lets a paused VM go on.
#[utoipa::path(post, path = "/v1/vms/{vm}/resume", params(("vm" = String, Path)),
    responses((status = 200, body = Vm), (status = "4XX", body = ApiError)))]
pub(crate) async fn resume(
    State(app): State<Arc<App>>,
    Path(target): Path<String>,
) -> Result<Json<Vm>, Failure> {
    Ok(Json(convert::vm(app.engine.find(&target)?.resume().await?)))
}

/// The bytes of a VM's log, from its beginning or from its last lines on.
#[utoipa::path(get, path = "/v1/vms/{vm}/logs",
    params(("vm" = String, Path), ("kind" = Option<LogKind>, Query),
           ("follow" = Option<bool>, Query), ("tail" = Option<u32>, Query)),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
              (status = "4XX", body = ApiError)))]
pub(crate) async fn logs(
    State(app): State<Arc<App>>,
    Path(target): Path<String>,
    Query(query): Query<LogQuery>,
) -> Result<Response, Failure> {
    let vm = app.engine.find(&target)?;
    let places = vm.view().places;
    let tail = query.tail;
    let body = match query.kind {
        LogKind::Console => follow::log(places.console(), query.follow.then_some(vm), tail).await?,
        LogKind::Vmm => follow::log(places.vmm_log(), query.follow.then_some(vm), tail).await?,
        LogKind::Agent => {
            let guest = vm.guest_to("tell its agent's log").await?;
            let lines = guest.log().await.map_err(Error::from)?;
            convert::agent_log(&lines, tail).into()
        }
    };
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

/// What a VM uses of the host, and how it says that it is inside.
#[utoipa::path(get, path = "/v1/vms/{vm}/stats", params(("vm" = String, Path)),
    responses((status = 200, body = VmStats), (status = "4XX", body = ApiError)))]
pub(crate) async fn stats(
    State(app): State<Arc<App>>,
    Path(target): Path<String>,
) -> Result<Json<VmStats>, Failure> {
    let vm = app.engine.find(&target)?;
    let usage = app.engine.usage(&vm).await;
    Ok(Json(convert::stats(usage, app.started.elapsed())))
}

/// What listens in a VM that runs.
#[utoipa::path(get, path = "/v1/vms/{vm}/ports", params(("vm" = String, Path)),
    responses((status = 200, body = VmPorts), (status = "4XX", body = ApiError)))]
pub(crate) async fn ports(
    State(app): State<Arc<App>>,
    Path(target): Path<String>,
) -> Result<Json<VmPorts>, Failure> {
    let vm = app.engine.find(&target)?;
    let guest = vm.guest_to("tell its ports").await?;
    let listeners = guest.listeners().await.map_err(Error::from)?;
    Ok(Json(convert::ports(&vm.view().record, listeners)))
}

/// A command in the VM: a WebSocket whose first message is an `ExecStart`.
#[utoipa::path(get, path = "/v1/vms/{vm}/exec", params(("vm" = String, Path)),
    responses((status = 101), (status = "4XX", body = ApiError)))]
pub(crate) async fn exec(
    State(app): State<Arc<App>>,
    Path(target): Path<String>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Failure> {
    let vm = app.engine.find(&target)?;
    let upgrade = upgrade
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE);
    Ok(upgrade.on_upgrade(move |socket| exec_stream::run(app, vm, socket)))
}
