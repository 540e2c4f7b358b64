//! Who answers at a service's address, and whether the asker reaches them.
//!
//! A connection is shared out among backends, on the asker's host. What is shared by the kernel is judged as if it had been sent to the
//! backend itself, at both ends. Requests go to a proxy first: the asker's groups judge the way to the service's own address, a
//! backend's groups judge the asker, under whose address the proxy speaks.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crds::load_balancer::judge::is_lost;
use crds::load_balancer::{BackendGroup, Listener};
use crds::security_group::RuleDirection;
use crds::{LoadBalancer, Port, ServiceIP};
use kube::ResourceExt;
use serde::Serialize;
use traffic::Conversation;

use crate::endpoint::Endpoint;
use crate::verdict::Verdict;
use crate::world::World;

/// Services of all namespaces, with what decides about them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Services {
    addresses: Vec<ServiceIP>,
    balancers: Vec<LoadBalancer>,
    ports: Vec<Port>,
}

impl Services {
    /// What is being deleted serves nobody.
    pub(crate) fn of(addresses: Vec<ServiceIP>, balancers: Vec<LoadBalancer>, ports: &[Port]) -> Services {
        let ports = if balancers.is_empty() { Vec::new() } else { ports.to_vec() };
        let mut services = Services { addresses, balancers, ports };
        services.addresses.retain(|one| one.metadata.deletion_timestamp.is_none());
        services.balancers.retain(|one| one.metadata.deletion_timestamp.is_none());
        services
    }
}

/// A backend, as one asker finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// Its Port.
    pub port: String,
    /// Port that it is spoken to at.
    pub target: u16,
    /// Which field of the LoadBalancer selects it.
    pub selected_by: String,
    /// Why it gets nothing new; none when it does.
    pub idle: Option<String>,
    /// Whether the asker reaches it; none when it is the asker himself, which is not derived.
    pub verdict: Option<Verdict>,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// Every backend that gets connections is reached.
    Open,
    /// Some of them are: it depends on whose turn it is.
    Partly,
    /// None is.
    Closed,
    /// Nobody is behind the address there. Connections are refused, HTTP requests answered with 503.
    Nobody,
    /// It is not derived.
    Unknown,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Partly => "partly open",
            Self::Closed => "closed",
            Self::Nobody => "nobody answers",
            Self::Unknown => "unknown",
        })
    }
}

/// What is derived about one asker, one service and one conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The service's address.
    pub address: Option<Ipv4Addr>,
    /// The LoadBalancer that has the port there.
    pub balancer: Option<String>,
    /// Who is selected.
    pub behind: Vec<Behind>,
    /// What becomes of it.
    pub outcome: Outcome,
    /// Why, as a sentence.
    pub why: String,
}

impl World {
    /// The names of the namespace's services.
    pub fn services(&self, namespace: &str) -> impl Iterator<Item = String> {
        let of_it = self.services.addresses.iter().filter(move |one| one.namespace().as_deref() == Some(namespace));
        of_it.map(ServiceIP::name_any)
    }

    /// What becomes of `what` that `from` says to the service of its namespace; none when there is no such service.
    #[must_use]
    pub fn served(&self, from: &Endpoint, service: &str, what: Conversation) -> Option<Served> {
        let named = |one: &&ServiceIP| one.namespace().as_deref() == Some(&from.namespace) && one.name_any() == service;
        let service = self.services.addresses.iter().find(named)?;
        let mut served = Served {
            address: service.address(),
            balancer: None,
            behind: Vec::new(),
            outcome: Outcome::Nobody,
            why: String::new(),
        };
        (served.outcome, served.why) = match self.found(from, service, what) {
            Err((outcome, why)) => (outcome, why),
            Ok((balancer, listener, address)) => {
                served.balancer = Some(balancer.name_any());
                served.behind = self.behind(from, balancer, listener, address);
                sum_up(&served.behind, listener)
            }
        };
        Some(served)
    }

    /// Who has the port at the service's address.
    fn found(
        &self,
        from: &Endpoint,
        service: &ServiceIP,
        what: Conversation,
    ) -> Result<(&LoadBalancer, &Listener, Ipv4Addr), (Outcome, String)> {
        let name = service.name_any();
        if service.spec.external_network.is_some() {
            return Err((
                Outcome::Unknown,
                format!("ServiceIP {name} is a floating address, which is spoken to from outside"),
            ));
        }
        if service.spec.network != from.network {
            let why = format!(
                "ServiceIP {name} is of TenantNetwork {}; what Routers lead to services is not derived",
                service.spec.network
            );
            return Err((Outcome::Unknown, why));
        }
        let (is_udp, port) = match what {
            Conversation::Tcp(port) => (false, port),
            Conversation::Udp(port) => (true, port),
            other => {
                return Err((
                    Outcome::Unknown,
                    format!("services are spoken to by tcp and udp, over IPv4, and {other} is neither"),
                ));
            }
        };
        let Some(address) = service.address() else {
            return Err((Outcome::Nobody, format!("ServiceIP {name} has no address yet")));
        };
        let tenants: Vec<Tenants<'_>> =
            self.services.balancers.iter().filter(|one| one.namespace() == service.namespace()).map(Tenants).collect();
        let listens = |one: &Listener| (one.protocol.is_udp(), one.port) == (is_udp, port);
        let found = tenants.iter().filter(|one| one.0.spec.service_ip == name).find_map(|Tenants(balancer)| {
            let own = |listener: &&Listener| balancer.holder_of(listener, &tenants).is_none();
            Some((*balancer, balancer.spec.listeners.iter().filter(own).find(|one| listens(one))?))
        });
        let Some((balancer, listener)) = found else {
            return Err((
                Outcome::Nobody,
                format!("no LoadBalancer has {what} at {address}, so connections are refused"),
            ));
        };
        let shows = || balancer.shown().any(|(secret, _)| listener.secrets().any(|named| named == secret));
        if listener.tls.is_some() && !shows() {
            let why =
                format!("LoadBalancer {} has no certificate to show, so connections are refused", balancer.name_any());
            return Err((Outcome::Nobody, why));
        }
        Ok((balancer, listener, address))
    }

