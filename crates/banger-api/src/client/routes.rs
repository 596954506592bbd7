//! The routes, by name.

use bytes::Bytes;
use futures_util::Stream;
use http::Method;

use super::{
    BodyStream, Client, ClientError, Documents,
    transport::{Payload, chunks},
};
use crate::{
    cache::{ImageCache, PruneCache, PrunedCache},
    catalog::{AddCatalog, AvailableImage, Catalog, GenerateKey, GeneratedKey, Publish, Published},
    daemon::{DaemonStatus, Reloaded},
    df::DiskUsage,
    doctor::{Check, Mended},
    event::{Event, EventQuery},
    image::{Image, ImportImage, Login, LoginState, Logout, PullImage, PulledImage, RegisterImage},
    kernel::{AvailableKernel, ImportKernel, Kernel, PullKernel},
    pool::{ChangePool, CreatePool, Pool},
    progress::Step,
    snapshot::{CreateSnapshot, ForkVm, Forked, RestoreVm, Snapshot},
    usage::{VmPorts, VmStats},
    vm::{ChangeVm, CreateVm, DeleteVm, LogQuery, RenameVm, StopVm, Vm, VmBrief, WaitFor, Waited},
};

impl Client {
    pub async fn daemon(&self) -> Result<DaemonStatus, ClientError> {
        self.document(Method::GET, "/v1/daemon", Payload::Empty)
            .await
    }

    /// Asks the daemon to end; VMs go on.
    pub async fn shutdown_daemon(&self) -> Result<(), ClientError> {
        self.act(Method::POST, "/v1/daemon/shutdown", Payload::Empty)
            .await
    }

    /// Has the daemon take up its configuration, as far as it can while it serves.
    pub async fn reload_daemon(&self) -> Result<Reloaded, ClientError> {
        self.document(Method::POST, "/v1/daemon/reload", Payload::Empty)
            .await
    }

    pub async fn openapi(&self) -> Result<serde_json::Value, ClientError> {
        self.document(Method::GET, "/v1/openapi.json", Payload::Empty)
            .await
    }

    pub async fn doctor(&self) -> Result<Vec<Check>, ClientError> {
        self.document(Method::GET, "/v1/doctor", Payload::Empty)
            .await
    }

    /// Mends what can be mended of what `doctor` tells.
    pub async fn mend(&self) -> Result<Vec<Mended>, ClientError> {
        self.document(Method::POST, "/v1/doctor/fix", Payload::Empty)
            .await
    }

    pub async fn vms(&self) -> Result<Vec<Vm>, ClientError> {
        self.document(Method::GET, "/v1/vms", Payload::Empty).await
    }

    /// All VMs, in brief.
    pub async fn overview(&self) -> Result<Vec<VmBrief>, ClientError> {
        self.document(Method::GET, "/v1/overview", Payload::Empty)
            .await
    }

    pub async fn vm(&self, target: &str) -> Result<Vm, ClientError> {
        self.document(Method::GET, &vm_path(target, ""), Payload::Empty)
            .await
    }

    /// What takes room on the host's disk.
    pub async fn disk_usage(&self) -> Result<DiskUsage, ClientError> {
        self.document(Method::GET, "/v1/df", Payload::Empty).await
    }

    /// What happened, in order; with `follow` it goes on until the daemon or a filtered VM ends.
    pub async fn events(&self, query: &EventQuery) -> Result<Documents<Event>, ClientError> {
        let mut path = format!("/v1/events?follow={}", query.follow);
        if let Some(since) = &query.since {
            path.push_str(&format!("&since={}", segment(since)));
        }
        if let Some(vm) = &query.vm {
            path.push_str(&format!("&vm={}", segment(vm)));
        }
        if let Some(tail) = query.tail {
            path.push_str(&format!("&tail={tail}"));
        }
        let response = self.send(Method::GET, &path, Payload::Empty).await?;
        Ok(Documents::new(response, format!("GET {path}")))
    }

    /// Makes a VM, and starts it when asked to.
    pub async fn create_vm(
        &self,
        request: &CreateVm,
        on_step: impl FnMut(Step),
    ) -> Result<Vm, ClientError> {
        self.follow(Method::POST, "/v1/vms", Payload::json(request), on_step)
            .await
    }

    pub async fn start_vm(
        &self,
        target: &str,
        on_step: impl FnMut(Step),
    ) -> Result<Vm, ClientError> {
        self.follow(
            Method::POST,
            &vm_path(target, "/start"),
            Payload::Empty,
            on_step,
        )
        .await
    }

    /// Stops a VM gracefully. Carried through also when this future is dropped.
    pub async fn stop_vm(&self, target: &str, request: &StopVm) -> Result<Vm, ClientError> {
        self.document(
            Method::POST,
            &vm_path(target, "/stop"),
            Payload::json(request),
        )
        .await
    }

