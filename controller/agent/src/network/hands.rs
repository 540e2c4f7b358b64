//! A network's verbs on the host, all of which compare first and write only what differs.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use host::dnsmasq;
use host::firewall;
use host::guard::{self, Stands};
use host::link::{Bridge, Change, Links, Peer, Vxlan};
use host::nameserver;
use host::netns::{self, Namespace, Namespaces};
use host::nft::{self, Place};
use host::proxy;
use tokio::task::JoinHandle;

use super::doors::Doors;
use super::drains::Drains;
use super::error::{Error, dhcp_failed, underlay_failed};
use super::health::Health;
use super::naming;
use super::plan::Wanted;
use super::proxying;
use super::reach::{Elsewhere, Reach};
use super::routing::{lead_on, prepare_six, route_between};
use super::terms::{addresses, guest, link, reservation, server};
use crate::dns::Tenants;
use crate::layout::{self, Layout};
use crate::names::Names;
use crate::node_door::NodeDoors;
use crate::outside::Outside;
use crate::taps::Taps;
use crate::tenure::Tenure;
use crate::underlay::Underlay;
use crate::user_ids::UserIds;
use control_loop::{Failure, sentence};

/// How the network's packet filter stood when it was last written, in the network's directory.
const FILTER: &str = "filter.json";
/// The same of the tables that enforce groups; as long as it is there, so may they be.
const FIREWALL: &str = "firewall.json";

/// What a pass over a network needs of the host.
pub trait Hands: Send + Sync + 'static {
    /// The underlay's and the network's own namespace.
    fn ensure_namespaces(&self, wanted: &Wanted) -> impl Future<Output = Result<Vec<Change>, Error>> + Send;
    /// The bridge with exactly the network's own addresses, between whose ranges it routes.
    fn ensure_bridge(&self, wanted: &Wanted) -> impl Future<Output = Result<Vec<Change>, Error>> + Send;
    /// The filter by which each port is heard as itself alone.
    fn ensure_guard(&self, wanted: &Wanted) -> impl Future<Output = Result<Vec<Change>, Error>> + Send;
    /// What groups say of the ports here, or nothing of it where no port has any.
    fn ensure_firewall(&self, wanted: &Wanted) -> impl Future<Output = Result<Vec<Change>, Error>> + Send;
    /// The tunnel to other hosts and who is behind it, or neither.
    fn ensure_reach(&self, wanted: &Wanted) -> impl Future<Output = Result<Vec<Change>, Error>> + Send;
    /// The routers that are here.
    fn ensure_legs(&self, wanted: &Wanted) -> impl Future<Output = Result<Vec<Change>, Error>> + Send;
    /// The taps of running machines.
    fn ensure_taps(&self, wanted: &Wanted) -> impl Future<Output = Result<Vec<Change>, Error>> + Send;
    /// The way of its nodes to the API, or none; before any guest learns of the network.
    fn ensure_api_door(&self, wanted: &Wanted) -> impl Future<Output = Result<Vec<Change>, Error>> + Send;
    /// What load balancers say of connections, or nothing of it where there are none; after the taps are there.
    fn ensure_balancer(&self, wanted: &Wanted) -> impl Future<Output = Result<Vec<Change>, Error>> + Send;
    /// What load balancers say of requests, or nothing of it.
    fn ensure_proxy(&self, wanted: &Wanted) -> impl Future<Output = Result<Vec<Change>, Error>> + Send;
    /// dnsmasq with exactly the ports' reservations, or none.
    fn ensure_dhcp(&self, wanted: &Wanted) -> impl Future<Output = Result<Vec<Change>, Error>> + Send;
    /// The name server with the names of the network and its tenant.
    fn ensure_dns(&self, wanted: &Wanted) -> impl Future<Output = Result<Vec<Change>, Error>> + Send;
    /// Calls `wake` whenever something in the namespace changes, or its dnsmasq, name server or HTTP proxy ends.
    fn watch(
        &self,
        wanted: &Wanted,
        wake: Box<dyn Fn() + Send + Sync>,
    ) -> impl Future<Output = Result<JoinHandle<()>, Error>> + Send;
    /// Removes all of a network, as much as can be removed.
    fn remove(&self, uid: &str, netns: &str) -> impl Future<Output = Result<(), Error>> + Send;
    /// Removes the routers of which no place is here, but those that are `needed` (by UID).
    fn remove_routers(&self, needed: &BTreeSet<String>) -> impl Future<Output = Result<(), Error>> + Send;
    /// Removes namespaces that carry our mark and no network's name that `needed` knows.
    fn sweep_namespaces(&self, kept: &[String]) -> impl Future<Output = Result<(), Error>> + Send;
}

