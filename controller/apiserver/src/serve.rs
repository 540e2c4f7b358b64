//! The API on a socket: TLS, HTTP/1.1 and HTTP/2.
//!
//! The client's certificate is verified once, in the handshake; its subject is the identity of every request on that
//! connection. Without one each request has to bring a token. What an unproven peer can cost is bounded: handshakes and
//! headers have deadlines, connections a limit, and what comes of one address has its share.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::callers::Peer;
use crate::dispatch::Closing;
use crate::identity::Identity;
use crate::leftover::Leftover;
use crate::server::ApiServer;
use crate::text;

/// Connections open at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 1024;
/// Of these, open at once without a certificate: whoever shows one always finds room.
const STRANGERS: usize = CONNECTIONS / 2;
/// A TLS handshake must be over within this time.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Requests under way on one HTTP/2 connection.
const STREAMS: u32 = 250;
/// Between two HTTP/2 pings, and until an unanswered one ends the connection.
const PING: Duration = Duration::from_secs(30);
/// What running requests get to finish when the server closes.
const GRACE: Duration = Duration::from_secs(5);
/// Pause after the kernel refused a new connection (out of descriptors, usually).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a connection did not come to be.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the TLS handshake took too long")]
    Slow,
    #[error("the TLS handshake failed")]
    Handshake(#[source] std::io::Error),
    #[error("too many connections without a certificate are open")]
    Crowded,
    #[error("the client's certificate has no usable subject")]
    Subject(#[source] pki::Error),
}

impl ApiServer {
    /// Serves the API until `shutdown` resolves; then ends watches, lets requests finish, and returns.
    pub async fn serve<F>(&self, listener: TcpListener, tls: rustls::ServerConfig, shutdown: F)
    where
        F: Future<Output = ()> + Send,
    {
        let (close, closing) = watch::channel(false);
        let front = Front {
            acceptor: TlsAcceptor::from(Arc::new(tls)),
            router: self.router(),
            closing,
            http: Arc::new(http(self.server.options.head_timeout)),
            strangers: Arc::new(Semaphore::new(STRANGERS)),
            api: self.clone(),
        };
        let graceful = GracefulShutdown::new();
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                accepted = accept(&listener, &slots) => accepted,
                () = &mut shutdown => break,
            };
            match accepted {
                Ok((stream, peer, slot)) => front.clone().begin(stream, peer, slot, graceful.watcher()),
                Err(error) => {
                    tracing::warn!(error = text::chain(&error), "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        close.send_replace(true);
        if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests still running were cut off");
        }
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, Option<OwnedSemaphorePermit>)> {
    // The semaphore is never closed, so a slot always comes.
    let slot = slots.clone().acquire_owned().await.ok();
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, slot))
}

fn http(head: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(head).max_headers(100);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    builder
}

/// The body of a request. One whose client `waits` to be told to send it is not read behind a refusal: it never comes.
fn body_of(body: Incoming, waits: bool) -> Body {
    if waits { Body::new(body) } else { Body::new(Leftover::new(body)) }
}

/// What every connection needs.
#[derive(Clone)]
struct Front {
    acceptor: TlsAcceptor,
    router: Router,
    closing: watch::Receiver<bool>,
    http: Arc<Builder<TokioExecutor>>,
    strangers: Arc<Semaphore>,
    api: ApiServer,
}

impl Front {
    /// Serves a connection in a task of its own. What a task runs is compiled where it is spawned: this is no `async fn`, so
    /// that it is here, and not in the program that calls [`ApiServer::serve`] and is built to be small.
    fn begin(self, stream: TcpStream, peer: SocketAddr, slot: Option<OwnedSemaphorePermit>, watcher: Watcher) {
        tokio::spawn(self.connection(stream, peer, slot, watcher));
    }

    async fn connection(
        self,
        stream: TcpStream,
        peer: SocketAddr,
        slot: Option<OwnedSemaphorePermit>,
        watcher: Watcher,
    ) {
        let _slot = slot;
        let _gauge = self.api.server.metrics.connected();
        // Small answers must not wait for more to say.
        let _ = stream.set_nodelay(true);
        let (stream, identity) = match self.handshake(stream).await {
            Ok(ready) => ready,
            Err(error) => {
                tracing::debug!(%peer, error = text::chain(&error), "connection refused");
                return;
            }
        };
        let place = if identity.is_none() { self.strangers.clone().try_acquire_owned().ok() } else { None };
        if identity.is_none() && place.is_none() {
            tracing::debug!(%peer, error = %Refused::Crowded, "connection refused");
            return;
        }
        let closing = Closing(self.closing.clone());
        let router = self.router.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let waits = request.headers().contains_key(header::EXPECT);
            let mut request = request.map(|body| body_of(body, waits));
            if let Some(identity) = &identity {
                request.extensions_mut().insert(identity.clone());
            }
            request.extensions_mut().insert(Peer(peer.ip()));
            request.extensions_mut().insert(closing.clone());
            router.clone().oneshot(request)
        });
        let connection = self.http.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%peer, %error, "connection ended");
        }
    }

    async fn handshake(
        &self,
        stream: TcpStream,
    ) -> Result<(tokio_rustls::server::TlsStream<TcpStream>, Option<Identity>), Refused> {
        let stream = tokio::time::timeout(HANDSHAKE, self.acceptor.accept(stream))
            .await
            .map_err(|_| Refused::Slow)?
            .map_err(Refused::Handshake)?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let subject =
            certificate.map(|certificate| pki::subject_of(certificate)).transpose().map_err(Refused::Subject)?;
        let identity = subject.map(|subject| Identity::from_owned(&subject.common_name, subject.organizations));
        Ok((stream, identity))
    }
}
