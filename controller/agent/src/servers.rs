//! One client over several API servers: they serve the same, so the agent uses one until it fails and then the next.
//!
//! ```text
//!   request ─► server of this turn ── answers ─► its answer; a stream ends when the turn does
//!                     │
//!                     └── refuses, is silent or has no store ─► next turn ── read, or never sent ─► again
//!                                                                   └── write that may be made ─► error, ask again
//! ```
//!
//! Every open watch ends with the turn, also those of a server that is silent without being gone: its clients go on
//! at the next one, from the last resource version they saw.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use tokio::sync::watch;

/// A server must begin to answer within this time. Watches begin at once, so it holds for them, too.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why no server answered.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the server did not begin to answer in time")]
    Silent,
    #[error("the request's body could not be read")]
    Body(#[source] kube::Error),
    #[error("the request could not be sent")]
    Sent(#[source] kube::Error),
    #[error("there are no servers")]
    Nobody,
}

/// An answer's body.
type Ending = StreamBody<BoxStream<'static, Result<Frame<Bytes>, kube::Error>>>;

struct Servers {
    clients: Vec<Client>,
    /// Counts the changes of server.
    turn: watch::Sender<usize>,
}

/// A client that uses the first of `clients` until it fails, then the next, and after the last the first again.
#[must_use]
pub fn any_of(clients: Vec<Client>, default_namespace: &str) -> Client {
    let servers = Arc::new(Servers { clients, turn: watch::Sender::new(0) });
    Client::new(tower::service_fn(move |request| servers.clone().send(request)), default_namespace)
}

impl Servers {
    async fn send(self: Arc<Self>, request: Request<Body>) -> Result<Response<Ending>, Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(Error::Body)?.to_bytes();
        let mut last = Error::Nobody;
        for _ in 0..self.clients.len() {
            let turn = *self.turn.borrow();
            let Some(client) = self.clients.get(turn % self.clients.len()) else { break };
            let request = Request::from_parts(parts.clone(), Body::from(body.clone()));
            let failure = match tokio::time::timeout(PATIENCE, client.send(request)).await {
                Ok(Ok(response)) => {
                    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
                        self.next(turn);
                    }
                    return Ok(response.map(|body| self.ending_with(turn, body)));
                }
                Ok(Err(error)) => Error::Sent(error),
                Err(_) => Error::Silent,
            };
            self.next(turn);
            let again = parts.method == Method::GET || never_left(&failure);
            last = failure;
            if !again {
                break;
            }
        }
        Err(last)
    }

    /// Ends a turn; whoever comes late with the same complaint changes nothing.
    fn next(&self, turn: usize) {
        let changed = self.turn.send_if_modified(|now| {
            let same = *now == turn;
            *now += usize::from(same);
            same
        });
        if changed && self.clients.len() > 1 {
            tracing::warn!("the server fails, going on at another");
        }
    }

    /// A body that ends when its server's turn does.
    fn ending_with(&self, turn: usize, body: Body) -> Ending {
        let mut now = self.turn.subscribe();
        let over = async move {
            // The sender's end is an end, too.
            let _ = now.wait_for(|now| *now != turn).await;
        };
        StreamBody::new(BodyStream::new(body).take_until(over).boxed())
    }
}

/// Whether no connection came about, so that nothing can have been done.
fn never_left(error: &Error) -> bool {
    let refused = |error: &(dyn std::error::Error + 'static)| {
        error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    };
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| error.source()).any(refused)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn refusing(asked: Arc<AtomicUsize>) -> Client {
        let service = tower::service_fn(move |_: Request<Body>| {
            asked.fetch_add(1, Ordering::SeqCst);
            async { Err::<Response<Body>, _>(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)) }
        });
        Client::new(service, "default")
    }

    fn breaking() -> Client {
        let service = tower::service_fn(|_: Request<Body>| async {
            Err::<Response<Body>, _>(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
        });
        Client::new(service, "default")
    }

    fn silent() -> Client {
        Client::new(
            tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, std::io::Error>>()),
            "default",
        )
    }

    fn answering(text: &'static str) -> Client {
        let service = tower::service_fn(move |request: Request<Body>| async move {
            let sent = request.into_body().collect().await?.to_bytes();
            Ok::<_, kube::Error>(Response::new(Body::from([text.as_bytes(), &sent].concat())))
        });
        Client::new(service, "default")
    }

    fn get() -> Request<Vec<u8>> {
        Request::get("/x").body(Vec::new()).unwrap()
    }

    fn post() -> Request<Vec<u8>> {
        Request::post("/x").body(b"!".to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_server_that_refuses_is_left_for_good() {
        let asked = Arc::new(AtomicUsize::new(0));
        let client = any_of(vec![refusing(asked.clone()), answering("second")], "default");
        for _ in 0..3 {
            assert_eq!(client.request_text(post()).await.unwrap(), "second!");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_write_that_may_have_been_made_is_not_made_again() {
        let client = any_of(vec![breaking(), answering("second")], "default");
        assert!(client.request_text(post()).await.is_err());
        assert_eq!(client.request_text(post()).await.unwrap(), "second!");
        let client = any_of(vec![breaking(), answering("second")], "default");
        assert_eq!(client.request_text(get()).await.unwrap(), "second", "a read may be repeated");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_left_too() {
        let client = any_of(vec![silent(), answering("second")], "default");
        assert_eq!(client.request_text(get()).await.unwrap(), "second");
    }

    #[tokio::test]
    async fn the_streams_of_a_server_end_with_its_turn() {
        let first = tower::service_fn(|request: Request<Body>| async move {
            if request.method() == Method::POST {
                return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
            }
            // A watch that says nothing and does not end.
            Ok(Response::new(StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, std::io::Error>>())))
        });
        let client = any_of(vec![Client::new(first, "default"), answering("second")], "default");
        let request = Request::get("/watch").body(Body::empty()).unwrap();
        let watch = client.send(request).await.unwrap().into_body();
        assert!(client.request_text(post()).await.is_err());
        let rest = tokio::time::timeout(Duration::from_secs(10), watch.collect()).await.expect("it ends").unwrap();
        assert!(rest.to_bytes().is_empty());
        assert_eq!(client.request_text(get()).await.unwrap(), "second");
    }
}
