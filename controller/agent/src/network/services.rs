//! What service addresses and load balancers make of a network here: pure.
//!
//! Every host that carries the network does the same: it answers for the addresses and translates what its own guests send to them.
//! What each must know is in the objects, and in what the hosts say of their own ports' health.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crds::load_balancer::{BackendGroup, HealthCheck, Listener};
use crds::{LoadBalancer, Port, ServiceIP};
use host::balancer::{Backend, Balancer, Protocol, Proxied, Service, ServiceId};
use host::link::stable_mac;
use host::proxy::{Certificate, Proxy};
use ipnet::Ipv4Net;
use kube::ResourceExt;

use super::certificates::Shown;
use super::error::Error;
use super::groups::Ability;
use super::plan::{Refused, Wanted, WantedPort};
use super::reach::Reach;
use super::routes::{self, Answerer};
use super::terms::link;
use control_loop::{Failure, sentence};

/// A network's services on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services {
    /// Addresses that this host answers for.
    pub addresses: Vec<ServiceAddress>,
    /// Connections to them, when there is a load balancer and this host can translate.
    pub balancer: Option<Balancer>,
    /// The requests in them, when there is one for HTTP and this host can translate.
    pub proxy: Option<Proxy>,
    /// Whether a certificate has not been read yet; what serves requests is not changed before.
    pub is_awaiting: bool,
    /// Why a certificate cannot be read.
    pub trouble: Option<String>,
    /// How long connections to a backend may go on that gets no new ones, in seconds.
    pub drains: BTreeMap<ServiceId, u32>,
    /// What is asked of the backends here.
    pub checks: Vec<Check>,
    /// Whether all ports have been heard; nothing is changed before.
    pub complete: bool,
}

/// An address with its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAddress {
    /// The ServiceIP's name.
    pub name: String,
    /// Those of the load balancers that have it, in order.
    pub balancers: Vec<String>,
    /// The address.
    pub address: Ipv4Addr,
}

/// A question that a port is asked again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// UID of the port.
    pub port: String,
    /// Its name.
    pub name: String,
    /// Name of the load balancer that wants to know.
    pub balancer: String,
    /// Address and port that are asked.
    pub target: (Ipv4Addr, u16),
    /// What, and how often.
    pub question: HealthCheck,
    /// What the port was said to be when the question was first asked.
    pub told: bool,
}

/// Takes the addresses that services have from the ports here that claim them, and notes them. Before anything else looks at who
/// has which address.
pub fn settle(wanted: &mut Wanted, all: &[Arc<ServiceIP>]) {
    let subnets = wanted.subnets.clone();
    let of_it =
        all.iter().filter(|one| one.spec.network == wanted.owner.name && one.metadata.deletion_timestamp.is_none());
    let mut addresses: Vec<ServiceAddress> = of_it
        .filter_map(|one| {
            let address = one.address().filter(|ip| subnets.is_usable(*ip))?;
            Some(ServiceAddress { name: one.name_any(), balancers: Vec::new(), address })
        })
        .collect();
    addresses.sort_by(|a, b| (a.address, &a.name).cmp(&(b.address, &b.name)));
    addresses.dedup_by_key(|one| one.address);
    let holder = |ip: &IpAddr| addresses.iter().find(|one| IpAddr::V4(one.address) == *ip).map(|one| one.name.clone());
    let refuse = |port: &WantedPort, field: &'static str, address: IpAddr, service: String| {
        let error = Error::OfService { port: port.name.clone(), field, address: address.to_string(), service };
        Refused { uid: port.uid.clone(), name: port.name.clone(), reason: error.category(), message: sentence(&error) }
    };
    for mut port in std::mem::take(&mut wanted.ports) {
        let taken = port.said().find_map(|(field, address)| Some((field, address, holder(&address)?)));
        if let Some((field, address, service)) = taken {
            wanted.refused.push(refuse(&port, field, address, service));
            continue;
        }
        for address in std::mem::take(&mut port.further) {
            match holder(&address) {
                Some(service) => wanted.refused.push(refuse(&port, "spec.allowedAddresses", address, service)),
                None => port.further.push(address),
            }
        }
        wanted.ports.push(port);
    }
    wanted.services.addresses = addresses;
}

