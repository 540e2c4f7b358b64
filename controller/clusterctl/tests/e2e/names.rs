//! DNSZones and DNSRecordSets through the API: what cannot be is refused with the field's path, what contradicts another
//! says which.

use anyhow::{Result, ensure};
use testkit::Lab;

/// A set's type, name and values, and what is said of it.
const REFUSED: [(&str, &str, &str, &[&str]); 8] = [
    ("A", "web", "[10.0.0.7.1]", &["spec.values", "IPv4"]),
    ("AAAA", "web", "[10.0.0.7]", &["spec.values", "IPv6"]),
    ("CNAME", "web", "[a.internal, b.internal]", &["spec.values", "one value"]),
    ("CNAME", "'@'", "[a.internal]", &["spec.type"]),
    ("SRV", "_http._tcp", "[web.shop.internal]", &["spec.values", "priority"]),
    ("MX", "'@'", "[mail.shop.internal]", &["spec.values", "preference"]),
    ("TXT", "bad..name", "[x]", &["spec.name"]),
    ("NS", "web", "[a.internal]", &["spec.type"]),
];

fn set(name: &str, kind: &str, label: &str, values: &str) -> String {
    format!(
        "---\napiVersion: photoncloud.dev/v1alpha1\nkind: DNSRecordSet\nmetadata: {{name: {name}}}\n\
         spec: {{zone: shop, name: {label}, type: {kind}, values: {values}}}\n"
    )
}

#[test]
fn records_that_cannot_be_are_refused_and_those_that_contradict_others_say_so() -> Result<()> {
    let lab = Lab::up(&["--no-agent"])?;
    for (kind, label, values, said) in REFUSED {
        let refused = lab.apply(&set("x", kind, label, values))?.fails_with(1)?;
        for word in said {
            ensure!(refused.contains(word), "{kind} {values}: {word:?} is missing in: {refused}");
        }
    }
    lab.apply("apiVersion: photoncloud.dev/v1alpha1\nkind: DNSZone\nmetadata: {name: x}\nspec: {domain: -x.internal}")?
        .fails_with(1)?;

    lab.apply(include_str!("../../../../manifests/examples/dns-zone.yaml"))?.ok()?;
    let wait = |object: &str, condition: &str| -> Result<()> {
        lab.run(&["wait", object, &format!("--for=condition={condition}"), "--timeout=30s"])?.ok()?;
        Ok(())
    };
    wait("dnszone/shop", "Ready")?;
    for name in ["web", "www", "http", "mail", "text"] {
        wait(&format!("dnsrecordset/shop-{name}"), "Ready")?;
    }
    let told =
        |name: &str, path: &str| lab.run(&["get", "dnsrecordset", name, "-o", &format!("jsonpath={path}")])?.ok();
    ensure!(told("shop-http", "{.status.fqdn}")?.trim() == "_http._tcp.shop.internal");

    lab.apply(&set("younger", "CNAME", "web", "[a.internal]"))?.ok()?;
    wait("dnsrecordset/younger", "Ready=False")?;
    let why = told("younger", "{.status.conditions[0].message}")?;
    ensure!(why.contains("DNSRecordSet shop-web"), "{why}");
    // When the older one goes, the younger one is served.
    lab.run(&["delete", "dnsrecordset", "shop-web"])?.ok()?;
    wait("dnsrecordset/younger", "Ready")?;
    lab.finish()
}
