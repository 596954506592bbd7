//! The routes about the host: what was done on it, and what would be.

use http::Method;

use super::{Client, ClientError, transport::Payload};
use crate::{
    journal::{CreatePlan, HostJournal},
    recover::{Recover, Recovered},
    vm::CreateVm,
};

impl Client {
    /// Everything that was made on the host, or may have been.
    pub async fn host_journal(&self) -> Result<HostJournal, ClientError> {
        self.document(Method::GET, "/v1/host/journal", Payload::Empty)
            .await
    }

    /// Has again what lies on the disk and the daemon does not know.
    pub async fn recover(&self, request: Recover) -> Result<Recovered, ClientError> {
        self.document(Method::POST, "/v1/recover", Payload::json(&request))
            .await
    }

    /// What the creation of a VM would do.
    pub async fn plan_vm(&self, request: &CreateVm) -> Result<CreatePlan, ClientError> {
        self.document(Method::POST, "/v1/vms/plan", Payload::json(request))
            .await
    }
}
