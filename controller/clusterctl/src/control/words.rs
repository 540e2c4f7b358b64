//! What our kinds refuse, judged as the API judges it: from their documents alone.

use apiserver::schema::Definition;
use serde_json::{Value, json};

fn definition(kind: &str) -> Definition {
    let crd = crds::all().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap();
    Definition::from_crd(&serde_json::to_value(crd).unwrap()).unwrap()
}

/// The fields that are complained about.
fn refused(definition: &Definition, spec: Value) -> Vec<String> {
    let mut object = json!({
        "apiVersion": "photoncloud.dev/v1alpha1", "kind": definition.kind, "metadata": {"name": "a", "namespace": "t"}, "spec": spec,
    });
    let schema = &definition.storage().schema;
    schema.default(&mut object);
    schema.validate(&object, None).into_iter().map(|error| error.field).collect()
}

#[test]
fn a_rule_that_cannot_be_is_refused_with_its_field() {
    let kind = definition("SecurityGroup");
    let group = |rule: Value| refused(&kind, json!({ "rules": [rule] }));
    for (rule, field) in [
        (json!({"direction": "Ingress", "protocol": "TCP", "port": 90, "endPort": 80}), "endPort"),
        (json!({"direction": "Ingress", "protocol": "TCP", "endPort": 80}), "endPort"),
        (json!({"direction": "Ingress", "protocol": "ICMP", "port": 80}), "port"),
        (json!({"direction": "Ingress", "port": 80}), "port"),
        (json!({"direction": "Ingress", "protocol": "TCP", "port": 0}), "port"),
        (json!({"direction": "Ingress", "protocol": "TCP", "port": 65_536}), "port"),
        (json!({"direction": "Ingress", "protocol": "UDP", "icmpType": 8}), "icmpType"),
        (json!({"direction": "Ingress", "protocol": "ICMP", "icmpCode": 1}), "icmpCode"),
        (json!({"direction": "Ingress", "protocol": "256"}), "protocol"),
        (json!({"direction": "Ingress", "protocol": "tcp"}), "protocol"),
        (json!({"direction": "Ingress", "cidr": "10.0.0.0"}), "cidr"),
        (json!({"direction": "Ingress", "cidr": "10.0.0.0/33"}), "cidr"),
        (json!({"direction": "Ingress", "cidr": "10.0.0.0/8", "securityGroup": "web"}), "securityGroup"),
        (json!({"direction": "Sideways"}), "direction"),
    ] {
        assert_eq!(group(rule.clone()), [format!("spec.rules[0].{field}")], "{rule}");
    }
    for rule in [
        json!({"direction": "Egress"}),
        json!({"direction": "Ingress", "protocol": "TCP", "port": 80, "endPort": 80, "securityGroup": "web"}),
        json!({"direction": "Ingress", "protocol": "ICMP", "icmpType": 0, "icmpCode": 0, "cidr": "0.0.0.0/0"}),
        json!({"direction": "Ingress", "protocol": "0"}),
    ] {
        assert_eq!(group(rule.clone()), Vec::<String>::new(), "{rule}");
    }
    assert_eq!(refused(&kind, json!({})), Vec::<String>::new());
}

#[test]
fn a_port_names_each_group_once_and_addresses_alone() {
    let kind = definition("Port");
    let port = |groups: Value| refused(&kind, json!({"network": "n", "securityGroups": groups}));
    assert_eq!(port(json!(["web", "ssh"])), Vec::<String>::new());
    assert_eq!(port(json!(["web", "web"])), ["spec.securityGroups[1]"]);
    assert_eq!(port(json!([""])), ["spec.securityGroups[0]"]);
    let port = |further: Value| refused(&kind, json!({"network": "n", "allowedAddresses": further}));
    assert_eq!(port(json!(["10.0.0.1", "10.0.0.2"])), Vec::<String>::new());
    assert_eq!(port(json!(["10.0.0.256"])), ["spec.allowedAddresses[0]"]);
}

