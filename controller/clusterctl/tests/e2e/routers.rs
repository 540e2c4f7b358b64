//! Routers through the API, with the agent of one host: what cannot be is refused with the field's path, what can is realised, and goes
//! with all that was made for it.

use anyhow::{Result, ensure};
use testkit::Lab;

use crate::objects::{SOON, until};

/// What cannot be said of a Router, and what is told of it.
const REFUSED: [(&str, &str); 6] = [
    ("{networks: [a], external: {network: x, ip: 203.0.113}}", "spec.external.ip"),
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

/// A network namespace that is outside.
struct Outside(String);

impl Outside {
    fn new() -> Result<Outside> {
        let name = format!("outside-{}", std::process::id());
        ensure!(
            std::process::Command::new("ip").args(["netns", "add", &name]).status()?.success(),
            "no namespace {name}"
        );
        Ok(Outside(name))
    }

    fn ip(&self, words: &[&str]) -> Result<String> {
        let output = std::process::Command::new("ip").args(["-n", &self.0]).args(words).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip").args(["netns", "delete", &self.0]).status();
    }
}

#[tokio::test]
async fn a_way_out_has_addresses_that_nobody_else_gets_and_goes_with_its_router() -> Result<()> {
    let outside = Outside::new()?;
    let lab = Lab::up(&["--outside", &outside.0])?;
    for (kind, spec, path) in [
        ("ExternalNetwork", "{cidr: 203.0.113.1/24}", "spec.cidr"),
        (
            "ExternalNetwork",
            "{cidr: 203.0.113.0/24, allocation: {first: 203.0.113.9, last: 203.0.114.1}}",
            "spec.allocation",
        ),
        ("ServiceIP", "{network: lab, externalNetwork: campus}", "spec.port"),
        ("ServiceIP", "{network: lab, externalNetwork: campus, port: web, subnet: default}", "spec.subnet"),
    ] {
        let refused = lab.apply(&object(kind, "x", spec))?.fails_with(1)?;
        ensure!(refused.contains(path), "{spec}: {path:?} is missing in: {refused}");
    }
    lab.apply(include_str!("../../../../manifests/examples/external-network.yaml"))?.ok()?;
    let wait = |object: &str, what: &str| -> Result<()> {
        lab.run(&["wait", object, &format!("--for={what}"), "--timeout=60s"])?.ok()?;
        Ok(())
    };
    let field = |object: &str, path: &str| -> Result<String> {
        let told = lab.run(&["get", object, "-o", &format!("jsonpath={{{path}}}")])?.ok()?;
        Ok(told.trim().to_owned())
    };
    wait("router/edge", "condition=Ready")?;
    wait("serviceip/web-outside", "condition=Ready")?;
    let (router, floating) =
        (field("router/edge", ".status.external.address")?, field("serviceip/web-outside", ".status.ip")?);
    ensure!(
        router != floating && [&router, &floating].iter().all(|ip| ip.starts_with("203.0.113.1")),
        "{router} {floating}"
    );
    // The host hears of it at the same time as we.
    let led = format!("{floating} via {router}");
    let routes = until("outside leads to both", SOON, async || {
        let routes = outside.ip(&["route"])?;
        Ok(routes.contains(&led).then_some(routes))
    });
    let routes = routes.await?;
    ensure!(routes.contains(&format!("{router} dev px")), "{routes}");

    // Another asks for what is taken, and one that leads nowhere says so and has its address all the same.
    lab.apply(&object(
        "ServiceIP",
        "taken",
        &format!("{{network: lab, externalNetwork: campus, port: web, ip: {router}}}"),
    ))?
    .ok()?;
    wait("serviceip/taken", "condition=Ready=False")?;
    let why = field("serviceip/taken", ".status.conditions[0].message")?;
    ensure!(why.contains(&format!("spec.ip: {router} is taken by Router default/edge")), "{why}");
    lab.apply(&object("ServiceIP", "early", "{network: lab, externalNetwork: campus, port: none}"))?.ok()?;
    wait("serviceip/early", "condition=Ready=False")?;
    let why = field("serviceip/early", ".status.conditions[0].message")?;
    ensure!(
        why.contains("spec.port: Port none does not exist") && !field("serviceip/early", ".status.ip")?.is_empty(),
        "{why}"
    );

    lab.run(&["delete", "router", "edge"])?.ok()?;
    wait("serviceip/web-outside", "condition=Ready=False")?;
    wait("port/edge.lab", "delete")?;
    // The kernel takes its time with the cables of a namespace that is gone.
    until("nothing of it is outside", SOON, async || {
        Ok(outside.ip(&["-o", "link", "show", "type", "veth"])?.is_empty().then_some(()))
    })
    .await?;
    lab.finish()
}
