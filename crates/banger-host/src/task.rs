//! Tasks whose life is bound to a value's, and work that may wait.

use tokio::task::{JoinError, JoinHandle};

/// A task that ends with its owner.
#[derive(Debug)]
pub(crate) struct Leashed<T = ()>(pub(crate) JoinHandle<T>);

impl<T> Leashed<T> {
    /// Ends the task and returns when what it owned is dropped.
    pub(crate) async fn end(mut self) {
        self.0.abort();
        let _ = (&mut self.0).await;
    }

    /// What the task comes to.
    pub(crate) async fn outcome(mut self) -> Result<T, JoinError> {
        (&mut self.0).await
    }
}

impl<T> Drop for Leashed<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs what blocks for some milliseconds beside the runtime's own threads. It begins at once,
/// whenever its end is waited for.
pub(crate) fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = T> {
    let work = tokio::task::spawn_blocking(work);
    async move {
        match work.await {
            Ok(value) => value,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
