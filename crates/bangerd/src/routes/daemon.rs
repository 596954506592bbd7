//! Routes about the daemon and its host.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use banger_api::{
    build::BuildInfo,
    daemon::{DaemonStatus, HiddenVm, Reloaded},
    doctor::{Check, Mended},
    error::ApiError,
};
use banger_core::{
    error::Error,
    record::{VmRecord, VmState},
    vm::View,
};

use super::Failure;
use crate::{classify::configuration, convert, convert_journal, reload, wiring::App};

/// The running daemon.
#[utoipa::path(get, path = "/v1/daemon", responses((status = 200, body = DaemonStatus)))]
pub(crate) async fn status(State(app): State<Arc<App>>) -> Json<DaemonStatus> {
    let is_running =
        |view: &View| view.record.state == VmState::Running && view.record.holder.is_none();
    let running = app.engine.count(is_running);
    let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    Json(DaemonStatus {
        pid: std::process::id(),
        build: BuildInfo::current(),
        uptime_seconds: app.started.elapsed().as_secs(),
        socket: text(app.places.socket()),
        log_path: text(app.places.log()),
        state_dir: text(app.places.state.clone()),
        running_vms: running as u64,
        hidden_vms: hidden(&app),
        replaced: is_replaced(),
        found: convert_journal::found(&app.engine.ledger().report()),
        kept_store: app.kept_store.clone().map(text),
        service: app.service.map(|service| service.as_str().to_owned()),
    })
}

/// Most daemons have none, and every command of the CLI asks.
fn hidden(app: &App) -> Vec<HiddenVm> {
    if app.engine.count(|view| view.record.holder.is_some()) == 0 {
        return Vec::new();
    }
    let hidden = app.engine.each_view(|view| {
        let VmRecord {
            name,
            state,
            holder,
            ..
        } = &view.record;
        Some(HiddenVm {
            name: name.to_string(),
            state: convert::state(*state),
            purpose: holder.as_ref()?.purpose(),
        })
    });
    hidden.into_iter().flatten().collect()
}

/// Linux marks the link to a program whose file was removed or replaced.
fn is_replaced() -> bool {
    std::fs::read_link("/proc/self/exe")
        .is_ok_and(|path| path.to_string_lossy().ends_with(" (deleted)"))
}

/// Ends the daemon. VMs go on, and the next daemon finds them.
#[utoipa::path(post, path = "/v1/daemon/shutdown", responses((status = 202)))]
pub(crate) async fn shutdown(State(app): State<Arc<App>>) -> StatusCode {
    app.ending.cancel();
    StatusCode::ACCEPTED
}

/// Takes up the configuration, as far as that can be while the daemon serves.
#[utoipa::path(post, path = "/v1/daemon/reload",
    responses((status = 200, body = Reloaded), (status = "4XX", body = ApiError)))]
pub(crate) async fn reload(State(app): State<Arc<App>>) -> Result<Json<Reloaded>, Failure> {
    let reloaded = reload::reload(&app);
    let reloaded = reloaded.map_err(|error| Failure(configuration(error.as_ref())))?;
    Ok(Json(reloaded))
}

/// Whether this host can run VMs; changes nothing.
#[utoipa::path(get, path = "/v1/doctor", responses((status = 200, body = Vec<Check>)))]
pub(crate) async fn doctor(State(app): State<Arc<App>>) -> Json<Vec<Check>> {
    Json(
        app.engine
            .checks()
            .await
            .into_iter()
            .map(convert::check)
            .collect(),
    )
}

/// Removes what VMs and work that are gone left behind; nothing that anybody may miss.
#[utoipa::path(post, path = "/v1/doctor/fix",
    responses((status = 200, body = Vec<Mended>), (status = "5XX", body = ApiError)))]
pub(crate) async fn fix(State(app): State<Arc<App>>) -> Result<Json<Vec<Mended>>, Failure> {
    let removing = tokio::task::spawn_blocking(move || app.engine.remove_leftovers());
    let removed = removing.await.map_err(|_| Error::Ending)?;
    let mended = removed.into_iter().map(|(leftover, removed)| Mended {
        path: leftover.to_string(),
        act: leftover.mended().to_owned(),
        problem: removed.err().map(|error| error.chain()),
    });
    Ok(Json(mended.collect()))
}
