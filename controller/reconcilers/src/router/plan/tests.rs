//! What cannot be names its field; who has a router keeps it until it is lost.

use super::*;
use serde_json::{Value, json};

fn network(name: &str, ranges: &[&str]) -> TenantNetwork {
    let subnets: Vec<Value> =
        ranges.iter().enumerate().map(|(at, range)| json!({"name": format!("s{at}"), "cidr": range})).collect();
    serde_json::from_value(json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "TenantNetwork",
        "metadata": {"name": name}, "spec": {"subnets": subnets}}))
    .unwrap()
}

/// A router of that age, with an address in each network as its status says.
fn router(name: &str, second: u8, networks: &[&str], fixed: &[(&str, &str)], status: &[(&str, &str, &str)]) -> Router {
    let fixed: Vec<Value> = fixed.iter().map(|(to, via)| json!({"destination": to, "nextHop": via})).collect();
    let interfaces: Vec<Value> = status
        .iter()
        .map(
            |(network, address, range)| json!({"network": network, "port": "p", "address": address, "ranges": [range]}),
        )
        .collect();
    serde_json::from_value(json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "Router",
        "metadata": {"name": name, "uid": name, "creationTimestamp": format!("2026-01-01T00:00:0{second}Z")},
        "spec": {"networks": networks, "staticRoutes": fixed}, "status": {"interfaces": interfaces}}))
    .unwrap()
}

fn all() -> [TenantNetwork; 4] {
    [
        network("a", &["10.1.0.0/24"]),
        network("b", &["10.2.0.0/24", "10.2.1.0/24"]),
        network("c", &["10.3.0.0/24"]),
        network("like-b", &["10.2.0.0/16"]),
    ]
}

fn refused(router: &Router, others: &[Router]) -> (&'static str, String) {
    let problem = judge(router, &all(), others).unwrap_err();
    (problem.reason, problem.message)
}

