//! The routes, and the OpenAPI document that is generated from them.

mod catalogs;
mod daemon;
mod df;
mod events;
mod host;
mod image_cache;
mod images;
mod kernels;
mod operations;
mod pools;
mod recover;
mod registries;
mod snapshots;
mod vms;

use std::sync::Arc;

use axum::{
    Json, Router,
    http::StatusCode,
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::get,
};
use banger_api::error::{ApiError, ErrorCode};
use banger_core::error::Error;
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{classify::classify, long_answer::detach, wiring::App};

pub(crate) use operations::wire as operation_document;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "banger",
        description = "Real Linux machines, over HTTP on a unix socket. Long requests answer \
                       with NDJSON: `step` lines, then one `done` or `failed`; with `Prefer: \
                       respond-async` they answer 202 and the operation, and go on.",
        license(name = "MIT OR Apache-2.0"),
    ),
    components(schemas(
        ApiError,
        banger_api::exec::ExecStart,
        banger_api::exec::ExecControl,
        banger_api::exec::ExecEvent
    ))
)]
struct Document;

/// All routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    let (router, _document) = open_api_router().split_for_parts();
    // Made when it is asked for: it takes more memory than all that the daemon itself knows.
    let document = async || Json(open_api_router().into_openapi());
    router
        .route("/v1/openapi.json", get(document))
        .fallback(unknown_route)
        .layer(from_fn_with_state(app.clone(), detach))
        .with_state(app)
}

fn open_api_router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(daemon::status))
        .routes(routes!(daemon::shutdown))
        .routes(routes!(daemon::reload))
        .routes(routes!(daemon::doctor))
        .routes(routes!(daemon::fix))
        .routes(routes!(df::show))
        .routes(routes!(events::stream))
        .routes(routes!(host::journal))
        .routes(routes!(host::plan))
        .routes(routes!(operations::list))
        .routes(routes!(operations::show))
        .routes(routes!(operations::wait))
        .routes(routes!(operations::cancel))
        .routes(routes!(recover::recover))
        .routes(routes!(vms::overview))
        .routes(routes!(vms::list, vms::create))
        .routes(routes!(vms::show, vms::change, vms::delete))
        .routes(routes!(vms::start))
        .routes(routes!(vms::stop))
        .routes(routes!(vms::restart))
        .routes(routes!(vms::kill))
        .routes(routes!(vms::rename))
        .routes(routes!(vms::wait))
        .routes(routes!(vms::pause))
        .routes(routes!(vms::resume))
        .routes(routes!(vms::logs))
        .routes(routes!(vms::stats))
        .routes(routes!(vms::ports))
        .routes(routes!(vms::exec))
        .routes(routes!(snapshots::list))
        .routes(routes!(snapshots::show, snapshots::delete))
        .routes(routes!(snapshots::create))
        .routes(routes!(snapshots::restore))
        .routes(routes!(snapshots::fork))
        .routes(routes!(pools::list, pools::create))
        .routes(routes!(pools::show, pools::change, pools::delete))
        .routes(routes!(images::list))
        .routes(routes!(images::show, images::delete))
        .routes(routes!(images::import))
        .routes(routes!(images::pull))
        .routes(routes!(images::upload))
        .routes(routes!(images::register))
        .routes(routes!(images::promote))
        .routes(routes!(image_cache::list))
        .routes(routes!(image_cache::prune))
        .routes(routes!(images::available))
        .routes(routes!(images::publish))
        .routes(routes!(catalogs::list, catalogs::add))
        .routes(routes!(catalogs::refresh))
        .routes(routes!(catalogs::generate_key))
        .routes(routes!(catalogs::remove))
        .routes(routes!(registries::login))
        .routes(routes!(registries::logout))
        .routes(routes!(kernels::list))
        .routes(routes!(kernels::available))
        .routes(routes!(kernels::show, kernels::delete))
        .routes(routes!(kernels::pull))
        .routes(routes!(kernels::import))
        .routes(routes!(kernels::publish))
}

async fn unknown_route() -> Failure {
    Failure(ApiError::new(ErrorCode::NotFound, "there is no such route"))
}

