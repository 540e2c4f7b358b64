//! A router's way out: its address on an ExternalNetwork, and the floating addresses that lead in by it. Pure.

use super::plan::Joined;
use crate::pool::{Asker, Pool};
use crate::subnet::Problem;
use crds::router::{ExternalWay, Floating, RouterExternal};
use crds::{ExternalNetwork, Router, ServiceIP};
use kube::ResourceExt;
use std::net::Ipv4Addr;

/// What there is outside, and who has a part in it, of all namespaces.
#[derive(Clone, Copy, Debug, Default)]
pub struct Around<'a> {
    /// The ExternalNetworks.
    pub externals: &'a [ExternalNetwork],
    /// The Routers.
    pub routers: &'a [Router],
    /// The ServiceIPs.
    pub services: &'a [ServiceIP],
}

/// The way out that the spec asks for, if it does.
///
/// # Errors
/// [`Problem`]: it cannot be, or no address is left.
pub fn way_out(router: &Router, joined: &[Joined], around: &Around<'_>) -> Result<Option<RouterExternal>, Problem> {
    let Some(way) = &router.spec.external else { return Ok(None) };
    let there = |one: &&ExternalNetwork| one.name_any() == way.network && one.metadata.deletion_timestamp.is_none();
    let Some(external) = around.externals.iter().find(there) else {
        let message = format!("ExternalNetwork {} does not exist; whoever runs the hosts can create it", way.network);
        return Err(problem("ExternalNetworkNotFound", "spec.external.network", &message));
    };
    check(router, joined, external, around.routers)?;
    let had = router.status.as_ref().and_then(|status| status.external.as_ref());
    let asker = Asker {
        uid: router.metadata.uid.as_deref().unwrap_or_default(),
        had: had.filter(|had| had.network == way.network).and_then(|had| had.address.parse().ok()),
        asked: way.ip.as_deref(),
        field: "spec.external.ip",
    };
    let address = Pool { external, routers: around.routers, services: around.services }.give(&asker)?;
    let floating = floating(router, way, joined, around.services);
    Ok(Some(RouterExternal { network: way.network.clone(), address: address.to_string(), floating }))
}

fn problem(reason: &'static str, field: &str, message: &str) -> Problem {
    Problem { reason, message: format!("{field}: {message}") }
}

/// Whether the way out contradicts what is inside, or an older router's.
fn check(router: &Router, joined: &[Joined], external: &ExternalNetwork, routers: &[Router]) -> Result<(), Problem> {
    let everywhere = |one: &crds::router::StaticRoute| one.destination == "0.0.0.0/0";
    if let Some(index) = router.spec.static_routes.iter().position(everywhere) {
        let field = format!("spec.staticRoutes[{index}].destination");
        return Err(problem("RouteCollides", &field, "all that is nowhere else goes out by spec.external"));
    }
    let field = "spec.external.network";
    let range = external.spec.range();
    let inside = joined.iter().flat_map(|one| one.subnets.all().map(move |subnet| (one, subnet.range)));
    for (one, inner) in inside {
        if range.is_some_and(|range| range.contains(&inner) || inner.contains(&range)) {
            let message = format!("{} overlaps {inner} of TenantNetwork {}", external.spec.cidr, one.network);
            return Err(problem("SubnetsOverlap", field, &message));
        }
    }
    let age = |one: &Router| (one.metadata.creation_timestamp.as_ref().map(|time| time.0), one.name_any());
    for other in routers.iter().filter(|other| other.namespace() == router.namespace() && age(other) < age(router)) {
        let Some(status) = other.status.as_ref().filter(|status| status.external.is_some()) else { continue };
        let shares = |one: &&Joined| status.interfaces.iter().any(|interface| interface.network == one.network);
        if let Some(shared) = joined.iter().find(shares) {
            let message = format!(
                "TenantNetwork {} goes out by Router {}, which is older, already",
                shared.network,
                other.name_any()
            );
            return Err(problem("RangesCollide", field, &message));
        }
    }
    Ok(())
}

/// The floating addresses of that ExternalNetwork that lead into the router's networks, by address.
fn floating(router: &Router, way: &ExternalWay, joined: &[Joined], services: &[ServiceIP]) -> Vec<Floating> {
    let mut all: Vec<(Ipv4Addr, Floating)> = Vec::new();
    for service in services.iter().filter(|one| one.namespace() == router.namespace()) {
        let leads = service.spec.external_network.as_ref() == Some(&way.network)
            && service.metadata.deletion_timestamp.is_none()
            && joined.iter().any(|one| one.network == service.spec.network);
        let target = service.status.as_ref().and_then(|status| status.target.clone());
        if let (true, Some(address), Some(target)) = (leads, service.floating(), target) {
            all.push((address, Floating { address: address.to_string(), service_ip: service.name_any(), target }));
        }
    }
    all.sort_by_key(|(address, _)| *address);
    all.dedup_by_key(|(address, _)| *address);
    all.into_iter().map(|(_, one)| one).collect()
}