#[test]
fn networks_that_do_not_overlap_are_joined() {
    let joined = judge(&router("r", 0, &["a", "b"], &[("10.9.0.0/16", "10.2.1.7")], &[]), &all(), &[]).unwrap();
    assert_eq!(joined.iter().map(|one| one.network.as_str()).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_network_of_ipv6_alone_is_not_joined() {
    let networks = [network("a", &["10.1.0.0/24"]), network("six", &["fd00:1::/64"])];
    let problem = judge(&router("r", 0, &["a", "six"], &[], &[]), &networks, &[]).unwrap_err();
    let message = "spec.networks[1]: TenantNetwork six has no IPv4 subnet, and routers are of IPv4";
    assert_eq!((problem.reason, problem.message.as_str()), ("NoIPv4Subnet", message));
}

#[test]
fn what_cannot_be_is_refused_with_its_field() {
    let own = [("a", "10.1.0.9", "10.1.0.0/24")];
    for (networks, fixed, reason, message) in [
        (
            &["a", "none"][..],
            &[][..],
            "NetworkNotFound",
            "spec.networks[1]: TenantNetwork none does not exist; create it",
        ),
        (
            &["b", "like-b"],
            &[],
            "SubnetsOverlap",
            "spec.networks[1]: 10.2.0.0/16 of TenantNetwork like-b overlaps 10.2.0.0/24 of TenantNetwork b",
        ),
        (
            &["a", "b"],
            &[("10.2.1.0/25", "10.1.0.7")],
            "RouteCollides",
            "spec.staticRoutes[0].destination: 10.2.1.0/25 is TenantNetwork b's, which the router is on",
        ),
        (
            &["a"],
            &[("10.9.0.0/24", "10.1.0.7"), ("10.8.0.0/24", "10.2.0.7")],
            "NextHopOutside",
            "spec.staticRoutes[1].nextHop: 10.2.0.7 is in none of the router's networks",
        ),
        (
            &["a"],
            &[("10.9.0.0/24", "10.1.0.1")],
            "NextHopOutside",
            "spec.staticRoutes[0].nextHop: 10.1.0.1 is no address that somebody on TenantNetwork a has",
        ),
        (
            &["a"],
            &[("10.9.0.0/24", "10.1.0.9")],
            "RouteLoop",
            "spec.staticRoutes[0].nextHop: 10.1.0.9 is the router's own address",
        ),
    ] {
        assert_eq!(refused(&router("r", 0, networks, fixed, &own), &[]), (reason, message.to_owned()));
    }
}

#[test]
fn of_two_routers_on_one_network_the_younger_must_not_lead_elsewhere_what_the_older_reaches() {
    let older =
        router("old", 1, &["a", "b"], &[], &[("a", "10.1.0.8", "10.1.0.0/24"), ("b", "10.2.0.8", "10.2.0.0/24")]);
    let younger = router("young", 2, &["a", "like-b"], &[], &[]);
    let message =
        "spec.networks[1]: 10.2.0.0/16 is reached from TenantNetwork a by Router old, which is older, already";
    assert_eq!(refused(&younger, std::slice::from_ref(&older)), ("RangesCollide", message.to_owned()));
    assert!(judge(&older, &all(), std::slice::from_ref(&younger)).is_ok(), "the older one stands");
    assert!(judge(&router("young", 2, &["a", "c"], &[], &[]), &all(), &[older]).is_ok());
}

#[test]
fn a_route_that_comes_back_by_other_routers_is_refused_the_youngest() {
    let range = "192.168.0.0/16";
    let a_c = [("a", "10.1.0.8", "10.1.0.0/24"), ("c", "10.3.0.8", "10.3.0.0/24")];
    let older = router("old", 1, &["a", "c"], &[(range, "10.1.0.9")], &a_c);
    let a_b = [("a", "10.1.0.9", "10.1.0.0/24"), ("b", "10.2.0.9", "10.2.0.0/24")];
    let younger = router("young", 2, &["a", "b"], &[("192.168.7.0/24", "10.1.0.8")], &a_b);
    let message = "spec.staticRoutes[0].nextHop: 192.168.7.0/24 leads back to this router, by Router old";
    assert_eq!(refused(&younger, std::slice::from_ref(&older)), ("RouteLoop", message.to_owned()));
    assert!(judge(&older, &all(), std::slice::from_ref(&younger)).is_ok());
    let onward = router("young", 2, &["a", "b"], &[("10.77.0.0/16", "10.1.0.8")], &a_b);
    assert!(judge(&onward, &all(), &[older]).is_ok(), "what the other one does not send back is no loop");
}

fn host(name: &str, ready: &str) -> Host {
    let condition = json!({"type": "Ready", "status": ready, "reason": "R", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    serde_json::from_value(json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "Host",
        "metadata": {"name": name}, "spec": {}, "status": {"conditions": [condition]}}))
    .unwrap()
}

#[test]
fn whoever_has_it_keeps_it_until_it_is_lost_and_routers_are_spread() {
    let hosts = |lost: &str| ["h1", "h2", "h3"].map(|name| host(name, if name == lost { "Unknown" } else { "True" }));
    let mut one = router("r", 0, &["a"], &[], &[]);
    for had in ["h1", "h2", "h3"] {
        one.status.as_mut().unwrap().host = Some(had.to_owned());
        assert_eq!(elect(&one, &hosts("none")).as_deref(), Some(had));
        let next = elect(&one, &hosts(had)).unwrap();
        assert_ne!(next, had);
        one.status.as_mut().unwrap().host = Some(next.clone());
        assert_eq!(elect(&one, &hosts("none")), Some(next), "it does not go back");
        assert_ne!(elect(&one, &hosts("none")[..0]).as_deref(), Some(had));
    }
    one.status.as_mut().unwrap().host = None;
    assert_eq!(elect(&one, &[host("h1", "Unknown")]), None);
    let chosen: std::collections::HashSet<_> =
        (0..32).filter_map(|n| elect(&router(&format!("r{n}"), 0, &["a"], &[], &[]), &hosts("none"))).collect();
    assert_eq!(chosen.len(), 3);
}

#[test]
fn one_with_a_way_out_is_on_a_host_that_knows_where_outside_is() {
    let host = |name: &str, outside: bool| -> Host {
        serde_json::from_value(json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": "Host", "metadata": {"name": name},
            "spec": {}, "status": {"capabilities": {"outside": outside}, "conditions": [{"type": "Ready", "status": "True",
            "reason": "AgentRunning", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}))
        .unwrap()
    };
    let hosts = [host("in", false), host("out", true), host("in-too", false)];
    let mut one = router("r", 0, &["a"], &[], &[]);
    one.spec.external = serde_json::from_value(json!({"network": "x"})).unwrap();
    assert_eq!(elect(&one, &hosts).as_deref(), Some("out"));
    one.status.as_mut().unwrap().host = Some("in".to_owned());
    assert_eq!(elect(&one, &hosts).as_deref(), Some("out"), "it moves when it gets a way out");
    assert_eq!(elect(&one, &hosts[..1]), None);
}
