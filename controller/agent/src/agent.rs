//! Wiring: which watch feeds which cache, who wakes whom, and what runs at once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crds::{Fault, Image, Port, TenantNetwork, VirtualMachine, Volume};
use host::netns::Namespaces;
use host::qemu::accelerator::{self, Verdict};
use kube::runtime::reflector::store::Writer;
use kube::{Api, Client, ResourceExt};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::door::{self, Door, Lookup};
use crate::engine::{self, Cache, Kind, Queue, Requests, queue, watch};
use crate::fault::Faults;
use crate::image::Images;
use crate::image::library::Library;
use crate::layout::{FileError, Layout};
use crate::names::Names;
use crate::network::cells::Cells;
use crate::network::{Ports, hands as network};
use crate::objects::Objects;
use crate::registration::{self, Registration, observe_capabilities};
use crate::sweep::Sweeper;
use crate::taps::Taps;
use crate::user_ids::{self, UserIds};
use crate::virtual_machine::VirtualMachines;
use crate::virtual_machine::apply::{self, SERIAL_LOG_LIMIT};
use crate::virtual_machine::machines::Machines;
use crate::virtual_machine::resolve::References;
use crate::volume::Volumes;

/// Between two looks at everything, whatever the events said.
const RESYNC: Duration = Duration::from_secs(300);
/// Between two looks at the length of the serial logs.
const ROTATE: Duration = Duration::from_secs(60);

/// Who this agent is and where it works.
pub struct AgentOptions {
    /// The host's name; also a name in `identity`'s certificate.
    pub host_name: String,
    /// The instance's id: what separates its names on this machine from another instance's.
    pub instance: String,
    /// The API.
    pub client: Client,
    /// Directory of machines, volumes and networks.
    pub data_dir: PathBuf,
    /// Directory of built images, which outlives the rest; below `data_dir` when none.
    pub image_cache: Option<PathBuf>,
    /// Where the door shall listen.
    pub listen: SocketAddr,
    /// The agent's certificate and key.
    pub identity: pki::Identity,
    /// Who signed the API server's certificate.
    pub ca_pem: String,
}

