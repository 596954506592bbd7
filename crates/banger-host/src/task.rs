//! Tasks whose life is bound to a value's.

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
