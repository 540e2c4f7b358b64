use crds::{Port, SecurityGroupSpec, TenantNetwork};
use reachability::{Traffic, Transport};
use serde_json::{Value, json};

use super::super::further::settle;
use super::super::plan::{samples, wanted};
use super::super::reach::{Elsewhere, reach};
use super::*;

fn group(name: &str, rules: Value) -> Arc<SecurityGroup> {
    let spec: SecurityGroupSpec = serde_json::from_value(json!({ "rules": rules })).unwrap();
    let mut group = SecurityGroup::new(name, spec);
    group.metadata.uid = Some(format!("uid-of-{name}"));
    Arc::new(group)
}

fn port(number: u8, groups: &[&str]) -> Arc<Port> {
    let mut port = (*samples::port(number)).clone();
    port.spec.security_groups = groups.iter().map(|name| (*name).to_owned()).collect();
    Arc::new(port)
}

fn here(ports: &[Arc<Port>]) -> Wanted {
    Wanted { reach: Reach::Here, ..wanted(&samples::names(), &samples::network(), ports).unwrap() }
}

fn ids(names: &[&str]) -> BTreeSet<GroupId> {
    names.iter().map(|name| GroupId::of_owner(&format!("uid-of-{name}"))).collect()
}

fn web() -> Arc<SecurityGroup> {
    group("web", json!([{"direction": "Ingress", "protocol": "TCP", "port": 80, "securityGroup": "clients"}]))
}

#[test]
fn without_groups_there_is_no_firewall() {
    let done = policy(&here(&[samples::port(2), samples::port(3)]), &[web()], &Ok(())).unwrap();
    assert_eq!(done, (None, Vec::new()));
}

#[test]
fn a_limit_alone_leaves_the_port_open_whatever_the_host_can() {
    let mut slow = (*samples::port(2)).clone();
    slow.spec.bandwidth = Some(crds::port::Bandwidth { ingress_mbit: Some(10), egress_mbit: None });
    let (told, closed) = policy(&here(&[Arc::new(slow), samples::port(3)]), &[], &Err("no".to_owned())).unwrap();
    let guests = told.unwrap().guests;
    assert_eq!((guests.len(), closed), (1, Vec::new()));
    assert_eq!((&guests[0].access, guests[0].rate), (&Access::Open, Rate { ingress: Some(10), egress: None }));
}

/// The last number of an IPv4 address.
fn last(ip: &IpAddr) -> u8 {
    let IpAddr::V4(ip) = ip else { panic!("{ip}") };
    ip.octets()[3]
}

#[test]
fn members_are_those_here_and_elsewhere_and_only_groups_that_count_here_are_there() {
    let mut network = here(&[port(2, &["web"]), port(3, &["clients"]), samples::port(4)]);
    let elsewhere = |number: u8, groups: &[&str]| Elsewhere {
        machine: None,
        hostname: format!("p{number}"),
        further: vec![IpAddr::from([10, 9, 0, number + 100])],
        six: None,
        reached: Vec::new(),
        link_local: None,
        groups: groups.iter().map(|name| (*name).to_owned()).collect(),
        peer: host::link::Peer {
            mac: [2, 0, 0, 0, 0, number],
            address: IpAddr::from([10, 9, 0, number]),
            host: [100, 64, 0, 2].into(),
        },
    };
    network.reach = Reach::Across { vni: 1, peers: vec![elsewhere(5, &["clients", "far"]), elsewhere(6, &["far"])] };
    let all = [web(), group("clients", json!([])), group("far", json!([]))];
    let (policy, closed) = policy(&network, &all, &Ok(())).unwrap();
    let policy = policy.unwrap();
    assert_eq!(closed, []);
    let in_groups: Vec<_> = policy.guests.iter().map(|guest| guest.access.clone()).collect();
    assert_eq!(in_groups, [Access::Groups(ids(&["web"])), Access::Groups(ids(&["clients"]))]);
    let last = |group: &Group| group.members.iter().map(last).collect::<Vec<_>>();
    let told: Vec<_> = policy.groups.iter().map(|group| (group.id, group.rules.len(), last(group))).collect();
    let id = |name| GroupId::of_owner(&format!("uid-of-{name}"));
    assert_eq!(told, [(id("clients"), 0, vec![3, 5, 105]), (id("web"), 1, vec![2])]);
    assert!(policy.complete && policy.stateful);
}

/// Whom a group's members are on one host, by the way that a pass goes.
fn members_on(me: &str, network: &TenantNetwork, all: &[Arc<Port>], groups: &[Arc<SecurityGroup>]) -> Vec<u8> {
    let here: Vec<_> = all.iter().filter(|port| port.spec.host.as_deref() == Some(me)).cloned().collect();
    let mut on_it = wanted(&samples::names(), network, &here).unwrap();
    settle(&mut on_it, all);
    let underlay = (0..3u8).map(|last| (format!("host{last}"), [100, 64, 0, last + 1].into())).collect();
    on_it.reach = reach(network, &on_it, me, Some(all.to_vec()), &underlay);
    let (policy, _) = policy(&on_it, groups, &Ok(())).unwrap();
    let clients = GroupId::of_owner("uid-of-clients");
    let found = policy.unwrap().groups.into_iter().find(|group| group.id == clients).unwrap();
    found.members.iter().map(last).collect()
}