/// The agent could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not root.
    #[error("the agent needs root to make networks and machines: run it as root, or start without an agent")]
    NotRoot,
    /// The data directory.
    #[error(transparent)]
    File(#[from] FileError),
    /// User ids.
    #[error(transparent)]
    UserIds(#[from] user_ids::Error),
    /// The image cache.
    #[error("failed to open the image cache")]
    Images(#[from] host::image::Error),
    /// The door.
    #[error(transparent)]
    Door(#[from] door::Error),
}

/// One host's agent.
pub struct Agent;

impl Agent {
    /// Runs until `shutdown`. Machines and networks go on without us.
    pub async fn run(options: AgentOptions, shutdown: CancellationToken) -> Result<(), Error> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        let door = Door::open(options.listen, &options.identity, &options.ca_pem).await?;
        let layout =
            Layout::new(&options.data_dir).map_err(|source| FileError::new("resolve", &options.data_dir, source))?;
        layout.create()?;
        let verdict = accelerator::detect(&layout.accelerator(), None).await;
        tracing::info!(accelerator = %verdict.accelerator, reason = verdict.reason, "accelerator chosen");
        let house = House::build(&options, layout, verdict.clone()).await?;
        let registration = Registration {
            host: options.host_name.clone(),
            endpoint: door.address.to_string(),
            capabilities: observe_capabilities(&verdict).await,
        };
        house.run(options, door, registration, shutdown).await;
        Ok(())
    }
}

/// One kind: its cache, its queue.
struct Room<K: Kind> {
    cache: Cache<K>,
    writer: Writer<K>,
    queue: Queue<K>,
    requests: Requests<K>,
}

impl<K: Kind> Room<K> {
    fn new() -> Self {
        let (cache, writer) = Cache::new();
        let (queue, requests) = queue();
        Self { cache, writer, queue, requests }
    }
}

/// Everything, before it runs.
struct House {
    layout: Layout,
    objects: Arc<Objects>,
    machines: Arc<Machines>,
    library: Arc<Library>,
    cells: Arc<Cells<network::HostHands>>,
    hands: apply::HostHands,
    vms: Room<VirtualMachine>,
    ports: Room<Port>,
    volumes: Room<Volume>,
    images: Room<Image>,
    faults: Room<Fault>,
    networks: (Cache<TenantNetwork>, Writer<TenantNetwork>),
}

impl House {
    async fn build(options: &AgentOptions, layout: Layout, accelerator: Verdict) -> Result<House, Error> {
        let names = Names::new(&options.instance, &options.host_name);
        let user_ids = Arc::new(UserIds::load(&layout.user_ids(), names.first_id())?);
        let cache_dir = options.image_cache.clone().unwrap_or_else(|| layout.images());
        let builder = host::image::Builder::open(host::image::Options::new(cache_dir)).await?;
        let taps = Arc::new(Taps::default());
        let machines = Arc::new(Machines::default());
        let (vms, ports) = (Room::new(), Room::new());
        let network_hands = network::HostHands {
            layout: layout.clone(),
            namespaces: Namespaces::default(),
            taps: taps.clone(),
            user_ids: user_ids.clone(),
            doors: network::Doors::default(),
        };
        let cells = Arc::new(Cells::new(network_hands, names.clone(), layout.clone(), ports.queue.clone()));
        let hands = apply::HostHands {
            layout: layout.clone(),
            names,
            namespaces: Namespaces::default(),
            taps,
            user_ids,
            machines: machines.clone(),
            accelerator,
            queue: vms.queue.clone(),
            ports: ports.queue.clone(),
        };
        Ok(House {
            objects: Arc::new(Objects::new(options.client.clone(), &options.host_name)),
            library: Arc::new(Library::new(builder)),
            layout,
            machines,
            cells,
            hands,
            vms,
            ports,
            volumes: Room::new(),
            images: Room::new(),
            faults: Room::new(),
            networks: Cache::new(),
        })
    }

    async fn run(self, options: AgentOptions, door: Door, registration: Registration, shutdown: CancellationToken) {
        let mut tasks = JoinSet::new();
        let client = options.client.clone();
        let (networks, networks_writer) = self.networks;
        let wakers = Wakers {
            vms: (self.vms.cache.clone(), self.vms.queue.clone()),
            ports: (self.ports.cache.clone(), self.ports.queue.clone()),
            volumes: (self.volumes.cache.clone(), self.volumes.queue.clone()),
            images: (self.images.cache.clone(), self.images.queue.clone()),
            faults: (self.faults.cache.clone(), self.faults.queue.clone()),
        };
        let wakers = Arc::new(wakers);
        // Watches.
        let fields = Some(format!("spec.host={}", options.host_name));
        let w = wakers.clone();
        tasks.spawn(watch(
            Api::all(client.clone()),
            fields.clone(),
            self.vms.writer,
            Some(self.vms.queue.clone()),
            move |vm| w.vm(vm),
            shutdown.clone(),
        ));
        let w = wakers.clone();
        tasks.spawn(watch(
            Api::all(client.clone()),
            fields.clone(),
            self.ports.writer,
            Some(self.ports.queue.clone()),
            move |port| w.port(port),
            shutdown.clone(),
        ));
        let w = wakers.clone();
        tasks.spawn(watch(
            Api::all(client.clone()),
            fields.clone(),
            self.volumes.writer,
            Some(self.volumes.queue.clone()),
            move |volume| w.volume(volume),
            shutdown.clone(),
        ));
        let w = wakers.clone();
        tasks.spawn(watch(
            Api::all(client.clone()),
            fields.clone(),
            self.images.writer,
            Some(self.images.queue.clone()),
            move |image| w.image(image),
            shutdown.clone(),
        ));
        tasks.spawn(watch(
            Api::all(client.clone()),
            fields,
            self.faults.writer,
            Some(self.faults.queue.clone()),
            |_| {},
            shutdown.clone(),
        ));
        let w = wakers.clone();
        tasks.spawn(watch(
            Api::all(client.clone()),
            None,
            networks_writer,
            None,
            move |network| w.network(network),
            shutdown.clone(),
        ));
        // Judges, once every cache has its first list: before that, everything would seem to be missing.
        let ports = Ports {
            objects: self.objects.clone(),
            ports: self.ports.cache.clone(),
            networks: networks.clone(),
            machines: self.vms.cache.clone(),
            cells: self.cells.clone(),
        };
        let references = References {
            images: self.images.cache.clone(),
            ports: self.ports.cache.clone(),
            volumes: self.volumes.cache.clone(),
            networks: networks.clone(),
            library: self.library.clone(),
            layout: self.layout.clone(),
        };
        let vms = VirtualMachines { objects: self.objects.clone(), references, hands: self.hands };
        let volumes =
            Volumes { objects: self.objects.clone(), machines: self.vms.cache.clone(), layout: self.layout.clone() };
        let images = Images::new(self.objects.clone(), self.images.cache.clone(), self.library);
        let faults = Faults {
            objects: self.objects.clone(),
            vms: self.vms.cache.clone(),
            machines: self.machines.clone(),
            layout: self.layout.clone(),
        };
        let lookup = Lookup {
            vms: self.vms.cache.clone(),
            ports: self.ports.cache.clone(),
            machines: self.machines.clone(),
            layout: self.layout.clone(),
        };
        tasks.spawn(door.serve(lookup, shutdown.clone()));
        tasks.spawn(registration::keep(client.clone(), registration, shutdown.clone()));
        let all_heard = async {
            futures::join!(
                self.vms.cache.ready(),
                self.ports.cache.ready(),
                self.volumes.cache.ready(),
                self.images.cache.ready(),
                self.faults.cache.ready(),
                networks.ready()
            );
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = all_heard => {
                tasks.spawn(engine::run(ports, self.ports.cache.clone(), self.ports.queue, self.ports.requests, 64, shutdown.clone()));
                tasks.spawn(engine::run(volumes, self.volumes.cache.clone(), self.volumes.queue, self.volumes.requests, 8, shutdown.clone()));
                tasks.spawn(engine::run(images, self.images.cache.clone(), self.images.queue, self.images.requests, 64, shutdown.clone()));
                tasks.spawn(engine::run(vms, self.vms.cache.clone(), self.vms.queue, self.vms.requests, 16, shutdown.clone()));
                tasks.spawn(engine::run(faults, self.faults.cache.clone(), self.faults.queue, self.faults.requests, 16, shutdown.clone()));
                let sweeper = Sweeper {
                    vms: self.vms.cache.clone(),
                    volumes: self.volumes.cache.clone(),
                    ports: self.ports.cache.clone(),
                    networks,
                    cells: self.cells,
                    machines: self.machines,
                    layout: self.layout.clone(),
                    client,
                };
                tasks.spawn(resync(sweeper, wakers, shutdown.clone()));
                tasks.spawn(rotate_logs(self.vms.cache, self.layout, shutdown.clone()));
            }
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!(%error, "a part of the agent panicked; this is a bug, please report it");
                shutdown.cancel();
            }
        }
    }
}

/// Who looks at whom.
struct Wakers {
    vms: (Cache<VirtualMachine>, Queue<VirtualMachine>),
    ports: (Cache<Port>, Queue<Port>),
    volumes: (Cache<Volume>, Queue<Volume>),
    images: (Cache<Image>, Queue<Image>),
    faults: (Cache<Fault>, Queue<Fault>),
}

impl Wakers {
    /// A deleted port or volume may wait for the machine, a fault for its running.
    fn vm(&self, vm: &VirtualMachine) {
        let namespace = vm.namespace().unwrap_or_default();
        for interface in &vm.spec.interfaces {
            let going = self.ports.0.get(&namespace, &interface.port);
            if going.is_some_and(|port| port.metadata.deletion_timestamp.is_some()) {
                self.ports.1.wake_named(&namespace, &interface.port);
            }
        }
        for mount in &vm.spec.volumes {
            let going = self.volumes.0.get(&namespace, &mount.volume);
            if going.is_some_and(|volume| volume.metadata.deletion_timestamp.is_some()) {
                self.volumes.1.wake_named(&namespace, &mount.volume);
            }
        }
        let name = vm.name_any();
        for fault in self.faults.0.pick(&namespace, |fault| fault.spec.target.name == name) {
            self.faults.1.wake_named(&namespace, &fault.name_any());
        }
    }

    fn wake_vms(&self, namespace: &str, concerned: impl Fn(&VirtualMachine) -> bool) {
        for vm in self.vms.0.pick(namespace, concerned) {
            self.vms.1.wake_named(namespace, &vm.name_any());
        }
    }

    fn port(&self, port: &Port) {
        let name = port.name_any();
        self.wake_vms(&port.namespace().unwrap_or_default(), |vm| {
            vm.spec.interfaces.iter().any(|interface| interface.port == name)
        });
    }

    fn volume(&self, volume: &Volume) {
        let name = volume.name_any();
        self.wake_vms(&volume.namespace().unwrap_or_default(), |vm| {
            vm.spec.volumes.iter().any(|mount| mount.volume == name)
        });
    }

    fn image(&self, image: &Image) {
        let (namespace, name) = (image.namespace().unwrap_or_default(), image.name_any());
        self.wake_vms(&namespace, |vm| vm.spec.image == name);
        let rests_on = |other: &Image| other.spec.layer.as_ref().is_some_and(|layer| layer.image == name);
        for layer in self.images.0.pick(&namespace, rests_on) {
            self.images.1.wake_named(&namespace, &layer.name_any());
        }
    }

    fn network(&self, network: &TenantNetwork) {
        let (namespace, name) = (network.namespace().unwrap_or_default(), network.name_any());
        for port in self.ports.0.pick(&namespace, |port| port.spec.network == name) {
            self.ports.1.wake_named(&namespace, &port.name_any());
        }
    }

    fn everything(&self) {
        fn all<K: Kind>(room: &(Cache<K>, Queue<K>)) {
            for object in room.0.all() {
                room.1.wake(kube::runtime::reflector::ObjectRef::from_obj(&*object));
            }
        }
        all(&self.vms);
        all(&self.ports);
        all(&self.volumes);
        all(&self.images);
        all(&self.faults);
    }
}

/// The safety net: sweeps at once, then looks at everything now and then.
async fn resync(sweeper: Sweeper, wakers: Arc<Wakers>, shutdown: CancellationToken) {
    let mut clock = tokio::time::interval(RESYNC);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = clock.tick() => {}
        }
        sweeper.sweep().await;
        wakers.everything();
    }
}

/// Keeps serial logs from filling the disk.
async fn rotate_logs(vms: Cache<VirtualMachine>, layout: Layout, shutdown: CancellationToken) {
    let mut clock = tokio::time::interval(ROTATE);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = clock.tick() => {}
        }
        for vm in vms.all() {
            let run_dir = layout.run_dir(&vm.uid().unwrap_or_default());
            let rotated =
                tokio::task::spawn_blocking(move || host::qemu::serial_log::rotate(&run_dir, SERIAL_LOG_LIMIT));
            if let Ok(Err(error)) = rotated.await {
                tracing::warn!(vm = vm.name_any(), %error, "failed to rotate a serial log");
            }
        }
    }
}
