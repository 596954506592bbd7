//! Routes about what lies on the disk and is in no row.

use std::sync::Arc;

use axum::{Json, extract::State};
use banger_api::{
    error::ApiError,
    recover::{Recover, Recovered, Unrecovered},
};

use super::{Body, Failure};
use crate::wiring::App;

/// Makes rows again for VMs, images, snapshots and pools whose files are there. Removes nothing.
#[utoipa::path(post, path = "/v1/recover", request_body = Recover,
    responses((status = 200, body = Recovered), (status = "5XX", body = ApiError)))]
pub(crate) async fn recover(
    State(app): State<Arc<App>>,
    Body(request): Body<Recover>,
) -> Result<Json<Recovered>, Failure> {
    let recovered = app.engine.recover(request.dry_run).await?;
    let problem = |problem: banger_core::recovery::Unrecovered| Unrecovered {
        path: problem.path.to_string_lossy().into_owned(),
        reason: problem.reason,
    };
    Ok(Json(Recovered {
        vms: recovered.vms.iter().map(ToString::to_string).collect(),
        images: recovered.images.iter().map(ToString::to_string).collect(),
        snapshots: recovered
            .snapshots
            .iter()
            .map(ToString::to_string)
            .collect(),
        pools: recovered.pools.iter().map(ToString::to_string).collect(),
        problems: recovered.problems.into_iter().map(problem).collect(),
    }))
}
