//! ServiceIPs and LoadBalancers through the API: what cannot be is refused with the field's path, nobody gets an address twice, and
//! what is not served says why.

use anyhow::{Result, ensure};
use testkit::Lab;

/// What is put into a LoadBalancer that is right without it, and what is said of that.
const REFUSED: [(&str, &str); 13] = [
    ("listeners: [{protocol: SCTP, port: 80}]", "spec.listeners[0].protocol"),
    ("listeners: [{protocol: TCP, port: 70000}]", "spec.listeners[0].port"),
    ("listeners: [{protocol: TCP, port: 80}, {protocol: TCP, port: 80, targetPort: 81}]", "spec.listeners[1]"),
    ("backends: [{selector: {matchLabels: {}}}]", "spec.backends[0].selector.matchLabels"),
    ("backends: [{selector: {matchLabels: {app: web}}, weight: 257}]", "spec.backends[0].weight"),
    ("healthCheck: {type: TCP, path: /x}", "spec.healthCheck.path"),
    ("healthCheck: {type: HTTP, intervalSeconds: 1, timeoutSeconds: 2}", "spec.healthCheck.timeoutSeconds"),
    ("listeners: [{protocol: UDP, port: 53}], healthCheck: {type: TCP}", "spec.healthCheck.port"),
    ("listeners: [{protocol: TCP, port: 80}, {protocol: HTTP, port: 80}]", "spec.listeners"),
    ("routes: [{matches: [], hostnames: []}]", "spec.routes[0].backends"),
    ("routes: [{hostnames: [a b], backends: [{selector: {matchLabels: {app: x}}}]}]", "spec.routes[0].hostnames[0]"),
    (
        "routes: [{matches: [{path: {value: \"/a\\nb\"}}], backends: [{selector: {matchLabels: {app: x}}}]}]",
        "spec.routes[0].matches[0].path.value",
    ),
    ("routes: [{backends: [{selector: {matchLabels: {app: x}}}]}]", "spec.routes"),
];

fn object(kind: &str, name: &str, spec: &str) -> String {
    format!("---\napiVersion: photoncloud.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

fn balancer(name: &str, changed: &str) -> String {
    let right = ["listeners: [{protocol: TCP, port: 80}]", "backends: [{selector: {matchLabels: {app: web}}}]"];
    let field = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
    let rest: Vec<&str> = right.into_iter().filter(|line| !changed.starts_with(&field(line))).collect();
    object("LoadBalancer", name, &format!("{{serviceIP: shop, {}}}", [&[changed][..], &rest].concat().join(", ")))
}

#[test]
fn services_that_cannot_be_are_refused_and_what_is_not_served_says_why() -> Result<()> {
    let lab = Lab::up(&["--no-agent"])?;
    for (changed, path) in REFUSED {
        let text = balancer("x", changed);
        let refused = lab.apply(&text)?.fails_with(1)?;
        ensure!(refused.contains(path), "{text}: {path:?} is missing in: {refused}");
    }
    let odd = lab.apply(&object("ServiceIP", "x", "{network: market, ip: 10.44.0.500}"))?.fails_with(1)?;
    ensure!(odd.contains("spec.ip"), "{odd}");

    lab.apply(include_str!("../../../../manifests/examples/load-balancer.yaml"))?.ok()?;
    let wait = |object: &str, condition: &str| -> Result<()> {
        lab.run(&["wait", object, &format!("--for=condition={condition}"), "--timeout=60s"])?.ok()?;
        Ok(())
    };
    let why = |object: &str| {
        lab.run(&["get", object, "-o", "jsonpath={.status.conditions[0].reason}: {.status.conditions[0].message}"])?
            .ok()
    };
    wait("serviceip/shop", "Ready")?;
    wait("loadbalancer/shop", "Ready=False")?;
    ensure!(why("loadbalancer/shop")?.contains("NoBackends"), "{}", why("loadbalancer/shop")?);

    // One address, one holder; whoever does not say which gets another.
    let taken = "{network: market, ip: 10.44.0.50}";
    lab.apply(&(object("ServiceIP", "second", taken) + &object("Port", "second", taken)))?.ok()?;
    for second in ["serviceip/second", "port/second"] {
        wait(second, "Ready=False")?;
        ensure!(
            why(second)?.contains("AddressTaken: spec.ip: 10.44.0.50 is taken by ServiceIP shop"),
            "{}",
            why(second)?
        );
    }
    lab.apply(&object("ServiceIP", "any", "{network: market}"))?.ok()?;
    wait("serviceip/any", "Ready")?;

    lab.apply(&balancer("younger", "listeners: [{protocol: TCP, port: 80}]"))?.ok()?;
    wait("loadbalancer/younger", "Ready=False")?;
    ensure!(why("loadbalancer/younger")?.contains("ListenerTaken: spec.listeners[0]: LoadBalancer shop"));
    // Nobody checks it and it is on a host, so it serves.
    let web = "---\napiVersion: photoncloud.dev/v1alpha1\nkind: Port\nmetadata: {name: web, labels: {app: web}}\n\
               spec: {network: market, host: elsewhere}\n";
    lab.apply(web)?.ok()?;
    lab.run(&["delete", "loadbalancer", "shop"])?.ok()?;
    wait("loadbalancer/younger", "Ready")?;
    // What goes is free again.
    lab.run(&["delete", "serviceip", "shop"])?.ok()?;
    wait("serviceip/second", "Ready")?;
    wait("loadbalancer/younger", "Ready=False")?;
    ensure!(why("loadbalancer/younger")?.contains("ServiceIPNotFound"));
    lab.finish()
}
