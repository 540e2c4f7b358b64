//! Ports and the networks they are on, as far as this host carries them.
//!
//! The unit of work is a network with all its ports here: namespace, bridge, taps and DHCP reservations are one set,
//! compared and corrected as a whole. A Port's reconcile asks for a pass over its network; passes that were asked for
//! while one ran are one pass ([`cells`]), so a thousand ports that come at once cost a few. A network is here while a
//! port of it is.
//!
//! ```text
//!   Port ──► claim ──► pass over its network ──► status of this port
//!                          ▲
//!   Ports elsewhere, Hosts ┤
//!   netlink, pidfd ────────┘  (wakes one port of the network; what the pass repairs is told in an Event)
//! ```

mod balance;
mod cables;
pub mod cells;
pub mod certificates;
pub mod doors;
pub mod drains;
pub mod error;
pub mod further;
pub mod groups;
pub mod hands;
pub mod health;
mod legs;
mod naming;
pub mod peers;
pub mod plan;
mod proxying;
pub mod reach;
pub mod routers;
mod routes;
mod routing;
pub mod services;
pub mod status;
mod terms;
pub mod trial;
mod watching;
mod way_out;

use std::collections::BTreeSet;
use std::sync::Arc;

use crds::load_balancer::judge::is_lost;
use crds::{Host, LoadBalancer, Port, PortStatus, Router, SecurityGroup, ServiceIP, TenantNetwork, VirtualMachine};
use kube::ResourceExt;
use kube::runtime::controller::Action;

use crate::objects::Objects;
use cells::{Cells, Done};
use certificates::Certificates;
use control_loop::{Cache, Failure, Pace, Reconciler, sentence};
use error::Error;
use hands::Hands;
use health::Health;
use peers::Peers;

/// How many ports are looked at at once. They wait for one pass over their network, so the more wait together the fewer passes there
/// are: all that ask before it begins are served by it.
pub const PACE: Pace = Pace::at_once(4096);

/// The judgement over ports.
pub struct Ports<H: Hands> {
    /// Pen.
    pub objects: Arc<Objects>,
    /// This host's ports.
    pub ports: Cache<Port>,
    /// All networks.
    pub networks: Cache<TenantNetwork>,
    /// This host's machines.
    pub machines: Cache<VirtualMachine>,
    /// This host's name.
    pub host: String,
    /// All hosts.
    pub hosts: Cache<Host>,
    /// All groups.
    pub groups: Cache<SecurityGroup>,
    /// All service addresses.
    pub services: Cache<ServiceIP>,
    /// All routers.
    pub routers: Cache<Router>,
    /// All load balancers.
    pub balancers: Cache<LoadBalancer>,
    /// What load balancers show to those who speak TLS.
    pub certificates: Certificates,
    /// What the backends here answer.
    pub health: Arc<Health>,
    /// Whether this host can enforce groups, and translate.
    pub ability: groups::Ability,
    /// The same networks' ports on other hosts.
    pub peers: Peers,
    /// What is realised here.
    pub cells: Arc<Cells<H>>,
}

impl<H: Hands> Reconciler for Ports<H> {
    type Kind = Port;
    type Error = Error;

    async fn reconcile(&self, port: Arc<Port>) -> Result<Action, Error> {
        if port.metadata.deletion_timestamp.is_some() {
            return self.retire(&port).await;
        }
        let pending = status::pending(&port, &self.network_of(&port));
        if let Some(pending) = pending {
            // That an address is about to be allocated is not worth a write of its own.
            if pending.reason != status::ADDRESS_PENDING || port.status.is_some() {
                let status = status::not_ready(&port, pending.reason, pending.message);
                self.objects.publish(&*port, status).await?;
            }
            return Ok(Action::await_change());
        }
        let namespace = port.namespace().unwrap_or_default();
        // Of what is claimed nothing changes that a pass looks at, so one that begins meanwhile serves this port, too.
        let ticket = self.ticket(&namespace, &port.spec.network).await;
        let Some(port) = self.objects.claim(&*port).await? else { return Ok(Action::await_change()) };
        match self.pass(&namespace, &port.spec.network, ticket).await {
            Ok(done) => {
                let uid = port.uid().unwrap_or_default();
                let status = match done.refused.iter().find(|refused| refused.uid == uid).cloned() {
                    // The pass that can serve it again wakes it.
                    Some(refused) => status::not_ready(&port, refused.reason, refused.message),
                    None if routers::is_leg(&port) => status::of_leg(&port, &done),
                    None => status::ready(&port, done.netns),
                };
                let status = PortStatus { backend_health: self.health.told(&uid), ..status };
                self.objects.publish(&port, status).await?;
                Ok(Action::await_change())
            }
            Err(error) => {
                let status = status::not_ready(&port, error.category(), sentence(&error));
                self.objects.publish(&port, status).await?;
                Err(error)
            }
        }
    }
}

impl<H: Hands> Ports<H> {
    fn network_of(&self, port: &Port) -> Option<Arc<TenantNetwork>> {
        self.networks.get(&port.namespace().unwrap_or_default(), &port.spec.network)
    }

    /// For a pass over the network that has seen all that is known now, with its ports elsewhere.
    async fn ticket(&self, namespace: &str, network: &str) -> u64 {
        self.peers.heard(namespace, network).await;
        self.cells.ticket()
    }