/// This host's hands.
pub struct HostHands {
    /// Directories.
    pub layout: Layout,
    /// Names.
    pub names: Names,
    /// Namespaces.
    pub namespaces: Namespaces,
    /// Taps in use.
    pub taps: Arc<Taps>,
    /// User ids.
    pub user_ids: Arc<UserIds>,
    /// The way to other hosts.
    pub underlay: Arc<Underlay>,
    /// The ways of nodes to the API.
    pub node_doors: NodeDoors,
    /// The zones of the tenants.
    pub tenants: Tenants,
    /// Arguments by which our own program becomes a name server.
    pub name_server: Vec<String>,
    /// What the backends of load balancers answer.
    pub health: Arc<Health>,
    /// Conversations with backends that are no more.
    pub drains: Drains,
    /// What is known of the reservations that dnsmasqs were told.
    pub dhcp: dnsmasq::Memory,
    /// Where ways out end, if there are any here.
    pub outside: Option<Outside>,
    /// How long routers may be here.
    pub tenure: Arc<Tenure>,
    /// Held by who lays a router's cables or removes it: several networks share one.
    pub laying: tokio::sync::Mutex<()>,
    /// Open doors, by namespace: a namespace whose name somebody removed is thereby still ours to name again.
    pub doors: Doors,
}

impl Hands for HostHands {
    async fn ensure_namespaces(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        let mut changes = Vec::new();
        layout::ensure_owned(&self.layout.network(&wanted.owner.uid), &wanted.owner)?;
        for name in [&wanted.underlay, &wanted.netns] {
            changes.extend(self.open(name).await?);
        }
        Ok(changes)
    }

    async fn ensure_bridge(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        let (namespace, links) = self.door(wanted)?;
        let bridge = Bridge {
            name: link(&wanted.bridge)?,
            addresses: addresses(wanted),
            mtu: wanted.mtu,
            alias: wanted.owner.uid.clone(),
        };
        prepare_six(&namespace, wanted).await?;
        let changes = links.ensure_bridge(&bridge).await.map_err(|source| link_failed("set up the bridge", source))?;
        let routes = route_between(&namespace, &bridge.name, wanted).await?;
        let led = lead_on(&links, &bridge.name, wanted).await?;
        Ok(changes.into_iter().chain(routes).chain(led).collect())
    }

    async fn ensure_guard(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        let place = self.filter_place(wanted, &wanted.filter)?;
        let guests = wanted.ports.iter().map(|port| guest(port, wanted)).collect::<Result<Vec<_>, _>>()?;
        let dir = self.layout.network(&wanted.owner.uid);
        // One that is lost or damaged means that the filter is written once more.
        let before: Stands = layout::recall(&dir, FILTER).unwrap_or_default();
        let mut stands = before.clone();
        let done = guard::ensure(&place, &guests, &mut stands).await;
        let done = done.map_err(|source| nft_failed("guard the ports", source))?;
        if stands != before {
            layout::note(&dir, FILTER, &stands)?;
        }
        Ok(done.into_iter().collect())
    }

    async fn ensure_firewall(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        let dir = self.layout.network(&wanted.owner.uid);
        let before: Option<firewall::Stands> = layout::recall(&dir, FIREWALL);
        let failed = |source| nft_failed("enforce security groups", source);
        let Some(policy) = &wanted.policy else {
            if dir.join(FIREWALL).exists() {
                firewall::remove(&self.filter_place(wanted, &wanted.firewall)?).await.map_err(failed)?;
                layout::forget(&dir, FIREWALL)?;
            }
            return Ok(Vec::new());
        };
        let place = self.filter_place(wanted, &wanted.firewall)?;
        if before.is_none() {
            // Whoever finds the file knows that there may be tables to remove.
            layout::note(&dir, FIREWALL, &firewall::Stands::default())?;
        }
        let before = before.unwrap_or_default();
        let mut stands = before.clone();
        let done = firewall::ensure(&place, policy, &mut stands).await.map_err(failed)?;
        if stands != before {
            layout::note(&dir, FIREWALL, &stands)?;
        }
        Ok(done.into_iter().collect())
    }

