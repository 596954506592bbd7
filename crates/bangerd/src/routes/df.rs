//! The route of what takes room.

use std::sync::Arc;

use axum::{Json, extract::State};
use banger_api::{
    df::{DiskUsage, Taken},
    error::ApiError,
};
use banger_core::{df::Usage, error::Error};

use super::Failure;
use crate::wiring::App;

/// What takes room on the host's disk, and how much there is.
#[utoipa::path(get, path = "/v1/df",
    responses((status = 200, body = DiskUsage), (status = "5XX", body = ApiError)))]
pub(crate) async fn show(State(app): State<Arc<App>>) -> Result<Json<DiskUsage>, Failure> {
    // Directories are read: not on a thread that serves others.
    let measured = tokio::task::spawn_blocking(move || app.engine.disk_usage());
    Ok(Json(document(measured.await.map_err(|_| Error::Ending)??)))
}

fn document(usage: Usage) -> DiskUsage {
    let things = usage.things.into_iter().map(|taken| Taken {
        kind: taken.kind.as_str().to_owned(),
        name: taken.name,
        unique_bytes: taken.unique,
        shared_bytes: taken.shared,
        vms: taken.vms,
    });
    DiskUsage {
        path: usage.path.to_string_lossy().into_owned(),
        size_bytes: usage.space.size,
        free_bytes: usage.space.free,
        reserve_bytes: usage.space.reserve,
        total_bytes: usage.total,
        things: things.collect(),
    }
}
