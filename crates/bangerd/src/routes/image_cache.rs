//! Routes of what earlier pulls left for later ones.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{Json, extract::State};
use banger_api::{
    cache::{CacheItem, CacheKind, ImageCache, PruneCache, PrunedCache},
    error::ApiError,
    progress::rfc3339,
};
use banger_core::{
    cache::{CacheItem as DomainItem, Kept},
    error::Error,
};

use super::{Body, Failure};
use crate::wiring::App;

/// The cache of images, the thing that was not used for longest first.
#[utoipa::path(get, path = "/v1/image-cache",
    responses((status = 200, body = ImageCache), (status = "5XX", body = ApiError)))]
pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Json<ImageCache>, Failure> {
    let work = move || {
        let images = app.engine.images();
        let found = images.cached()?;
        Ok(ImageCache {
            bytes: found.iter().map(|item| item.bytes).sum(),
            items: found.into_iter().map(item).collect(),
            budget: images.cache_budget(),
        })
    };
    blocking(work).await
}

/// Removes what was not used for longest. What running pulls need stays.
#[utoipa::path(post, path = "/v1/image-cache/prune", request_body = PruneCache,
    responses((status = 200, body = PrunedCache), (status = "4XX", body = ApiError)))]
pub(crate) async fn prune(
    State(app): State<Arc<App>>,
    Body(request): Body<PruneCache>,
) -> Result<Json<PrunedCache>, Failure> {
    let work = move || {
        let images = app.engine.images();
        let pruned = images.prune_cache(request.keep, request.dry_run)?;
        Ok(PrunedCache {
            items: pruned.items.into_iter().map(item).collect(),
            freed: pruned.freed,
            left: pruned.left,
            dry_run: request.dry_run,
        })
    };
    blocking(work).await
}

/// Directories are read and files removed: not on a thread that serves others.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<Json<T>, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(Json(done.map_err(|_| Error::Ending)??))
}

fn item(item: DomainItem) -> CacheItem {
    let since_1970 = item.last_used.duration_since(SystemTime::UNIX_EPOCH);
    CacheItem {
        kind: match item.kept {
            Kept::Layer => CacheKind::Layer,
            Kept::Blob => CacheKind::Blob,
        },
        digest: item.digest.to_string(),
        bytes: item.bytes,
        last_used: rfc3339(since_1970.unwrap_or(Duration::ZERO).as_secs()),
        in_use: item.in_use,
    }
}
