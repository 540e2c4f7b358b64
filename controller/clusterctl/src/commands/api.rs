//! One request, its answer as JSON, and errors in the server's own words.

use anyhow::{Context, Result};
use http::{Method, Request};
use kube::Client;
use serde_json::Value;

/// A merge patch (RFC 7386).
pub const MERGE: &str = "application/merge-patch+json";
/// A list of changes (RFC 6902).
pub const JSON_PATCH: &str = "application/json-patch+json";
/// What one manager wants of an object (server-side apply); JSON is YAML.
pub const APPLY: &str = "application/apply-patch+yaml";
/// A whole object.
pub const JSON: &str = "application/json";

/// An API error's own message, for it is a sentence already; what keeps the server from answering, with the remedy.
pub fn said(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => anyhow::anyhow!("{}", status.message),
        error @ (kube::Error::Service(_) | kube::Error::HyperError(_)) => {
            anyhow::Error::new(error).context("the server does not answer; `clusterctl up --detach` starts it")
        }
        other => anyhow::Error::new(other).context("failed to ask the server"),
    }
}

/// Reads an object, a list or a document.
pub async fn read(client: &Client, url: &str) -> Result<Value> {
    let request = Request::get(url).body(Vec::new()).context("failed to make a request")?;
    client.request(request).await.map_err(said)
}

/// Reads an object that may not exist.
pub async fn find(client: &Client, url: &str) -> Result<Option<Value>> {
    let request = Request::get(url).body(Vec::new()).context("failed to make a request")?;
    match client.request(request).await {
        Ok(object) => Ok(Some(object)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(said(error)),
    }
}

/// Writes, and returns what the server made of it.
pub async fn send(client: &Client, method: Method, url: &str, content_type: &str, body: &Value) -> Result<Value> {
    let body = serde_json::to_vec(body).context("failed to render the request")?;
    let request = Request::builder()
        .method(method)
        .uri(url)
        .header("content-type", content_type)
        // In whose name fields are set, where no other name is given.
        .header("user-agent", concat!("clusterctl/", env!("CARGO_PKG_VERSION")))
        .body(body)
        .context("failed to make a request")?;
    client.request(request).await.map_err(said)
}