/// A failed request's answer.
pub(crate) struct Failure(ApiError);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(classify(&error))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.code.status());
        (
            status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            Json(self.0),
        )
            .into_response()
    }
}

/// A JSON body; what is wrong with it is told like any other failure.
pub(crate) struct Body<T>(pub(crate) T);

impl<T, S> axum::extract::FromRequest<S> for Body<T>
where
    T: serde::de::DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Failure;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Failure> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(Failure(ApiError::new(
                ErrorCode::InvalidArgument,
                rejection.body_text(),
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described() {
        let document = open_api_router().into_openapi();
        let mut routes = Vec::new();
        for (path, item) in &document.paths.paths {
            let methods = [
                ("GET", item.get.is_some()),
                ("POST", item.post.is_some()),
                ("PUT", item.put.is_some()),
                ("PATCH", item.patch.is_some()),
                ("DELETE", item.delete.is_some()),
            ];
            let present = methods.iter().filter(|(_, present)| *present);
            routes.extend(present.map(|(method, _)| format!("{method} {path}")));
        }
        let expected = [
            "GET /v1/catalogs",
            "POST /v1/catalogs",
            "POST /v1/catalogs/keys",
            "POST /v1/catalogs/refresh",
            "DELETE /v1/catalogs/{catalog}",
            "GET /v1/daemon",
            "POST /v1/daemon/reload",
            "POST /v1/daemon/shutdown",
            "GET /v1/df",
            "GET /v1/doctor",
            "POST /v1/doctor/fix",
            "GET /v1/events",
            "GET /v1/host/journal",
            "GET /v1/image-cache",
            "POST /v1/image-cache/prune",
            "GET /v1/images",
            "GET /v1/images/available",
            "POST /v1/images/import",
            "POST /v1/images/pull",
            "POST /v1/images/register",
            "GET /v1/images/{image}",
            "DELETE /v1/images/{image}",
            "POST /v1/images/{image}/promote",
            "POST /v1/images/{image}/publish",
            "PUT /v1/images/{image}/tar",
            "GET /v1/kernels",
            "GET /v1/kernels/available",
            "POST /v1/kernels/import",
            "POST /v1/kernels/pull",
            "GET /v1/kernels/{kernel}",
            "DELETE /v1/kernels/{kernel}",
            "POST /v1/kernels/{kernel}/publish",
            "GET /v1/operations",
            "GET /v1/operations/{id}",
            "POST /v1/operations/{id}/cancel",
            "GET /v1/operations/{id}/wait",
            "GET /v1/overview",
            "GET /v1/pools",
            "POST /v1/pools",
            "GET /v1/pools/{pool}",
            "PATCH /v1/pools/{pool}",
            "DELETE /v1/pools/{pool}",
            "POST /v1/recover",
            "POST /v1/registries/login",
            "POST /v1/registries/logout",
            "GET /v1/snapshots",
            "GET /v1/snapshots/{snapshot}",
            "DELETE /v1/snapshots/{snapshot}",
            "GET /v1/vms",
            "POST /v1/vms",
            "POST /v1/vms/plan",
            "GET /v1/vms/{vm}",
            "PATCH /v1/vms/{vm}",
            "DELETE /v1/vms/{vm}",
            "GET /v1/vms/{vm}/exec",
            "POST /v1/vms/{vm}/fork",
            "POST /v1/vms/{vm}/kill",
            "GET /v1/vms/{vm}/logs",
            "POST /v1/vms/{vm}/pause",
            "GET /v1/vms/{vm}/ports",
            "POST /v1/vms/{vm}/rename",
            "POST /v1/vms/{vm}/restart",
            "POST /v1/vms/{vm}/restore",
            "POST /v1/vms/{vm}/resume",
            "POST /v1/vms/{vm}/snapshots",
            "POST /v1/vms/{vm}/start",
            "GET /v1/vms/{vm}/stats",
            "POST /v1/vms/{vm}/stop",
            "GET /v1/vms/{vm}/wait",
        ];
        assert_eq!(routes, expected);
    }
}