/// Adds what the load balancers say. `ports`: the network's, on all hosts; `shown`: the certificates that there are; `healthy`: what was
/// found out here of a port (by UID) that a load balancer (by name) checks.
pub fn balance(
    wanted: &mut Wanted,
    balancers: &[Arc<LoadBalancer>],
    ports: &[Arc<Port>],
    ability: &Ability,
    shown: Shown,
    healthy: impl Fn(&str, &str) -> Option<bool>,
) -> Result<(), Error> {
    let mut services = std::mem::take(&mut wanted.services);
    (services.is_awaiting, services.trouble) = (shown.is_awaited, shown.trouble.clone());
    services.complete = !matches!(wanted.reach, Reach::Unknown);
    let live: Vec<Arc<LoadBalancer>> =
        balancers.iter().filter(|one| one.metadata.deletion_timestamp.is_none()).cloned().collect();
    let (mut all, mut here, mut proxy) = (Vec::new(), BTreeMap::new(), Proxy::default());
    let mut ordered: Vec<&Arc<LoadBalancer>> = live.iter().collect();
    ordered.sort_by_key(|one| one.name_any());
    for balancer in ordered {
        let name = balancer.name_any();
        let vip = services.addresses.iter_mut().find(|one| one.name == balancer.spec.service_ip);
        let Some(vip) = vip else { continue };
        vip.balancers.push(name.clone());
        let mut answerers = Vec::new();
        for port in ports {
            let (Some(backend), Some(address)) = (balancer.backend(port), reachable(wanted, port)) else { continue };
            let uid = port.uid().unwrap_or_default();
            let local = wanted.ports.iter().find(|one| one.uid == uid);
            if let Some(local) = local {
                here.insert(local.tap.clone(), address);
                services.checks.extend(check(balancer, port, local, backend.healthy));
            }
            let found = local.and_then(|_| healthy(&uid, &name)).filter(|_| balancer.spec.health_check.is_some());
            let share = move |groups: &[BackendGroup]| {
                let one = balancer.backend_of(groups, port)?;
                (one.weight > 0 && found.unwrap_or(one.healthy)).then_some(one.weight)
            };
            answerers.push(Answerer { address, share: Box::new(share) });
        }
        for listener in balancer.own_listeners(&live) {
            if listener.protocol.is_http() {
                let tls = listener.tls.as_ref().map(|_| certificates(balancer, listener, &shown));
                if tls.as_ref().is_some_and(Vec::is_empty) {
                    // With nothing to show nobody listens; the load balancer says why.
                    continue;
                }
                proxy.listeners.push(routes::listener(balancer, listener, vip.address, tls, &answerers)?);
                proxy.drain = proxy.drain.max(balancer.spec.drain_seconds);
                continue;
            }
            let service = service(balancer, listener, vip.address, backends(&balancer.spec.backends, &answerers));
            services.drains.insert(service.id, balancer.spec.drain_seconds);
            all.push(service);
        }
    }
    let is_proxied = services.is_awaiting || !proxy.listeners.is_empty();
    // Services are of IPv4.
    let gateway = wanted.subnets.all().next().map(|subnet| subnet.gateway);
    if let Some(gateway) = gateway.filter(|_| ability.is_ok() && (is_proxied || !all.is_empty())) {
        let here = here.into_iter().map(|(tap, address)| Ok((link(&tap)?, address)));
        let own = services.addresses.iter().map(|one| one.address);
        let own = wanted.subnets.all().map(|subnet| subnet.gateway).chain(own).collect();
        services.proxy = is_proxied.then_some(proxy);
        services.balancer = Some(Balancer {
            services: all,
            here: here.collect::<Result<_, Error>>()?,
            gateway,
            subnets: ranges(wanted),
            proxy: services.proxy.is_some().then(|| Proxied { mac: stable_mac(&wanted.owner.uid), own }),
        });
    }
    wanted.services = services;
    Ok(())
}

