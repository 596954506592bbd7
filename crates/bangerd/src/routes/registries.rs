//! Routes of registries: logins.

use std::sync::Arc;

use axum::{Json, extract::State};
use banger_api::{
    error::ApiError,
    image::{Login, LoginState, Logout},
};
use banger_core::{error::Error, reference::RegistryHost};

use super::{Body, Failure};
use crate::wiring::App;

/// Keeps credentials for a registry, if it takes them.
#[utoipa::path(post, path = "/v1/registries/login", request_body = Login,
    responses((status = 200, body = LoginState), (status = "4XX", body = ApiError)))]
pub(crate) async fn login(
    State(app): State<Arc<App>>,
    Body(request): Body<Login>,
) -> Result<Json<LoginState>, Failure> {
    let host = parse(&request.registry)?;
    let Login {
        username, password, ..
    } = &request;
    let images = app.engine.images();
    images
        .login(&host, username, password, request.insecure)
        .await?;
    Ok(Json(LoginState {
        registry: host.to_string(),
        known: true,
    }))
}

/// Forgets the credentials for a registry that a login kept.
#[utoipa::path(post, path = "/v1/registries/logout", request_body = Logout,
    responses((status = 200, body = LoginState), (status = "4XX", body = ApiError)))]
pub(crate) async fn logout(
    State(app): State<Arc<App>>,
    Body(request): Body<Logout>,
) -> Result<Json<LoginState>, Failure> {
    let host = parse(&request.registry)?;
    let known = app.engine.images().logout(&host)?;
    Ok(Json(LoginState {
        registry: host.to_string(),
        known,
    }))
}

fn parse(host: &str) -> Result<RegistryHost, Error> {
    Ok(host.parse()?)
}
