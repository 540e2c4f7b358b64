//! Who answers at a service's address, and who is told to reach them.

use crds::{Host, LoadBalancer, ServiceIP};

use super::*;
use crate::service::{Outcome, Served};

/// `shop` shares out TCP 80 and HTTP 81 among `web` Ports: `first` for everybody, `second` for `clients` alone, `third` out of work.
fn objects() -> Objects {
    let closed = json!([{"direction": "Ingress", "protocol": "TCP", "port": 8080, "securityGroup": "clients"}]);
    let jail = json!([{"direction": "Egress", "cidr": "10.0.0.50/32"}]);
    let backend = |name: &str, last: u8, groups: &[&str], tier: &str| {
        let mut port = port(name, "net", &format!("10.0.0.{last}"), groups, "host01");
        port.metadata.labels =
            Some([("app".to_owned(), "web".to_owned()), ("tier".to_owned(), tier.to_owned())].into());
        port
    };
    let balancer = |name: &str, created: &str, spec: Value| -> LoadBalancer {
        let mut one: LoadBalancer = object("LoadBalancer", name, spec, Value::Null);
        one.metadata.creation_timestamp = serde_json::from_value(json!(created)).unwrap();
        one
    };
    let selected =
        |tier: &str, weight: u8| json!({"selector": {"matchLabels": {"app": "web", "tier": tier}}, "weight": weight});
    let shop = json!({"serviceIP": "shop", "listeners": [{"protocol": "TCP", "port": 80, "targetPort": 8080},
            {"protocol": "HTTP", "port": 81, "targetPort": 8080},
            {"protocol": "HTTPS", "port": 443, "targetPort": 8080, "tls": {"secrets": ["key"]}}],
        "backends": [selected("live", 1), selected("spare", 0)],
        "routes": [{"name": "api", "hostnames": ["api.shop"], "targetPort": 9090, "backends": [selected("live", 1)]}]});
    let late = json!({"serviceIP": "shop", "listeners": [{"protocol": "TCP", "port": 80}, {"protocol": "UDP", "port": 53}],
        "backends": [selected("none", 1)]});
    Objects {
        networks: vec![network("net", "10.0.0.0/24"), network("other", "10.0.0.0/24")],
        ports: vec![
            backend("first", 2, &[], "live"),
            backend("second", 3, &["closed"], "live"),
            backend("third", 4, &[], "spare"),
            port("client", "net", "10.0.0.10", &["clients"], "host02"),
            port("plain", "net", "10.0.0.11", &[], "host02"),
            port("prisoner", "net", "10.0.0.12", &["jail"], "host02"),
            port("twin", "other", "10.0.0.13", &[], "host02"),
        ],
        groups: vec![group("closed", closed), group("clients", json!([])), group("jail", jail)],
        services: vec![object::<ServiceIP>(
            "ServiceIP",
            "shop",
            json!({"network": "net"}),
            json!({"ip": "10.0.0.50", "conditions": ready()}),
        )],
        balancers: vec![balancer("late", "2026-01-02T00:00:00Z", late), balancer("shop", "2026-01-01T00:00:00Z", shop)],
        ..Objects::default()
    }
}

fn served(world: &World, from: &str, what: &str) -> Served {
    world.served(world.find("t", from).unwrap(), "shop", what.parse().unwrap()).unwrap()
}

#[test]
fn connections_are_judged_as_if_they_were_sent_to_the_backend() {
    let world = World::of(objects());
    let told = served(&world, "client", "tcp/80");
    assert_eq!((told.outcome, told.balancer.as_deref()), (Outcome::Open, Some("shop")), "{told:?}");
    let of_each = told.behind.iter().map(|one| (one.port.as_str(), one.target, one.idle.is_none()));
    assert_eq!(of_each.collect::<Vec<_>>(), [("first", 8080, true), ("second", 8080, true), ("third", 8080, false)]);
    assert_eq!(told.behind[2].idle.as_deref(), Some("its weight is 0"));
    assert_eq!(served(&world, "plain", "tcp/80").outcome, Outcome::Partly);
    let prisoner = served(&world, "prisoner", "tcp/80");
    assert_eq!(prisoner.outcome, Outcome::Closed, "he may speak to the service's address, which no backend has");
    assert!(prisoner.why.ends_with("not: default deny out"), "{}", prisoner.why);
}

#[test]
fn requests_are_judged_at_the_service_and_then_at_each_backend() {
    let world = World::of(objects());
    let prisoner = served(&world, "prisoner", "tcp/81");
    let of_each =
        prisoner.behind.iter().map(|one| (one.port.as_str(), one.target, one.verdict.as_ref().unwrap().is_open()));
    let expected = [
        ("first", 8080, true),
        ("second", 8080, false),
        ("third", 8080, true),
        ("first", 9090, true),
        ("second", 9090, false),
    ];
    assert_eq!(of_each.collect::<Vec<_>>(), expected);
    assert_eq!(prisoner.outcome, Outcome::Partly);
    assert_eq!(prisoner.behind[3].selected_by, "spec.routes[0].backends");
}

#[test]
fn where_nobody_answers_it_is_said_why() {
    let world = World::of(objects());
    let nobody = |from: &str, what: &str| {
        let told = served(&world, from, what);
        assert_eq!(told.outcome, Outcome::Nobody, "{told:?}");
        told.why
    };
    assert_eq!(nobody("client", "tcp/82"), "no LoadBalancer has tcp/82 at 10.0.0.50, so connections are refused");
    assert_eq!(nobody("client", "udp/53"), "none of its 0 backends gets anything new, so connections are refused");
    assert!(nobody("client", "tcp/443").contains("no certificate to show"));
    let mut objects = objects();
    let health = json!({"type": "TCP"});
    objects.balancers[1].spec.health_check = serde_json::from_value(health).unwrap();
    objects.hosts = vec![object::<Host>("Host", "host02", json!({}), Value::Null)];
    let told = served(&World::of(objects), "client", "tcp/80");
    assert_eq!(
        (told.outcome, told.behind[0].idle.as_deref()),
        (Outcome::Nobody, Some("it does not answer the health check"))
    );
}

#[test]
fn what_is_not_derived_is_said() {
    let world = World::of(objects());
    let unknown = |from: &str, what: &str| {
        let told = served(&world, from, what);
        assert_eq!(told.outcome, Outcome::Unknown, "{told:?}");
        told.why
    };
    assert!(unknown("twin", "tcp/80").contains("of TenantNetwork net"));
    assert!(unknown("client", "icmp").contains("by tcp and udp"));
    assert_eq!(served(&world, "first", "tcp/80").behind[0].verdict, None);
    assert!(world.served(world.find("t", "client").unwrap(), "absent", Conversation::Tcp(80)).is_none());
    let mut alone = objects();
    alone.ports.retain(|port| port.metadata.name.as_deref() != Some("second"));
    assert_eq!(served(&World::of(alone), "first", "tcp/80").outcome, Outcome::Unknown);
}
