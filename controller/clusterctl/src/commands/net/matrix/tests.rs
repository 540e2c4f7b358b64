use super::*;
use crds::{Port, Router, SecurityGroup, TenantNetwork};
use reachability::Objects;

fn world() -> World {
    let object = |kind: &str, name: &str, spec: Value| json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": "t"}, "spec": spec});
    let network = |name: &str| -> TenantNetwork {
        serde_json::from_value(object("TenantNetwork", name, json!({"subnet": "10.0.0.0/24"}))).unwrap()
    };
    let far: TenantNetwork =
        serde_json::from_value(object("TenantNetwork", "far", json!({"subnet": "10.5.0.0/24"}))).unwrap();
    let leg = |network: &str, ip: &str, range: &str| json!({"network": network, "port": "p", "address": ip, "ranges": [range]});
    let mut router = object("Router", "between", json!({"networks": ["net", "far"]}));
    router["status"] = json!({"host": "host01", "interfaces": [leg("net", "10.0.0.9", "10.0.0.0/24"), leg("far", "10.5.0.9", "10.5.0.0/24")]});
    let router: Router = serde_json::from_value(router).unwrap();
    let port = |name: &str, network: &str, ip: &str, groups: &[&str]| -> Port {
        let spec = json!({"network": network, "ip": ip, "host": "host01", "securityGroups": groups});
        serde_json::from_value(object("Port", name, spec)).unwrap()
    };
    let rules = json!({"rules": [{"direction": "Ingress", "protocol": "TCP", "port": 80, "endPort": 90}]});
    let group: SecurityGroup = serde_json::from_value(object("SecurityGroup", "web", rules)).unwrap();
    World::of(Objects {
        networks: vec![network("net"), network("other"), far],
        ports: vec![
            port("client", "net", "10.0.0.2", &[]),
            port("server", "net", "10.0.0.3", &["web"]),
            port("stranger", "other", "10.0.0.2", &[]),
            port("beyond", "far", "10.5.0.2", &["web"]),
        ],
        groups: vec![group],
        routers: vec![router],
        ..Objects::default()
    })
}

/// Two Ports of two families, one of one, and rules that differ between the families.
fn dual() -> World {
    let object = |kind: &str, name: &str, spec: Value| json!({"apiVersion": "photoncloud.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": "t"}, "spec": spec});
    let subnets = json!([{"name": "four", "cidr": "10.0.0.0/24"}, {"name": "six", "cidr": "fd00::/64"}]);
    let network: TenantNetwork =
        serde_json::from_value(object("TenantNetwork", "net", json!({ "subnets": subnets }))).unwrap();
    let port = |name: &str, ip: &str, six: Option<&str>, groups: &[&str]| -> Port {
        let spec = json!({"network": "net", "ip": ip, "ipv6": six, "host": "host01", "securityGroups": groups});
        serde_json::from_value(object("Port", name, spec)).unwrap()
    };
    let rules = json!({"rules": [{"direction": "Ingress", "protocol": "TCP", "port": 80},
        {"direction": "Ingress", "protocol": "TCP", "port": 90, "cidr": "fd00::/64"}]});
    World::of(Objects {
        networks: vec![network],
        ports: vec![
            port("client", "10.0.0.2", Some("fd00::2"), &[]),
            port("old", "10.0.0.4", None, &[]),
            port("server", "10.0.0.3", Some("fd00::3"), &["web"]),
        ],
        groups: vec![serde_json::from_value(object("SecurityGroup", "web", rules)).unwrap()],
        ..Objects::default()
    })
}

fn args(line: &str) -> MatrixArgs {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: MatrixArgs,
    }
    let words = std::iter::once("matrix").chain(line.split_whitespace());
    <Line as clap::Parser>::try_parse_from(words).unwrap().args
}

fn printed(line: &str) -> String {
    printed_of(&world(), line)
}

fn printed_of(world: &World, line: &str) -> String {
    let args = args(line);
    let (from, to) = (chosen(world, &args, &args.from).unwrap(), chosen(world, &args, &args.to).unwrap());
    let questions = asked(world, &args, &from, &to).unwrap();
    let cells = cells(world, &args, &from, &to, &questions);
    match args.output.as_deref() {
        Some("json") => serde_json::to_string_pretty(&document(&cells, None)).unwrap(),
        Some(_) => wide(&cells, false).render(true),
        None => short(&cells, false).render(true),
    }
}

