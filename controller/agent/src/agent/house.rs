//! Wiring: which watch feeds which cache, who judges, and what runs at once.

use std::collections::HashMap;
use std::sync::Arc;

use crds::load_balancer::judge::is_lost;
use host::netns::Namespaces;
use host::qemu::accelerator::Verdict;
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::rooms::{AllEnds, Ends, Room, Rooms, rooms};
use super::{AgentOptions, Error, clock};
use crate::dns::Tenants;
use crate::door::{Captures, Door, Lookup};
use crate::fault::Faults;
use crate::image::Images;
use crate::layout::Layout;
use crate::names::Names;
use crate::network::cells::Cells;
use crate::network::certificates::Certificates;
use crate::network::doors::Doors;
use crate::network::drains::Drains;
use crate::network::groups::Ability;
use crate::network::health::Health;
use crate::network::peers::Peers;
use crate::network::{PACE, Ports, hands as network};
use crate::node_door::NodeDoors;
use crate::objects::Objects;
use crate::outside::Outside;
use crate::registration::{self, Registration};
use crate::running::Machines;
use crate::shelf::Shelf;
use crate::sweep::Sweeper;
use crate::taps::Taps;
use crate::tenure::Tenure;
use crate::underlay::Underlay;
use crate::user_ids::UserIds;
use crate::virtual_machine::VirtualMachines;
use crate::virtual_machine::apply;
use crate::virtual_machine::resolve::References;
use crate::volume::Volumes;
use control_loop::{Kind, Pace, Queue, Reconciler, Requests, Writer, watch};

/// Reconciles of one kind that may run at once. Image builds bound themselves more tightly.
const MANY: Pace = Pace::at_once(64);
const MACHINES: Pace = Pace::at_once(16);
const FEW: Pace = Pace::at_once(8);

/// Everything, before it runs.
pub(super) struct House {
    layout: Layout,
    objects: Arc<Objects>,
    machines: Arc<Machines>,
    shelf: Arc<Shelf>,
    cells: Arc<Cells<network::HostHands>>,
    hands: apply::HostHands,
    rooms: Rooms,
    ends: AllEnds,
    health: Arc<Health>,
    tenure: Arc<Tenure>,
    host: String,
    ability: Ability,
}

impl House {
    pub(super) async fn build(
        options: &AgentOptions,
        layout: Layout,
        accelerator: Verdict,
        underlay: Arc<Underlay>,
        ability: Ability,
    ) -> Result<House, Error> {
        let names = Names::new(&options.instance, &options.host_name);
        let user_ids = Arc::new(UserIds::load(&layout.user_ids(), names.first_id())?);
        let cache_dir = options.image_cache.clone().unwrap_or_else(|| layout.images());
        let builder = host::image::Builder::open(host::image::Options::new(cache_dir)).await?;
        let (rooms, ends) = rooms();
        let health = Arc::new(Health::new(rooms.ports.queue.clone()));
        let tenure = Arc::new(Tenure::default());
        let (taps, machines) = (Arc::new(Taps::default()), Arc::new(Machines::default()));
        let outside = match &options.outside {
            Some(name) => Some(Outside::open(name).await.map_err(Error::Outside)?),
            None => None,
        };
        let network_hands = network::HostHands {
            outside,
            layout: layout.clone(),
            names: names.clone(),
            namespaces: Namespaces::default(),
            taps: taps.clone(),
            user_ids: user_ids.clone(),
            underlay,
            node_doors: NodeDoors::new(&options.identity, options.node_client.clone())?,
            tenants: Tenants::new(options.client.clone()),
            name_server: options.name_server.clone(),
            health: health.clone(),
            drains: Drains::default(),
            dhcp: host::dnsmasq::Memory::default(),
            doors: Doors::default(),
            tenure: tenure.clone(),
            laying: tokio::sync::Mutex::default(),
        };
        let cells = Cells::new(network_hands, names.clone(), layout.clone(), rooms.ports.queue.clone());
        let hands = apply::HostHands {
            layout: layout.clone(),
            names,
            namespaces: Namespaces::default(),
            taps,
            user_ids,
            machines: machines.clone(),
            accelerator,
            queue: rooms.vms.queue.clone(),
            ports: rooms.ports.queue.clone(),
        };
        let objects = Arc::new(Objects::new(options.client.clone(), &options.host_name));
        let shelf = Arc::new(Shelf::new(builder, format!("{}.{}", options.instance, options.host_name)));
        Ok(House {
            layout,
            objects,
            machines,
            shelf,
            cells: Arc::new(cells),
            hands,
            rooms,
            ends,
            health,
            tenure,
            host: options.host_name.clone(),
            ability,
        })
    }