#[test]
fn a_listener_has_certificates_if_it_speaks_https_and_only_then() {
    let kind = definition("LoadBalancer");
    let listener = |protocol: &str, tls: Value| {
        let mut listener = json!({"protocol": protocol, "port": 443});
        if !tls.is_null() {
            listener["tls"] = tls;
        }
        let backends = json!([{"selector": {"matchLabels": {"app": "web"}}}]);
        refused(
            &kind,
            json!({"serviceIP": "vip", "backends": backends, "listeners": [listener],
            "routes": if protocol.starts_with("HTTP") { json!([{"backends": backends}]) } else { json!([]) }}),
        )
    };
    let secrets = |names: &[&str]| json!({ "secrets": names });
    assert_eq!(listener("HTTPS", secrets(&["web", "shop.example"])), Vec::<String>::new());
    assert_eq!(listener("HTTP", Value::Null), Vec::<String>::new());
    assert_eq!(listener("HTTPS", Value::Null), ["spec.listeners[0].tls"]);
    for other in ["HTTP", "TCP", "UDP"] {
        assert_eq!(listener(other, secrets(&["web"])), ["spec.listeners[0].tls"], "{other}");
    }
    // What is too long or not there is told first, and that no rule was asked any more after it.
    assert_eq!(listener("HTTPS", json!({}))[0], "spec.listeners[0].tls.secrets");
    assert_eq!(listener("HTTPS", secrets(&[])), ["spec.listeners[0].tls.secrets"]);
    assert_eq!(listener("HTTPS", secrets(&["web", "web"])), ["spec.listeners[0].tls.secrets[1]"]);
    for name in ["", "Web", "../web", "web/x", "web?x", &"a".repeat(254)] {
        assert_eq!(listener("HTTPS", secrets(&[name]))[0], "spec.listeners[0].tls.secrets[0]", "{name}");
    }
    let many: Vec<String> = (0..17).map(|number| format!("web{number}")).collect();
    assert_eq!(listener("HTTPS", json!({ "secrets": many }))[0], "spec.listeners[0].tls.secrets");
}

/// The fields that are complained about when one spec replaces another.
fn refused_change(definition: &Definition, before: Value, after: Value) -> Vec<String> {
    let whole = |spec: Value| {
        let mut object = json!({
            "apiVersion": "photoncloud.dev/v1alpha1", "kind": definition.kind, "metadata": {"name": "a", "namespace": "t"}, "spec": spec,
        });
        definition.storage().schema.default(&mut object);
        object
    };
    let errors = definition.storage().schema.validate(&whole(after), Some(&whole(before)));
    errors.into_iter().map(|error| error.field).collect()
}

#[test]
fn a_networks_subnets_are_one_or_several_and_do_not_overlap() {
    let kind = definition("TenantNetwork");
    let network = |spec: Value| refused(&kind, spec);
    let two = |second: Value| json!({"subnets": [{"name": "a", "cidr": "10.0.0.0/24"}, second]});
    for good in [
        json!({"subnet": "10.0.0.0/24"}),
        json!({"subnet": "10.0.0.0/24", "gateway": "10.0.0.9"}),
        two(json!({"name": "b", "cidr": "10.0.1.0/24", "gateway": "10.0.1.254",
            "allocation": {"first": "10.0.1.10", "last": "10.0.1.20"}})),
    ] {
        assert_eq!(network(good.clone()), Vec::<String>::new(), "{good}");
    }
    for (spec, field) in [
        (json!({}), "spec.subnet"),
        (json!({"subnet": "10.0.0.0/24", "subnets": [{"name": "a", "cidr": "10.0.0.0/24"}]}), "spec.subnet"),
        (json!({"gateway": "10.0.0.1", "subnets": [{"name": "a", "cidr": "10.0.0.0/24"}]}), "spec.gateway"),
        (json!({"subnets": []}), "spec.subnets"),
        (two(json!({"name": "b", "cidr": "10.0.0.128/25"})), "spec.subnets"),
        (two(json!({"name": "b", "cidr": "10.0.0.0/8"})), "spec.subnets"),
        (two(json!({"name": "a", "cidr": "10.0.1.0/24"})), "spec.subnets[1]"),
        (two(json!({"name": "b", "cidr": "10.0.1.5/24"})), "spec.subnets[1].cidr"),
        (two(json!({"name": "b", "cidr": "10.0.1.0/31"})), "spec.subnets[1].cidr"),
        (two(json!({"name": "b", "cidr": "10.0.1.0/24", "gateway": "10.0.0.1"})), "spec.subnets[1].gateway"),
        (
            two(json!({"name": "b", "cidr": "10.0.1.0/24", "allocation": {"first": "10.0.1.1", "last": "10.0.2.1"}})),
            "spec.subnets[1].allocation",
        ),
    ] {
        let told = network(spec.clone());
        assert!(told.contains(&field.to_owned()), "{spec}: {told:?}");
    }
}

