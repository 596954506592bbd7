//! Routes of catalogs and their keys.

use std::{path::PathBuf, sync::Arc};

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use banger_api::{
    catalog::{AddCatalog, Catalog, GenerateKey, GeneratedKey, Publish},
    error::{ApiError, ErrorCode},
};
use banger_core::{
    catalog::{Place, PublicKey},
    catalogs::{self, CatalogError, Publication},
    error::Error,
    name::CatalogName,
};

use super::{Body, Failure};
use crate::{classify::classify, convert, wiring::App};

/// All catalogs that are trusted, in the order in which they are asked, as they were read last.
#[utoipa::path(get, path = "/v1/catalogs", responses((status = 200, body = Vec<Catalog>)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Json<Vec<Catalog>>, Failure> {
    let known = app.catalogs.list()?.into_iter();
    let show = |known| convert::catalog(known, None);
    Ok(Json(known.map(show).collect()))
}

/// Trusts a catalog, once it was read and found signed with the key.
#[utoipa::path(post, path = "/v1/catalogs", request_body = AddCatalog,
    responses((status = 200, body = Catalog), (status = "4XX", body = ApiError)))]
pub(crate) async fn add(
    State(app): State<Arc<App>>,
    Body(request): Body<AddCatalog>,
) -> Result<Json<Catalog>, Failure> {
    let name = parse(&request.name)?;
    let place: Place = request.url.parse().map_err(refused)?;
    let key: PublicKey = request.key.parse().map_err(refused)?;
    let known = app.catalogs.add(name, place, key).await?;
    Ok(Json(convert::catalog(known, None)))
}

/// Trusts a catalog no longer. What was pulled from it stays.
#[utoipa::path(delete, path = "/v1/catalogs/{catalog}", params(("catalog" = String, Path)),
    responses((status = 204), (status = "4XX", body = ApiError)))]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    app.catalogs.remove(&parse(&name)?)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reads all catalogs anew. One that cannot be read stays what it was, and says why.
#[utoipa::path(post, path = "/v1/catalogs/refresh",
    responses((status = 200, body = Vec<Catalog>), (status = "5XX", body = ApiError)))]
pub(crate) async fn refresh(State(app): State<Arc<App>>) -> Result<Json<Vec<Catalog>>, Failure> {
    let read = app.catalogs.refresh().await?.into_iter();
    let show = |(known, problem): (_, Option<CatalogError>)| {
        let problem = problem.map(|problem| classify(&problem.into()));
        convert::catalog(known, problem)
    };
    Ok(Json(read.map(show).collect()))
}

/// Makes a key to publish with.
#[utoipa::path(post, path = "/v1/catalogs/keys", request_body = GenerateKey,
    responses((status = 200, body = GeneratedKey), (status = "4XX", body = ApiError)))]
pub(crate) async fn generate_key(
    Body(request): Body<GenerateKey>,
) -> Result<Json<GeneratedKey>, Failure> {
    let path = absolute("a key is written to", &request.path)?;
    let key = catalogs::generate_key(&path, &request.signer)?;
    Ok(Json(GeneratedKey {
        key: key.to_string(),
        path: request.path,
    }))
}

/// A request to publish, with paths that mean the same to us.
pub(super) fn publication(request: &Publish) -> Result<Publication, Failure> {
    Ok(Publication {
        directory: absolute("something is published to", &request.directory)?,
        key: absolute("a key is read from", &request.key)?,
        description: request.description.clone(),
        valid: request.valid_seconds.map(std::time::Duration::from_secs),
    })
}

/// The daemon's working directory is nobody's.
fn absolute(what: &str, text: &str) -> Result<PathBuf, Failure> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        return Ok(path);
    }
    let message = format!("{what} an absolute path, not {text:?}");
    Err(Failure(ApiError::new(ErrorCode::InvalidArgument, message)))
}

fn parse(name: &str) -> Result<CatalogName, Error> {
    Ok(name.parse()?)
}

fn refused(error: impl Into<CatalogError>) -> Error {
    Error::from(error.into())
}
