//! Routes of kernels.

use std::{path::PathBuf, sync::Arc};

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use banger_api::{
    catalog::{Publish, Published},
    error::{ApiError, ErrorCode},
    kernel::{AvailableKernel, ImportKernel, Kernel, PullKernel},
    progress::Line,
};
use banger_core::{
    error::Error,
    kernel::{CommandLine, KernelName, Manifest},
    kernels::KernelTarget,
    operations::OperationKind,
};

use super::{Body, Failure};
use crate::{
    convert,
    long_answer::{long_answer, operation},
    wiring::App,
};

/// All kernels of the local store, by name.
#[utoipa::path(get, path = "/v1/kernels", responses((status = 200, body = Vec<Kernel>)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Json<Vec<Kernel>>, Failure> {
    let kernels = app.engine.kernels();
    let show = |manifest: Manifest| kernels.get(&manifest.name).map(convert::kernel);
    let all: Result<Vec<_>, Error> = kernels.list()?.into_iter().map(show).collect();
    Ok(Json(all?))
}

/// What the catalog offers.
#[utoipa::path(get, path = "/v1/kernels/available",
    responses((status = 200, body = Vec<AvailableKernel>)))]
pub(crate) async fn available(
    State(app): State<Arc<App>>,
) -> Result<Json<Vec<AvailableKernel>>, Failure> {
    let kernels = app.engine.kernels();
    let present: Vec<KernelName> = kernels
        .list()?
        .into_iter()
        .map(|kernel| kernel.name)
        .collect();
    let offers = kernels.offers()?;
    let show = |offer| convert::available_kernel(offer, &present);
    Ok(Json(offers.iter().map(show).collect()))
}

/// One kernel.
#[utoipa::path(get, path = "/v1/kernels/{kernel}", params(("kernel" = String, Path)),
    responses((status = 200, body = Kernel), (status = "4XX", body = ApiError)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<Kernel>, Failure> {
    Ok(Json(convert::kernel(
        app.engine.kernels().get(&parse(&name)?)?,
    )))
}

/// Deletes a kernel that no VM uses.
#[utoipa::path(delete, path = "/v1/kernels/{kernel}", params(("kernel" = String, Path)),
    responses((status = 204), (status = "4XX", body = ApiError)))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    app.engine.delete_kernel(&parse(&name)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Pulls a kernel of the catalog. Going away gives it up.
#[utoipa::path(post, path = "/v1/kernels/pull", request_body = PullKernel,
    responses((status = 200, body = Line<Kernel>, content_type = "application/x-ndjson"),
              (status = "4XX", body = ApiError)))]
pub(crate) async fn pull(
    State(app): State<Arc<App>>,
    Body(request): Body<PullKernel>,
) -> Result<Response, Failure> {
    let target: KernelTarget = request.name.parse()?;
    let operation = operation(&app, OperationKind::PullKernel, &request.name)?;
    Ok(long_answer(operation, move |progress| async move {
        let kernel = app
            .engine
            .kernels()
            .pull(&target, request.force, progress)
            .await?;
        Ok(convert::kernel(kernel))
    }))
}

/// Puts a kernel and a new catalog into a directory that others can read. Going away gives it up.
#[utoipa::path(post, path = "/v1/kernels/{kernel}/publish", params(("kernel" = String, Path)),
    request_body = Publish,
    responses((status = 200, body = Line<Published>, content_type = "application/x-ndjson"),
              (status = "4XX", body = ApiError)))]
pub(crate) async fn publish(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Body(request): Body<Publish>,
) -> Result<Response, Failure> {
    let name = parse(&name)?;
    let publication = super::catalogs::publication(&request)?;
    let operation = operation(&app, OperationKind::PublishKernel, &name)?;
    Ok(long_answer(operation, move |progress| async move {
        let kernels = app.engine.kernels();
        let published = kernels.publish(&name, publication, progress).await?;
        Ok(convert::published(&published))
    }))
}

/// Copies a kernel out of a directory of this host.
#[utoipa::path(post, path = "/v1/kernels/import", request_body = ImportKernel,
    responses((status = 200, body = Line<Kernel>, content_type = "application/x-ndjson"),
              (status = "4XX", body = ApiError)))]
pub(crate) async fn import(
    State(app): State<Arc<App>>,
    Body(request): Body<ImportKernel>,
) -> Result<Response, Failure> {
    let name = parse(&request.name)?;
    let from = PathBuf::from(&request.directory);
    if !from.is_absolute() {
        let message = format!(
            "a kernel is imported from an absolute path, not {:?}",
            request.directory
        );
        return Err(Failure(ApiError::new(ErrorCode::InvalidArgument, message)));
    }
    let cmdline: CommandLine = request.cmdline.parse().map_err(Error::from)?;
    let operation = operation(&app, OperationKind::ImportKernel, &name)?;
    Ok(long_answer(operation, move |_progress| async move {
        let kernel = app
            .engine
            .kernels()
            .import(&name, &from, cmdline, request.force)
            .await?;
        Ok(convert::kernel(kernel))
    }))
}

fn parse(name: &str) -> Result<KernelName, Error> {
    Ok(name.parse()?)
}