#[test]
fn the_first_subnet_is_of_ipv4_unless_all_are_of_ipv6_and_that_stays() {
    let kind = definition("TenantNetwork");
    let of = |cidrs: &[&str]| {
        let one = |(at, cidr)| json!({"name": format!("s{at}"), "cidr": cidr});
        json!({"subnets": cidrs.iter().enumerate().map(one).collect::<Vec<_>>()})
    };
    let none = Vec::<String>::new();
    for good in [&["10.0.0.0/24", "fd00:1::/64"][..], &["fd00:1::/64"], &["fd00:1::/64", "fd00:2::/80"]] {
        assert_eq!(refused(&kind, of(good)), none, "{good:?}");
    }
    for bad in [&["fd00:1::/64", "10.0.0.0/24"][..], &["fd00:1::/64", "fd00:2::/64", "10.0.0.0/24"]] {
        assert_eq!(refused(&kind, of(bad)), ["spec.subnets"], "{bad:?}");
    }
    let alone = || of(&["fd00:1::/64"]);
    assert_eq!(refused_change(&kind, alone(), of(&["fd00:1::/64", "fd00:2::/64"])), none);
    assert_eq!(refused_change(&kind, alone(), of(&["fd00:1::/64", "10.0.0.0/24"])), ["spec.subnets"]);
    let mut led = alone();
    led["dhcp"] = json!({"routes": [{"destination": "192.168.0.0/16", "nextHop": "10.0.0.7"}]});
    assert_eq!(refused(&kind, led), ["spec.dhcp.routes"]);
}

#[test]
fn what_guests_are_told_is_an_address_a_name_or_a_way_that_begins_in_the_network() {
    let kind = definition("TenantNetwork");
    let one = |dhcp: Value| refused(&kind, json!({"subnet": "10.1.0.0/24", "dhcp": dhcp}));
    let way = |to: &str, via: &str| json!({"routes": [{"destination": to, "nextHop": via}]});
    assert_eq!(one(way("192.168.0.0/16", "10.1.0.7")), Vec::<String>::new());
    for (dhcp, field) in [
        (way("192.168.0.0/16", "10.2.0.7"), "spec.dhcp.routes"),
        (way("192.168.0.1/16", "10.1.0.7"), "spec.dhcp.routes[0].destination"),
        (way("192.168.0.0/16", "10.1.0"), "spec.dhcp.routes[0].nextHop"),
        (json!({"ntpServers": ["time.example"]}), "spec.dhcp.ntpServers[0]"),
        (json!({"searchDomains": ["a.example\nport=1"]}), "spec.dhcp.searchDomains[0]"),
        (json!({"searchDomains": ["a", "b", "c", "d", "e"]}), "spec.dhcp.searchDomains"),
    ] {
        assert_eq!(one(dhcp.clone())[0], field, "{dhcp}");
    }
    let several = json!([{"name": "a", "cidr": "10.1.0.0/24"}, {"name": "b", "cidr": "10.2.0.0/24"}]);
    let dhcp = way("192.168.0.0/16", "10.2.0.7");
    assert_eq!(refused(&kind, json!({"subnets": several, "dhcp": dhcp})), Vec::<String>::new());
}

#[test]
fn subnets_are_added_and_nothing_else_and_the_short_form_may_become_the_long_one() {
    let kind = definition("TenantNetwork");
    let change = |before: &Value, after: Value| refused_change(&kind, before.clone(), after);
    let short = json!({"subnet": "10.0.0.0/24"});
    let one = |name: &str, cidr: &str| json!({"name": name, "cidr": cidr});
    let long = |all: &[Value]| json!({ "subnets": all });
    let (a, b) = (one("a", "10.0.0.0/24"), one("b", "10.0.1.0/24"));
    let none = Vec::<String>::new();
    assert_eq!(change(&short, short.clone()), none);
    assert_eq!(change(&short, long(&[a.clone(), b.clone()])), none);
    assert_eq!(change(&short, long(&[b.clone(), a.clone()])), ["spec.subnets"]);
    assert_eq!(change(&short, json!({"subnet": "10.0.9.0/24"})), ["spec.subnet"]);
    let both = long(&[a.clone(), b.clone()]);
    assert_eq!(change(&both, long(&[a.clone(), one("c", "10.0.2.0/24"), b.clone()])), none);
    for bad in
        [long(std::slice::from_ref(&a)), long(&[b.clone(), a.clone()]), long(&[a, one("b", "10.0.2.0/24")]), short]
    {
        assert_eq!(change(&both, bad.clone()), ["spec.subnets"], "{bad}");
    }
}
