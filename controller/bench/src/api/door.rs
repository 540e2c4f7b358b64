//! A connection of its own to the API.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use kube::client::{Body, Client};
use serde_json::Value;

use crate::lab::{self, Lab};

/// A client with a connection that nobody else uses.
pub struct Door(Client);

impl Door {
    /// That many, connected.
    pub async fn open(lab: &Lab, number: usize) -> Result<Vec<Arc<Door>>> {
        let mut doors = Vec::with_capacity(number);
        for _ in 0..number {
            let door = Door(lab::client(&lab.dir().join("kubeconfig")).await?);
            // The first request makes the connection.
            door.send(get("/version")?).await?;
            doors.push(Arc::new(door));
        }
        Ok(doors)
    }

    /// The body of the answer; any answer but a success is an error.
    pub async fn send(&self, request: Request<Vec<u8>>) -> Result<Bytes> {
        let response = self.stream(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await.context("the answer broke off")?.to_bytes();
        if !status.is_success() {
            bail!("the API answered {status}: {}", String::from_utf8_lossy(&body[..body.len().min(500)]));
        }
        Ok(body)
    }

    /// The answer as a document.
    pub async fn document(&self, request: Request<Vec<u8>>) -> Result<Value> {
        serde_json::from_slice(&self.send(request).await?).context("the answer is no JSON")
    }

    /// The answer as it comes.
    pub async fn stream(&self, request: Request<Vec<u8>>) -> Result<Response<Body>> {
        self.0.send(request.map(Body::from)).await.context("the API does not answer")
    }
}

/// A request without a body.
pub fn get(path: &str) -> Result<Request<Vec<u8>>> {
    Request::get(path).body(Vec::new()).with_context(|| format!("{path} is no path"))
}
