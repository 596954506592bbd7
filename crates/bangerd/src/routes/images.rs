//! Routes of images.

use std::{path::PathBuf, sync::Arc};

use axum::{
    Json,
    body::Body as RawBody,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use banger_api::{
    catalog::{AvailableImage, Publish, Published},
    error::{ApiError, ErrorCode},
    image::{Image, ImportImage, PullImage, PulledImage, RegisterImage},
    progress::Line,
};
use banger_core::{
    error::Error,
    image_target::ImageTarget,
    images::{PullRequest, Registration},
    manifest::Platform,
    name::ImageName,
    operations::OperationKind,
    reference::ImageRef,
    rootfs::Source,
    store::ImageRow,
};
use futures_util::TryStreamExt;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::{Body, Failure};
use crate::{
    convert,
    long_answer::{long_answer, operation},
    wiring::App,
};

/// All images, by name.
#[utoipa::path(get, path = "/v1/images", responses((status = 200, body = Vec<Image>)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Json<Vec<Image>>, Failure> {
    let rows = app.engine.images().list()?;
    Ok(Json(rows.into_iter().map(|row| image(&app, row)).collect()))
}

/// One image.
#[utoipa::path(get, path = "/v1/images/{image}", params(("image" = String, Path)),
    responses((status = 200, body = Image), (status = "4XX", body = ApiError)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Json<Image>, Failure> {
    let row = app.engine.images().get(&parse(&name)?)?;
    Ok(Json(image(&app, row)))
}

/// Deletes an image that no VM uses.
#[utoipa::path(delete, path = "/v1/images/{image}", params(("image" = String, Path)),
    responses((status = 204), (status = "4XX", body = ApiError)))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    app.engine.delete_image(&parse(&name)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes an image of a tar file of this host. Going away gives it up.
#[utoipa::path(post, path = "/v1/images/import", request_body = ImportImage,
    responses((status = 200, body = Line<Image>, content_type = "application/x-ndjson"),
              (status = "4XX", body = ApiError)))]
pub(crate) async fn import(
    State(app): State<Arc<App>>,
    Body(request): Body<ImportImage>,
) -> Result<Response, Failure> {
    let name = parse(&request.name)?;
    let path = PathBuf::from(&request.path);
    if !path.is_absolute() {
        let message = format!(
            "an image is imported from an absolute path, not {:?}",
            request.path
        );
        return Err(Failure(ApiError::new(ErrorCode::InvalidArgument, message)));
    }
    let operation = operation(&app, OperationKind::ImportImage, &name)?;
    Ok(long_answer(operation, move |progress| async move {
        let origin = format!("tar:{}", request.path);
        let row = app
            .engine
            .images()
            .import(&name, Source::File(path), origin, progress)
            .await?;
        Ok(image(&app, row))
    }))
}

/// Makes an image of the catalog, or of a reference. Going away gives it up; what is whole by
/// then is kept for the next try.
#[utoipa::path(post, path = "/v1/images/pull", request_body = PullImage,
    responses((status = 200, body = Line<PulledImage>, content_type = "application/x-ndjson"),
              (status = "4XX", body = ApiError)))]
pub(crate) async fn pull(
    State(app): State<Arc<App>>,
    Body(request): Body<PullImage>,
) -> Result<Response, Failure> {
    let target: ImageTarget = request.reference.parse()?;
    let platform = match &request.platform {
        Some(platform) => platform.parse().map_err(Error::from)?,
        None => Platform::host(),
    };
    let reference = match &target {
        ImageTarget::Either { reference, .. } | ImageTarget::At(reference) => reference.clone(),
        ImageTarget::Named(word) => word.as_str().parse().map_err(Error::from)?,
    };
    absolute(&reference)?;
    let request = PullRequest {
        reference,
        name: request.name.as_deref().map(parse).transpose()?,
        platform,
        insecure: request.insecure,
    };
    let operation = operation(&app, OperationKind::PullImage, &target)?;
    Ok(long_answer(operation, move |progress| async move {
        let images = app.engine.images();
        let pulled = images.pull(&target, request, progress).await?;
        Ok(convert::pulled(image(&app, pulled.row), pulled.summary))
    }))
}