    /// Runs until `shutdown`.
    pub(super) async fn run(
        self,
        options: &AgentOptions,
        door: Door,
        registration: Registration,
        shutdown: CancellationToken,
    ) {
        let mut tasks = Tasks { all: JoinSet::new(), client: options.client.clone(), shutdown: shutdown.clone() };
        let selector = format!("spec.host={}", options.host_name);
        let lookup = Lookup {
            vms: self.rooms.vms.cache.clone(),
            ports: self.rooms.ports.cache.clone(),
            machines: self.machines.clone(),
            layout: self.layout.clone(),
            captures: Captures::default(),
        };
        tasks.all.spawn(door.serve(lookup, shutdown.clone()));
        let (rooms, legs, tenure) = (self.rooms.clone(), self.rooms.clone(), self.tenure.clone());
        let heard = move |moment| {
            tenure.heard(moment);
            legs.legs();
        };
        tasks.all.spawn(registration::keep(options.client.clone(), registration, heard, shutdown.clone()));
        let judges = self.watch_all(&mut tasks, &selector);
        tokio::select! {
            () = shutdown.cancelled() => {}
            // Before that, everything would seem to be missing.
            () = rooms.all_heard() => judges.run_all(&mut tasks),
        }
        while let Some(ended) = tasks.all.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!(%error, "a part of the agent panicked; this is a bug, please report it");
                shutdown.cancel();
            }
        }
    }

    fn watch_all(self, tasks: &mut Tasks, selector: &str) -> Judges {
        let House { layout, objects, machines, shelf, cells, hands, rooms, ends, health, host, ability, .. } = self;
        let mine = Some(selector.to_owned());
        let r = rooms.clone();
        let vms = tasks.watch_room(&rooms.vms, ends.vms, mine.clone(), move |vm| r.vm(vm));
        let r = rooms.clone();
        let ports = tasks.watch_room(&rooms.ports, ends.ports, mine.clone(), move |port| r.port(port));
        let r = rooms.clone();
        let volumes = tasks.watch_room(&rooms.volumes, ends.volumes, mine.clone(), move |volume| r.volume(volume));
        let r = rooms.clone();
        let images = tasks.watch_room(&rooms.images, ends.images, mine.clone(), move |image| r.image(image));
        let faults = tasks.watch_room(&rooms.faults, ends.faults, mine, |_| {});
        let r = rooms.clone();
        tasks.watch(ends.networks, None, None, move |network| r.network(network));
        let r = rooms.clone();
        tasks.watch(ends.groups, None, None, move |group| r.group(group));
        let r = rooms.clone();
        tasks.watch(ends.services, None, None, move |service| r.service(service.namespace()));
        let r = rooms.clone();
        tasks.watch(ends.balancers, None, None, move |balancer| r.service(balancer.namespace()));
        let r = rooms.clone();
        tasks.watch(ends.routers, None, None, move |router| r.router(router.namespace()));
        let (r, known) = (rooms.clone(), Known::default());
        tasks.watch(ends.hosts, None, None, move |host| {
            if known.is_news(host) {
                r.host();
            }
        });
        let requests = AllRequests { vms, ports, volumes, images, faults };
        Judges { layout, objects, machines, shelf, cells, hands, rooms, requests, health, host, ability }
    }
}

/// Which host was heard to have which address, and whether it is lost, so that the rest of what hosts tell wakes nobody.
#[derive(Default)]
struct Known(std::sync::Mutex<HashMap<String, (Option<String>, bool)>>);

impl Known {
    fn is_news(&self, host: &crds::Host) -> bool {
        let address = host.status.as_ref().and_then(|status| status.underlay_address.clone());
        let mut known = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        let now = (address, is_lost(host));
        known.insert(host.name_any(), now.clone()) != Some(now)
    }
}

/// What runs.
struct Tasks {
    all: JoinSet<()>,
    client: Client,
    shutdown: CancellationToken,
}