    async fn ensure_reach(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        let (namespace, links) = self.door(wanted)?;
        let (tunnel, bridge) = (link(&wanted.tunnel)?, link(&wanted.bridge)?);
        let failed = |source| link_failed("set up the way to other hosts", source);
        match &wanted.reach {
            Reach::Unknown => Ok(Vec::new()),
            Reach::Here => {
                let mut changes = links.ensure_peers(&tunnel, &bridge, &[]).await.map_err(failed)?;
                changes.extend(links.delete(&tunnel).await.map_err(failed)?);
                Ok(changes.into_iter().collect())
            }
            Reach::Across { vni, peers } => {
                let (underlay, underlay_links) = self.door_of(&wanted.underlay)?;
                let joined = self.underlay.ensure(&underlay, &underlay_links).await;
                let mut changes = joined.map_err(underlay_failed)?;
                let vxlan = Vxlan {
                    name: tunnel.clone(),
                    vni: *vni,
                    local: self.underlay.address(),
                    bridge: bridge.clone(),
                    mtu: wanted.mtu,
                    alias: wanted.owner.uid.clone(),
                };
                changes.extend(links.ensure_vxlan(&underlay_links, &namespace, &vxlan).await.map_err(failed)?);
                let peers: Vec<Peer> = peers.iter().flat_map(Elsewhere::entries).collect();
                changes.extend(links.ensure_peers(&tunnel, &bridge, &peers).await.map_err(failed)?);
                Ok(changes)
            }
        }
    }

    async fn ensure_legs(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        self.lay_legs(wanted).await
    }

    async fn ensure_taps(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        self.plug(wanted).await
    }

    async fn ensure_api_door(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        let (namespace, _) = self.door(wanted)?;
        let done = self.node_doors.ensure(&namespace, wanted).await;
        let done = done.map_err(|source| Error::Host {
            step: "open the way to the API".to_owned(),
            category: source.category(),
            retry: true,
            source: source.into(),
        })?;
        Ok(done.into_iter().collect())
    }

    async fn ensure_dhcp(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        let state = self.dhcp_state(&wanted.owner.uid);
        let Some(dhcp) = &wanted.dhcp else {
            let removed = dnsmasq::remove(&state, &wanted.owner.uid).await;
            return Ok(removed.map_err(|source| dhcp_failed("stop DHCP", source))?.into_iter().collect());
        };
        let ((namespace, links), memory) = (self.door(wanted)?, self.dhcp.clone());
        let id = self.user_ids.take(&wanted.owner.uid).map_err(|source| Error::Host {
            step: "find a user for DHCP".to_owned(),
            category: source.category(),
            retry: true,
            source: source.into(),
        })?;
        let program = process::find_program("dnsmasq", "CLUSTERCTL_DNSMASQ");
        let program = program.map_err(|source| dhcp_failed("serve DHCP", dnsmasq::Error::from(source)))?;
        let place = dnsmasq::Place { namespace, links, state, uid_gid: (id, id), program, memory };
        let reservations = wanted.ports.iter().map(reservation).collect::<Result<Vec<_>, _>>()?;
        let done = dnsmasq::ensure(&place, &server(wanted, dhcp)?, &reservations).await;
        Ok(done.map_err(|source| dhcp_failed("serve DHCP", source))?.into_iter().collect())
    }

    async fn ensure_balancer(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        self.balance(wanted).await
    }

    async fn ensure_proxy(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        self.proxy(wanted).await
    }

    async fn ensure_dns(&self, wanted: &Wanted) -> Result<Vec<Change>, Error> {
        self.serve_names(wanted).await
    }

    async fn watch(&self, wanted: &Wanted, wake: Box<dyn Fn() + Send + Sync>) -> Result<JoinHandle<()>, Error> {
        self.watch_network(wanted, wake).await
    }

