//! One door at work: TLS, the question who it is, and the request carried to the API and its answer back.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use kube::Client;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::Nodes;
use super::admit::{Refused, admit};
use crate::refusal::refuse;
use control_loop::sentence;

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 256;
/// A handshake, and later the head of a request, must be over within this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest body; the API takes no longer one.
const BODY: usize = 3 << 20;
/// A node whose token the API refused is not carried there again for so long.
const PAUSE: Duration = Duration::from_secs(1);
/// What of a request is carried on. Nothing by which a caller speaks as somebody else, or leaves HTTP, is among it.
const HEADERS: [header::HeaderName; 4] =
    [header::ACCEPT, header::AUTHORIZATION, header::CONTENT_TYPE, header::USER_AGENT];

/// What a door knows.
pub(super) struct Inside {
    namespace: String,
    nodes: Nodes,
    api: Client,
    refused: Mutex<HashMap<IpAddr, Instant>>,
}

impl Inside {
    pub(super) fn new(namespace: String, nodes: Nodes, api: Client) -> Inside {
        Inside { namespace, nodes, api, refused: Mutex::default() }
    }
}

/// Serves until it is dropped, and with it every connection.
pub(super) async fn serve(listener: TcpListener, tls: TlsAcceptor, inside: Inside) {
    let inside = Arc::new(inside);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // The semaphore is never closed, so a place always comes.
        let place = places.clone().acquire_owned().await.ok();
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (tls, inside) = (tls.clone(), inside.clone());
                connections.spawn(async move {
                    let _place = place;
                    serve_one(stream, peer.ip(), tls, inside).await;
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: a moment's rest keeps this from spinning.
                tracing::warn!(%error, "failed to accept a guest's connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_one(stream: TcpStream, peer: IpAddr, tls: TlsAcceptor, inside: Arc<Inside>) {
    let stream = match tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "a guest's handshake failed"),
        Err(_) => return tracing::debug!(%peer, "a guest's handshake took too long"),
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let inside = inside.clone();
        async move { Ok::<_, std::convert::Infallible>(inside.answer(peer, request.map(Body::new)).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(32);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%peer, %error, "a guest's connection ended");
    }
}

impl Inside {
    async fn answer(&self, peer: IpAddr, request: Request<Body>) -> Response<Body> {
        let node = self.nodes.lock().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned();
        match admit(request.headers(), &self.namespace, node.as_deref()) {
            Ok(()) => {}
            Err(Refused::NoToken) => return unauthorized(),
            Err(Refused::NotThisNode) => {
                tracing::warn!(%peer, node, "somebody else than the node itself is at the way to the API");
                return not_this_node();
            }
        }
        if self.was_refused(peer) {
            return unauthorized();
        }
        let response = self.carry(request).await;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.refused.lock().unwrap_or_else(PoisonError::into_inner).insert(peer, Instant::now());
        }
        response
    }

    fn was_refused(&self, peer: IpAddr) -> bool {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.retain(|_, at| at.elapsed() < PAUSE);
        refused.contains_key(&peer)
    }

    async fn carry(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let Ok(body) = axum::body::to_bytes(body, BODY).await else {
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", "the body is too long");
        };
        let mut next = Request::new(kube::client::Body::from(body));
        *next.method_mut() = parts.method;
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        *next.uri_mut() = Uri::try_from(target).unwrap_or_default();
        *next.headers_mut() = carried(&parts.headers);
        match self.api.send(next).await {
            Ok(response) => {
                let (parts, body) = response.into_parts();
                let mut answer = Response::new(Body::new(body.map_err(std::io::Error::other)));
                *answer.status_mut() = parts.status;
                if let Some(kind) = parts.headers.get(header::CONTENT_TYPE) {
                    answer.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
                }
                answer
            }
            Err(error) => {
                let message = format!("the API server does not answer: {}", sentence(&error));
                refuse(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
            }
        }
    }
}

fn carried(headers: &HeaderMap) -> HeaderMap {
    HEADERS.iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone()))).collect()
}

fn unauthorized() -> Response<Body> {
    refuse(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
}

fn not_this_node() -> Response<Body> {
    let message = "only a node of this network passes here, by its own token and from its own address";
    refuse(StatusCode::FORBIDDEN, "Forbidden", message)
}
