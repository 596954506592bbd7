//! Routes about the host: what was done on it, and what would be.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use banger_api::{
    error::ApiError,
    journal::{CreatePlan, HostJournal},
    vm::CreateVm,
};
use banger_core::error::Error;

use super::{Body, Failure};
use crate::{convert, convert_journal, wiring::App};

/// Everything that was made on the host, or may have been, and what this daemon found of it.
#[utoipa::path(get, path = "/v1/host/journal",
    responses((status = 200, body = HostJournal), (status = "5XX", body = ApiError)))]
pub(crate) async fn journal(State(app): State<Arc<App>>) -> Result<Json<HostJournal>, Failure> {
    let ledger = app.engine.ledger();
    let rows = ledger.rows().map_err(Error::from)?;
    let views = app.engine.views().into_iter();
    let names: BTreeMap<_, _> = views
        .map(|view| (view.record.id, view.record.name))
        .collect();
    Ok(Json(convert_journal::journal(
        rows,
        ledger.report(),
        &names,
    )))
}

/// What the creation of a VM would do. Does nothing.
#[utoipa::path(post, path = "/v1/vms/plan", request_body = CreateVm,
    responses((status = 200, body = CreatePlan), (status = "4XX", body = ApiError)))]
pub(crate) async fn plan(
    State(app): State<Arc<App>>,
    Body(request): Body<CreateVm>,
) -> Result<Json<CreatePlan>, Failure> {
    let request = convert::create_request(request, app.engine.now())?;
    let preview = app.engine.preview(&request).await?;
    Ok(Json(convert_journal::plan(preview)))
}