    /// Stops a VM and starts it again. The stop is carried through also when this future is
    /// dropped.
    pub async fn restart_vm(
        &self,
        target: &str,
        request: &StopVm,
        on_step: impl FnMut(Step),
    ) -> Result<Vm, ClientError> {
        let path = vm_path(target, "/restart");
        self.follow(Method::POST, &path, Payload::json(request), on_step)
            .await
    }

    /// Ends a VM at once.
    pub async fn kill_vm(&self, target: &str) -> Result<Vm, ClientError> {
        self.document(Method::POST, &vm_path(target, "/kill"), Payload::Empty)
            .await
    }

    /// Gives a VM another name.
    pub async fn rename_vm(&self, target: &str, request: &RenameVm) -> Result<Vm, ClientError> {
        let path = vm_path(target, "/rename");
        self.document(Method::POST, &path, Payload::json(request))
            .await
    }

    /// Makes a VM of something else from its next start on.
    pub async fn change_vm(&self, target: &str, request: &ChangeVm) -> Result<Vm, ClientError> {
        let path = vm_path(target, "");
        self.document(Method::PATCH, &path, Payload::json(request))
            .await
    }

    /// Waits for a VM, however long that takes; nothing if it is deleted.
    pub async fn wait_vm(&self, target: &str, wanted: WaitFor) -> Result<Option<Vm>, ClientError> {
        let wanted = match wanted {
            WaitFor::Stopped => "stopped",
            WaitFor::Running => "running",
            WaitFor::Deleted => "deleted",
        };
        let path = vm_path(target, &format!("/wait?for={wanted}"));
        let waited: Waited = self.document(Method::GET, &path, Payload::Empty).await?;
        Ok(waited.vm)
    }

    /// Makes a VM stand still.
    pub async fn pause_vm(&self, target: &str) -> Result<Vm, ClientError> {
        self.document(Method::POST, &vm_path(target, "/pause"), Payload::Empty)
            .await
    }

    /// Lets a paused VM go on.
    pub async fn resume_vm(&self, target: &str) -> Result<Vm, ClientError> {
        self.document(Method::POST, &vm_path(target, "/resume"), Payload::Empty)
            .await
    }

    /// Deletes a VM. Carried through also when this future is dropped.
    pub async fn delete_vm(&self, target: &str, query: DeleteVm) -> Result<(), ClientError> {
        let path = format!("{}?force={}", vm_path(target, ""), query.force);
        self.act(Method::DELETE, &path, Payload::Empty).await
    }

    /// What a VM uses now.
    pub async fn vm_stats(&self, target: &str) -> Result<VmStats, ClientError> {
        self.document(Method::GET, &vm_path(target, "/stats"), Payload::Empty)
            .await
    }

    /// What listens in a VM.
    pub async fn vm_ports(&self, target: &str) -> Result<VmPorts, ClientError> {
        self.document(Method::GET, &vm_path(target, "/ports"), Payload::Empty)
            .await
    }

    pub async fn snapshots(&self) -> Result<Vec<Snapshot>, ClientError> {
        self.document(Method::GET, "/v1/snapshots", Payload::Empty)
            .await
    }

    pub async fn snapshot(&self, name: &str) -> Result<Snapshot, ClientError> {
        self.document(Method::GET, &snapshot_path(name), Payload::Empty)
            .await
    }

    pub async fn delete_snapshot(&self, name: &str) -> Result<(), ClientError> {
        self.act(Method::DELETE, &snapshot_path(name), Payload::Empty)
            .await
    }

    /// Saves a VM that runs.
    pub async fn create_snapshot(
        &self,
        target: &str,
        request: &CreateSnapshot,
        on_step: impl FnMut(Step),
    ) -> Result<Snapshot, ClientError> {
        let path = vm_path(target, "/snapshots");
        self.follow(Method::POST, &path, Payload::json(request), on_step)
            .await
    }

    pub async fn pools(&self) -> Result<Vec<Pool>, ClientError> {
        self.document(Method::GET, "/v1/pools", Payload::Empty)
            .await
    }

    pub async fn pool(&self, name: &str) -> Result<Pool, ClientError> {
        self.document(Method::GET, &pool_path(name), Payload::Empty)
            .await
    }

    pub async fn create_pool(
        &self,
        request: &CreatePool,
        on_step: impl FnMut(Step),
    ) -> Result<Pool, ClientError> {
        self.follow(Method::POST, "/v1/pools", Payload::json(request), on_step)
            .await
    }

