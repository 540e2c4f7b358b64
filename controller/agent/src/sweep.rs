//! What carries our mark and has no object: found when the agent starts and now and then, and removed.
//!
//! An object that was deleted while this agent was away still has our finalizer and is retired as usual. What is swept
//! here is the rest: objects whose finalizer somebody took off by hand, moved to another host, or lost with the store.
//! Images are kept for a while after their last use, since whoever deletes one often makes it again.
//! Only directories of our own data directory and namespaces with our prefix are looked at; everything else is not ours.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crds::{Image, Port, TenantNetwork, VirtualMachine, Volume};
use kube::{Client, ResourceExt};

use crate::layout::{self, FileError, Layout, Owner};
use crate::network::cells::Cells;
use crate::network::error::Error as NetworkError;
use crate::network::hands::HostHands as NetworkHands;
use crate::network::routers::router_of;
use crate::running::Machines;
use crate::shelf::Shelf;
use crate::virtual_machine::state::State;
use control_loop::{Cache, sentence};

/// Grace for a guest without an object: somebody may still have its disk's last bytes in a cache.
const GRACE: Duration = Duration::from_secs(10);

/// All that is needed to sweep.
pub struct Sweeper {
    /// This host's machines.
    pub vms: Cache<VirtualMachine>,
    /// This host's volumes.
    pub volumes: Cache<Volume>,
    /// This host's ports.
    pub ports: Cache<Port>,
    /// This host's images.
    pub images: Cache<Image>,
    /// All networks.
    pub networks: Cache<TenantNetwork>,
    /// Realised networks.
    pub cells: Arc<Cells<NetworkHands>>,
    /// Running machines.
    pub machines: Arc<Machines>,
    /// Built images.
    pub shelf: Arc<Shelf>,
    /// Directories.
    pub layout: Layout,
    /// To ask the API itself before anything is removed.
    pub client: Client,
}

#[derive(Debug, thiserror::Error)]
enum ImagesError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Cache(#[from] host::image::Error),
}

impl Sweeper {
    /// Removes what has no object. A cache may lag, so the API is asked before a disk goes.
    pub async fn sweep(&self) {
        for failure in [self.sweep_machines().await, self.sweep_volumes().await].into_iter().filter_map(Result::err) {
            tracing::warn!(error = sentence(&failure), "failed to look for what has no object");
        }
        if let Err(failure) = self.sweep_images().await {
            tracing::warn!(error = sentence(&failure), "failed to look for images that nobody uses");
        }
        let machines_alone = || self.vms.all().iter().any(|vm| vm.spec.interfaces.is_empty());
        failed_to_remove(self.cells.sweep(|| self.needed_networks(), || self.needed_routers(), machines_alone).await);
    }

    /// Removes the networks and routers that no port here needs any more.
    pub async fn sweep_networks(&self) {
        failed_to_remove(self.cells.sweep_networks(|| self.needed_networks()).await);
        failed_to_remove(self.cells.sweep_routers(|| self.needed_routers()).await.into_iter().collect());
    }

    /// What an Image of this host was built as, and what lies below a machine's disk, stays.
    async fn sweep_images(&self) -> Result<(), ImagesError> {
        let mut keys: BTreeSet<String> =
            self.images.all().iter().filter_map(|image| image.status.as_ref()?.key.clone()).collect();
        for owner in layout::owned(&self.layout.vms())? {
            keys.extend(State::load(&self.layout.vm(&owner.uid))?.root);
        }
        Ok(self.shelf.keep(self.layout.root(), keys).await?)
    }

    fn needed_routers(&self) -> BTreeSet<String> {
        self.ports.all().iter().filter_map(|port| router_of(port)).collect()
    }

    fn needed_networks(&self) -> BTreeSet<String> {
        let ports = self.ports.all();
        let network = |port: &Arc<Port>| self.networks.get(&port.namespace().unwrap_or_default(), &port.spec.network);
        let mut needed: BTreeSet<String> =
            ports.iter().filter_map(network).filter_map(|network| network.uid()).collect();
        // Of a network whose object is gone, the name tells whether ports are left; when there is another of that name by now, the
        // namespace that a port says it is in.
        let left = |owner: &Owner| {
            let again = self.networks.get(&owner.namespace, &owner.name).is_some();
            let cell = self.cells.names().cell(&owner.uid);
            let is_in = |port: &Port| port.status.as_ref().and_then(|status| status.netns.as_ref()) == Some(&cell);
            let of_it = |port: &Port| port.spec.network == owner.name && (!again || is_in(port));
            !self.ports.pick(&owner.namespace, of_it).is_empty()
        };
        let owned = layout::owned(&self.layout.networks()).unwrap_or_default();
        needed.extend(owned.into_iter().filter(left).map(|owner| owner.uid));
        needed
    }

    async fn sweep_machines(&self) -> Result<(), FileError> {
        let here: BTreeSet<String> = self.vms.all().iter().filter_map(|vm| vm.uid()).collect();
        for owner in layout::owned(&self.layout.vms())?.into_iter().filter(|owner| !here.contains(&owner.uid)) {
            if self.is_there::<VirtualMachine>(&owner).await {
                continue;
            }
            tracing::info!(vm = owner.name, uid = owner.uid, "removing a machine that has no object");
            self.machines.forget(&owner.uid);
            let stopped = host::qemu::stop::stop(&self.layout.run_dir(&owner.uid), None, None, GRACE).await;
            match stopped {
                Ok(_) => layout::remove(&self.layout.vm(&owner.uid))?,
                Err(error) => tracing::warn!(
                    uid = owner.uid,
                    error = sentence(&error),
                    "failed to stop a machine that has no object"
                ),
            }
        }
        Ok(())
    }

    async fn sweep_volumes(&self) -> Result<(), FileError> {
        let here: BTreeSet<String> = self.volumes.all().iter().filter_map(|volume| volume.uid()).collect();
        for owner in layout::owned(&self.layout.volumes())?.into_iter().filter(|owner| !here.contains(&owner.uid)) {
            if !self.is_there::<Volume>(&owner).await {
                tracing::info!(volume = owner.name, uid = owner.uid, "removing a volume that has no object");
                layout::remove(&self.layout.volume(&owner.uid))?;
            }
        }
        Ok(())
    }

    /// Whether the object exists, on whatever host. In doubt it does: of another host's object the API says no more than
    /// that it is not ours, so what an object of the same name left here stays until that one is gone.
    async fn is_there<K: crate::objects::Stored>(&self, owner: &Owner) -> bool {
        if owner.name.is_empty() {
            return false;
        }
        let api = kube::Api::<K>::namespaced(self.client.clone(), &owner.namespace);
        match api.get_opt(&owner.name).await {
            Ok(found) => found.is_some_and(|object| object.meta().uid.as_deref() == Some(owner.uid.as_str())),
            Err(error) => {
                tracing::debug!(error = sentence(&error), "the API cannot be asked; nothing is removed");
                true
            }
        }
    }
}

fn failed_to_remove(failures: Vec<NetworkError>) {
    for failure in failures {
        tracing::warn!(error = sentence(&failure), "failed to remove a network that nothing needs");
    }
}
