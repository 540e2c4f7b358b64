//! As much of a Kubernetes API as the agent needs, in memory: lists, watches, compare-and-swap, finalizers, status.

#![allow(clippy::unwrap_used, clippy::panic, reason = "who tests says what went wrong by failing")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::watch;

/// The API.
#[derive(Clone)]
pub struct FakeApi(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    revision: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    revision: u64,
    /// By resource (`virtualmachines`), then `namespace/name`.
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    log: Vec<Logged>,
    writes: BTreeMap<String, usize>,
}

/// Something that happened to an object.
struct Logged {
    revision: u64,
    resource: String,
    kind: &'static str,
    /// What it was until then, null before it was made.
    before: Value,
    object: Value,
}

struct Target {
    group_version: String,
    resource: String,
    namespace: Option<String>,
    name: Option<String>,
    status: bool,
    query: BTreeMap<String, String>,
}

type Answer = Result<Value, (u16, String)>;

impl FakeApi {
    /// Nothing in it yet.
    #[allow(clippy::new_without_default, reason = "nobody needs one")]
    pub fn new() -> Self {
        Self(Arc::new(Inner { state: Mutex::default(), revision: watch::channel(0).0 }))
    }

    /// Somebody who speaks to it.
    pub fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let api = api.clone();
            async move { Ok::<_, std::convert::Infallible>(api.serve(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// Writes to a resource by anybody so far.
    pub fn writes(&self, resource: &str) -> usize {
        self.0.state.lock().unwrap().writes.get(resource).copied().unwrap_or_default()
    }

    /// Writes by anybody so far, by resource, leases apart.
    pub fn all_writes(&self) -> BTreeMap<String, usize> {
        let ours = |(resource, _): &(&String, &usize)| *resource != "leases";
        self.0.state.lock().unwrap().writes.iter().filter(ours).map(|(k, v)| (k.clone(), *v)).collect()
    }

    /// Returns when nobody but the heartbeat has written for this long.
    pub async fn quiet_for(&self, time: std::time::Duration) {
        let mut changes = self.0.revision.subscribe();
        let mut last = self.all_writes();
        while let Ok(changed) = tokio::time::timeout(time, changes.wait_for(|_| self.all_writes() != last)).await {
            drop(changed);
            last = self.all_writes();
        }
    }

    /// Everything of a resource that is there.
    pub fn objects(&self, resource: &str) -> Vec<Value> {
        let state = self.0.state.lock().unwrap();
        state.objects.get(resource).map(|all| all.values().cloned().collect()).unwrap_or_default()
    }

    /// What an object was, from its creation on.
    pub fn history(&self, resource: &str, key: &str) -> Vec<Value> {
        let (namespace, name) = key.split_once('/').unwrap();
        let state = self.0.state.lock().unwrap();
        let all = state.log.iter().filter(|one| one.resource == resource).map(|one| &one.object);
        let is_it = |object: &&Value| {
            let metadata = &object["metadata"];
            (metadata["namespace"].as_str(), metadata["name"].as_str()) == (Some(namespace), Some(name))
        };
        all.filter(is_it).cloned().collect()
    }

    /// A store that was lost: no object, and nobody was told.
    pub fn forget_everything(&self) {
        self.0.state.lock().unwrap().objects.clear();
    }

    /// Waits until `holds` is true of the object (null when absent).
    pub async fn until(&self, resource: &str, key: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut changes = self.0.revision.subscribe();
        let last = || {
            let state = self.0.state.lock().unwrap();
            state.objects.get(resource).and_then(|all| all.get(key)).cloned().unwrap_or(Value::Null)
        };
        let waiting = async {
            loop {
                let found = last();
                if holds(&found) {
                    return found;
                }
                changes.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(std::time::Duration::from_secs(60), waiting).await {
            Ok(found) => found,
            Err(_) => panic!("{key} never came to: {what}; last seen:\n{:#}", last()),
        }
    }

    async fn serve(&self, request: Request<kube::client::Body>) -> Response<Body> {
        let target = parse(request.uri());
        let method = request.method().clone();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        if method == Method::GET && target.query.get("watch").is_some_and(|value| value == "true" || value == "1") {
            return self.watch(target);
        }
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let answer = self.act(&method, &target, body);
        if method != Method::GET && answer.is_ok() {
            let mut state = self.0.state.lock().unwrap();
            *state.writes.entry(target.resource.clone()).or_default() += 1;
            let revision = state.revision;
            drop(state);
            self.0.revision.send_replace(revision);
        }
        let (code, value) = match answer {
            Ok(value) => (if method == Method::POST { 201 } else { 200 }, value),
            Err((code, message)) => {
                let reason = if code == 404 { "NotFound" } else { "Conflict" };
                let status = json!({
                    "kind": "Status", "apiVersion": "v1", "status": "Failure",
                    "message": message, "reason": reason, "code": code,
                });
                (code, status)
            }
        };
        let mut response = Response::new(Body::from(value.to_string()));
        *response.status_mut() = StatusCode::from_u16(code).unwrap();
        response
    }

    fn act(&self, method: &Method, target: &Target, body: Value) -> Answer {
        let mut state = self.0.state.lock().unwrap();
        match (method, &target.name) {
            (&Method::GET, None) => Ok(state.list(target)),
            (&Method::GET, Some(_)) => state.get(target),
            (&Method::POST, None) => state.create(target, body),
            (&Method::PUT, Some(_)) => state.replace(target, body),
            (&Method::PATCH, Some(_)) => {
                let mut next = state.get(target)?;
                merge(&mut next, &body);
                state.replace(target, next)
            }
            (&Method::DELETE, Some(_)) => state.delete(target),
            _ => Err((405, "not here".into())),
        }
    }

    fn watch(&self, target: Target) -> Response<Body> {
        let from = target.query.get("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0);
        let changes = self.0.revision.subscribe();
        let inner = self.0.clone();
        let lines = futures::stream::unfold(
            (from, changes, target, inner),
            |(mut seen, mut changes, target, inner)| async move {
                loop {
                    let news: Vec<Value> = {
                        let state = inner.state.lock().unwrap();
                        let known = state.log.partition_point(|one| one.revision <= seen);
                        let news = state.log[known..].iter().filter_map(|one| target.event(one)).collect();
                        seen = state.revision;
                        news
                    };
                    if !news.is_empty() {
                        let text: String = news.iter().map(|event| format!("{event}\n")).collect();
                        return Some((Ok::<_, std::io::Error>(Bytes::from(text)), (seen, changes, target, inner)));
                    }
                    changes.changed().await.ok()?;
                }
            },
        );
        Response::new(Body::from_stream(lines.boxed()))
    }
}

impl Target {
    fn key(&self) -> String {
        format!("{}/{}", self.namespace.clone().unwrap_or_default(), self.name.clone().unwrap_or_default())
    }

    /// What a watch says of it: who begins to be wanted comes, and who is wanted no longer goes.
    fn event(&self, one: &Logged) -> Option<Value> {
        if one.resource != self.resource {
            return None;
        }
        let was = !one.before.is_null() && self.wants(&one.before);
        let kind = match (was, self.wants(&one.object) && one.kind != "DELETED") {
            (false, false) => return None,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        Some(json!({"type": kind, "object": one.object}))
    }

    fn wants(&self, object: &Value) -> bool {
        let in_namespace = self.namespace.as_ref().is_none_or(|ns| object["metadata"]["namespace"] == json!(ns));
        let selected = self.query.get("fieldSelector").and_then(|text| text.strip_prefix("spec.")?.split_once('='));
        in_namespace && selected.is_none_or(|(field, value)| object["spec"][field] == json!(value))
    }
}

impl State {
    fn all(&mut self, target: &Target) -> &mut BTreeMap<String, Value> {
        self.objects.entry(target.resource.clone()).or_default()
    }

    fn list(&mut self, target: &Target) -> Value {
        let revision = self.revision.to_string();
        let items: Vec<Value> = self.all(target).values().filter(|object| target.wants(object)).cloned().collect();
        let group_version = &target.group_version;
        json!({"kind": "List", "apiVersion": group_version, "metadata": {"resourceVersion": revision}, "items": items})
    }

    fn get(&mut self, target: &Target) -> Answer {
        self.all(target).get(&target.key()).cloned().ok_or_else(|| (404, format!("no {}", target.key())))
    }

    fn create(&mut self, target: &Target, mut object: Value) -> Answer {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let key = format!("{}/{name}", target.namespace.clone().unwrap_or_default());
        if self.all(target).contains_key(&key) {
            return Err((409, format!("{key} exists")));
        }
        let metadata = &mut object["metadata"];
        metadata["uid"] = json!(uuid::Uuid::new_v4().to_string());
        metadata["generation"] = json!(1);
        metadata["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        if let Some(namespace) = &target.namespace {
            metadata["namespace"] = json!(namespace);
        }
        self.store(target, key, object, "ADDED")
    }

    fn replace(&mut self, target: &Target, mut next: Value) -> Answer {
        let found = self.get(target)?;
        let expected = &next["metadata"]["resourceVersion"];
        if !expected.is_null() && *expected != found["metadata"]["resourceVersion"] {
            return Err((409, "changed meanwhile".into()));
        }
        match target.status {
            true => {
                let status = next["status"].take();
                next = found.clone();
                next["status"] = status;
            }
            false => {
                next["status"] = found["status"].clone();
                if next["spec"] != found["spec"] {
                    next["metadata"]["generation"] = json!(found["metadata"]["generation"].as_u64().unwrap_or(0) + 1);
                }
            }
        }
        let finalizers = next["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        if finalizers && !next["metadata"]["deletionTimestamp"].is_null() {
            return self.remove(target, next);
        }
        self.store(target, target.key(), next, "MODIFIED")
    }

    fn delete(&mut self, target: &Target) -> Answer {
        let mut found = self.get(target)?;
        if found["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
            return self.remove(target, found);
        }
        found["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        self.store(target, target.key(), found, "MODIFIED")
    }

    fn remove(&mut self, target: &Target, object: Value) -> Answer {
        let before = self.all(target).remove(&target.key()).unwrap_or(Value::Null);
        self.log("DELETED", target, before, object)
    }

    fn store(&mut self, target: &Target, key: String, object: Value, kind: &'static str) -> Answer {
        let before = self.all(target).get(&key).cloned().unwrap_or(Value::Null);
        let object = self.log(kind, target, before, object)?;
        self.all(target).insert(key, object.clone());
        Ok(object)
    }

    fn log(&mut self, kind: &'static str, target: &Target, before: Value, mut object: Value) -> Answer {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let (revision, resource) = (self.revision, target.resource.clone());
        self.log.push(Logged { revision, resource, kind, before, object: object.clone() });
        Ok(object)
    }
}

/// `/apis/GROUP/VERSION[/namespaces/NS]/RESOURCE[/NAME[/status]]`, or `/api/VERSION` and the same for the core group
fn parse(uri: &http::Uri) -> Target {
    let mut parts: Vec<String> = uri.path().trim_matches('/').split('/').map(str::to_owned).collect();
    let head = if parts[0] == "api" { 2 } else { 3 };
    let mut rest = parts.split_off(head);
    let group_version = parts[1..].join("/");
    let namespace = (rest[0] == "namespaces").then(|| rest.drain(..2).nth(1)).flatten();
    let query = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let query = query.map(|(name, value)| (name.to_owned(), value.replace("%3D", "=").replace("%2E", "."))).collect();
    Target {
        group_version,
        resource: rest[0].clone(),
        namespace,
        name: rest.get(1).cloned(),
        status: rest.get(2).is_some_and(|part| part == "status"),
        query,
    }
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in patch {
        match value {
            Value::Null => drop(target.as_object_mut().unwrap().remove(name)),
            value => merge(&mut target[name], value),
        }
    }
}
