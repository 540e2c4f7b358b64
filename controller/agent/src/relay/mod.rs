//! The server's half of `exec`, `log`, `console`, `portforward` and `capture`: a request for an object goes to the agent that has it.
//!
//! ```text
//!  user ──mTLS──► API server: who are you, may you? ──► Relay ──mTLS as system:apiserver──► door of the agent ──► guest
//! ```
//!
//! The agent's certificate must bear the Host's name, so that an endpoint written by a stranger leads nowhere. An HTTP/1.1
//! upgrade is carried through: after the answer `101` both connections become one stream of bytes.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use crds::Host;
use hyper_util::rt::TokioIo;
use kube::{Api, Client};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::refusal::refuse;
use control_loop::{Failure, Retry, sentence};

/// An agent on the same continent answers a handshake well within this.
const CONNECT: Duration = Duration::from_secs(5);

/// Why a request did not reach an agent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object is on no host yet.
    #[error("the object is bound to no host yet: wait until its spec.host is set")]
    NotBound,
    /// The Host object could not be read.
    #[error("failed to look up host {host}")]
    LookUp {
        /// The host.
        host: String,
        /// Cause.
        #[source]
        source: Box<kube::Error>,
    },
    /// The Host object names no endpoint.
    #[error("host {host} is not registered or its agent has no endpoint: start `clusterctl agent` there")]
    NoEndpoint {
        /// The host.
        host: String,
    },
    /// The host's name cannot stand in a certificate.
    #[error("host name {host:?} cannot be checked against a certificate")]
    Name {
        /// The host.
        host: String,
    },
    /// No connection.
    #[error("failed to connect to the agent of host {host} at {endpoint}: is it running?")]
    Connect {
        /// The host.
        host: String,
        /// Where it should be.
        endpoint: String,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("the agent of host {host} broke off the request")]
    Broken {
        /// The host.
        host: String,
        /// Cause.
        #[source]
        source: hyper::Error,
    },
}

impl Failure for Error {
    fn category(&self) -> &'static str {
        match self {
            Error::NotBound => "NotBound",
            Error::LookUp { .. } => "ApiUnavailable",
            Error::NoEndpoint { .. } | Error::Name { .. } => "HostUnknown",
            Error::Connect { .. } | Error::Broken { .. } => "AgentUnreachable",
        }
    }

    fn retry(&self) -> Retry {
        Retry::Backoff
    }
}

impl Error {
    fn status(&self) -> StatusCode {
        match self {
            Error::NotBound | Error::NoEndpoint { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Error::LookUp { .. } | Error::Name { .. } | Error::Connect { .. } | Error::Broken { .. } => {
                StatusCode::BAD_GATEWAY
            }
        }
    }
}

/// Carries requests to agents.
#[derive(Clone)]
pub struct Relay {
    hosts: Api<Host>,
    tls: TlsConnector,
}

impl Relay {
    /// Looks hosts up through `client` and shows `identity` (whose name must be `system:apiserver`) to their agents.
    pub fn new(client: Client, identity: &pki::Identity, ca_pem: &str) -> Result<Relay, pki::Error> {
        let mut config = pki::client_config(identity, ca_pem)?;
        // An upgrade exists in HTTP/1.1 only.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Relay { hosts: Api::all(client), tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Carries a request to the agent of the object's `spec.host`; what goes wrong becomes a Kubernetes Status.
    pub async fn relay(&self, host: Option<&str>, request: Request<Body>) -> Response<Body> {
        match self.try_relay(host, request).await {
            Ok(response) => response,
            Err(error) => refuse(error.status(), error.category(), sentence(&error)),
        }
    }

    async fn try_relay(&self, host: Option<&str>, request: Request<Body>) -> Result<Response<Body>, Error> {
        let host = host.ok_or(Error::NotBound)?;
        let found = self
            .hosts
            .get_opt(host)
            .await
            .map_err(|source| Error::LookUp { host: host.to_owned(), source: Box::new(source) })?;
        let endpoint = found.and_then(|host| host.status).and_then(|status| status.endpoint);
        let endpoint = endpoint.ok_or_else(|| Error::NoEndpoint { host: host.to_owned() })?;
        self.forward(&endpoint, host, request).await
    }

    /// Carries a request to the agent of `host` at `endpoint`.
    pub async fn forward(
        &self,
        endpoint: &str,
        host: &str,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        let broken = |source| Error::Broken { host: host.to_owned(), source };
        let stream = self.connect(endpoint, host).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a relayed connection ended");
            }
        });
        let ours = hyper::upgrade::on(&mut request);
        let mut response = sender.send_request(rewritten(host, request)).await.map_err(broken)?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let theirs = hyper::upgrade::on(&mut response);
            tokio::spawn(join(ours, theirs));
        }
        Ok(response.map(Body::new))
    }

    async fn connect(&self, endpoint: &str, host: &str) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Error> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::Name { host: host.to_owned() })?;
        let connecting = async {
            let stream = TcpStream::connect(endpoint).await?;
            stream.set_nodelay(true)?;
            self.tls.connect(name, stream).await
        };
        let connected = tokio::time::timeout(CONNECT, connecting).await;
        connected
            .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut)))
            .map_err(|source| Error::Connect { host: host.to_owned(), endpoint: endpoint.to_owned(), source })
    }
}

/// The request as the agent shall see it: same method, path, query and body.
fn rewritten(host: &str, request: Request<Body>) -> Request<Body> {
    let (parts, body) = request.into_parts();
    let mut next = Request::new(body);
    *next.method_mut() = parts.method;
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    *next.uri_mut() = Uri::try_from(target).unwrap_or_default();
    for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::ACCEPT, header::CONNECTION, header::UPGRADE] {
        if let Some(value) = parts.headers.get(&name) {
            next.headers_mut().insert(name, value.clone());
        }
    }
    if let Ok(value) = HeaderValue::from_str(host) {
        next.headers_mut().insert(header::HOST, value);
    }
    next
}

async fn join(ours: hyper::upgrade::OnUpgrade, theirs: hyper::upgrade::OnUpgrade) {
    let joined = async {
        let (ours, theirs) = tokio::try_join!(ours, theirs).map_err(std::io::Error::other)?;
        tokio::io::copy_bidirectional(&mut TokioIo::new(ours), &mut TokioIo::new(theirs)).await
    };
    if let Err(error) = joined.await {
        tracing::debug!(%error, "a relayed stream ended");
    }
}
