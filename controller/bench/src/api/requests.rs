//! What is asked: requests about objects of a kind made for the measurement.

use anyhow::{Context, Result};
use http::{Method, Request};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::runtime::wait::{await_condition, conditions};
use serde_json::{Value, json};

use super::door;
use crate::lab::Lab;

/// Where the objects are in etcd.
pub const STORED: &str = "/registry/bench.photoncloud.dev/loads/";
const PATH: &str = "/apis/bench.photoncloud.dev/v1/namespaces/default/loads";
const NAME: &str = "loads.bench.photoncloud.dev";
/// Bytes of text in an object, which make it about one kilobyte as stored.
const TEXT: usize = 400;
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);

/// A sort of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// POST of a new object.
    Create,
    /// GET of one.
    Get,
    /// PUT with the version that was read.
    Update,
    /// Merge patch of the status.
    StatusPatch,
    /// Server-side apply of a field that changes.
    Apply,
}

impl Operation {
    /// All, in the order in which each finds what it needs.
    pub const ALL: [Operation; 5] =
        [Operation::Create, Operation::Get, Operation::Update, Operation::StatusPatch, Operation::Apply];

    /// The word in the table.
    pub fn word(self) -> &'static str {
        match self {
            Operation::Create => "create",
            Operation::Get => "get",
            Operation::Update => "update",
            Operation::StatusPatch => "status patch",
            Operation::Apply => "server-side apply",
        }
    }

    /// The ratio to etcd's puts that is asked for, at that many clients.
    pub fn budget(self, clients: usize) -> &'static str {
        match self {
            _ if clients != 16 => "-",
            Operation::Create | Operation::Update | Operation::StatusPatch => "≥ 0.5 ×",
            Operation::Get => "≥ 2 ×",
            Operation::Apply => "≥ 0.35 ×",
        }
    }

    /// The request about the object of that number; `known` are the objects as they were read.
    pub fn request(self, stem: &str, number: usize, known: &[Value]) -> Result<Request<Vec<u8>>> {
        let name = format!("{stem}-{number}");
        let path = format!("{PATH}/{name}");
        let json = "application/json";
        match self {
            Operation::Create => body(Method::POST, PATH.to_owned(), json, &object(&name, "made")),
            Operation::Get => door::get(&path),
            Operation::Update => {
                let mut object = known.get(number).with_context(|| format!("object {name} was not listed"))?.clone();
                object["spec"]["note"] = json!("updated");
                let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
                body(Method::PUT, format!("{PATH}/{name}"), json, &object)
            }
            Operation::StatusPatch => {
                let patch = json!({"status": {"phase": "Ready", "observedGeneration": number}});
                body(Method::PATCH, format!("{path}/status"), "application/merge-patch+json", &patch)
            }
            Operation::Apply => {
                let mut object = object(&name, "applied");
                object["spec"]["count"] = json!(number);
                let path = format!("{path}?fieldManager=bench-apply&force=true");
                body(Method::PATCH, path, "application/apply-patch+yaml", &object)
            }
        }
    }
}

fn body(method: Method, path: String, kind: &str, document: &Value) -> Result<Request<Vec<u8>>> {
    let bytes = serde_json::to_vec(document).context("failed to render a request")?;
    let request = Request::builder().method(method).uri(path).header("content-type", kind).body(bytes);
    request.context("failed to make a request")
}

/// All objects.
pub fn list() -> Request<Vec<u8>> {
    let mut request = Request::new(Vec::new());
    *request.uri_mut() = http::Uri::from_static(PATH);
    request
}

/// A watch over all objects from a version on.
pub fn watch(version: &str) -> Result<Request<Vec<u8>>> {
    door::get(&format!("{PATH}?watch=true&resourceVersion={version}"))
}

/// About the bytes that one object has in etcd.
pub fn stored_size() -> usize {
    // What the server adds: uid, times, owners of fields.
    object("r16-1000", "made").to_string().len() + 350
}

fn object(name: &str, note: &str) -> Value {
    json!({
        "apiVersion": "bench.photoncloud.dev/v1",
        "kind": "Load",
        "metadata": {"name": name, "labels": {"app": "bench"}},
        "spec": {
            "note": note,
            "count": 1,
            "text": "x".repeat(TEXT),
            "items": [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}, {"name": "c", "value": "3"}],
        },
    })
}

/// Defines the kind, and returns when it is served.
pub async fn define(lab: &Lab) -> Result<()> {
    let text = json!({"type": "string"});
    let number = json!({"type": "integer", "minimum": 0});
    let items = json!({
        "type": "array", "maxItems": 16, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
        "items": {"type": "object", "required": ["name"], "properties": {"name": text, "value": text}},
    });
    let rule = json!({"rule": "self.count >= 0", "message": "the count is not negative"});
    let spec = json!({
        "type": "object", "required": ["note"], "x-kubernetes-validations": [rule],
        "properties": {"note": text, "count": number, "text": text, "items": items},
    });
    let status = json!({"type": "object", "properties": {"phase": text, "observedGeneration": number}});
    let definition: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": {"name": NAME},
        "spec": {
            "group": "bench.photoncloud.dev",
            "scope": "Namespaced",
            "names": {"plural": "loads", "singular": "load", "kind": "Load"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status}}},
            }],
        },
    }))
    .context("failed to put the kind together")?;
    let api: Api<CustomResourceDefinition> = Api::all(lab.client.clone());
    api.create(&kube::api::PostParams::default(), &definition).await.context("failed to define the kind")?;
    let established = await_condition(api, NAME, conditions::is_crd_established());
    tokio::time::timeout(DEADLINE, established).await.context("the kind is not served")?.context("the kind")?;
    Ok(())
}
