//! What a VM boots from: its kernel, the initramfs for it and the agent, its image, its
//! disk. Knows where files are, not how a VMM is started.

use std::{path::PathBuf, sync::Arc};

use banger_image::{digest::Sha256, initramfs, kernel::Kernel};

use crate::{
    error::Error,
    host::{LaunchPlan, VmPlaces, VmmChoice},
    images::Images,
    journal::{Act, Ledger, Owner},
    kernels::Kernels,
    name::VmId,
    record::VmRecord,
    vm::Assemble,
};

/// The guest's agent, as it travels in every initramfs.
#[derive(Debug, Clone, Copy)]
pub struct AgentBinary {
    pub bytes: &'static [u8],
    pub digest: Sha256,
}

/// The stores that plans are made from.
#[derive(Debug)]
pub struct Assembly {
    pub kernels: Arc<Kernels>,
    pub images: Arc<Images>,
    pub agent: AgentBinary,
    pub ledger: Arc<Ledger>,
    /// Where initramfs archives are cached.
    pub initramfs_cache: PathBuf,
    /// Holds a directory per VM, durable.
    pub vms: PathBuf,
    /// Holds a directory per VM, gone after a reboot.
    pub runtime: PathBuf,
}

impl Assembly {
    /// Removes initramfs archives that an earlier daemon left half-made, or made for kernels and
    /// agents that are not there any more.
    pub(crate) fn sweep(&self) -> Result<(), Error> {
        let kernels = self.kernels.list()?;
        if let Err(error) = initramfs::sweep(&self.initramfs_cache, &kernels, self.agent.digest) {
            tracing::warn!(%error, "cannot sweep the initramfs cache");
        }
        self.strike_swept()
    }

    fn strike_swept(&self) -> Result<(), Error> {
        for row in self.ledger.rows()? {
            if matches!(&row.act, Act::Initramfs(path) if !path.exists()) {
                self.ledger.page(row.owner).journal().strike(&row.act)?;
            }
        }
        Ok(())
    }

    /// The archive that a VM with this kernel boots from. The journal has it before it is made.
    fn initramfs(&self, kernel: &Kernel) -> Result<PathBuf, Error> {
        let AgentBinary { bytes, digest } = self.agent;
        let cache = &self.initramfs_cache;
        let path = initramfs::path(kernel, digest, cache);
        if path.is_file() {
            return Ok(path);
        }
        let page = self
            .ledger
            .page(Owner::Kernel(kernel.manifest.name.clone()));
        let make = || Ok(initramfs::ensure(kernel, bytes, digest, cache)?);
        page.journal().act(&Act::Initramfs(path), make)
    }
}

impl Assemble for Assembly {
    fn plan(&self, vm: &VmRecord, choice: &VmmChoice) -> Result<LaunchPlan, Error> {
        let kernel = self.kernels.get(&vm.spec.kernel)?;
        let initramfs = self.initramfs(&kernel)?;
        Ok(LaunchPlan {
            places: self.places(vm.id),
            name: vm.name.clone(),
            vmm: choice.vmm,
            accelerator: choice.accelerator,
            timer_hz: kernel.timer_hz(),
            kernel: kernel.vmlinux,
            initramfs,
            kernel_args: kernel.manifest.cmdline.words().to_vec(),
            base: self.images.rootfs(&vm.spec.image)?,
            vcpus: vm.spec.vcpus,
            memory: vm.spec.memory,
            network: vm.spec.network,
            init: vm.spec.init.clone(),
            resume_from: None,
            yields: false,
        })
    }

    fn places(&self, id: VmId) -> VmPlaces {
        VmPlaces {
            id,
            state: self.vms.join(id.to_string()),
            // Socket paths are short of room: sun_path has 108 bytes (unix(7)).
            runtime: self.runtime.join(id.short()),
        }
    }
}
