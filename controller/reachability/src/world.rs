//! All objects that decide, put together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crds::router::routes::{Hop, routes_of};
use crds::{
    Host, LoadBalancer, Port, Router, SecurityGroup, ServiceIP, Subnets, TenantNetwork, VirtualMachine, condition,
};
use kube::ResourceExt;

use crate::access::{Ability, Groups, members};
use crate::endpoint::Endpoint;
use crate::further::Claims;
use crate::service::Services;

/// The objects, of one namespace or of many.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Networks.
    pub networks: Vec<TenantNetwork>,
    /// Ports.
    pub ports: Vec<Port>,
    /// Groups.
    pub groups: Vec<SecurityGroup>,
    /// Routers; what their statuses say is in force.
    pub routers: Vec<Router>,
    /// Addresses of services, and who has their ports; only who asks about services needs them.
    pub services: Vec<ServiceIP>,
    /// Load balancers.
    pub balancers: Vec<LoadBalancer>,
    /// Machines: who uses which Port.
    pub machines: Vec<VirtualMachine>,
    /// Hosts; those that may not be seen count as able.
    pub hosts: Vec<Host>,
}

/// Members' addresses, by namespace and network, then by group.
type Members = HashMap<(String, String), BTreeMap<String, BTreeSet<IpAddr>>>;

/// What decides who may reach whom.
#[derive(Clone, Debug, Default)]
pub struct World {
    endpoints: Vec<Endpoint>,
    groups: HashMap<String, Groups>,
    members: Members,
    networks: HashMap<(String, String), TenantNetwork>,
    hosts: HashMap<String, Host>,
    routers: HashMap<String, Vec<Arc<Router>>>,
    /// What routers lead to, by namespace and network.
    routes: HashMap<(String, String), Vec<Hop>>,
    pub(crate) services: Services,
}

impl World {
    /// Reads the objects.
    #[must_use]
    pub fn of(objects: Objects) -> World {
        let mut by_tenant: HashMap<String, Vec<&SecurityGroup>> = HashMap::new();
        for group in &objects.groups {
            by_tenant.entry(group.namespace().unwrap_or_default()).or_default().push(group);
        }
        let key = |network: TenantNetwork| ((network.namespace().unwrap_or_default(), network.name_any()), network);
        let mut world = World {
            endpoints: Vec::new(),
            groups: by_tenant.into_iter().map(|(tenant, groups)| (tenant, Groups::read(groups))).collect(),
            members: Members::new(),
            networks: objects.networks.into_iter().map(key).collect(),
            hosts: objects.hosts.into_iter().map(|host| (host.name_any(), host)).collect(),
            routers: HashMap::new(),
            routes: HashMap::new(),
            services: Services::of(objects.services, objects.balancers, &objects.ports),
        };
        world.lay_routes(objects.routers);
        let users = users(&objects.machines);
        let mut endpoints: Vec<Endpoint> = objects.ports.iter().map(|port| world.endpoint(port, &users)).collect();
        endpoints.sort_by(|a, b| (&a.namespace, &a.network, &a.name).cmp(&(&b.namespace, &b.network, &b.name)));
        World::settle(&mut endpoints);
        world.members = members_of(&endpoints);
        world.endpoints = endpoints;
        world
    }

    /// One that is being deleted has left its host.
    fn lay_routes(&mut self, routers: Vec<Router>) {
        for router in routers.into_iter().filter(|router| router.metadata.deletion_timestamp.is_none()) {
            self.routers.entry(router.namespace().unwrap_or_default()).or_default().push(Arc::new(router));
        }
        for (namespace, network) in self.networks.keys() {
            if let Some(routers) = self.routers.get(namespace) {
                self.routes.insert((namespace.clone(), network.clone()), routes_of(network, routers));
            }
        }
    }

    fn endpoint(&self, port: &Port, users: &HashMap<(String, String), &VirtualMachine>) -> Endpoint {
        let mut one = Endpoint::of(port);
        let network = self.networks.get(&(one.namespace.clone(), one.network.clone()));
        one.subnets = network.and_then(|network| Subnets::of(&network.spec).ok());
        if let (Some(subnets), Some(mac)) = (&one.subnets, one.mac) {
            one.further.extend(subnets.made_beside(one.six, mac).map(IpAddr::V6));
        }
        if network.is_none() {
            one.absent = Some(format!("there is no TenantNetwork {}", one.network));
        }
        if let Some(machine) = users.get(&(one.namespace.clone(), one.name.clone())) {
            one.machine = Some(machine.name_any());
            one.alive = is_ready(machine);
        }
        let nobody = Groups::default();
        let groups = self.groups.get(&one.namespace).unwrap_or(&nobody);
        one.closed = groups.enforceable(&one.groups, &self.ability(one.host.as_deref())).err();
        one
    }

