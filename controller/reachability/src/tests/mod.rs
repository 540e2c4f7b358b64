//! The derivation against a reading of its own, and what is told of it.

mod naive;
mod probing;
mod routed;
mod services;
mod six;

use crds::{Port, SecurityGroup, TenantNetwork, VirtualMachine};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::path::{Fate, Place};

fn object<K: DeserializeOwned>(kind: &str, name: &str, spec: Value, status: Value) -> K {
    let document = json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": kind, "spec": spec, "status": status,
        "metadata": {"name": name, "namespace": "t", "uid": format!("uid-of-{name}")}});
    serde_json::from_value(document).unwrap()
}

fn network(name: &str, subnet: &str) -> TenantNetwork {
    object("TenantNetwork", name, json!({"subnet": subnet}), json!({"vni": 10_000, "ports": 0}))
}

fn group(name: &str, rules: Value) -> SecurityGroup {
    object("SecurityGroup", name, json!({"rules": rules}), Value::Null)
}

fn ready() -> Value {
    json!([{"type": "Ready", "status": "True", "reason": "Realised", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}])
}

/// A Port on a host, ready.
fn port(name: &str, network: &str, ip: &str, groups: &[&str], host: &str) -> Port {
    let spec =
        json!({"network": network, "ip": ip, "mac": "52:54:00:00:00:01", "securityGroups": groups, "host": host});
    object("Port", name, spec, json!({"device": format!("tap{name}"), "netns": "cell", "conditions": ready()}))
}

/// A machine of the Port's name, ready.
fn machine(port: &str) -> VirtualMachine {
    let spec = json!({"image": "lean", "interfaces": [{"port": port}]});
    object("VirtualMachine", port, spec, json!({"conditions": ready(), "phase": "Running", "restarts": 0}))
}

/// Two networks of one range and a third: `web` lets `clients` in by tcp 80, `jail` may only speak to 10.0.0.2.
fn objects() -> Objects {
    let web = json!([{"direction": "Ingress", "protocol": "TCP", "port": 80, "securityGroup": "clients"}]);
    let jail = json!([{"direction": "Egress", "cidr": "10.0.0.2/32"}]);
    let ports = vec![
        port("server", "net", "10.0.0.2", &["web"], "host01"),
        port("client", "net", "10.0.0.3", &["clients"], "host02"),
        port("plain", "net", "10.0.0.4", &[], "host01"),
        port("prisoner", "net", "10.0.0.5", &["jail", "clients"], "host01"),
        port("typo", "net", "10.0.0.6", &["wbe"], "host01"),
        port("twin", "other", "10.0.0.2", &[], "host01"),
        port("far", "third", "10.9.0.2", &[], "host01"),
    ];
    let machines = ports.iter().map(|port| machine(port.metadata.name.as_deref().unwrap())).collect();
    Objects {
        networks: vec![network("net", "10.0.0.0/24"), network("other", "10.0.0.0/24"), network("third", "10.9.0.0/24")],
        ports,
        groups: vec![group("web", web), group("clients", json!([])), group("jail", jail)],
        machines,
        ..Objects::default()
    }
}

fn told(world: &World, from: &str, to: &str, what: &str) -> (bool, String) {
    let [from, to] = [from, to].map(|name| world.find("t", name).unwrap());
    let verdict = world.verdict(from, to, what.parse().unwrap());
    (verdict.is_open(), verdict.to_string())
}

#[test]
fn what_decided_is_told() {
    let world = World::of(objects());
    let web = "SecurityGroup web spec.rules[0]";
    for (from, to, what, open, why) in [
        ("client", "server", "tcp/80", true, web),
        ("client", "server", "tcp/81", false, "default deny in"),
        ("client", "server", "icmp", false, "default deny in"),
        ("plain", "server", "tcp/80", false, "default deny in"),
        ("server", "plain", "udp/53", true, "no group: open"),
        ("server", "client", "tcp/80", false, "default deny in"),
        ("prisoner", "server", "tcp/80", true, &format!("out: SecurityGroup jail spec.rules[0]; in: {web}")),
        ("prisoner", "plain", "tcp/80", false, "default deny out"),
        ("plain", "typo", "tcp/80", false, "closed (SecurityGroupNotFound)"),
        ("typo", "plain", "tcp/80", false, "closed (SecurityGroupNotFound)"),
        ("plain", "twin", "icmp", false, "another network"),
    ] {
        assert_eq!(told(&world, from, to, what), (open, why.to_owned()), "{from} {to} {what}");
    }
}

#[test]
fn a_port_that_takes_no_part_is_reached_by_nobody_and_counts_in_no_group() {
    let mut objects = objects();
    objects.ports[1].spec.host = None;
    let world = World::of(objects);
    let (open, why) = told(&world, "client", "server", "tcp/80");
    assert!(!open && why.contains("Port client is not there: it is on no Host"), "{why}");

    let mut objects = self::objects();
    objects.networks.remove(0);
    let (open, why) = told(&World::of(objects), "client", "server", "tcp/80");
    assert!(!open && why.contains("there is no TenantNetwork net"), "{why}");

    let mut objects = self::objects();
    let status = objects.ports[1].status.as_mut().unwrap();
    let no = &mut status.conditions[0];
    (no.status, no.reason, no.message) =
        ("False".to_owned(), "AddressTaken".to_owned(), "spec.ip is taken by Port plain".to_owned());
    let (open, why) = told(&World::of(objects), "client", "server", "tcp/80");
    assert!(!open && why.contains("taken by Port plain"), "{why}");
}