#[cfg(test)]
mod tests {
    use super::super::plan::judge;
    use super::*;
    use crds::TenantNetwork;
    use serde_json::{Value, json};

    fn object<K: serde::de::DeserializeOwned>(kind: &str, name: &str, second: u8, spec: Value, status: Value) -> K {
        let time = format!("2026-01-01T00:00:0{second}Z");
        let metadata = json!({"name": name, "namespace": "t", "uid": name, "creationTimestamp": time});
        let whole = json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": kind, "metadata": metadata,
            "spec": spec, "status": status});
        serde_json::from_value(whole).unwrap()
    }

    fn settled(router: &Router, others: &[Router], services: &[ServiceIP]) -> Result<Option<RouterExternal>, String> {
        let network: TenantNetwork = object("TenantNetwork", "a", 0, json!({"subnet": "10.1.0.0/24"}), Value::Null);
        let external = |name: &str, cidr: &str| object("ExternalNetwork", name, 0, json!({"cidr": cidr}), Value::Null);
        let externals = [external("x", "203.0.113.0/24"), external("within", "10.0.0.0/8")];
        let joined = judge(router, &[network], &[]).unwrap();
        let around = Around { externals: &externals, routers: others, services };
        way_out(router, &joined, &around).map_err(|problem| problem.message)
    }

    fn router(external: Value) -> Router {
        object("Router", "r", 5, json!({"networks": ["a"], "external": external}), Value::Null)
    }

    #[test]
    fn an_address_is_given_and_kept_and_what_floats_into_its_networks_is_led_in() {
        let floating = |name: &str, network: &str, external: &str, ip: &str, target: Value| {
            let spec = json!({"network": network, "externalNetwork": external, "port": "p"});
            object::<ServiceIP>("ServiceIP", name, 0, spec, json!({"ip": ip, "target": target}))
        };
        let services = [
            floating("second", "a", "x", "203.0.113.20", json!("10.1.0.7")),
            floating("first", "a", "x", "203.0.113.9", json!("10.1.0.8")),
            floating("not-there-yet", "a", "x", "203.0.113.10", Value::Null),
            floating("of-another", "b", "x", "203.0.113.11", json!("10.2.0.7")),
            floating("elsewhere", "a", "y", "203.0.113.12", json!("10.1.0.7")),
        ];
        let mut one = router(json!({"network": "x"}));
        let way = settled(&one, &[], &services).unwrap().unwrap();
        assert_eq!(way.address, "203.0.113.1");
        let led: Vec<_> = way.floating.iter().map(|one| (one.address.as_str(), one.target.as_str())).collect();
        assert_eq!(led, [("203.0.113.9", "10.1.0.8"), ("203.0.113.20", "10.1.0.7")]);
        one.status = Some(crds::RouterStatus { external: Some(way.clone()), ..Default::default() });
        assert_eq!(settled(&one, &[one.clone()], &services).unwrap(), Some(way), "a second look says nothing new");
        assert_eq!(settled(&router(Value::Null), &[], &services), Ok(None));
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_field() {
        let said = |external: Value, others: &[Router]| settled(&router(external), others, &[]).unwrap_err();
        assert!(
            said(json!({"network": "none"}), &[]).starts_with("spec.external.network: ExternalNetwork none does not")
        );
        let within = "spec.external.network: 10.0.0.0/8 overlaps 10.1.0.0/24 of TenantNetwork a";
        assert_eq!(said(json!({"network": "within"}), &[]), within);
        let older = object::<Router>(
            "Router",
            "older",
            1,
            json!({"networks": ["a"], "external": {"network": "x"}}),
            json!({"interfaces": [{"network": "a", "port": "p", "address": "10.1.0.2", "ranges": ["10.1.0.0/24"]}],
                "external": {"network": "x", "address": "203.0.113.1"}}),
        );
        let already = "spec.external.network: TenantNetwork a goes out by Router older, which is older, already";
        assert_eq!(said(json!({"network": "x"}), &[older]), already);
        let mut both = router(json!({"network": "x"}));
        both.spec.static_routes =
            serde_json::from_value(json!([{"destination": "0.0.0.0/0", "nextHop": "10.1.0.9"}])).unwrap();
        assert!(settled(&both, &[], &[]).unwrap_err().starts_with("spec.staticRoutes[0].destination: "));
    }
}
