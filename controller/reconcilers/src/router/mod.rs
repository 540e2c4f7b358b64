//! Router: whether it can be, which host has it, and the Ports that hold its addresses.
//!
//! A router's address in a network is a Port that the router owns, on the elected host. So everything that leads to a guest leads to
//! it, too: who has which address, what hosts know of each other's, and that a network is carried where a Port of it is.
//!
//! ```text
//!  judge ──► elect ── another host? ──► status: host, term ──► (woken again)
//!                          │ no
//!                          └──► Ports: made, brought to the host, removed ──► status: what is in force
//! ```
//!
//! The elected host is told first and its Ports come after, so that of a host that no longer counts nobody is told as the new one.

mod outside;
mod plan;
mod status;

use crate::subnet::{Giving, Problem};
use crate::{Error, GATHER, write};
use control_loop::{ControlLoop, Pace, Reconciler};
use crds::{ExternalNetwork, Host, Port, PortSpec, Router, ServiceIP, TenantNetwork};
use kube::api::{DeleteParams, ListParams};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource, ResourceExt};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use outside::Around;
use plan::{Joined, Judged};

struct Routers {
    client: Client,
    recorder: Recorder,
    giving: Giving,
}

/// Runs the reconciler until `shutdown`. One at a time: of two routers that contradict each other one is judged first.
pub async fn run(client: Client, giving: Giving, shutdown: CancellationToken) {
    let recorder = Recorder::new(client.clone(), Reporter { controller: "router".to_owned(), instance: None });
    let control = ControlLoop::new(Api::<Router>::all(client.clone()), shutdown);
    let (of_network, of_host, others) = (control.cache(), control.cache(), control.cache());
    let (of_service, of_external) = (control.cache(), control.cache());
    control
        .owns(Api::<Port>::all(client.clone()))
        .wakes(Api::<TenantNetwork>::all(client.clone()), move |network: &TenantNetwork| {
            let (namespace, name) = (network.namespace(), network.name_any());
            of_network.names(|router| router.namespace() == namespace && router.spec.networks.contains(&name))
        })
        .wakes(Api::<Host>::all(client.clone()), move |_| of_host.names(|_| true))
        .wakes(Api::<ServiceIP>::all(client.clone()), move |service: &ServiceIP| {
            let (namespace, external) = (service.namespace(), service.spec.external_network.as_ref());
            of_service
                .names(|router| external.is_some() && goes_out(router, external) && router.namespace() == namespace)
        })
        .wakes(Api::<ExternalNetwork>::all(client.clone()), move |external: &ExternalNetwork| {
            let name = external.name_any();
            of_external.names(|router| goes_out(router, Some(&name)))
        })
        .wakes_kin(move |changed: &Router| {
            let (name, namespace) = (changed.name_any(), changed.namespace());
            others.names(|router| router.namespace() == namespace && router.name_any() != name)
        })
        .run(Routers { client, recorder, giving }, Pace::at_once(1).gathering(GATHER))
        .await;
}

/// Whether the router asks for a way out by the ExternalNetwork of that name.
fn goes_out(router: &Router, by: Option<&String>) -> bool {
    router.spec.external.as_ref().map(|way| &way.network) == by
}

impl Reconciler for Routers {
    type Kind = Router;
    type Error = Error;

    async fn reconcile(&self, router: Arc<Router>) -> Result<Action, Error> {
        if router.metadata.deletion_timestamp.is_some() {
            // Its Ports are its own, and go with it.
            return Ok(Action::await_change());
        }
        let routers: Api<Router> = write::api_of(&self.client, router.as_ref())?;
        let all = ListParams::default();
        let others = routers.list(&all).await.map_err(Error::api("list Routers"))?.items;
        let networks: Api<TenantNetwork> = write::api_of(&self.client, router.as_ref())?;
        let networks = networks.list(&all).await.map_err(Error::api("list TenantNetworks"))?.items;
        let hosts = Api::<Host>::all(self.client.clone()).list(&all).await.map_err(Error::api("list Hosts"))?.items;
        let ports: Api<Port> = write::api_of(&self.client, router.as_ref())?;
        let there = ports.list(&all).await.map_err(Error::api("list Ports"))?.items;

        let joined = plan::judge(&router, &networks, &others).and_then(|joined| match stranger(&router, &there) {
            Some(problem) => Err(problem),
            None => Ok(joined),
        });
        // Held until the address is written: ServiceIPs have theirs of the same ranges.
        let giving = self.giving.lock().await;
        let judged = match joined {
            Ok(joined) => self.with_way_out(&router, joined).await?,
            Err(problem) => Err(problem),
        };
        let host = plan::elect(&router, &hosts);
        let legs: Vec<Port> = there.into_iter().filter(|port| write::is_owned_by(port, router.as_ref())).collect();
        let before = router.status.clone().unwrap_or_default();
        let elected = host.as_ref().filter(|host| before.host.as_ref() != Some(*host));
        let term = before.term + i64::from(elected.is_some());
        let told = status::status(&router, judged.as_ref(), host.as_deref(), term, &legs);
        write::status(&routers, &router, told).await?;
        drop(giving);
        if let Some(elected) = elected {
            // That write wakes this again.
            self.tell(&router, before.host.as_deref(), elected, term).await?;
            return Ok(Action::await_change());
        }
        if let (Ok(judged), Some(host)) = (&judged, &host) {
            let wanted: Vec<&str> = judged.joined.iter().map(|one| one.network.as_str()).collect();
            settle(&ports, &router, &wanted, &legs, host).await?;
        } else if let Some(host) = &host {
            // What is in force goes on, and moves.
            let wanted: Vec<&str> = before.interfaces.iter().map(|one| one.network.as_str()).collect();
            settle(&ports, &router, &wanted, &legs, host).await?;
        }
        Ok(Action::await_change())
    }
}