#[test]
fn a_host_that_cannot_enforce_groups_closes_ports_that_have_any() {
    let mut objects = objects();
    let cannot = json!({"capabilities": {"statefulFilter": false, "statefulFilterReason": "there is no br_netfilter"}});
    objects.hosts = vec![object("Host", "host01", json!({}), cannot)];
    let world = World::of(objects);
    let closed = "closed (StatefulFilterUnavailable)";
    assert_eq!(told(&world, "client", "server", "tcp/80"), (false, closed.to_owned()));
    assert!(told(&world, "client", "plain", "tcp/80").0, "who has no group is open there, too");
}

#[test]
fn a_way_is_told_hop_by_hop_up_to_where_it_ends() {
    let world = World::of(objects());
    let way = |from: &str, to: &str, what: &str| {
        let [from, to] = [from, to].map(|name| world.find("t", name).unwrap());
        world.path(from, to, what.parse().unwrap())
    };
    let places = |hops: &[path::Hop]| hops.iter().map(|hop| hop.place).collect::<Vec<_>>();
    use Place::{Bridge, Guest, RuleIn, RuleOut, Tap, Tunnel};
    let across = way("client", "server", "tcp/80");
    assert_eq!(places(&across), [Guest, Tap, RuleOut, Bridge, Tunnel, Bridge, RuleIn, Tap, Guest]);
    assert!(across.iter().all(|hop| hop.fate == Fate::Passes), "{across:#?}");
    assert_eq!(across[6].why, "SecurityGroup web spec.rules[0]: Ingress tcp 80 with SecurityGroup clients");
    assert!(across[4].why.contains("VNI 10000"), "{:?}", across[4]);
    let stopped = way("plain", "server", "tcp/80");
    assert_eq!(places(&stopped), [Guest, Tap, RuleOut, Bridge, RuleIn], "both are on one host");
    assert_eq!(stopped[4].fate, Fate::Stops);
    let apart = way("plain", "twin", "icmp");
    assert_eq!((places(&apart), apart[2].fate), (vec![Guest, Tap, Bridge], Fate::Stops));
}

#[test]
fn between_two_subnets_of_a_network_the_senders_gateway_is_a_hop_and_nothing_else_differs() {
    let mut objects = objects();
    let subnets = json!([{"name": "front", "cidr": "10.0.0.0/30"}, {"name": "back", "cidr": "10.0.0.4/30"}]);
    objects.networks[0] =
        object("TenantNetwork", "net", json!({"subnets": subnets}), json!({"vni": 10_000, "ports": 0}));
    objects.ports[1].spec.ip = Some("10.0.0.6".into());
    let world = World::of(objects);
    assert_eq!(told(&world, "client", "server", "tcp/80"), (true, "SecurityGroup web spec.rules[0]".to_owned()));
    assert!(!told(&world, "client", "server", "tcp/81").0);
    let [client, server] = ["client", "server"].map(|name| world.find("t", name).unwrap());
    let way = world.path(client, server, Conversation::Tcp(80));
    let places: Vec<Place> = way.iter().map(|hop| hop.place).collect();
    use Place::{Bridge, Gateway, Guest, RuleIn, RuleOut, Tap, Tunnel};
    assert_eq!(places, [Guest, Tap, RuleOut, Bridge, Gateway, Tunnel, Bridge, RuleIn, Tap, Guest]);
    assert_eq!(way[4].why, "10.0.0.5 on host02, to 10.0.0.0/30");
}

#[test]
fn what_an_object_says_is_amiss_is_suspect() {
    let mut objects = objects();
    objects.hosts = vec![
        object("Host", "host01", json!({}), json!({"underlayAddress": "100.64.0.1"})),
        object("Host", "host02", json!({}), json!({})),
    ];
    let world = World::of(objects);
    let [from, to] = ["client", "server"].map(|name| world.find("t", name).unwrap());
    let hop = world.suspect(from, to, Conversation::Tcp(80)).unwrap();
    assert_eq!((hop.place, hop.why.as_str()), (Place::Tunnel, "Host host02 has no address on the underlay"));
}

#[test]
fn one_question_for_each_sort_of_conversation() {
    let labels = |rules: Value| {
        let group = group("g", rules);
        let rules = rule::rules(&group).unwrap();
        question::questions(&rules).into_iter().map(|one| format!("{}={}", one.label, one.example)).collect::<Vec<_>>()
    };
    assert_eq!(labels(json!([])), ["tcp=tcp/65535", "udp=udp/65535", "icmp=icmp"]);
    let rules = json!([
        {"direction": "Ingress", "protocol": "TCP", "port": 80},
        {"direction": "Egress", "protocol": "TCP", "port": 70, "endPort": 90},
        {"direction": "Egress", "protocol": "UDP", "port": 65_535},
        {"direction": "Egress", "protocol": "ICMP", "icmpType": 13},
        {"direction": "Egress", "protocol": "47"},
    ]);
    let expected = [
        "tcp/70-79=tcp/70",
        "tcp/80=tcp/80",
        "tcp/81-90=tcp/81",
        "tcp/other=tcp/65535",
        "udp/65535=udp/65535",
        "udp/other=udp/65534",
        "icmp=icmp",
        "icmp/13.0=icmp/13.0",
        "ip/47=ip/47",
    ];
    assert_eq!(labels(rules), expected);
}