    /// Takes from the Ports, which are in order, the further addresses that they cannot have.
    fn settle(endpoints: &mut [Endpoint]) {
        for ports in endpoints.chunk_by_mut(|one, next| one.shares_network_with(next)) {
            let Some(subnets) = ports.first().and_then(|port| port.subnets.clone()) else { continue };
            if ports.iter().all(|port| port.further.is_empty()) {
                continue;
            }
            let each = |port: &Endpoint| port.own().map(|address| (address, port.name.clone())).collect::<Vec<_>>();
            let own: Vec<(IpAddr, String)> = ports.iter().flat_map(each).collect();
            let claims = Claims::new(subnets, own.iter().map(|(address, name)| (*address, name.as_str())));
            for Endpoint { name, further, .. } in ports {
                further.retain(|address| claims.judge(name, *address).is_ok());
            }
        }
    }

    /// Whether a host can enforce groups. One that is not known is no reason to call a Port closed.
    fn ability(&self, host: Option<&str>) -> Ability {
        let told = host.and_then(|name| self.hosts.get(name)).and_then(|host| host.status.as_ref());
        match told.map(|status| &status.capabilities) {
            Some(can) if !can.stateful_filter && !can.stateful_filter_reason.is_empty() => {
                Err(can.stateful_filter_reason.clone())
            }
            _ => Ok(()),
        }
    }

    /// The Ports, by namespace, network and name.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The Port of that name.
    #[must_use]
    pub fn find(&self, namespace: &str, name: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|one| one.namespace == namespace && one.name == name)
    }

    /// The tenant's groups.
    #[must_use]
    pub fn groups(&self, namespace: &str) -> Option<&Groups> {
        self.groups.get(namespace)
    }

    /// Whether the address belongs to a group's Port on the same network.
    #[must_use]
    pub fn is_member(&self, of: &Endpoint, group: &str, address: IpAddr) -> bool {
        let groups = self.members.get(&(of.namespace.clone(), of.network.clone()));
        groups.and_then(|groups| groups.get(group)).is_some_and(|members| members.contains(&address))
    }

    /// A Port's network.
    #[must_use]
    pub fn network(&self, of: &Endpoint) -> Option<&TenantNetwork> {
        self.network_named(&of.namespace, &of.network)
    }

    pub(crate) fn network_named(&self, namespace: &str, name: &str) -> Option<&TenantNetwork> {
        self.networks.get(&(namespace.to_owned(), name.to_owned()))
    }

    pub(crate) fn routers(&self, namespace: &str) -> &[Arc<Router>] {
        self.routers.get(namespace).map_or(&[], Vec::as_slice)
    }

    /// What routers lead to from that network.
    pub(crate) fn routes(&self, namespace: &str, network: &str) -> &[Hop] {
        self.routes.get(&(namespace.to_owned(), network.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// A Host, if it may be seen.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.get(name)
    }

    /// Whether Hosts may be seen at all.
    #[must_use]
    pub fn sees_hosts(&self) -> bool {
        !self.hosts.is_empty()
    }
}

/// Which machine uses a Port, by the Port's namespace and name.
fn users(machines: &[VirtualMachine]) -> HashMap<(String, String), &VirtualMachine> {
    let of = |machine: &VirtualMachine, port: &str| (machine.namespace().unwrap_or_default(), port.to_owned());
    let each = machines.iter().flat_map(|vm| vm.spec.interfaces.iter().map(move |card| (of(vm, &card.port), vm)));
    each.collect()
}

fn is_ready(machine: &VirtualMachine) -> bool {
    machine.status.as_ref().is_some_and(|status| condition::is_true(&status.conditions, condition::READY))
}

fn members_of(endpoints: &[Endpoint]) -> Members {
    let present = |one: &&Endpoint| one.absent.is_none();
    let mut by_network: BTreeMap<(&str, &str), Vec<&Endpoint>> = BTreeMap::new();
    for one in endpoints.iter().filter(present) {
        by_network.entry((&one.namespace, &one.network)).or_default().push(one);
    }
    let of_one = |ports: Vec<&Endpoint>| -> BTreeMap<String, BTreeSet<IpAddr>> {
        let each = ports.iter().map(|one| (one.groups.as_slice(), one.own().chain(one.further.iter().copied())));
        members(each).into_iter().map(|(group, addresses)| (group.to_owned(), addresses)).collect()
    };
    let owned = |(namespace, network): (&str, &str)| (namespace.to_owned(), network.to_owned());
    by_network.into_iter().map(|(key, ports)| (owned(key), of_one(ports))).collect()
}
