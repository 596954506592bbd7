//! Routes of pools.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use banger_api::{
    error::ApiError,
    pool::{ChangePool, CreatePool, Pool},
    progress::Line,
};
use banger_core::{error::Error, name::PoolName, operations::OperationKind};

use super::{Body, Failure};
use crate::{
    convert_pool,
    long_answer::{long_answer, operation},
    wiring::App,
};

/// All pools, by name.
#[utoipa::path(get, path = "/v1/pools", responses((status = 200, body = Vec<Pool>)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Json<Vec<Pool>> {
    let pools = app.engine.pools().into_iter();
    Json(pools.map(convert_pool::pool).collect())
}

/// Makes a pool, whose machines come behind the back of whoever does not wait for them. Going away
/// leaves a pool that is there already.
#[utoipa::path(post, path = "/v1/pools", request_body = CreatePool,
    responses((status = 200, body = Line<Pool>, content_type = "application/x-ndjson"),
              (status = "4XX", body = ApiError)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Body(request): Body<CreatePool>,
) -> Result<Response, Failure> {
    let request = convert_pool::request(request, app.engine.now())?;
    let operation = operation(&app, OperationKind::CreatePool, &request.name)?;
    Ok(long_answer(operation, move |progress| async move {
        let made = app.engine.create_pool(request, progress).await;
        made.map(convert_pool::pool)
    }))
}

/// One pool.
#[utoipa::path(get, path = "/v1/pools/{pool}", params(("pool" = String, Path)),
    responses((status = 200, body = Pool), (status = "4XX", body = ApiError)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<Pool>, Failure> {
    Ok(Json(convert_pool::pool(app.engine.pool(&parse(&name)?)?)))
}

/// Changes how many machines of a pool are to be ready. Those that are too many are gone then; those that
/// are missing come later. Carried through once accepted.
#[utoipa::path(patch, path = "/v1/pools/{pool}", params(("pool" = String, Path)),
    request_body = ChangePool,
    responses((status = 200, body = Pool), (status = "4XX", body = ApiError)))]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Body(ChangePool { size }): Body<ChangePool>,
) -> Result<Json<Pool>, Failure> {
    let size = size.try_into().map_err(Error::from)?;
    let resized = app.engine.resize_pool(&parse(&name)?, size).await?;
    Ok(Json(convert_pool::pool(resized)))
}

/// Deletes a pool and the machines that wait in it. VMs that were taken from it stay.
#[utoipa::path(delete, path = "/v1/pools/{pool}", params(("pool" = String, Path)),
    responses((status = 204), (status = "4XX", body = ApiError)))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    app.engine.delete_pool(&parse(&name)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn parse(name: &str) -> Result<PoolName, Error> {
    Ok(name.parse()?)
}