/// A further address may be several ports'. On whichever host one asks, it makes a member of whom the objects say.
#[test]
fn members_are_the_same_on_every_host_and_those_that_are_derived() {
    let port = |number: u8, host: &str, groups: &[&str], further: &[u8]| {
        let mut port = (*port(number, groups)).clone();
        port.spec.host = Some(host.to_owned());
        port.spec.allowed_addresses = further.iter().map(|last| format!("10.9.0.{last}")).collect();
        Arc::new(port)
    };
    let all = [
        port(2, "host0", &["web"], &[]),
        port(3, "host1", &["web"], &[]),
        port(4, "host2", &["web"], &[]),
        // The oldest with 100 and 101 is in no group; 102 leads to another member.
        port(5, "host0", &[], &[100, 101]),
        port(6, "host1", &["clients"], &[100, 102]),
        port(7, "host2", &["clients"], &[101, 102]),
        // What nobody gets beside their own: another's, the network's, the range's.
        port(8, "host2", &["clients"], &[2, 9, 1, 255]),
        port(9, "host0", &[], &[]),
    ];
    let groups = [web(), group("clients", json!([]))].map(|group| {
        let mut group = (*group).clone();
        group.metadata.namespace = Some("t".into());
        Arc::new(group)
    });
    let mut network = samples::network();
    network.status = serde_json::from_value(json!({"vni": 10_000, "ports": 0})).ok();
    let objects = reachability::Objects {
        networks: vec![network.clone()],
        ports: all.iter().map(|port| (**port).clone()).collect(),
        groups: groups.iter().map(|group| (**group).clone()).collect(),
        ..Default::default()
    };
    let world = reachability::World::of(objects);
    let any = world.find("t", "p2").unwrap();
    let derived: Vec<u8> = (0..=255).filter(|last| world.is_member(any, "clients", [10, 9, 0, *last].into())).collect();
    assert_eq!(derived, [6, 7, 8, 100, 101, 102]);
    for me in ["host0", "host1", "host2"] {
        assert_eq!(members_on(me, &network, &all, &groups), derived, "on {me}");
    }
}

#[test]
fn whose_group_is_missing_or_cannot_be_enforced_is_closed_and_told_why() {
    let ports = [port(2, &["web", "typo"]), port(3, &["web"]), samples::port(4)];
    let (told, closed) = policy(&here(&ports), &[web()], &Ok(())).unwrap();
    let open: Vec<bool> = told.unwrap().guests.iter().map(|guest| guest.access != Access::Closed).collect();
    assert_eq!(open, [false, true]);
    assert_eq!(closed.len(), 1);
    assert_eq!((closed[0].name.as_str(), closed[0].reason), ("p2", "SecurityGroupNotFound"));
    assert!(closed[0].message.contains("typo"));

    let unable = Err("there is no br_netfilter".to_owned());
    let (told, closed) = policy(&here(&ports), &[web()], &unable).unwrap();
    let told = told.unwrap();
    assert!(told.guests.iter().all(|guest| guest.access == Access::Closed) && !told.stateful);
    assert_eq!(closed.iter().map(|one| one.reason).collect::<Vec<_>>(), ["StatefulFilterUnavailable"; 2]);

    for (rule, field) in [
        (json!({"direction": "Ingress", "cidr": "10.0.0.0/40"}), "spec.rules[0].cidr"),
        (json!({"direction": "Egress", "protocol": "TCP", "port": 9, "endPort": 8}), "spec.rules[0].endPort"),
        (json!({"direction": "Egress", "protocol": "ICMP", "port": 9}), "spec.rules[0].port"),
        (json!({"direction": "Egress", "protocol": "IPX"}), "spec.rules[0].protocol"),
    ] {
        let (_, closed) = policy(&here(&[port(3, &["web"])]), &[group("web", json!([rule]))], &Ok(())).unwrap();
        assert_eq!(closed[0].reason, "InvalidSecurityGroup");
        assert!(closed[0].message.contains(field), "{}", closed[0].message);
    }
}

#[test]
fn a_remote_group_that_is_not_there_has_no_members_and_rules_are_read_as_they_stand() {
    let rules = json!([
        {"direction": "Ingress", "securityGroup": "ghosts"},
        {"direction": "Egress", "protocol": "UDP", "port": 53, "endPort": 54, "cidr": "10.0.0.0/8"},
        {"direction": "Ingress", "protocol": "ICMP", "icmpType": 8},
        {"direction": "Ingress", "protocol": "47"},
    ]);
    let (policy, closed) = policy(&here(&[port(3, &["web"])]), &[group("web", rules)], &Ok(())).unwrap();
    let policy = policy.unwrap();
    assert_eq!(closed, []);
    let nobody = GroupId::of_owner("");
    assert!(policy.groups.iter().any(|group| group.id == nobody && group.members.is_empty()));
    let traffic: Vec<_> = policy.groups[0].rules.iter().map(|rule| (rule.traffic, rule.remote)).collect();
    let expected = [
        (Traffic::Any, Remote::Members(nobody)),
        (Traffic::Ports(Transport::Udp, 53, 54), Remote::Range("10.0.0.0/8".parse().unwrap())),
        (Traffic::Icmp(8, None), Remote::Anybody),
        (Traffic::Protocol(47), Remote::Anybody),
    ];
    assert_eq!(traffic, expected);
}