    /// Changes how many machines of a pool are to be ready. Carried through also when this future is
    /// dropped.
    pub async fn change_pool(&self, name: &str, request: &ChangePool) -> Result<Pool, ClientError> {
        self.document(Method::PATCH, &pool_path(name), Payload::json(request))
            .await
    }

    /// Carried through also when this future is dropped.
    pub async fn delete_pool(&self, name: &str) -> Result<(), ClientError> {
        self.act(Method::DELETE, &pool_path(name), Payload::Empty)
            .await
    }

    /// Takes a VM back to a snapshot of its own.
    pub async fn restore_vm(
        &self,
        target: &str,
        request: &RestoreVm,
        on_step: impl FnMut(Step),
    ) -> Result<Vm, ClientError> {
        let path = vm_path(target, "/restore");
        self.follow(Method::POST, &path, Payload::json(request), on_step)
            .await
    }

    /// Copies a VM that runs.
    pub async fn fork_vm(
        &self,
        target: &str,
        request: &ForkVm,
        on_step: impl FnMut(Step),
    ) -> Result<Forked, ClientError> {
        let path = vm_path(target, "/fork");
        self.follow(Method::POST, &path, Payload::json(request), on_step)
            .await
    }

    /// A log's bytes; they come from the guest and may hold anything.
    pub async fn vm_logs(&self, target: &str, query: LogQuery) -> Result<BodyStream, ClientError> {
        let (kind, follow) = (query.kind.as_str(), query.follow);
        let logs = vm_path(target, "/logs");
        let mut path = format!("{logs}?kind={kind}&follow={follow}");
        if let Some(tail) = query.tail {
            path.push_str(&format!("&tail={tail}"));
        }
        let response = self.send(Method::GET, &path, Payload::Empty).await?;
        Ok(chunks(response, format!("GET {path}")))
    }

    pub async fn images(&self) -> Result<Vec<Image>, ClientError> {
        self.document(Method::GET, "/v1/images", Payload::Empty)
            .await
    }

    pub async fn image(&self, name: &str) -> Result<Image, ClientError> {
        self.document(Method::GET, &image_path(name, ""), Payload::Empty)
            .await
    }

    pub async fn delete_image(&self, name: &str) -> Result<(), ClientError> {
        self.act(Method::DELETE, &image_path(name, ""), Payload::Empty)
            .await
    }

    /// Makes an image of a tar file that the daemon can read.
    pub async fn import_image(
        &self,
        request: &ImportImage,
        on_step: impl FnMut(Step),
    ) -> Result<Image, ClientError> {
        self.follow(
            Method::POST,
            "/v1/images/import",
            Payload::json(request),
            on_step,
        )
        .await
    }

    /// Makes an image of a tar that the client sends.
    pub async fn upload_image(
        &self,
        name: &str,
        tar: impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
        on_step: impl FnMut(Step),
    ) -> Result<Image, ClientError> {
        let payload = Payload::Stream(Box::pin(tar));
        self.follow(Method::PUT, &image_path(name, "/tar"), payload, on_step)
            .await
    }

    /// Makes an image of the catalog, or of a reference.
    pub async fn pull_image(
        &self,
        request: &PullImage,
        on_step: impl FnMut(Step),
    ) -> Result<PulledImage, ClientError> {
        self.follow(
            Method::POST,
            "/v1/images/pull",
            Payload::json(request),
            on_step,
        )
        .await
    }

    /// Makes a file of this host an image, as it is.
    pub async fn register_image(
        &self,
        request: &RegisterImage,
        on_step: impl FnMut(Step),
    ) -> Result<Image, ClientError> {
        let payload = Payload::json(request);
        self.follow(Method::POST, "/v1/images/register", payload, on_step)
            .await
    }

    /// Copies a registered image's file into banger's own store.
    pub async fn promote_image(
        &self,
        name: &str,
        on_step: impl FnMut(Step),
    ) -> Result<Image, ClientError> {
        let path = image_path(name, "/promote");
        self.follow(Method::POST, &path, Payload::Empty, on_step)
            .await
    }

    /// What earlier pulls left for later ones.
    pub async fn image_cache(&self) -> Result<ImageCache, ClientError> {
        self.document(Method::GET, "/v1/image-cache", Payload::Empty)
            .await
    }

    /// Removes what was not used for longest.
    pub async fn prune_image_cache(&self, request: PruneCache) -> Result<PrunedCache, ClientError> {
        let payload = Payload::json(&request);
        self.document(Method::POST, "/v1/image-cache/prune", payload)
            .await
    }

    /// Keeps credentials for a registry, if it takes them.
    pub async fn login(&self, request: &Login) -> Result<LoginState, ClientError> {
        let payload = Payload::json(request);
        self.document(Method::POST, "/v1/registries/login", payload)
            .await
    }

