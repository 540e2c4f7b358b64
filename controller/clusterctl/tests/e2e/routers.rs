//! Routers through the API, with the agent of one host: what cannot be is refused with the field's path, what can is realised, and goes
//! with all that was made for it.

use anyhow::{Result, ensure};
use testkit::Lab;

/// What cannot be said of a Router, and what is told of it.
const REFUSED: [(&str, &str); 5] = [
    ("{networks: []}", "spec.networks"),
    ("{networks: [a, a]}", "spec.networks"),
    (
        "{networks: [a], staticRoutes: [{destination: 10.1.0.1/16, nextHop: 10.2.0.9}]}",
        "spec.staticRoutes[0].destination",
    ),
    ("{networks: [a], staticRoutes: [{destination: 10.1.0.0/16, nextHop: 10.1.0.9}]}", "spec.staticRoutes[0].nextHop"),
    ("{networks: [a], staticRoutes: [{destination: 10.1.0.0/16, nextHop: 10.2.0}]}", "spec.staticRoutes[0].nextHop"),
];

fn object(kind: &str, name: &str, spec: &str) -> String {
    format!("---\napiVersion: photoncloud.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

#[test]
fn routers_that_cannot_be_are_refused_and_what_can_be_is_made_and_goes_whole() -> Result<()> {
    let lab = Lab::up(&[])?;
    for (spec, path) in REFUSED {
        let refused = lab.apply(&object("Router", "x", spec))?.fails_with(1)?;
        ensure!(refused.contains(path), "{spec}: {path:?} is missing in: {refused}");
    }
    lab.apply(include_str!("../../../../manifests/examples/router.yaml"))?.ok()?;
    let wait = |object: &str, what: &str| -> Result<()> {
        lab.run(&["wait", object, &format!("--for={what}"), "--timeout=60s"])?.ok()?;
        Ok(())
    };
    let field = |object: &str, path: &str| lab.run(&["get", object, "-o", &format!("jsonpath={{{path}}}")])?.ok();
    wait("router/between", "condition=Ready")?;
    let host = field("router/between", ".status.host")?;
    ensure!(!host.is_empty() && field("port/between.plant", ".spec.host")? == host, "{host}");
    let told = lab.run(&["get", "events"])?.ok()?;
    ensure!(told.contains("Elected"), "{told}");

    // A younger one that leads elsewhere what the first one reaches, and one that would be a loop of its own.
    lab.apply(&object("TenantNetwork", "wide", "{subnet: 10.31.0.0/16}"))?.ok()?;
    lab.apply(&object("Router", "younger", "{networks: [office, wide]}"))?.ok()?;
    wait("router/younger", "condition=Ready=False")?;
    let why = field("router/younger", ".status.conditions[0].message")?;
    ensure!(
        why.contains("spec.networks[1]: 10.31.0.0/16 is reached from TenantNetwork office by Router between"),
        "{why}"
    );
    // When the older one goes, it is the younger one's turn.
    lab.run(&["delete", "router", "between"])?.ok()?;
    wait("port/between.plant", "delete")?;
    wait("router/younger", "condition=Ready")?;
    lab.run(&["delete", "router", "younger"])?.ok()?;
    wait("port/younger.wide", "delete")?;
    lab.finish()
}
