//! One cache and one queue a kind, and who has to look when an object of another kind changes.

use std::sync::Arc;

use crds::{
    Fault, Host, Image, LoadBalancer, Port, Router, SecurityGroup, ServiceIP, TenantNetwork, VirtualMachine, Volume,
};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::Notify;

use crate::network::peers::Peers;
use crate::network::routers::is_leg;
use control_loop::{Cache, Kind, Queue, Requests, Writer, queue};

/// One kind.
pub(super) struct Room<K: Kind> {
    pub(super) cache: Cache<K>,
    pub(super) queue: Queue<K>,
}

impl<K: Kind> Clone for Room<K> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), queue: self.queue.clone() }
    }
}

/// The ends of a room that have one holder each: who fills its cache, who works off its queue.
pub(super) struct Ends<K: Kind> {
    pub(super) writer: Writer<K>,
    pub(super) requests: Requests<K>,
}

fn room<K: Kind>() -> (Room<K>, Ends<K>) {
    let ((cache, writer), (queue, requests)) = (Cache::new(), queue());
    (Room { cache, queue }, Ends { writer, requests })
}

/// Every kind this agent looks at.
#[derive(Clone)]
pub(super) struct Rooms {
    pub(super) vms: Room<VirtualMachine>,
    pub(super) ports: Room<Port>,
    pub(super) volumes: Room<Volume>,
    pub(super) images: Room<Image>,
    pub(super) faults: Room<Fault>,
    pub(super) networks: Cache<TenantNetwork>,
    pub(super) groups: Cache<SecurityGroup>,
    pub(super) services: Cache<ServiceIP>,
    pub(super) balancers: Cache<LoadBalancer>,
    pub(super) hosts: Cache<Host>,
    pub(super) routers: Cache<Router>,
    /// Told when a network may have lost its last port here without a word to us.
    pub(super) left: Arc<Notify>,
}

/// All their ends.
pub(super) struct AllEnds {
    pub(super) vms: Ends<VirtualMachine>,
    pub(super) ports: Ends<Port>,
    pub(super) volumes: Ends<Volume>,
    pub(super) images: Ends<Image>,
    pub(super) faults: Ends<Fault>,
    pub(super) networks: Writer<TenantNetwork>,
    pub(super) groups: Writer<SecurityGroup>,
    pub(super) services: Writer<ServiceIP>,
    pub(super) balancers: Writer<LoadBalancer>,
    pub(super) hosts: Writer<Host>,
    pub(super) routers: Writer<Router>,
}

/// Empty rooms.
pub(super) fn rooms() -> (Rooms, AllEnds) {
    let (vms, vm_ends) = room();
    let (ports, port_ends) = room();
    let (volumes, volume_ends) = room();
    let (images, image_ends) = room();
    let (faults, fault_ends) = room();
    let (networks, writer) = Cache::new();
    let (groups, groups_writer) = Cache::new();
    let (services, services_writer) = Cache::new();
    let (balancers, balancers_writer) = Cache::new();
    let (hosts, hosts_writer) = Cache::new();
    let (routers, routers_writer) = Cache::new();
    let ends = AllEnds {
        vms: vm_ends,
        ports: port_ends,
        volumes: volume_ends,
        images: image_ends,
        faults: fault_ends,
        networks: writer,
        groups: groups_writer,
        services: services_writer,
        balancers: balancers_writer,
        hosts: hosts_writer,
        routers: routers_writer,
    };
    (
        Rooms {
            vms,
            ports,
            volumes,
            images,
            faults,
            networks,
            groups,
            services,
            balancers,
            hosts,
            routers,
            left: Arc::default(),
        },
        ends,
    )
}

impl Rooms {
    /// A deleted port or volume may wait for the machine, a fault for its running.
    pub(super) fn vm(&self, vm: &VirtualMachine) {
        let namespace = vm.namespace().unwrap_or_default();
        for interface in &vm.spec.interfaces {
            let going = self.ports.cache.get(&namespace, &interface.port);
            if going.is_some_and(|port| port.metadata.deletion_timestamp.is_some()) {
                self.ports.queue.wake_named(&namespace, &interface.port);
            }
        }
        for mount in &vm.spec.volumes {
            let going = self.volumes.cache.get(&namespace, &mount.volume);
            if going.is_some_and(|volume| volume.metadata.deletion_timestamp.is_some()) {
                self.volumes.queue.wake_named(&namespace, &mount.volume);
            }
        }
        let name = vm.name_any();
        for fault in self.faults.cache.pick(&namespace, |fault| fault.spec.target.name == name) {
            self.faults.queue.wake_named(&namespace, &fault.name_any());
        }
    }

