//! Tasks whose life is bound to a value's, and work that may wait.

use tokio::task::JoinHandle;

/// A task that ends with its owner.
#[derive(Debug)]
pub(crate) struct Leashed(pub(crate) JoinHandle<()>);

impl Leashed {
    /// Ends the task and returns when what it owned is dropped.
    pub(crate) async fn end(mut self) {
        self.0.abort();
        let _ = (&mut self.0).await;
    }
}

impl Drop for Leashed {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs what blocks for some milliseconds beside the runtime's own threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