#[test]
fn a_line_for_each_pair_of_one_network() {
    insta::assert_snapshot!(printed("--network net"), @r"
    NETWORK   FROM     TO       OPEN        CLOSED
    net       client   server   tcp/80-90   tcp/other,udp,icmp
    net       server   client   all         -
    ");
}

#[test]
fn and_of_two_that_a_router_joins() {
    insta::assert_snapshot!(printed("--from client --from beyond"), @r"
    NETWORK     FROM     TO       OPEN        CLOSED
    far → net   beyond   client   all         -
    far → net   beyond   server   tcp/80-90   tcp/other,udp,icmp
    net → far   client   beyond   tcp/80-90   tcp/other,udp,icmp
    net         client   server   tcp/80-90   tcp/other,udp,icmp
    ");
}

#[test]
fn a_line_for_each_question_and_what_decided_it() {
    insta::assert_snapshot!(printed("--from client --port 80 --port 91 -o wide"), @r"
    FROM     TO         CONVERSATION   VERDICT   DECIDED BY
    client   beyond     tcp/80         open      SecurityGroup web spec.rules[0]
    client   beyond     tcp/91         closed    default deny in
    client   server     tcp/80         open      SecurityGroup web spec.rules[0]
    client   server     tcp/91         closed    default deny in
    client   stranger   tcp/80         closed    another network
    client   stranger   tcp/91         closed    another network
    ");
    let udp = printed("--protocol udp -o wide --network net");
    assert!(udp.lines().skip(1).all(|line| line.contains(" udp ")) && udp.lines().count() == 3, "{udp}");
}

#[test]
fn what_both_families_say_is_one_word_and_what_they_do_not_is_two() {
    insta::assert_snapshot!(printed_of(&dual(), ""), @r"
    NETWORK   FROM     TO       OPEN             CLOSED
    net       client   old      all              -
    net       client   server   tcp/80,tcp6/90   tcp4/90,tcp/other,udp,icmp,icmpv6
    net       old      client   all              -
    net       old      server   tcp/80           tcp/90,tcp/other,udp,icmp
    net       server   client   all              -
    net       server   old      all              -
    ");
    insta::assert_snapshot!(printed_of(&dual(), "--from client --port 80 --port 90 -o wide"), @r"
    FROM     TO       CONVERSATION   VERDICT   DECIDED BY
    client   old      tcp/80         open      no group: open
    client   old      tcp/90         open      no group: open
    client   server   tcp/80         open      SecurityGroup web spec.rules[0]
    client   server   tcp4/90        closed    default deny in
    client   server   tcp6/90        open      SecurityGroup web spec.rules[1]
    ");
    insta::assert_snapshot!(printed_of(&dual(), "--from client --protocol tcp --family ipv6"), @r"
    NETWORK   FROM     TO       OPEN            CLOSED
    net       client   server   tcp/80,tcp/90   tcp/other
    ");
    let read: Value =
        serde_json::from_str(&printed_of(&dual(), "--from client --to server --port 90 -o json")).unwrap();
    let each = read["pairs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["family"].as_str().unwrap(), one["open"].as_bool().unwrap()));
    assert_eq!(each.collect::<Vec<_>>(), [("IPv4", false), ("IPv6", true)]);
}

#[test]
fn programs_read_it() {
    let read: Value = serde_json::from_str(&printed("--from client --to server --protocol icmp -o json")).unwrap();
    let expected = json!({"pairs": [{
        "from": {"namespace": "t", "port": "client", "network": "net"},
        "to": {"namespace": "t", "port": "server", "network": "net"},
        "conversation": "icmp", "family": "IPv4", "open": false, "decidedBy": "default deny in",
    }]});
    assert_eq!(read, expected);
}

#[test]
fn a_name_that_is_not_there_is_told() {
    let world = world();
    let told = |line: &str| chosen(&world, &args(line), &args(line).from).unwrap_err().to_string();
    assert!(told("--from nobody").contains("no Port nobody"));
    assert!(told("--network nowhere").contains("TenantNetwork nowhere"));
    assert!(told("--network other --from client").contains("no Port client"), "it is on another one");
}
