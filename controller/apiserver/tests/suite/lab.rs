//! One server over one etcd, and raw requests to it.

use std::ops::Deref;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use apiserver::{ApiServer, Identity, Options};
use axum::body::Body;
use futures::StreamExt;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, BodyStream};
use serde_json::{Value, json};
use store::{Etcd, EtcdOptions, Store, StoreOptions};
use testkit::Scratch;
use tower::ServiceExt;

/// Longest wait for anything that should happen at once.
pub const SOON: Duration = Duration::from_secs(20);
pub const JSON: &str = "application/json";
pub const MERGE: &str = "application/merge-patch+json";
pub const WIDGETS: &str = "/apis/example.dev/v1/namespaces/default/widgets";

pub struct Lab {
    pub door: Door,
    etcd: Etcd,
    _scratch: Scratch,
}

/// A server, asked in-process.
pub struct Door {
    pub api: ApiServer,
}

impl Deref for Lab {
    type Target = Door;

    fn deref(&self) -> &Door {
        &self.door
    }
}

/// An answer read to its end.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    pub fn expect(self, code: u16) -> Result<Value> {
        ensure!(self.code == code, "{} instead of {code}: {}", self.code, self.body);
        Ok(self.body)
    }
}

impl Lab {
    pub async fn new() -> Result<Lab> {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Result<Lab> {
        let scratch = Scratch::new()?;
        let etcd = Etcd::start(EtcdOptions {
            binary: None,
            data_dir: scratch.join("etcd"),
            pki_dir: scratch.join("pki"),
            log: scratch.join("etcd.log"),
            quota: None,
        })
        .await?;
        let store = Store::connect(etcd.store_options()).await?;
        let api = ApiServer::new(store, options).await?;
        api.ensure_crds(&[widget_crd()]).await?;
        Ok(Lab { door: Door { api }, etcd, _scratch: scratch })
    }

    /// Ends etcd; without it the scratch directory does.
    pub async fn end(self) -> Result<()> {
        Ok(self.etcd.stop().await?)
    }

    /// How to reach the same etcd again, as one of several.
    pub fn etcd_options(&self) -> StoreOptions {
        StoreOptions { sole_writer: false, ..self.etcd.store_options() }
    }
}

/// The same server, asked by somebody else than its administrator.
pub struct Person<'d> {
    door: &'d Door,
    identity: Identity,
}

impl Person<'_> {
    pub async fn raw(&self, method: &str, path: &str, media: &str, body: impl Into<Body>) -> Result<Answer> {
        let request = Request::builder().method(method).uri(path).header("content-type", media).body(body.into())?;
        read(self.door.send_as(&self.identity, request).await?).await
    }

    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Result<Answer> {
        self.raw(method, path, JSON, body.to_string()).await
    }

    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.raw("GET", path, JSON, Body::empty()).await
    }

    pub async fn merge(&self, path: &str, patch: Value) -> Result<Answer> {
        self.raw("PATCH", path, MERGE, patch.to_string()).await
    }

    /// The message of a refusal.
    pub async fn forbidden(&self, method: &str, path: &str, body: &Value) -> Result<String> {
        let status = self.call(method, path, body).await?.expect(403)?;
        ensure!(status["reason"] == "Forbidden", "{status}");
        Ok(status["message"].as_str().unwrap_or("").to_owned())
    }
}

impl Door {
    pub async fn send(&self, request: Request<Body>) -> Result<http::Response<Body>> {
        self.send_as(&Identity::new("tester", &["system:masters"]), request).await
    }

    pub async fn send_as(&self, identity: &Identity, mut request: Request<Body>) -> Result<http::Response<Body>> {
        request.extensions_mut().insert(identity.clone());
        match self.api.router().oneshot(request).await {
            Ok(response) => Ok(response),
            Err(never) => match never {},
        }
    }