    async fn remove(&self, uid: &str, netns: &str) -> Result<(), Error> {
        let mut failures = Vec::new();
        self.node_doors.close(netns);
        self.doors.close(netns);
        self.tenants.forget(uid);
        self.health.forget(uid);
        self.drains.forget(uid);
        failures.extend(proxy::remove(&self.proxy_state(uid), uid).await.err().map(|error| sentence(&error)));
        failures.extend(nameserver::remove(&self.dns_state(uid), uid).await.err().map(|error| sentence(&error)));
        failures.extend(dnsmasq::remove(&self.dhcp_state(uid), uid).await.err().map(|error| sentence(&error)));
        failures.extend(self.namespaces.delete(netns).await.err().map(|error| sentence(&error)));
        if failures.is_empty() {
            // Last: as long as the directory is there, a later run knows what to remove.
            layout::remove(&self.layout.network(uid))?;
            for owner in [uid.to_owned(), naming::user_of(uid), proxying::user_of(uid)] {
                failures.extend(self.user_ids.give_back(&owner).err().map(|error| sentence(&error)));
            }
        }
        if self.layout.carries_no_network() {
            failures.extend(self.underlay.leave().await.err().map(|error| sentence(&error)));
        }
        if self.layout.is_idle() {
            let underlay = self.names.underlay();
            self.doors.close(&underlay);
            failures.extend(self.namespaces.delete(&underlay).await.err().map(|error| sentence(&error)));
        }
        match failures.is_empty() {
            true => Ok(()),
            false => Err(Error::Removal { network: uid.to_owned(), failures }),
        }
    }

    async fn remove_routers(&self, needed: &BTreeSet<String>) -> Result<(), Error> {
        self.forget_routers(needed).await
    }

    async fn sweep_namespaces(&self, kept: &[String]) -> Result<(), Error> {
        let prefix = self.names.namespace_prefix();
        let all = self.namespaces.list(&prefix).map_err(|source| netns_failed("list network namespaces", source))?;
        if !kept.contains(&self.names.underlay()) {
            self.underlay.leave().await.map_err(underlay_failed)?;
        }
        for name in all.iter().filter(|name| !kept.contains(name)) {
            tracing::info!(name, "removing a network namespace of ours that nothing needs");
            self.node_doors.close(name);
            self.doors.close(name);
            let deleted = self.namespaces.delete(name).await;
            deleted.map_err(|source| netns_failed("delete a network namespace", source))?;
        }
        Ok(())
    }
}

impl HostHands {
    pub(super) fn dhcp_state(&self, uid: &str) -> PathBuf {
        self.layout.network(uid).join("dnsmasq")
    }

    /// Where a table of the packet filter is, and what writes it.
    pub(super) fn filter_place(&self, wanted: &Wanted, table: &str) -> Result<Place, Error> {
        let (namespace, _) = self.door(wanted)?;
        self.filter_in(namespace, table)
    }

    /// The same in another namespace than a network's.
    pub(super) fn filter_in(&self, namespace: Namespace, table: &str) -> Result<Place, Error> {
        let program = process::find_program("nft", "CLUSTERCTL_NFT").map_err(|source| Error::Host {
            step: "filter packets".to_owned(),
            category: "ProgramNotFound",
            retry: true,
            source: source.into(),
        })?;
        Ok(Place { namespace, program, table: link(table)? })
    }

    pub(super) fn dns_state(&self, uid: &str) -> PathBuf {
        self.layout.network(uid).join("dns")
    }

    pub(super) fn door(&self, wanted: &Wanted) -> Result<(Namespace, Links), Error> {
        self.door_of(&wanted.netns)
    }

    pub(super) fn door_of(&self, netns: &str) -> Result<(Namespace, Links), Error> {
        self.doors
            .get(netns)
            .ok_or_else(|| netns_failed("open a network namespace", netns::Error::NotFound { name: netns.to_owned() }))
    }
}

pub(super) fn netns_failed(step: &str, source: netns::Error) -> Error {
    Error::Host { step: step.to_owned(), category: source.category(), retry: source.retry(), source: source.into() }
}

pub(super) fn link_failed(step: &str, source: host::link::Error) -> Error {
    Error::Host { step: step.to_owned(), category: source.category(), retry: source.retry(), source: source.into() }
}

pub(super) fn nft_failed(step: &str, source: nft::Error) -> Error {
    Error::Host { step: step.to_owned(), category: source.category(), retry: source.retry(), source: source.into() }
}
