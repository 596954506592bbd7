//! What a creation would do to the host, told before anything is done.

use super::{CreateRequest, Engine};
use crate::{error::Error, host::VmmChoice, journal::Act, name::VmId, spec::Network, vm};

/// What a creation would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    pub choice: VmmChoice,
    pub acts: Vec<Planned>,
}

/// A thing that would be fetched, or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Planned {
    /// The kernel of this name, or the image of this target, which is not here yet.
    Kernel(String),
    Image(String),
    Act(Act),
}

impl Engine {
    /// The acts of a creation, in their order. Its VM would have another id; nothing else differs.
    pub async fn preview(&self, request: &CreateRequest) -> Result<Preview, Error> {
        if let Some(name) = &request.name {
            self.refuse_taken(name)?;
        }
        if let Some(snapshot) = &request.snapshot {
            let (choice, network) = self.foresee_going_on(snapshot, request).await?;
            return self.planned(request, choice, network, Vec::new()).await;
        }
        let machine = match &request.pool {
            Some(pool) => self.machine_of_pool(pool, request)?,
            None => request.clone(),
        };
        let choice = self.surroundings.host.choose_vmm(machine.vmm).await?;
        if let Some(pool) = &request.pool
            && self.pool(pool)?.status.ready > 0
        {
            // All that it needs is there: it gets a name.
            let acts = vec![self.name_of(request)];
            return Ok(Preview { choice, acts });
        }
        let network = machine.network.unwrap_or(Network::User);
        let missing = self.missing(&machine)?;
        self.planned(request, choice, network, missing).await
    }

    async fn planned(
        &self,
        request: &CreateRequest,
        choice: VmmChoice,
        network: Network,
        mut acts: Vec<Planned>,
    ) -> Result<Preview, Error> {
        let places = self.surroundings.assembly.places(VmId::random());
        acts.push(self.name_of(request));
        acts.extend(vm::disk_acts(&places).map(Planned::Act));
        if request.start {
            let host = &self.surroundings.host;
            let launch = host.acts(&places, choice.vmm, network).await?;
            acts.extend(launch.into_iter().map(Planned::Act));
        }
        Ok(Preview { choice, acts })
    }

    fn name_of(&self, request: &CreateRequest) -> Planned {
        let name = request.name.clone();
        Planned::Act(Act::Vm(name.unwrap_or_else(|| self.free_name())))
    }

    /// The kernel and the image, where they would have to be fetched.
    fn missing(&self, request: &CreateRequest) -> Result<Vec<Planned>, Error> {
        let mut missing = Vec::new();
        let defaults = self.defaults();
        let kernel = request.kernel.as_ref();
        let kernel = self.kernels.choose(kernel, defaults.kernel.as_ref())?.name;
        let image = request.image.clone();
        let image = image.unwrap_or_else(|| defaults.image.clone().into());
        if !self.kernels.list()?.iter().any(|here| here.name == kernel) {
            missing.push(Planned::Kernel(kernel.to_string()));
        }
        match self.images.find(&image) {
            Ok(_) => {}
            Err(Error::NotFound { .. }) => missing.push(Planned::Image(image.to_string())),
            Err(error) => return Err(error),
        }
        Ok(missing)
    }
}
