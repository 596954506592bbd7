//! Routes of snapshots and forks.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use banger_api::{
    error::ApiError,
    progress::Line,
    snapshot::{CreateSnapshot, ForkVm, Forked, RestoreVm, Snapshot},
    vm::Vm,
};
use banger_core::{
    engine::ForkRequest, error::Error, name::SnapshotName, operations::OperationKind, vm::AfterSave,
};

use super::{Body, Failure};
use crate::{
    convert,
    long_answer::{long_answer, operation},
    wiring::App,
};

/// All snapshots, by name.
#[utoipa::path(get, path = "/v1/snapshots", responses((status = 200, body = Vec<Snapshot>)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Json<Vec<Snapshot>>, Failure> {
    let snapshots = app.engine.snapshots();
    let records = snapshots.list()?.into_iter();
    let shown = records.map(|record| convert::snapshot(&snapshots.files(&record), record));
    Ok(Json(shown.collect()))
}

/// One snapshot.
#[utoipa::path(get, path = "/v1/snapshots/{snapshot}", params(("snapshot" = String, Path)),
    responses((status = 200, body = Snapshot), (status = "4XX", body = ApiError)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<Snapshot>, Failure> {
    let snapshots = app.engine.snapshots();
    let record = snapshots.get(&parse(&name)?)?;
    Ok(Json(convert::snapshot(&snapshots.files(&record), record)))
}

/// Deletes a snapshot. VMs that went on from it go on.
#[utoipa::path(delete, path = "/v1/snapshots/{snapshot}", params(("snapshot" = String, Path)),
    responses((status = 204), (status = "4XX", body = ApiError)))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    app.engine.snapshots().delete(&parse(&name)?)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Saves a VM that runs. Going away leaves no snapshot, and the VM running.
#[utoipa::path(post, path = "/v1/vms/{vm}/snapshots", params(("vm" = String, Path)),
    request_body = CreateSnapshot,
    responses((status = 200, body = Line<Snapshot>, content_type = "application/x-ndjson"),
              (status = "4XX", body = ApiError)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Path(target): Path<String>,
    Body(request): Body<CreateSnapshot>,
) -> Result<Response, Failure> {
    let vm = app.engine.find(&target)?;
    let name = parse(&request.name)?;
    let after = if request.keep_running {
        AfterSave::GoOn
    } else {
        AfterSave::End
    };
    let operation = operation(&app, OperationKind::SnapshotVm, &vm.name())?;
    Ok(long_answer(operation, move |progress| async move {
        let record = app.engine.snapshot(&vm, name, after, progress).await?;
        Ok(convert::snapshot(
            &app.engine.snapshots().files(&record),
            record,
        ))
    }))
}

/// Takes a VM back to a snapshot of its own. What it is at this moment is lost.
#[utoipa::path(post, path = "/v1/vms/{vm}/restore", params(("vm" = String, Path)),
    request_body = RestoreVm,
    responses((status = 200, body = Line<Vm>, content_type = "application/x-ndjson"),
              (status = "4XX", body = ApiError)))]
pub(crate) async fn restore(
    State(app): State<Arc<App>>,
    Path(target): Path<String>,
    Body(request): Body<RestoreVm>,
) -> Result<Response, Failure> {
    let vm = app.engine.find(&target)?;
    let name = parse(&request.snapshot)?;
    let operation = operation(&app, OperationKind::RestoreVm, &vm.name())?;
    Ok(long_answer(operation, move |progress| async move {
        let restored = app.engine.restore(&vm, &name, progress).await;
        restored.map(convert::vm)
    }))
}

/// Copies a VM that runs, which goes on. Going away leaves no copy.
#[utoipa::path(post, path = "/v1/vms/{vm}/fork", params(("vm" = String, Path)),
    request_body = ForkVm,
    responses((status = 200, body = Line<Forked>, content_type = "application/x-ndjson"),
              (status = "4XX", body = ApiError)))]
pub(crate) async fn fork(
    State(app): State<Arc<App>>,
    Path(target): Path<String>,
    Body(request): Body<ForkVm>,
) -> Result<Response, Failure> {
    let vm = app.engine.find(&target)?;
    let request = ForkRequest {
        count: request.count.unwrap_or(1),
        name_prefix: request.name_prefix,
    };
    let operation = operation(&app, OperationKind::ForkVm, &vm.name())?;
    Ok(long_answer(operation, move |progress| async move {
        let forked = app.engine.fork(&vm, request, progress).await?;
        Ok(convert::forked(forked))
    }))
}

fn parse(name: &str) -> Result<SnapshotName, Error> {
    Ok(name.parse()?)
}
