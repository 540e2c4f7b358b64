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