    fn wake_vms(&self, namespace: &str, concerned: impl Fn(&VirtualMachine) -> bool) {
        for vm in self.vms.cache.pick(namespace, concerned) {
            self.vms.queue.wake_named(namespace, &vm.name_any());
        }
    }

    /// The machines on a port look when it changes. One that went to another host, or that somebody took our finalizer off, is nobody's to
    /// retire here: when it was its network's last, the network goes.
    pub(super) fn port(&self, port: &Port) {
        let (namespace, name) = (port.namespace().unwrap_or_default(), port.name_any());
        self.wake_vms(&namespace, |vm| vm.spec.interfaces.iter().any(|interface| interface.port == name));
        if self.ports.cache.get(&namespace, &name).is_none() {
            let others = self.ports.cache.pick(&namespace, |other| other.spec.network == port.spec.network);
            if let Some(other) = others.first() {
                self.ports.queue.wake_named(&namespace, &other.name_any());
            }
            // Even with others left: a network of that name may have been deleted and made again.
            self.left.notify_one();
        }
    }

    /// So do those with a volume.
    pub(super) fn volume(&self, volume: &Volume) {
        let name = volume.name_any();
        self.wake_vms(&volume.namespace().unwrap_or_default(), |vm| {
            vm.spec.volumes.iter().any(|mount| mount.volume == name)
        });
    }

    /// So do those of an image, and the images that rest on it.
    pub(super) fn image(&self, image: &Image) {
        let (namespace, name) = (image.namespace().unwrap_or_default(), image.name_any());
        self.wake_vms(&namespace, |vm| vm.spec.image == name);
        let rests_on = |other: &Image| other.spec.layer.as_ref().is_some_and(|layer| layer.image == name);
        for layer in self.images.cache.pick(&namespace, rests_on) {
            self.images.queue.wake_named(&namespace, &layer.name_any());
        }
    }

    /// So do the ports of a network.
    pub(super) fn network(&self, network: &TenantNetwork) {
        let (namespace, name) = (network.namespace().unwrap_or_default(), network.name_any());
        for port in self.ports.cache.pick(&namespace, |port| port.spec.network == name) {
            self.ports.queue.wake_named(&namespace, &port.name_any());
        }
    }

    /// So do the ports with groups: it may be one of theirs, or on the other side of a rule of one.
    pub(super) fn group(&self, group: &SecurityGroup) {
        let namespace = group.namespace().unwrap_or_default();
        for port in self.ports.cache.pick(&namespace, |port| !port.spec.security_groups.is_empty()) {
            self.ports.queue.wake_named(&namespace, &port.name_any());
        }
    }

    /// A port of each network of the tenant's, when one of its services changes.
    pub(super) fn service(&self, namespace: Option<String>) {
        Peers::wake_tenant(&self.ports.cache, &self.ports.queue, &namespace.unwrap_or_default());
    }

    /// The same, and its own places, when one of its routers changes.
    pub(super) fn router(&self, namespace: Option<String>) {
        let namespace = namespace.unwrap_or_default();
        Peers::wake_tenant(&self.ports.cache, &self.ports.queue, &namespace);
        for leg in self.ports.cache.pick(&namespace, is_leg) {
            self.ports.queue.wake_named(&namespace, &leg.name_any());
        }
    }

    /// All places of routers here, when they may be here for longer.
    pub(super) fn legs(&self) {
        for leg in self.ports.cache.all().iter().filter(|port| is_leg(port)) {
            self.ports.queue.wake(ObjectRef::from_obj(&**leg));
        }
    }

    /// A port of each network here, when the way to another host may have changed.
    pub(super) fn host(&self) {
        Peers::wake_all(&self.ports.cache, &self.ports.queue);
    }

    /// Everything looks.
    pub(super) fn everything(&self) {
        fn all<K: Kind>(room: &Room<K>) {
            for object in room.cache.all() {
                room.queue.wake(ObjectRef::from_obj(&*object));
            }
        }
        all(&self.vms);
        all(&self.ports);
        all(&self.volumes);
        all(&self.images);
        all(&self.faults);
    }
}

impl Rooms {
    /// Returns when every cache has had its first list.
    pub(super) async fn all_heard(&self) {
        futures::join!(
            self.vms.cache.ready(),
            self.ports.cache.ready(),
            self.volumes.cache.ready(),
            self.images.cache.ready(),
            self.faults.cache.ready(),
            self.networks.ready(),
            self.groups.ready(),
            self.services.ready(),
            self.balancers.ready(),
            self.hosts.ready(),
            self.routers.ready()
        );
    }
}
