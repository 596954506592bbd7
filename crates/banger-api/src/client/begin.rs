//! Long requests whose end nobody waits for: they begin, and go on as operations of the daemon.

use http::Method;

use super::{
    Client, ClientError,
    routes::{image_path, vm_path},
    transport::{Payload, read_document},
};
use crate::{
    image::{ImportImage, PullImage, RegisterImage},
    kernel::{ImportKernel, PullKernel},
    operation::{Operation, RESPOND_ASYNC},
    pool::CreatePool,
    snapshot::{CreateSnapshot, ForkVm, RestoreVm},
    vm::{CreateVm, StopVm},
};

/// What can go on without whoever asks for it. VMs and images are named as targets.
#[derive(Debug, Clone, Copy)]
pub enum Work<'a> {
    CreateVm(&'a CreateVm),
    StartVm(&'a str),
    RestartVm(&'a str, &'a StopVm),
    SnapshotVm(&'a str, &'a CreateSnapshot),
    RestoreVm(&'a str, &'a RestoreVm),
    ForkVm(&'a str, &'a ForkVm),
    CreatePool(&'a CreatePool),
    ImportImage(&'a ImportImage),
    PullImage(&'a PullImage),
    RegisterImage(&'a RegisterImage),
    PromoteImage(&'a str),
    PullKernel(&'a PullKernel),
    ImportKernel(&'a ImportKernel),
}

impl Work<'_> {
    fn request(self) -> (String, Payload) {
        match self {
            Self::CreateVm(request) => ("/v1/vms".to_owned(), Payload::json(request)),
            Self::StartVm(vm) => (vm_path(vm, "/start"), Payload::Empty),
            Self::RestartVm(vm, request) => (vm_path(vm, "/restart"), Payload::json(request)),
            Self::SnapshotVm(vm, request) => (vm_path(vm, "/snapshots"), Payload::json(request)),
            Self::RestoreVm(vm, request) => (vm_path(vm, "/restore"), Payload::json(request)),
            Self::ForkVm(vm, request) => (vm_path(vm, "/fork"), Payload::json(request)),
            Self::CreatePool(request) => ("/v1/pools".to_owned(), Payload::json(request)),
            Self::ImportImage(request) => ("/v1/images/import".to_owned(), Payload::json(request)),
            Self::PullImage(request) => ("/v1/images/pull".to_owned(), Payload::json(request)),
            Self::RegisterImage(request) => {
                ("/v1/images/register".to_owned(), Payload::json(request))
            }
            Self::PromoteImage(image) => (image_path(image, "/promote"), Payload::Empty),
            Self::PullKernel(request) => ("/v1/kernels/pull".to_owned(), Payload::json(request)),
            Self::ImportKernel(request) => {
                ("/v1/kernels/import".to_owned(), Payload::json(request))
            }
        }
    }
}

impl Client {
    /// Begins long work, and gives back the operation that it is.
    pub async fn begin(&self, work: Work<'_>) -> Result<Operation, ClientError> {
        let (path, payload) = work.request();
        let operation = format!("POST {path}");
        let sent = self.send_preferring(Method::POST, &path, payload, Some(RESPOND_ASYNC));
        read_document(sent.await?, &operation).await
    }
}
