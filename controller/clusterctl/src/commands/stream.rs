//! Raw bytes to and from a machine, over an HTTP/1.1 upgrade.

use super::api::said;
use anyhow::{Context, Result};
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body;

/// Word by which both ends agree to leave HTTP.
const PROTOCOL: &str = "photon-stream";

/// The bytes, both ways.
pub type Stream = TokioIo<Upgraded>;

/// The machine's side said no.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// HTTP status.
    pub code: StatusCode,
    /// In its own words.
    pub message: String,
}

/// Opens the stream at a URL.
pub async fn open(client: &Client, url: &str) -> Result<Stream> {
    let request = Request::get(url)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, PROTOCOL)
        .body(Body::empty())
        .context("failed to make a request")?;
    let response = client.send(request).await.map_err(said)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let upgraded = hyper::upgrade::on(response).await.context("the server broke off the stream")?;
        return Ok(TokioIo::new(upgraded));
    }
    let code = response.status();
    let body = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let status: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
    let message = status.as_ref().and_then(|status| status["message"].as_str());
    let message =
        message.map_or_else(|| format!("the server answered {code} to a request for a stream"), str::to_owned);
    Err(Refused { code, message }.into())
}
