//! Streams of raw bytes over an HTTP/1.1 upgrade: `console`, `portforward` and `capture`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, Response, StatusCode, header};
use host::netns::{Namespaces, connect_tcp};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::lookup::{Lookup, ObjectPath};
use crate::refusal::refuse;
use control_loop::sentence;

/// Word by which both ends agree to leave HTTP.
pub const PROTOCOL: &str = "photon-stream";
const CONNECT: Duration = Duration::from_secs(10);

/// Which port of the guest.
#[derive(Debug, serde::Deserialize)]
pub struct PortQuery {
    port: u16,
}

/// A connection to a TCP port of the guest, made inside its network.
pub async fn portforward(
    State(lookup): State<Arc<Lookup>>,
    Path(path): Path<ObjectPath>,
    Query(query): Query<PortQuery>,
    request: Request,
) -> Response<Body> {
    let (netns, address) = match lookup.address(&path, query.port) {
        Ok(found) => found,
        Err(refusal) => return *refusal,
    };
    let connecting = async {
        let namespace = Namespaces::default().open(&netns)?;
        connect_tcp(&namespace, address).await
    };
    match tokio::time::timeout(CONNECT, connecting).await {
        Ok(Ok(stream)) => switch(request, stream),
        Ok(Err(error)) => refuse(StatusCode::BAD_GATEWAY, "ConnectionFailed", sentence(&error)),
        Err(_) => {
            let message = format!("{address} did not answer within {} s", CONNECT.as_secs());
            refuse(StatusCode::GATEWAY_TIMEOUT, "ConnectionTimeout", message)
        }
    }
}

/// Leaves HTTP: what the caller sends goes to `other`, and back.
pub fn switch<S>(request: Request, mut other: S) -> Response<Body>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    hand_over(request, async move |mut caller| tokio::io::copy_bidirectional(&mut caller, &mut other).await.map(|_| ()))
}

/// Leaves HTTP: `serve` has the caller's connection.
pub fn hand_over<F>(mut request: Request, serve: impl FnOnce(TokioIo<Upgraded>) -> F + Send + 'static) -> Response<Body>
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let asked = request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok());
    if asked.is_none_or(|asked| !asked.eq_ignore_ascii_case(PROTOCOL)) {
        let message = format!("this is a stream: send `Connection: Upgrade` and `Upgrade: {PROTOCOL}` over HTTP/1.1");
        return refuse(StatusCode::UPGRADE_REQUIRED, "UpgradeRequired", message);
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let streamed = async {
            let caller = upgrade.await.map_err(std::io::Error::other)?;
            serve(TokioIo::new(caller)).await
        };
        if let Err(error) = streamed.await {
            tracing::debug!(%error, "a stream ended");
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
    response
}
