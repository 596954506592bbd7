//! Owns the step from asynchronous code to work that blocks.

/// Runs `work` where blocking is allowed and waits for it. Work that has begun goes on to its end
/// even if the waiting future is dropped: it must own all that it touches.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that is shutting down cancels, and it polls nothing any more.
            Err(_) => std::future::pending().await,
        },
    }
}
