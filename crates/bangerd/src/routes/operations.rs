//! Routes of operations.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use banger_api::{error::ApiError, operation::Operation, progress, progress::rfc3339};
use banger_core::operations::{OperationId, OperationRow};

use super::Failure;
use crate::wiring::App;

/// All operations that are remembered, by age.
#[utoipa::path(get, path = "/v1/operations",
    responses((status = 200, body = Vec<Operation>), (status = "5XX", body = ApiError)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Json<Vec<Operation>>, Failure> {
    let rows = app.engine.operations().list()?;
    Ok(Json(rows.into_iter().map(wire).collect()))
}

/// One operation.
#[utoipa::path(get, path = "/v1/operations/{id}", params(("id" = String, Path)),
    responses((status = 200, body = Operation), (status = "4XX", body = ApiError)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Operation>, Failure> {
    Ok(Json(wire(app.engine.operations().get(parse(&id)?)?)))
}

/// Waits until an operation has ended.
#[utoipa::path(get, path = "/v1/operations/{id}/wait", params(("id" = String, Path)),
    responses((status = 200, body = Operation), (status = "4XX", body = ApiError)))]
pub(crate) async fn wait(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Operation>, Failure> {
    Ok(Json(wire(app.engine.operations().wait(parse(&id)?).await?)))
}

/// Cancels an operation, and waits until it has ended. It leaves nothing; one that has ended
/// already stays what it is.
#[utoipa::path(post, path = "/v1/operations/{id}/cancel", params(("id" = String, Path)),
    responses((status = 200, body = Operation), (status = "4XX", body = ApiError)))]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Operation>, Failure> {
    let cancelled = app.engine.operations().cancel(parse(&id)?).await?;
    Ok(Json(wire(cancelled)))
}

fn parse(id: &str) -> Result<OperationId, Failure> {
    Ok(id.parse()?)
}

/// As clients see it.
pub(crate) fn wire(row: OperationRow) -> Operation {
    Operation {
        id: row.id.0,
        kind: row.kind.as_str().to_owned(),
        target: row.target,
        stage: row.stage,
        step: row.progress.map(|step| progress::Step {
            stage: step.stage.to_owned(),
            detail: step.detail,
            done: step.done,
            total: step.total,
        }),
        began_at: rfc3339(row.began_at),
        ended_at: row.ended_at.map(rfc3339),
        outcome: row.verdict.map(|verdict| verdict.as_str().to_owned()),
        error: row.error,
    }
}
