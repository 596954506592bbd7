//! The routes of operations.

use http::Method;

use super::{Client, ClientError, transport::Payload};
use crate::operation::Operation;

impl Client {
    /// All that are remembered, by age.
    pub async fn operations(&self) -> Result<Vec<Operation>, ClientError> {
        self.document(Method::GET, "/v1/operations", Payload::Empty)
            .await
    }

    pub async fn operation(&self, id: u64) -> Result<Operation, ClientError> {
        self.document(Method::GET, &path(id, ""), Payload::Empty)
            .await
    }

    /// Waits until it has ended, however long that takes.
    pub async fn wait_operation(&self, id: u64) -> Result<Operation, ClientError> {
        self.document(Method::GET, &path(id, "/wait"), Payload::Empty)
            .await
    }

    /// Cancels it, and waits until it has ended.
    pub async fn cancel_operation(&self, id: u64) -> Result<Operation, ClientError> {
        self.document(Method::POST, &path(id, "/cancel"), Payload::Empty)
            .await
    }
}

fn path(id: u64, rest: &str) -> String {
    format!("/v1/operations/{id}{rest}")
}
