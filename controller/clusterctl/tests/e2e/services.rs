//! ServiceIPs and LoadBalancers through the API: what cannot be is refused with the field's path, nobody gets an address twice, and
//! what is not served says why.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pki::{Authority, Identity, Subject, Usage};
use testkit::Lab;

/// What is put into a LoadBalancer that is right without it, and what is said of that.
const REFUSED: [(&str, &str); 16] = [
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
    ("listeners: [{protocol: HTTPS, port: 443}]", "spec.listeners[0].tls"),
    ("listeners: [{protocol: HTTP, port: 80, tls: {secrets: [web]}}]", "spec.listeners[0].tls"),
    ("listeners: [{protocol: HTTPS, port: 443, tls: {secrets: []}}]", "spec.listeners[0].tls.secrets"),
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
    lab.apply(&object("Port", "asker", "{network: market, host: elsewhere}"))?.ok()?;
    lab.run(&["wait", "port/asker", "--for=jsonpath={.spec.ip}", "--timeout=60s"])?.ok()?;
    let traced = |port: &str| lab.run(&["net", "trace", "asker", "service/shop", "--port", port]);
    let nobody = traced("80")?;
    ensure!(nobody.code == 1 && nobody.stdout.contains("nobody answers: none of its 0 backends"), "{nobody}");
    lab.apply(web)?.ok()?;
    lab.run(&["delete", "loadbalancer", "shop"])?.ok()?;
    wait("loadbalancer/younger", "Ready")?;
    let open = traced("80")?;
    ensure!(
        open.code == 0 && open.stdout.contains("by LoadBalancer younger: open: reached are 1 of the 1 backends"),
        "{open}"
    );
    let told = lab.run(&["net", "trace", "asker", "sip/shop", "--port", "81", "-o", "json"])?;
    ensure!(told.code == 1 && told.stdout.contains("no LoadBalancer has tcp/81 at 10.44.0.50"), "{told}");
    // What goes is free again.
    lab.run(&["delete", "serviceip", "shop"])?.ok()?;
    wait("serviceip/second", "Ready")?;
    wait("loadbalancer/younger", "Ready=False")?;
    ensure!(why("loadbalancer/younger")?.contains("ServiceIPNotFound"));
    lab.finish()
}

/// A Secret of that type with a certificate and a key.
fn secret(name: &str, type_: &str, identity: &Identity) -> Result<String> {
    let data = serde_json::json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": type_,
        "stringData": {"tls.crt": identity.cert_pem, "tls.key": identity.key_pem}});
    Ok(serde_json::to_string(&data)?)
}

/// What is shown at that address in that namespace, as openssl tells it.
fn shown(netns: &str, address: &str) -> Result<String> {
    let ask = format!("openssl s_client -connect {address}:443 -servername shop.example </dev/null 2>&1");
    let told = Command::new("ip").args(["netns", "exec", netns, "timeout", "10", "sh", "-c", &ask]).output()?;
    Ok(String::from_utf8_lossy(&told.stdout).into_owned())
}

/// The real server, agent and HAProxy: the agent may read the Secret because a LoadBalancer shows it on a network of its host, and no other.
#[test]
fn a_certificate_is_served_from_its_secret_which_only_its_servers_may_read() -> Result<()> {
    let lab = Lab::up(&[])?;
    let dir = tempfile::tempdir()?;
    let authority = Authority::load_or_create(dir.path(), "authority")?;
    let issue = || authority.issue(&Subject::new("shop", ["x"]), &Usage::Server { names: vec!["shop.example".into()] });
    let (first, second) = (issue()?, issue()?);
    let field = |object: &str, path: &str| -> Result<String> {
        let told = lab.run(&["get", object, "-o", &format!("jsonpath={{{path}}}")])?.ok()?;
        Ok(told.trim().to_owned())
    };
    let why = |reason: &str| -> Result<String> {
        let begun = Instant::now();
        loop {
            let told = field("loadbalancer/boutique", ".status.conditions[0].reason}: {.status.conditions[0].message")?;
            if told.starts_with(reason) {
                return Ok(told);
            }
            ensure!(begun.elapsed() < Duration::from_secs(60), "it is not {reason}: {told}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    lab.apply(include_str!("../../../../manifests/examples/load-balancer-https.yaml"))?.ok()?;
    let told = why("SecretNotFound")?;
    ensure!(told.contains("spec.listeners[0].tls.secrets[0]: Secret boutique-tls does not exist"), "{told}");
    lab.apply(&secret("boutique-tls", "Opaque", &first)?)?.ok()?;
    why("SecretWrongType")?;
    lab.run(&["delete", "secret", "boutique-tls"])?.ok()?;
    why("SecretNotFound")?;
    let mixed = Identity { key_pem: second.key_pem.clone(), ..first.clone() };
    lab.apply(&secret("boutique-tls", "kubernetes.io/tls", &mixed)?)?.ok()?;
    why("KeyMismatch")?;
    lab.apply(&secret("another", "kubernetes.io/tls", &first)?)?.ok()?;

    // A Port without a machine is where it says.
    let host = field("hosts", ".items[0].metadata.name")?;
    let web = object("Port", "there", &format!("{{network: wharf, host: {host}}}"));
    lab.apply(&web.replace("{name: there}", "{name: there, labels: {app: boutique}}"))?.ok()?;
    lab.run(&["wait", "port/there", "--for=condition=Ready", "--timeout=60s"])?.ok()?;
    let netns = field("port/there", ".status.netns")?;
    let subject = |pem: &str| pem.lines().nth(1).context("it is no certificate").map(str::to_owned);
    for identity in [&first, &second] {
        lab.apply(&secret("boutique-tls", "kubernetes.io/tls", identity)?)?.ok()?;
        why("NoHealthyBackend")?;
        let (begun, wanted) = (Instant::now(), subject(&identity.cert_pem)?);
        let mut told = String::new();
        while !told.contains(&wanted) {
            ensure!(begun.elapsed() < Duration::from_secs(60), "it is not shown: {told}");
            told = shown(&netns, "10.46.0.50")?;
        }
    }

    let agent = format!("--as=system:agent:{host}");
    let read = |who: &str, what: &[&str]| {
        lab.run(&[&["get"], what, &["-o", "name", who, "--as-group=photoncloud:agents"]].concat())
    };
    read(&agent, &["secret", "boutique-tls"])?.ok()?;
    for what in [&["secret", "another"][..], &["secrets"], &["secrets", "-A"]] {
        let refused = read(&agent, what)?.fails_with(1)?;
        ensure!(refused.contains("forbidden"), "{what:?}: {refused}");
    }
    read("--as=system:agent:elsewhere", &["secret", "boutique-tls"])?.fails_with(1)?;
    lab.run(&["delete", "loadbalancer", "boutique"])?.ok()?;
    read(&agent, &["secret", "boutique-tls"])?.fails_with(1)?;
    lab.finish()
}
