//! The access rules of our own kinds: roles for people, for agents, and one for each part of the server.
//!
//! The API server knows no kind of ours, so these documents are handed to it like the CRDs. The server's own parts are no
//! administrators: each may do what it does ([`reconciler`]), so that a mistake in one cannot reach what is another's.

use anyhow::{Context, Result};
use apiserver::{CallerKind, Confined, Confinement, Reads, Step, Tie};
use serde_json::Value;

use crate::instance::credentials::{AGENT_USER, AGENTS};
use agent::node_door::NODE_USER;

const DOCUMENTS: [&str; 3] =
    [include_str!("tenants.yaml"), include_str!("agents.yaml"), include_str!("reconcilers.yaml")];

/// The group of nodes.
const NODES: &str = "photoncloud:nodes";

/// Every role and binding of ours.
pub fn documents() -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for text in DOCUMENTS {
        let documents: Vec<Value> = serde_saphyr::from_str(text).context("failed to read the access rules")?;
        all.extend(documents);
    }
    Ok(all)
}

/// The user name of a part of the server.
pub fn reconciler(name: &str) -> String {
    format!("system:reconciler:{name}")
}

/// An agent reaches what is bound to its own host, and its own Host, heartbeat and events.
///
/// Of what it reaches it may change the finalizers (its own among them) and the status; a spec is never an agent's to write.
pub fn confinements() -> Vec<Confinement> {
    let by = |group: &str, resource: &str, tie: Tie, finalizers_only: bool| Confined {
        group: group.to_owned(),
        resource: resource.to_owned(),
        tie,
        reads: Reads::Own,
        finalizers_only,
    };
    let host = || Tie::Field("spec.host".to_owned());
    let bound = ["faults", "images", "ports", "virtualmachines", "volumes"];
    let mut resources: Vec<Confined> = bound.iter().map(|resource| by(crds::GROUP, resource, host(), true)).collect();
    // Networks span hosts: the hosts on one have to know its Ports, and where the other hosts are.
    let across = Reads::Sharing("spec.network".to_owned());
    resources.iter_mut().filter(|c| c.resource == "ports").for_each(|ports| ports.reads = across.clone());
    resources.push(Confined { reads: Reads::All, ..by(crds::GROUP, "hosts", Tie::Name, true) });
    resources.push(by("coordination.k8s.io", "leases", Tie::Name, false));
    resources.push(by("events.k8s.io", "events", Tie::Field("reportingInstance".to_owned()), false));
    resources.push(by("", "events", Tie::Field("reportingInstance".to_owned()), false));
    // Whom they ask a token for is a node that runs on their host.
    resources.push(by(crds::GROUP, "nodes", Tie::Field("status.host".to_owned()), true));
    resources.push(by("", "secrets", certificates(), true));
    let agents =
        Confinement { group: AGENTS.to_owned(), user_prefix: AGENT_USER.to_owned(), namespaced: false, resources };
    // A node reaches its own Node and what is made for it, which bears its name, in its own namespace.
    let own = ["nodes", "ports", "virtualmachines"].map(|resource| by(crds::GROUP, resource, Tie::Name, true));
    let mut resources = Vec::from(own);
    resources.push(by("coordination.k8s.io", "leases", Tie::Name, false));
    resources.push(by("events.k8s.io", "events", Tie::Field("reportingInstance".to_owned()), false));
    resources.push(by("", "events", Tie::Field("reportingInstance".to_owned()), false));
    let nodes = Confinement { group: NODES.to_owned(), user_prefix: NODE_USER.to_owned(), namespaced: true, resources };
    vec![agents, nodes]
}

/// A Secret is read by who serves it: whoever has a Port on the network of a ServiceIP whose LoadBalancer shows its certificate.
fn certificates() -> Tie {
    let step = |resource: &str, from: &str, to: &str| Step {
        group: crds::GROUP.to_owned(),
        resource: resource.to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
    };
    Tie::Led(vec![
        step("loadbalancers", "spec.listeners.tls.secrets", "spec.serviceIP"),
        step("serviceips", "metadata.name", "spec.network"),
        step("ports", "spec.network", "spec.host"),
    ])
}

/// The kinds whose objects call as themselves: Nodes.
pub fn callers() -> Vec<CallerKind> {
    vec![CallerKind {
        group: crds::GROUP.to_owned(),
        resource: "nodes".to_owned(),
        user_prefix: NODE_USER.to_owned(),
        groups: vec![NODES.to_owned()],
    }]
}

#[cfg(test)]
mod tests;
