//! The agent's door: what a user does inside a machine comes through here, from the API server and from nobody else.
//!
//! ```text
//!  TLS, both ends with a certificate ─► is it `system:apiserver`? ─no─► 403
//!                                            │yes
//!            ┌────────────┬────────────┬─────┴───────┬────────────┬─────────┐
//!          exec          log        console     portforward    capture   /metrics
//!      (guest agent)  (serial log) (serial port) (cell's TCP)  (port's device)
//! ```
//!
//! Who may do what was decided by the API server; the door only makes sure that it is the one asking.

mod capture;
mod exec;
mod lookup;
mod serial;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use prometheus::{Encoder, TextEncoder};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::refusal::refuse;
pub use capture::Captures;
use control_loop::sentence;
pub use lookup::Lookup;

/// The one that may come in.
pub const CALLER: &str = "system:apiserver";
/// A handshake that takes longer holds nothing but our memory.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The door could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listener is none.
    #[error("failed to read the address of the agent's door")]
    Address(#[source] std::io::Error),
    /// The certificates do not work.
    #[error("failed to set up the agent's certificate")]
    Certificate(#[from] pki::Error),
}

/// A door that listens and is not yet served.
pub struct Door {
    listener: TcpListener,
    tls: TlsAcceptor,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Door {
    /// A door at this listener, for whom an authority has signed.
    pub fn open(listener: TcpListener, identity: &pki::Shown, ca_pem: &str) -> Result<Door, Error> {
        let config = pki::server_config_showing(identity, ca_pem)?;
        let address = listener.local_addr().map_err(Error::Address)?;
        Ok(Door { listener, tls: TlsAcceptor::from(Arc::new(config)), address })
    }

    /// Serves until `shutdown`.
    pub async fn serve(self, lookup: Lookup, shutdown: CancellationToken) {
        let inside = router(lookup);
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (tls, inside, shutdown) = (self.tls.clone(), inside.clone(), shutdown.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = shutdown.cancelled() => {}
                            () = serve_one(stream, tls, inside) => {}
                        }
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely: a moment's rest keeps this from spinning.
                    tracing::warn!(%error, "failed to accept a connection at the door");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn serve_one(stream: TcpStream, tls: TlsAcceptor, inside: Router) {
    let handshake = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await;
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a handshake at the door failed"),
        Err(_) => return tracing::debug!("a handshake at the door took too long"),
    };
    let caller = caller(stream.get_ref().1);
    let service = match caller.as_deref() {
        Some(CALLER) => inside,
        _ => {
            tracing::warn!(?caller, "somebody else than the API server is at the door");
            Router::new().fallback(turned_away)
        }
    };
    let builder = auto::Builder::new(TokioExecutor::new());
    let served = builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection at the door ended");
    }
}

fn caller(connection: &rustls::ServerConnection) -> Option<String> {
    let certificate = connection.peer_certificates()?.first()?;
    pki::subject_of(certificate).ok().map(|subject| subject.common_name)
}

async fn turned_away(_: Request) -> Response<Body> {
    refuse(StatusCode::FORBIDDEN, "Forbidden", "only the API server may ask this agent; go through it")
}

fn router(lookup: Lookup) -> Router {
    let machine = "/apis/photoncloud.dev/v1alpha1/namespaces/{namespace}/virtualmachines/{name}";
    let port = "/apis/photoncloud.dev/v1alpha1/namespaces/{namespace}/ports/{name}";
    Router::new()
        .route(&format!("{machine}/exec"), post(exec::exec))
        .route(&format!("{machine}/log"), get(serial::log))
        .route(&format!("{machine}/console"), get(serial::console).post(serial::console))
        .route(&format!("{machine}/portforward"), get(stream::portforward).post(stream::portforward))
        .route(&format!("{port}/capture"), get(capture::capture).post(capture::capture))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(lookup))
}

async fn metrics() -> Response<Body> {
    let mut text = Vec::new();
    let encoder = TextEncoder::new();
    match encoder.encode(&prometheus::gather(), &mut text) {
        Ok(()) => ([("content-type", encoder.format_type().to_owned())], text).into_response(),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", sentence(&error)),
    }
}

#[cfg(test)]
mod tests;