impl Routers {
    /// Adds the way out, if one is asked for, to the networks that the router joins.
    async fn with_way_out(&self, router: &Router, joined: Vec<Joined>) -> Result<Result<Judged, Problem>, Error> {
        if router.spec.external.is_none() {
            return Ok(Ok(Judged { joined, external: None }));
        }
        let all = ListParams::default();
        let externals = Api::<ExternalNetwork>::all(self.client.clone()).list(&all).await;
        let externals = externals.map_err(Error::api("list ExternalNetworks"))?.items;
        let routers = Api::<Router>::all(self.client.clone()).list(&all).await;
        let routers = routers.map_err(Error::api("list Routers"))?.items;
        let services = Api::<ServiceIP>::all(self.client.clone()).list(&all).await;
        let services = services.map_err(Error::api("list ServiceIPs"))?.items;
        let around = Around { externals: &externals, routers: &routers, services: &services };
        Ok(outside::way_out(router, &joined, &around).map(|external| Judged { joined, external }))
    }

    async fn tell(&self, router: &Router, before: Option<&str>, host: &str, term: i64) -> Result<(), Error> {
        let (type_, reason, note) = match before {
            None => (EventType::Normal, "Elected", format!("The router is on {host}, in term {term}.")),
            Some(lost) => {
                (EventType::Warning, "Moved", format!("{lost} is lost; the router is on {host}, in term {term}."))
            }
        };
        tracing::info!(router = router.name_any(), host, term, "a host was elected");
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Electing".to_owned(),
            secondary: None,
        };
        self.recorder.publish(&event, &router.object_ref(&())).await.map_err(Error::api("record an Event"))
    }
}

/// Somebody else's Port under the name of one of the router's.
fn stranger(router: &Router, ports: &[Port]) -> Option<Problem> {
    router.spec.networks.iter().enumerate().find_map(|(index, network)| {
        let name = plan::leg(router, network);
        let other = ports.iter().find(|port| port.name_any() == name && !write::is_owned_by(*port, router))?;
        let message = format!("spec.networks[{index}]: Port {} is not the router's; delete it", other.name_any());
        Some(Problem { reason: "PortTaken", message })
    })
}

/// Makes the router's Ports, brings them to the host, and removes those of networks that it is not on any more.
async fn settle(ports: &Api<Port>, router: &Router, wanted: &[&str], legs: &[Port], host: &str) -> Result<(), Error> {
    let name_of = |network: &str| plan::leg(router, network);
    for leg in legs.iter().filter(|leg| leg.metadata.deletion_timestamp.is_none()) {
        let name = leg.name_any();
        if !wanted.iter().any(|network| name_of(network) == name) {
            match ports.delete(&name, &DeleteParams::default()).await {
                Err(error) if !crate::error::is_not_found(&error) => {
                    return Err(Error::api(format!("delete Port {name}"))(error));
                }
                _ => {}
            }
        } else if leg.spec.host.as_deref() != Some(host) {
            write::merge(ports, leg, serde_json::json!({"spec": {"host": host}})).await?;
        }
    }
    for network in wanted.iter().filter(|network| !legs.iter().any(|leg| leg.name_any() == name_of(network))) {
        let spec: PortSpec = PortSpec { host: Some(host.to_owned()), ..port_on(network) };
        let mut port = Port::new(&name_of(network), spec);
        port.metadata.namespace = router.namespace();
        port.metadata.owner_references = router.controller_owner_ref(&()).map(|owner| vec![owner]);
        write::create(ports, &port).await?;
    }
    Ok(())
}

fn port_on(network: &str) -> PortSpec {
    PortSpec {
        network: network.to_owned(),
        subnet: None,
        ipv6_subnet: None,
        ipv6: None,
        ip: None,
        mac: None,
        hostname: None,
        allowed_addresses: Vec::new(),
        bandwidth: None,
        security_groups: Vec::new(),
        host: None,
    }
}