    fn behind(&self, from: &Endpoint, balancer: &LoadBalancer, listener: &Listener, address: Ipv4Addr) -> Vec<Behind> {
        let mut all = self.of_groups(
            from,
            balancer,
            listener,
            address,
            (&balancer.spec.backends, "spec.backends".to_owned(), None),
        );
        if listener.protocol.is_http() {
            for (index, route) in balancer.spec.routes.iter().enumerate() {
                let groups = (route.backends.as_slice(), format!("spec.routes[{index}].backends"), route.target_port);
                all.extend(self.of_groups(from, balancer, listener, address, groups));
            }
        }
        all
    }

    fn of_groups(
        &self,
        from: &Endpoint,
        balancer: &LoadBalancer,
        listener: &Listener,
        address: Ipv4Addr,
        (groups, selected_by, target): (&[BackendGroup], String, Option<u16>),
    ) -> Vec<Behind> {
        let target = target.unwrap_or(listener.target());
        let of_network =
            self.services.ports.iter().filter(|port| {
                port.namespace().as_deref() == Some(&from.namespace) && port.spec.network == from.network
            });
        let behind = |port: &Port| {
            let backend = balancer.backend_of(groups, port)?;
            let name = port.name_any();
            let to = self.find(&from.namespace, &name)?;
            let lost = to.host.as_deref().and_then(|host| self.host(host)).is_some_and(is_lost);
            let idle = match () {
                () if backend.weight == 0 => Some("its weight is 0".to_owned()),
                () if lost => Some(format!("its Host {} is lost", to.host.as_deref().unwrap_or_default())),
                () if !backend.healthy => Some("it does not answer the health check".to_owned()),
                () => to.absent.clone(),
            };
            let verdict = (to.name != from.name).then(|| self.share(from, to, listener, target, address));
            Some(Behind { port: name, target, selected_by: selected_by.clone(), idle, verdict })
        };
        of_network.filter_map(behind).collect()
    }

    /// Whether the asker reaches that backend.
    fn share(&self, from: &Endpoint, to: &Endpoint, listener: &Listener, target: u16, address: Ipv4Addr) -> Verdict {
        let what = if listener.protocol.is_udp() { Conversation::Udp(target) } else { Conversation::Tcp(target) };
        match self.verdict(from, to, what) {
            Verdict::Judged { into, .. } if listener.protocol.is_http() => {
                let asked = Conversation::Tcp(listener.port);
                Verdict::Judged { out: self.ruling(from, RuleDirection::Egress, asked, IpAddr::V4(address)), into }
            }
            verdict => verdict,
        }
    }
}

/// A LoadBalancer of the tenant, as whom another's age is compared with.
struct Tenants<'a>(&'a LoadBalancer);

impl AsRef<LoadBalancer> for Tenants<'_> {
    fn as_ref(&self) -> &LoadBalancer {
        self.0
    }
}

fn sum_up(behind: &[Behind], listener: &Listener) -> (Outcome, String) {
    let active: Vec<&Behind> = behind.iter().filter(|one| one.idle.is_none()).collect();
    let judged: Vec<&Verdict> = active.iter().filter_map(|one| one.verdict.as_ref()).collect();
    let open = judged.iter().filter(|verdict| verdict.is_open()).count();
    match (active.len(), judged.len()) {
        (0, _) => {
            let end =
                if listener.protocol.is_http() { "requests are answered with 503" } else { "connections are refused" };
            (Outcome::Nobody, format!("none of its {} backends gets anything new, so {end}", behind.len()))
        }
        (_, 0) => (Outcome::Unknown, "only the asker himself is behind it, which is not derived".to_owned()),
        (_, all) => {
            let why = format!("reached are {open} of the {all} backends that get connections");
            let closed = judged.iter().find(|verdict| !verdict.is_open());
            let why = closed.map_or(why.clone(), |verdict| format!("{why}; the others not: {verdict}"));
            let outcome = if open == all {
                Outcome::Open
            } else if open > 0 {
                Outcome::Partly
            } else {
                Outcome::Closed
            };
            (outcome, why)
        }
    }
}
