//! Ports of two families, of one, and between networks.

use super::*;
use crate::matrix::{Cell, entries};

/// `server` lets `clients` in by tcp 80 over IPv6 alone, `old` has no IPv6. Cards make addresses in `made` and `more`.
fn dual() -> Objects {
    let web = json!([{"direction": "Ingress", "protocol": "TCP", "port": 80, "cidr": "fd00::/48"},
        {"direction": "Ingress", "protocol": "UDP", "securityGroup": "clients"}]);
    let subnets = json!([{"name": "four", "cidr": "10.0.0.0/24"}, {"name": "made", "cidr": "fd00::/64"},
        {"name": "more", "cidr": "fd00:0:0:1::/64"}]);
    let six = |mut port: Port, last: u8, address: &str| {
        (port.spec.mac, port.spec.ipv6) = (Some(format!("52:54:00:00:00:{last:02x}")), Some(address.to_owned()));
        port
    };
    let ports = vec![
        six(port("client", "net", "10.0.0.2", &["clients"], "host01"), 2, "fd00::5054:ff:fe00:2"),
        six(port("server", "net", "10.0.0.3", &["web"], "host02"), 3, "fd00::5054:ff:fe00:3"),
        six(port("more", "net", "10.0.0.5", &[], "host02"), 5, "fd00:0:0:1:5054:ff:fe00:5"),
        port("old", "net", "10.0.0.4", &[], "host01"),
    ];
    Objects {
        networks: vec![object(
            "TenantNetwork",
            "net",
            json!({ "subnets": subnets }),
            json!({"vni": 10_000, "ports": 0}),
        )],
        machines: ports.iter().map(|port| machine(port.metadata.name.as_deref().unwrap())).collect(),
        ports,
        groups: vec![group("web", web), group("clients", json!([]))],
        ..Objects::default()
    }
}

#[test]
fn each_family_is_judged_by_its_own_addresses() {
    let world = World::of(dual());
    let rule = |index: u8| (true, format!("SecurityGroup web spec.rules[{index}]"));
    let denied = (false, "default deny in".to_owned());
    assert_eq!(told(&world, "client", "server", "tcp6/80"), rule(0));
    assert_eq!(told(&world, "client", "server", "tcp/80"), denied);
    assert_eq!(told(&world, "client", "server", "udp/53"), rule(1));
    assert_eq!(told(&world, "client", "server", "udp6/53"), rule(1), "its address of IPv6 is the group's, too");
    assert_eq!(told(&world, "more", "server", "udp6/53"), denied);
    assert_eq!(told(&world, "client", "server", "icmpv6"), denied);
    let none = (false, "Port old is not there: it has no IPv6 address".to_owned());
    assert_eq!(told(&world, "old", "server", "tcp6/80"), none);
}

#[test]
fn a_way_of_ipv6_has_its_addresses_and_no_gateway() {
    let world = World::of(dual());
    let [client, server, old] = ["client", "server", "old"].map(|name| world.find("t", name).unwrap());
    let way = world.path(client, server, Conversation::Tcp6(80));
    use Place::{Bridge, Guest, RuleIn, RuleOut, Tap, Tunnel};
    let places: Vec<Place> = way.iter().map(|hop| hop.place).collect();
    assert_eq!(places, [Guest, Tap, RuleOut, Bridge, Tunnel, Bridge, RuleIn, Tap, Guest]);
    assert!(way[0].why.ends_with("fd00::5054:ff:fe00:2"), "{way:?}");
    for (from, to) in [(old, server), (server, old)] {
        let last = world.path(from, to, Conversation::Tcp6(80)).pop().unwrap();
        let expected = (Guest, "old", Fate::Stops, "it has no IPv6 address");
        assert_eq!((last.place, last.of.as_str(), last.fate, last.why.as_str()), expected);
    }
}

#[test]
fn a_question_is_asked_in_each_family_that_both_have_and_told_once_where_they_agree() {
    let world = World::of(dual());
    let all: Vec<&Endpoint> = world.endpoints().iter().collect();
    let questions = world.questions(&all);
    let labels: Vec<&str> = questions.iter().map(|one| one.label.as_str()).collect();
    assert_eq!(labels, ["tcp/80", "tcp/other", "udp", "icmp", "icmpv6"]);
    let of = |from: &str, to: &str| {
        let ends = [from, to].map(|name| vec![world.find("t", name).unwrap()]);
        let cells: Vec<Cell<'_>> = world.matrix(&ends[0], &ends[1], &questions).collect();
        let told = entries(&cells, |one, other| one.verdict == other.verdict);
        let told: Vec<String> = told.into_iter().map(|one| one.label).collect();
        let foreign = cells.iter().filter(|cell| cell.is_foreign()).map(|cell| cell.what.to_string());
        (cells.len(), told.join(" "), foreign.collect::<Vec<_>>())
    };
    assert_eq!(of("client", "server"), (8, "tcp4/80 tcp6/80 tcp/other udp icmp icmpv6".to_owned(), vec![]));
    assert_eq!(of("client", "old").0, 5);
    assert_eq!(of("client", "old").2, ["icmpv6"]);
}

#[test]
fn what_is_tried_over_ipv6_is_tried_under_the_address_that_is_judged() {
    let world = World::of(dual());
    let all: Vec<&Endpoint> = world.endpoints().iter().collect();
    let questions = [Conversation::Tcp(80), Conversation::PING6].map(Question::from);
    let plan = world.plan(world.matrix(&all, &all, &questions));
    let six = |from: &str, to: &str| {
        let of_it = |one: &&probe::Try<'_>| (one.cell.from.name.as_str(), one.cell.to.name.as_str()) == (from, to);
        let words: Vec<String> = plan
            .tries
            .iter()
            .filter(of_it)
            .flat_map(|one| probe::command(std::slice::from_ref(one), 5).pop())
            .collect();
        words
    };
    let to_server = ["tcp/10.0.0.3/80", "tcp/fd00::5054:ff:fe00:3/80", "icmp/fd00::5054:ff:fe00:3/0"];
    assert_eq!(six("client", "server"), to_server);
    assert_eq!(six("client", "old"), ["tcp/10.0.0.4/80"]);
    assert_eq!(six("client", "more"), ["tcp/10.0.0.5/80"], "its card has an address beside that one");
    let why = plan.left_out.keys().cloned().collect::<Vec<_>>().join("\n");
    assert!(why.contains("another of its IPv6 addresses") && why.contains("old is not there"), "{why}");
}