/// What the listener shows: those of its certificates that are found good, in its order.
fn certificates(balancer: &LoadBalancer, listener: &Listener, shown: &Shown) -> Vec<Certificate> {
    let good: BTreeSet<&str> = balancer.shown().map(|(secret, _)| secret).collect();
    let named = listener.secrets().filter(|secret| good.contains(secret));
    named.filter_map(|secret| shown.certificates.get(secret).cloned()).collect()
}

/// Connections to the listener at that address.
fn service(balancer: &LoadBalancer, listener: &Listener, address: Ipv4Addr, backends: Vec<Backend>) -> Service {
    let protocol = if listener.protocol.is_udp() { Protocol::Udp } else { Protocol::Tcp };
    Service {
        id: ServiceId::of(&balancer.uid().unwrap_or_default(), protocol, listener.port),
        protocol,
        address,
        port: listener.port,
        target_port: listener.target(),
        backends,
        affinity: balancer.spec.session_affinity.as_ref().map(|affinity| affinity.timeout_seconds),
    }
}

/// Who gets new connections.
fn backends(groups: &[BackendGroup], answerers: &[Answerer<'_>]) -> Vec<Backend> {
    let backend = |one: &Answerer<'_>| Some(Backend { address: one.address, weight: (one.share)(groups)? });
    let mut all: Vec<Backend> = answerers.iter().filter_map(backend).collect();
    all.sort_unstable();
    all
}

/// The network's ranges, in their order.
pub(super) fn ranges(wanted: &Wanted) -> Vec<Ipv4Net> {
    wanted.subnets.all().map(|subnet| subnet.range).collect()
}

/// The port's own address, if there is a way to it.
fn reachable(wanted: &Wanted, port: &Port) -> Option<Ipv4Addr> {
    let address: Ipv4Addr = port.spec.ip.as_ref()?.parse().ok()?;
    let uid = port.uid()?;
    let here = wanted.ports.iter().any(|one| one.uid == uid);
    let there = match &wanted.reach {
        Reach::Across { peers, .. } => peers.iter().any(|one| one.peer.address == IpAddr::V4(address)),
        Reach::Here | Reach::Unknown => false,
    };
    (here || there).then_some(address)
}

fn check(balancer: &LoadBalancer, object: &Port, port: &WantedPort, told: bool) -> Option<Check> {
    let (question, target) = (balancer.spec.health_check.clone()?, balancer.checked_port(object)?);
    Some(Check {
        port: port.uid.clone(),
        name: port.name.clone(),
        balancer: balancer.name_any(),
        target: (port.ip?, target),
        question,
        told,
    })
}

#[cfg(test)]
mod tests {
    use super::super::plan::{samples, wanted};
    use super::*;
    use crds::load_balancer::ListenerProtocol;
    use serde_json::{Value, json};

    fn object(kind: &str, name: &str, spec: Value, status: Value) -> Value {
        json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": kind, "spec": spec, "status": status,
            "metadata": {"name": name, "namespace": "t", "uid": format!("uid-{name}")}})
    }

    fn service(name: &str, network: &str, ip: &str) -> Arc<ServiceIP> {
        Arc::new(
            serde_json::from_value(object("ServiceIP", name, json!({"network": network}), json!({"ip": ip}))).unwrap(),
        )
    }

    fn balancer(check: Option<Value>) -> Arc<LoadBalancer> {
        let mut spec = json!({"serviceIP": "vip", "listeners": [{"protocol": "TCP", "port": 80, "targetPort": 8080}],
            "backends": [{"selector": {"matchLabels": {"app": "web"}}, "weight": 2}], "drainSeconds": 7});
        if let Some(check) = check {
            spec["healthCheck"] = check;
        }
        Arc::new(serde_json::from_value(object("LoadBalancer", "lb", spec, json!({}))).unwrap())
    }

    fn web(number: u8, host: &str) -> Arc<Port> {
        let mut port = (*samples::port(number)).clone();
        port.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
        port.spec.host = Some(host.to_owned());
        Arc::new(port)
    }

    fn plan(ports: &[Arc<Port>], check: Option<Value>, ability: Ability, healthy: Option<bool>) -> Services {
        let mut wanted = wanted(&samples::names(), &samples::network(), ports).unwrap();
        settle(&mut wanted, &[service("vip", "net", "10.9.0.50"), service("other", "elsewhere", "10.9.0.51")]);
        wanted.reach = Reach::Here;
        balance(&mut wanted, &[balancer(check)], ports, &ability, Shown::default(), |_, _| healthy).unwrap();
        wanted.services
    }

    #[test]
    fn the_ports_that_are_selected_and_reached_share_the_connections() {
        let services = plan(&[web(2, "host0"), samples::port(3)], None, Ok(()), None);
        let vip = ServiceAddress { name: "vip".into(), balancers: vec!["lb".into()], address: [10, 9, 0, 50].into() };
        assert_eq!(services.addresses, [vip]);
        let balancer = services.balancer.unwrap();
        let one = &balancer.services[0];
        assert_eq!(one.backends, [Backend { address: [10, 9, 0, 2].into(), weight: 2 }]);
        assert_eq!((one.port, one.target_port, services.drains[&one.id]), (80, 8080, 7));
        assert_eq!(balancer.here.len(), 1);
        assert!(services.checks.is_empty());
        let unable = plan(&[web(2, "host0")], None, Err("cannot".into()), None);
        assert_eq!((unable.balancer, unable.addresses.len()), (None, 1));
    }

    #[test]
    fn requests_go_where_their_route_says_and_to_whom_it_selects() {
        let mut lb = (*balancer(None)).clone();
        lb.spec.listeners[0].protocol = ListenerProtocol::Http;
        lb.spec.routes = serde_json::from_value(json!([{"hostnames": ["a.example", "*.b.example"], "targetPort": 9000,
            "matches": [{"path": {"value": "/api"}}, {"path": {"type": "Exact", "value": "/"}}],
            "backends": [{"selector": {"matchLabels": {"app": "web"}}, "weight": 0},
                {"selector": {"matchLabels": {"app": "api"}}, "weight": 5}]}]))
        .unwrap();
        let mut api = (*samples::port(3)).clone();
        api.metadata.labels = Some([("app".to_owned(), "api".to_owned())].into());
        api.spec.host = Some("host0".to_owned());
        let ports = [web(2, "host0"), Arc::new(api)];
        let mut wanted = wanted(&samples::names(), &samples::network(), &ports).unwrap();
        settle(&mut wanted, &[service("vip", "net", "10.9.0.50")]);
        wanted.reach = Reach::Here;
        balance(&mut wanted, &[Arc::new(lb)], &ports, &Ok(()), Shown::default(), |_, _| None).unwrap();
        let proxy = wanted.services.proxy.unwrap();
        let [one] = &proxy.listeners[..] else { panic!("{proxy:?}") };
        let servers = |pool: &host::proxy::Pool| {
            pool.servers.iter().map(|one| (one.address.octets()[3], one.port, one.weight)).collect::<Vec<_>>()
        };
        assert_eq!((servers(&one.rest), one.port, proxy.drain), (vec![(2, 8080, 2)], 80, 7));
        assert_eq!(one.routes.len(), 4, "each host with each path");
        assert!(one.routes.iter().all(|route| servers(&route.pool) == [(3, 9000, 5)]));
        let balancer = wanted.services.balancer.unwrap();
        assert!(balancer.services.is_empty());
        assert_eq!(balancer.proxy.unwrap().own, [Ipv4Addr::new(10, 9, 0, 1), Ipv4Addr::new(10, 9, 0, 50)]);
    }

    #[test]
    fn certificates_are_shown_in_their_order_and_whoever_has_none_is_left_out() {
        let mut lb = (*balancer(None)).clone();
        lb.spec.listeners = serde_json::from_value(json!([{"protocol": "HTTP", "port": 80},
            {"protocol": "HTTPS", "port": 443, "tls": {"secrets": ["b", "bad", "a"]}},
            {"protocol": "HTTPS", "port": 444, "tls": {"secrets": ["bad"]}}]))
        .unwrap();
        let told = |secret: &str| json!({"secret": secret, "resourceVersion": "1", "notAfter": "2026-01-01T00:00:00Z"});
        lb.status = serde_json::from_value(json!({"certificates": [told("a"), told("b")]})).unwrap();
        let all = ["a", "b", "bad"].map(|name| (name.to_owned(), Certificate::new(name)));
        let shown = Shown { certificates: all.clone().into(), ..Shown::default() };
        let of = |shown: Shown| {
            let ports = [web(2, "host0")];
            let mut wanted = wanted(&samples::names(), &samples::network(), &ports).unwrap();
            settle(&mut wanted, &[service("vip", "net", "10.9.0.50")]);
            wanted.reach = Reach::Here;
            balance(&mut wanted, &[Arc::new(lb.clone())], &ports, &Ok(()), shown, |_, _| None).unwrap();
            wanted.services
        };
        let [a, b, _] = all.map(|(_, one)| one);
        let listeners = |services: &Services| {
            let all = &services.proxy.as_ref().unwrap().listeners;
            all.iter().map(|one| (one.port, one.tls.clone())).collect::<Vec<_>>()
        };
        assert_eq!(listeners(&of(shown)), [(80, None), (443, Some(vec![b, a]))]);
        // What is not read yet is waited for, with the tables of a proxy that may run.
        let awaited = of(Shown { is_awaited: true, ..Shown::default() });
        assert!(awaited.is_awaiting && awaited.balancer.is_some_and(|one| one.proxy.is_some()));
    }

    #[test]
    fn what_was_found_here_counts_before_what_was_told_and_is_asked_for() {
        let check = || Some(json!({"type": "HTTP", "path": "/up"}));
        let backends = |healthy| {
            let services = plan(&[web(2, "host0")], check(), Ok(()), healthy);
            let asked: Vec<_> = services.checks.iter().map(|one| (one.name.clone(), one.target.1, one.told)).collect();
            assert_eq!(asked, [("p2".to_owned(), 8080, false)]);
            services.balancer.unwrap().services[0].backends.len()
        };
        assert_eq!((backends(None), backends(Some(false)), backends(Some(true))), (0, 0, 1));
    }

    #[test]
    fn a_port_gets_no_address_of_a_service() {
        let mut further = (*samples::port(3)).clone();
        further.spec.allowed_addresses = vec!["10.9.0.50".into(), "10.9.0.60".into()];
        let mut taker = (*samples::port(4)).clone();
        taker.spec.ip = Some("10.9.0.50".into());
        let mut wanted = wanted(&samples::names(), &samples::network(), &[Arc::new(further), Arc::new(taker)]).unwrap();
        settle(&mut wanted, &[service("vip", "net", "10.9.0.50")]);
        let left: Vec<_> = wanted.ports.iter().map(|port| (port.name.as_str(), port.further.len())).collect();
        assert_eq!(left, [("p3", 1)]);
        let told: Vec<_> = wanted.refused.iter().map(|one| one.message.as_str()).collect();
        assert_eq!(
            told,
            [
                "spec.allowedAddresses of Port p3 has 10.9.0.50, which is ServiceIP vip's",
                "spec.ip of Port p4 has 10.9.0.50, which is ServiceIP vip's"
            ]
        );
    }
}