    /// Brings the network with all its ports here in order.
    async fn pass(&self, namespace: &str, network: &str, ticket: u64) -> Result<Done, Error> {
        let Some(found) = self.networks.get(namespace, network) else {
            return Err(Error::NetworkGone { network: network.to_owned() });
        };
        let uid = found.uid().unwrap_or_default();
        let read = || {
            // Read inside the pass, so that a pass that served many askers has seen all their ports.
            let ports = self.ports.pick(namespace, |port| port.spec.network == network && self.is_wanted(port));
            let mut wanted = plan::wanted(self.cells.names(), &found, &ports)?;
            let everywhere = self.peers.follow(namespace, network);
            further::settle(&mut wanted, everywhere.as_deref().unwrap_or(&ports));
            let services = self.services.pick(namespace, |one| one.spec.network == network);
            services::settle(&mut wanted, &services);
            let here = ports.clone();
            let mut all = ports;
            let lost: BTreeSet<String> =
                self.hosts.all().iter().filter(|host| is_lost(host)).map(|host| host.name_any()).collect();
            let there = |port: &&Arc<Port>| {
                port.spec.host.as_ref().is_some_and(|host| *host != self.host && !lost.contains(host))
            };
            all.extend(everywhere.iter().flatten().filter(there).cloned());
            let hosts = reach::addresses(&self.hosts.all());
            let routers = self.routers.pick(namespace, |_| true);
            wanted.routing = routers::routing(self.cells.names(), &wanted, &here, &routers, &self.host);
            wanted.reach = reach::reach(&found, &wanted, &self.host, everywhere, &hosts);
            let balancers = self.balancers.pick(namespace, |_| true);
            let versions = certificates::versions(&balancers, &services);
            let shown = self.certificates.follow(namespace, network, &versions);
            let healthy = |port: &str, by: &str| self.health.of(port, by);
            services::balance(&mut wanted, &balancers, &all, &self.ability, shown, healthy)?;
            let groups = self.groups.pick(namespace, |_| true);
            let (policy, closed) = groups::policy(&wanted, &groups, &self.ability)?;
            wanted.policy = policy;
            wanted.refused.extend(closed);
            Ok(wanted)
        };
        let done = self.cells.converge(&uid, ticket, read).await?;
        self.tell(&found, &done).await;
        Ok(done)
    }

    /// Says in Events what had been changed by somebody else and was set right, and what does not work.
    async fn tell(&self, network: &TenantNetwork, done: &Done) {
        if let Some(trouble) = done.trouble.as_ref().filter(|trouble| trouble.new) {
            let note =
                format!("No HTTP requests are balanced as they should be on host {}: {}", self.host, trouble.message);
            tracing::warn!(
                network = network.name_any(),
                trouble = trouble.message,
                "HTTP is not balanced as it should be"
            );
            for balancer in self.proxied(network) {
                self.objects.event(&*balancer, true, "ProxyFailed", "BalanceRequests", note.clone()).await;
            }
            self.objects.event(network, true, "ProxyFailed", "BalanceRequests", note).await;
        }
        for change in &done.drift {
            crate::metrics::METRICS.repairs.with_label_values(&[change.reason]).inc();
            let note = format!("Somebody changed the network on this host; repaired: {}.", change.message);
            tracing::warn!(network = network.name_any(), repaired = change.message, "drift repaired");
            self.objects.event(network, true, "DriftRepaired", change.reason, note).await;
        }
    }

    /// The network's load balancers whose requests are looked into.
    fn proxied(&self, network: &TenantNetwork) -> Vec<Arc<LoadBalancer>> {
        let (namespace, name) = (network.namespace().unwrap_or_default(), network.name_any());
        let services = self.services.pick(&namespace, |one| one.spec.network == name);
        let services: BTreeSet<String> = services.iter().map(|one| one.name_any()).collect();
        self.balancers.pick(&namespace, |one| {
            services.contains(&one.spec.service_ip)
                && one.spec.listeners.iter().any(|listener| listener.protocol.is_http())
        })
    }

    /// Takes the port off the host: from its network, or with it when it was the last.
    async fn retire(&self, port: &Port) -> Result<Action, Error> {
        let users = self.users_of(port);
        if !users.is_empty() {
            let message =
                format!("The port is in use by virtual machine {}; it goes when that one does.", join(&users));
            self.objects.publish(port, status::not_ready(port, status::IN_USE, message)).await?;
            return Ok(Action::await_change());
        }
        let namespace = port.namespace().unwrap_or_default();
        let network = self.network_of(port);
        let last = self
            .ports
            .pick(&namespace, |other| other.spec.network == port.spec.network && self.is_wanted(other))
            .is_empty();
        if last {
            self.peers.forget(&namespace, &port.spec.network);
            self.certificates.forget(&namespace, &port.spec.network);
        }
        match network {
            Some(network) if last => self.cells.remove(&network.uid().unwrap_or_default()).await?,
            Some(_) => {
                let ticket = self.ticket(&namespace, &port.spec.network).await;
                self.pass(&namespace, &port.spec.network, ticket).await?;
            }
            // The network object is gone before its ports: its cell goes with the last of them.
            None if last => self.cells.remove_abandoned(&namespace, &port.spec.network).await?,
            None => {}
        }
        self.objects.release(port).await?;
        Ok(Action::await_change())
    }

    /// A port whose deletion waits for the machine that uses it keeps working until then.
    fn is_wanted(&self, port: &Port) -> bool {
        port.metadata.deletion_timestamp.is_none() || !self.users_of(port).is_empty()
    }

    /// Machines of this host that name the port and have not gone yet.
    fn users_of(&self, port: &Port) -> BTreeSet<String> {
        let name = port.name_any();
        let names = |vm: &VirtualMachine| vm.spec.interfaces.iter().any(|interface| interface.port == name);
        let machines = self.machines.pick(&port.namespace().unwrap_or_default(), |vm| {
            names(vm) && vm.status.as_ref().is_some_and(|status| status.pid.is_some())
        });
        machines.iter().map(|vm| vm.name_any()).collect()
    }
}

fn join(names: &BTreeSet<String>) -> String {
    names.iter().cloned().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