    /// Forgets the credentials for a registry.
    pub async fn logout(&self, request: &Logout) -> Result<LoginState, ClientError> {
        let payload = Payload::json(request);
        self.document(Method::POST, "/v1/registries/logout", payload)
            .await
    }

    /// What can be pulled by name, as far as the daemon knows.
    pub async fn available_images(&self) -> Result<Vec<AvailableImage>, ClientError> {
        self.document(Method::GET, "/v1/images/available", Payload::Empty)
            .await
    }

    /// Puts an image into a directory for others.
    pub async fn publish_image(
        &self,
        name: &str,
        request: &Publish,
        on_step: impl FnMut(Step),
    ) -> Result<Published, ClientError> {
        let path = image_path(name, "/publish");
        self.follow(Method::POST, &path, Payload::json(request), on_step)
            .await
    }

    /// Puts a kernel into a directory for others.
    pub async fn publish_kernel(
        &self,
        name: &str,
        request: &Publish,
        on_step: impl FnMut(Step),
    ) -> Result<Published, ClientError> {
        let path = format!("{}/publish", kernel_path(name));
        self.follow(Method::POST, &path, Payload::json(request), on_step)
            .await
    }

    pub async fn catalogs(&self) -> Result<Vec<Catalog>, ClientError> {
        self.document(Method::GET, "/v1/catalogs", Payload::Empty)
            .await
    }

    /// Has all catalogs read anew.
    pub async fn refresh_catalogs(&self) -> Result<Vec<Catalog>, ClientError> {
        self.document(Method::POST, "/v1/catalogs/refresh", Payload::Empty)
            .await
    }

    pub async fn add_catalog(&self, request: &AddCatalog) -> Result<Catalog, ClientError> {
        self.document(Method::POST, "/v1/catalogs", Payload::json(request))
            .await
    }

    pub async fn remove_catalog(&self, name: &str) -> Result<(), ClientError> {
        let path = format!("/v1/catalogs/{}", segment(name));
        self.act(Method::DELETE, &path, Payload::Empty).await
    }

    pub async fn generate_key(&self, request: &GenerateKey) -> Result<GeneratedKey, ClientError> {
        self.document(Method::POST, "/v1/catalogs/keys", Payload::json(request))
            .await
    }

    pub async fn kernels(&self) -> Result<Vec<Kernel>, ClientError> {
        self.document(Method::GET, "/v1/kernels", Payload::Empty)
            .await
    }

    pub async fn available_kernels(&self) -> Result<Vec<AvailableKernel>, ClientError> {
        self.document(Method::GET, "/v1/kernels/available", Payload::Empty)
            .await
    }

    pub async fn kernel(&self, name: &str) -> Result<Kernel, ClientError> {
        self.document(Method::GET, &kernel_path(name), Payload::Empty)
            .await
    }

    pub async fn delete_kernel(&self, name: &str) -> Result<(), ClientError> {
        self.act(Method::DELETE, &kernel_path(name), Payload::Empty)
            .await
    }

    pub async fn pull_kernel(
        &self,
        request: &PullKernel,
        on_step: impl FnMut(Step),
    ) -> Result<Kernel, ClientError> {
        self.follow(
            Method::POST,
            "/v1/kernels/pull",
            Payload::json(request),
            on_step,
        )
        .await
    }

    pub async fn import_kernel(
        &self,
        request: &ImportKernel,
        on_step: impl FnMut(Step),
    ) -> Result<Kernel, ClientError> {
        self.follow(
            Method::POST,
            "/v1/kernels/import",
            Payload::json(request),
            on_step,
        )
        .await
    }
}

pub(super) fn vm_path(target: &str, rest: &str) -> String {
    format!("/v1/vms/{}{rest}", segment(target))
}

fn snapshot_path(name: &str) -> String {
    format!("/v1/snapshots/{}", segment(name))
}

fn pool_path(name: &str) -> String {
    format!("/v1/pools/{}", segment(name))
}

pub(super) fn image_path(name: &str, rest: &str) -> String {
    format!("/v1/images/{}{rest}", segment(name))
}

fn kernel_path(name: &str) -> String {
    format!("/v1/kernels/{}", segment(name))
}

/// Percent-encodes a path segment (RFC 3986): whatever was typed stays one segment.
fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        // A segment of dots alone would be resolved away, so dots are encoded too.
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_typed_stays_one_segment() {
        assert_eq!(vm_path("calm-otter", "/stop"), "/v1/vms/calm-otter/stop");
        assert_eq!(vm_path("../images", ""), "/v1/vms/%2E%2E%2Fimages");
        assert_eq!(image_path("ä?b", ""), "/v1/images/%C3%A4%3Fb");
    }
}
