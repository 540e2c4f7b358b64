//! What a load balancer says of requests, in the host's terms: pure.

use std::net::Ipv4Addr;

use crds::LoadBalancer;
use crds::load_balancer::{BackendGroup, Listener, PathMatch, PathMatchType, Route};
use host::proxy::{self, Certificate, Hostname, Invalid, Path, Pool, Server};

use super::error::Error;
use kube::ResourceExt;

/// A share of what goes to some groups; none for who is not among them, or gets nothing new.
pub(super) type Share<'a> = Box<dyn Fn(&[BackendGroup]) -> Option<u32> + 'a>;

/// A port that new requests may go to.
pub(super) struct Answerer<'a> {
    /// Its address.
    pub address: Ipv4Addr,
    /// What it gets.
    pub share: Share<'a>,
}

/// The listener at that address. `tls`: what it shows, with HTTPS.
pub(super) fn listener(
    balancer: &LoadBalancer,
    listener: &Listener,
    address: Ipv4Addr,
    tls: Option<Vec<Certificate>>,
    answerers: &[Answerer<'_>],
) -> Result<proxy::Listener, Error> {
    let sticky = balancer.spec.session_affinity.is_some();
    let pool = |groups: &[BackendGroup], port: u16| {
        let server = |one: &Answerer<'_>| Some(Server { address: one.address, port, weight: (one.share)(groups)? });
        let mut servers: Vec<Server> = answerers.iter().filter_map(server).collect();
        servers.sort_unstable();
        Pool { servers, sticky }
    };
    let mut routes = Vec::new();
    for (index, route) in balancer.spec.routes.iter().enumerate() {
        let pool = pool(&route.backends, route.target_port.unwrap_or(listener.target()));
        let failed = |field: &'static str| {
            move |invalid: Invalid| Error::Invalid {
                object: format!("LoadBalancer {}", balancer.name_any()),
                field,
                value: format!("{invalid} (route {index})"),
                rule: "it cannot be used",
            }
        };
        for host in hosts(route).map_err(failed("spec.routes.hostnames"))? {
            for path in paths(route).map_err(failed("spec.routes.matches"))? {
                routes.push(proxy::Route { host: host.clone(), path, pool: pool.clone() });
            }
        }
    }
    let rest = pool(&balancer.spec.backends, listener.target());
    Ok(proxy::Listener { address, port: listener.port, tls, routes, rest })
}

fn hosts(route: &Route) -> Result<Vec<Option<Hostname>>, Invalid> {
    match route.hostnames.is_empty() {
        true => Ok(vec![None]),
        false => route.hostnames.iter().map(|host| host.parse().map(Some)).collect(),
    }
}

fn paths(route: &Route) -> Result<Vec<Path>, Invalid> {
    let path = |PathMatch { type_, value }: &PathMatch| match type_ {
        PathMatchType::Exact => Path::exact(value),
        PathMatchType::PathPrefix => Path::prefix(value),
    };
    match route.matches.is_empty() {
        true => Ok(vec![Path::prefix("/")?]),
        false => route.matches.iter().map(|one| path(&one.path)).collect(),
    }
}