/// The daemon's working directory is nobody's.
fn absolute(reference: &ImageRef) -> Result<(), Failure> {
    match reference.path() {
        Some(path) if !path.is_absolute() => {
            let message = format!("an image is pulled from an absolute path, not {path:?}");
            Err(Failure(ApiError::new(ErrorCode::InvalidArgument, message)))
        }
        Some(_) | None => Ok(()),
    }
}

/// Makes a file of this host an image, as it is; its kernel is fetched if it has to be.
#[utoipa::path(post, path = "/v1/images/register", request_body = RegisterImage,
    responses((status = 200, body = Line<Image>, content_type = "application/x-ndjson"),
              (status = "4XX", body = ApiError)))]
pub(crate) async fn register(
    State(app): State<Arc<App>>,
    Body(request): Body<RegisterImage>,
) -> Result<Response, Failure> {
    let rootfs = PathBuf::from(&request.rootfs);
    if !rootfs.is_absolute() {
        let message = format!("an image is registered by an absolute path, not {rootfs:?}");
        return Err(Failure(ApiError::new(ErrorCode::InvalidArgument, message)));
    }
    let kernel = request.kernel.map(|kernel| kernel.parse()).transpose();
    let registration = Registration {
        name: parse(&request.name)?,
        rootfs,
        kernel: kernel.map_err(Error::from)?,
    };
    let operation = operation(&app, OperationKind::RegisterImage, &registration.name)?;
    Ok(long_answer(operation, move |progress| async move {
        let row = app.engine.register_image(registration, progress).await?;
        Ok(image(&app, row))
    }))
}

/// Copies a registered image's file into our own store.
#[utoipa::path(post, path = "/v1/images/{image}/promote", params(("image" = String, Path)),
    responses((status = 200, body = Line<Image>, content_type = "application/x-ndjson"),
              (status = "4XX", body = ApiError)))]
pub(crate) async fn promote(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let name = parse(&name)?;
    let operation = operation(&app, OperationKind::PromoteImage, &name)?;
    Ok(long_answer(operation, move |progress| async move {
        let row = app.engine.images().promote(&name, progress).await?;
        Ok(image(&app, row))
    }))
}

/// What can be pulled by name, as far as it is known here.
#[utoipa::path(get, path = "/v1/images/available",
    responses((status = 200, body = Vec<AvailableImage>)))]
pub(crate) async fn available(
    State(app): State<Arc<App>>,
) -> Result<Json<Vec<AvailableImage>>, Failure> {
    let rows = app.engine.images().list()?;
    let offers = app.engine.images().offers()?;
    let show = |offer| convert::available_image(offer, &rows);
    Ok(Json(offers.into_iter().map(show).collect()))
}

/// Puts an image and a new catalog into a directory that others can read. Going away gives it up.
#[utoipa::path(post, path = "/v1/images/{image}/publish", params(("image" = String, Path)),
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
    let operation = operation(&app, OperationKind::PublishImage, &name)?;
    Ok(long_answer(operation, move |progress| async move {
        let images = app.engine.images();
        let published = images.publish(&name, publication, progress).await?;
        Ok(convert::published(&published))
    }))
}

/// Makes an image of a tar that is the request's body. Going away gives it up.
#[utoipa::path(put, path = "/v1/images/{image}/tar", params(("image" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = Line<Image>, content_type = "application/x-ndjson"),
              (status = "4XX", body = ApiError)))]
pub(crate) async fn upload(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    body: RawBody,
) -> Result<Response, Failure> {
    let name = parse(&name)?;
    let stream = body.into_data_stream().map_err(std::io::Error::other);
    let reader = SyncIoBridge::new(Box::pin(StreamReader::new(stream)));
    let operation = operation(&app, OperationKind::ImportImage, &name)?;
    Ok(long_answer(operation, move |progress| async move {
        let source = Source::Stream(Box::new(reader));
        let row = app
            .engine
            .images()
            .import(&name, source, "tar:-".into(), progress)
            .await?;
        Ok(image(&app, row))
    }))
}

fn parse(name: &str) -> Result<ImageName, Error> {
    Ok(name.parse()?)
}

fn image(app: &App, row: ImageRow) -> Image {
    let views = app.engine.views().into_iter();
    let users = views.filter(|view| view.record.spec.image == row.name);
    let vms = users.map(|view| view.record.name.to_string()).collect();
    let rootfs = app.engine.images().rootfs_of(&row);
    convert::image(row, &rootfs, vms)
}