    /// The server as `user` meets it.
    pub fn person(&self, user: &str, groups: &[&str]) -> Person<'_> {
        Person { door: self, identity: Identity::new(user, groups) }
    }

    pub async fn raw(&self, method: &str, path: &str, media: &str, body: impl Into<Body>) -> Result<Answer> {
        let request = Request::builder().method(method).uri(path).header("content-type", media).body(body.into())?;
        read(self.send(request).await?).await
    }

    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Result<Answer> {
        self.raw(method, path, JSON, body.to_string()).await
    }

    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.raw("GET", path, JSON, Body::empty()).await
    }

    pub async fn get_as(&self, path: &str, accept: &str) -> Result<Answer> {
        let request = Request::get(path).header("accept", accept).body(Body::empty())?;
        read(self.send(request).await?).await
    }

    pub async fn delete(&self, path: &str) -> Result<Answer> {
        self.raw("DELETE", path, JSON, Body::empty()).await
    }

    pub async fn merge(&self, path: &str, patch: Value) -> Result<Answer> {
        self.raw("PATCH", path, MERGE, patch.to_string()).await
    }

    /// A created widget.
    pub async fn widget(&self, name: &str, spec: Value) -> Result<Value> {
        self.call("POST", WIDGETS, &widget(name, spec)).await?.expect(201)
    }

    pub async fn watch(&self, path: &str) -> Result<Events> {
        self.events(Request::get(path).body(Body::empty())?).await
    }

    /// The events a request answers with.
    pub async fn events(&self, request: Request<Body>) -> Result<Events> {
        Events::of(self.send(request).await?)
    }

    /// Waits until an object is as expected.
    pub async fn until(&self, path: &str, settled: impl Fn(&Value) -> bool) -> Result<Value> {
        let poll = async {
            loop {
                let answer = self.get(path).await?;
                if answer.code == 200 && settled(&answer.body) {
                    return Ok::<_, anyhow::Error>(answer.body);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(SOON, poll).await.with_context(|| format!("{path} never settled"))?
    }

    /// Waits until a path answers with `code`.
    pub async fn until_code(&self, path: &str, code: u16) -> Result<Value> {
        let poll = async {
            loop {
                let answer = self.get(path).await?;
                if answer.code == code {
                    return Ok::<_, anyhow::Error>(answer.body);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(SOON, poll).await.with_context(|| format!("{path} never answered {code}"))?
    }
}

pub async fn read(response: http::Response<Body>) -> Result<Answer> {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await?.to_bytes();
    let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
    Ok(Answer { code: parts.status.as_u16(), headers: parts.headers, body })
}

/// The lines of a watch.
pub struct Events {
    body: BodyStream<Body>,
    rest: Vec<u8>,
}

impl Events {
    /// The events of an answer.
    pub fn of(response: http::Response<Body>) -> Result<Events> {
        ensure!(response.status() == 200, "watch answered {}", response.status());
        Ok(Events { body: BodyStream::new(response.into_body()), rest: Vec::new() })
    }

    /// The next line, or `None` at the end of the watch.
    pub async fn next(&mut self) -> Result<Option<Value>> {
        loop {
            if let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            match tokio::time::timeout(SOON, self.body.next()).await.context("no event came")? {
                Some(frame) => self.rest.extend_from_slice(&frame?.into_data().unwrap_or_default()),
                None if self.rest.is_empty() => return Ok(None),
                None => bail!("the watch ended within a line"),
            }
        }
    }

    /// `TYPE name` of the next line.
    pub async fn word(&mut self) -> Result<String> {
        let event = self.next().await?.context("the watch ended")?;
        let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
        Ok(format!("{} {}", text(&event["type"]), text(&event["object"]["metadata"]["name"])))
    }
}

pub fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.dev/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

pub fn widget_crd() -> Value {
    let schema = json!({"type": "object", "required": ["spec"], "properties": {
        "spec": {"type": "object", "properties": {
            "size": {"type": "integer", "minimum": 1, "maximum": 100, "default": 1},
            "colour": {"type": "string", "enum": ["red", "green", "blue"]},
            "host": {"type": "string"},
            "note": {"type": "string"},
        }},
        "status": {"type": "object", "properties": {
            "phase": {"type": "string"}, "observedGeneration": {"type": "integer"},
        }},
    }});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.dev"},
        "spec": {
            "group": "example.dev", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList",
                "shortNames": ["wd"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema},
                "selectableFields": [{"jsonPath": ".spec.host"}, {"jsonPath": ".spec.note"}],
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
            }],
        },
    })
}

/// `metadata.resourceVersion`.
pub fn revision(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap_or("").to_owned()
}