impl Tasks {
    fn watch_room<K: Kind + DeserializeOwned>(
        &mut self,
        room: &Room<K>,
        ends: Ends<K>,
        fields: Option<String>,
        concerned: impl Fn(&K) + Send + 'static,
    ) -> Requests<K> {
        self.watch(ends.writer, Some(room.queue.clone()), fields, concerned);
        ends.requests
    }

    fn watch<K: Kind + DeserializeOwned>(
        &mut self,
        writer: Writer<K>,
        queue: Option<Queue<K>>,
        fields: Option<String>,
        concerned: impl Fn(&K) + Send + 'static,
    ) {
        let api = Api::all(self.client.clone());
        self.all.spawn(watch(api, fields, writer, queue, concerned, self.shutdown.clone()));
    }

    fn judge<R: Reconciler>(&mut self, judge: R, room: &Room<R::Kind>, requests: Requests<R::Kind>, pace: Pace) {
        let (cache, queue, shutdown) = (room.cache.clone(), room.queue.clone(), self.shutdown.clone());
        self.all.spawn(control_loop::run(judge, cache, queue, requests, pace, shutdown));
    }
}

struct AllRequests {
    vms: Requests<crds::VirtualMachine>,
    ports: Requests<crds::Port>,
    volumes: Requests<crds::Volume>,
    images: Requests<crds::Image>,
    faults: Requests<crds::Fault>,
}

/// The house with its watches running.
struct Judges {
    layout: Layout,
    objects: Arc<Objects>,
    machines: Arc<Machines>,
    shelf: Arc<Shelf>,
    cells: Arc<Cells<network::HostHands>>,
    hands: apply::HostHands,
    rooms: Rooms,
    requests: AllRequests,
    health: Arc<Health>,
    host: String,
    ability: Ability,
}

impl Judges {
    fn run_all(self, tasks: &mut Tasks) {
        let Judges { layout, objects, machines, shelf, cells, hands, rooms, requests, health, host, ability } = self;
        let ports = Ports {
            objects: objects.clone(),
            ports: rooms.ports.cache.clone(),
            networks: rooms.networks.clone(),
            groups: rooms.groups.clone(),
            services: rooms.services.clone(),
            routers: rooms.routers.clone(),
            balancers: rooms.balancers.clone(),
            health,
            ability,
            machines: rooms.vms.cache.clone(),
            certificates: Certificates::new(tasks.client.clone(), rooms.ports.cache.clone(), rooms.ports.queue.clone()),
            peers: Peers::new(tasks.client.clone(), &host, rooms.ports.cache.clone(), rooms.ports.queue.clone()),
            hosts: rooms.hosts.clone(),
            host,
            cells: cells.clone(),
        };
        tasks.judge(ports, &rooms.ports, requests.ports, PACE);
        let volumes = Volumes { objects: objects.clone(), machines: rooms.vms.cache.clone(), layout: layout.clone() };
        tasks.judge(volumes, &rooms.volumes, requests.volumes, FEW);
        let images = Images::new(objects.clone(), rooms.images.cache.clone(), shelf.clone());
        tasks.judge(images, &rooms.images, requests.images, MANY);
        let references = References {
            images: rooms.images.cache.clone(),
            ports: rooms.ports.cache.clone(),
            volumes: rooms.volumes.cache.clone(),
            networks: rooms.networks.clone(),
            shelf: shelf.clone(),
            layout: layout.clone(),
        };
        let vms = VirtualMachines { objects: objects.clone(), references, hands };
        tasks.judge(vms, &rooms.vms, requests.vms, MACHINES);
        let faults =
            Faults { objects, vms: rooms.vms.cache.clone(), machines: machines.clone(), layout: layout.clone() };
        tasks.judge(faults, &rooms.faults, requests.faults, MACHINES);
        let sweeper = Sweeper {
            vms: rooms.vms.cache.clone(),
            volumes: rooms.volumes.cache.clone(),
            ports: rooms.ports.cache.clone(),
            images: rooms.images.cache.clone(),
            networks: rooms.networks.clone(),
            cells,
            machines,
            shelf,
            layout: layout.clone(),
            client: tasks.client.clone(),
        };
        tasks.all.spawn(clock::rotate_logs(rooms.vms.cache.clone(), layout, tasks.shutdown.clone()));
        tasks.all.spawn(clock::resync(sweeper, rooms, tasks.shutdown.clone()));
    }
}
