//! Networks that routers join, in a row and with one missing.

use super::*;
use crds::Router;

fn router(name: &str, host: &str, interfaces: &[(&str, &str, &str)], routes: &[(&str, &str)]) -> Router {
    let interfaces: Vec<Value> = interfaces
        .iter()
        .map(|(network, address, range)| {
            json!({"network": network, "port": format!("{name}.{network}"), "address": address, "ranges": [range]})
        })
        .collect();
    let routes: Vec<Value> = routes.iter().map(|(to, via)| json!({"destination": to, "nextHop": via})).collect();
    let status =
        json!({"host": host, "term": 1, "interfaces": interfaces, "staticRoutes": routes, "conditions": ready()});
    object("Router", name, json!({"networks": []}), status)
}

const OFFICE: (&str, &str, &str) = ("office", "10.1.0.9", "10.1.0.0/24");
const PLANT: (&str, &str, &str) = ("plant", "10.2.0.9", "10.2.0.0/24");

/// office ── r1 ── plant ── r2 ── store; r1 knows the store by r2 and r2 the office by r1. An isle is joined to nothing.
fn joined() -> Objects {
    let web = json!([{"direction": "Ingress", "protocol": "TCP", "port": 80, "cidr": "10.1.0.0/24"},
        {"direction": "Ingress", "protocol": "TCP", "port": 81, "securityGroup": "web"}]);
    let ports = vec![
        port("clerk", "office", "10.1.0.2", &["web"], "host01"),
        port("robot", "plant", "10.2.0.2", &["web"], "host02"),
        port("shelf", "store", "10.3.0.2", &[], "host02"),
        port("hermit", "isle", "10.4.0.2", &[], "host01"),
    ];
    Objects {
        machines: ports.iter().map(|port| machine(port.metadata.name.as_deref().unwrap())).collect(),
        networks: vec![
            network("office", "10.1.0.0/24"),
            network("plant", "10.2.0.0/24"),
            network("store", "10.3.0.0/24"),
            network("isle", "10.4.0.0/24"),
        ],
        ports,
        groups: vec![group("web", web)],
        routers: vec![
            router("r1", "host03", &[OFFICE, PLANT], &[("10.3.0.0/24", "10.2.0.8")]),
            router(
                "r2",
                "host02",
                &[("plant", "10.2.0.8", "10.2.0.0/24"), ("store", "10.3.0.8", "10.3.0.0/24")],
                &[("10.1.0.0/24", "10.2.0.9")],
            ),
        ],
        hosts: Vec::new(),
        ..Objects::default()
    }
}

fn places(world: &World, from: &str, to: &str) -> Vec<(Place, String)> {
    let [from, to] = [from, to].map(|name| world.find("t", name).unwrap());
    world.path(from, to, Conversation::Tcp(80)).into_iter().map(|hop| (hop.place, hop.why)).collect()
}

#[test]
fn groups_judge_at_both_ends_of_a_routed_way_by_address() {
    let world = World::of(joined());
    let range = (true, "SecurityGroup web spec.rules[0]".to_owned());
    assert_eq!(told(&world, "clerk", "robot", "tcp/80"), range);
    let denied = (false, "default deny in".to_owned());
    assert_eq!(told(&world, "clerk", "robot", "tcp/81"), denied, "a group's members are of one network");
    assert_eq!(told(&world, "robot", "clerk", "tcp/80"), denied);
    assert_eq!(told(&world, "clerk", "shelf", "udp/53"), (true, "no group: open".to_owned()));
    assert!(!told(&world, "clerk", "hermit", "icmp").0);
    assert_eq!(told(&world, "clerk", "robot", "icmpv6").1, "another network", "routers are of IPv4");
    assert_eq!(told(&world, "clerk", "robot", "tcp6/80").1, "another network");
}

#[test]
fn the_routers_of_a_way_are_told_and_where_they_are() {
    let world = World::of(joined());
    use Place::{Bridge, Gateway, Guest, Router, RuleIn, RuleOut, Tap, Tunnel};
    let way = places(&world, "clerk", "shelf");
    let order: Vec<Place> = way.iter().map(|hop| hop.0).collect();
    assert_eq!(
        order,
        [Guest, Tap, RuleOut, Bridge, Gateway, Tunnel, Router, Tunnel, Router, Bridge, RuleIn, Tap, Guest],
        "r2 is where the shelf is: {way:#?}"
    );
    assert_eq!(way[6].1, "on host03, 10.1.0.9 to 10.2.0.9");
    assert_eq!(way[8].1, "on host02, 10.2.0.8 to 10.3.0.8");
    let last = places(&world, "clerk", "hermit").pop().unwrap();
    assert_eq!(last, (Bridge, "no way leads from here to TenantNetwork isle".to_owned()));
}

#[test]
fn without_a_way_back_there_is_none() {
    let mut objects = joined();
    objects.routers[1].status.as_mut().unwrap().static_routes.clear();
    let world = World::of(objects);
    assert_eq!(told(&world, "clerk", "shelf", "tcp/80"), (false, "another network".to_owned()));
    let last = places(&world, "clerk", "shelf").pop().unwrap().1;
    assert_eq!(last, "no way leads from here to TenantNetwork store and back");
    assert!(told(&world, "robot", "shelf", "tcp/80").0, "its other network is where it was");
}

#[test]
fn routers_that_lead_in_a_circle_lead_nowhere() {
    let mut objects = joined();
    let isle = ("10.4.0.0/24", "10.2.0.8");
    objects.routers[0] = router("r1", "host03", &[OFFICE, PLANT], &[isle]);
    objects.routers[1] =
        router("r2", "host02", &[("plant", "10.2.0.8", "10.2.0.0/24")], &[("10.4.0.0/24", "10.2.0.9")]);
    assert_eq!(told(&World::of(objects), "clerk", "hermit", "icmp"), (false, "another network".to_owned()));
}

#[test]
fn a_router_that_does_not_route_is_suspect_and_one_that_goes_leads_nowhere() {
    let mut objects = joined();
    let status = objects.routers[0].status.as_mut().unwrap();
    (status.conditions[0].status, status.conditions[0].reason) = ("False".to_owned(), "NoReadyHost".to_owned());
    status.host = None;
    let world = World::of(objects.clone());
    let [from, to] = ["clerk", "robot"].map(|name| world.find("t", name).unwrap());
    let hop = world.suspect(from, to, Conversation::Tcp(80)).unwrap();
    assert_eq!((hop.place, hop.why.as_str()), (Place::Router, "Router r1 is Ready=False (NoReadyHost): "));
    objects.routers[0].metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    assert_eq!(told(&World::of(objects), "clerk", "robot", "tcp/80").1, "another network");
}
