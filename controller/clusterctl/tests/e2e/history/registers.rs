//! The objects that are written: a kind of the test's own, with a status, whose fields hold tokens.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use testkit::history::{Revision, State};

/// Where etcd has them.
pub const FOLDER: &str = "/registry/history.test/registers/default/";

/// Few, so that clients meet.
const KEYS: usize = 6;

/// The names of a round, none of which was used before.
pub fn keys(round: u64) -> Vec<String> {
    (0..KEYS).map(|number| format!("r{round}-k{number}")).collect()
}

/// The kind.
pub fn kind() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("history.test", "v1", "Register"))
}

/// All of them, through this client.
pub fn api(client: Client) -> Api<DynamicObject> {
    Api::default_namespaced_with(client, &kind())
}

/// What teaches the kind to the servers.
pub fn definition() -> Value {
    let text = json!({"type": "string"});
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"token": text, "applied": text}},
        "status": {"type": "object", "properties": {"token": text}},
    }});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "registers.history.test"},
        "spec": {
            "group": "history.test", "scope": "Namespaced",
            "names": {"plural": "registers", "singular": "register", "kind": "Register"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema}}],
        },
    })
}

/// What is followed of an object, from its document.
pub fn state(document: &Value) -> State {
    let fields = [("spec", "/spec/token"), ("applied", "/spec/applied"), ("status", "/status/token")];
    let token = |(field, path): (&str, &str)| Some((field.to_owned(), document.pointer(path)?.as_str()?.to_owned()));
    let uid = document["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    State { uid, fields: fields.into_iter().filter_map(token).collect::<BTreeMap<_, _>>() }
}

/// Version and state of an answer.
pub fn version(object: &DynamicObject) -> Result<(Revision, State)> {
    let revision = object.resource_version().context("no resourceVersion")?.parse()?;
    let mut document = object.data.clone();
    document["metadata"] = json!({"uid": object.uid()});
    Ok((revision, state(&document)))
}
