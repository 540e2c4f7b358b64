//! Watches.
//!
//! ```text
//!          ┌─ no resourceVersion, or 0, or sendInitialEvents: list ─► ADDED… ─► [end bookmark]
//! request ─┤                                                                        │
//!          └─ resourceVersion=N ─────────────────────────────────────────► events after N ─► lines
//!                                                                           │ fell behind │ timeout
//!                                                                           ▼             ▼
//!                                                                     ERROR 410       bookmark, end
//! ```
//!
//! What a caller may see can be taken back while it watches: every few seconds its rights, and the token that proved it, are
//! looked at again, and the watch ends when they are gone. The client that begins anew is told why.
//!
//! The store bounds what it keeps for a slow watcher; here nothing is queued beyond the chunk being sent.

use std::sync::Arc;
use std::vec;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream};
use http::{HeaderValue, header};
use store::{Consistency, Entry, Revision, Watch, WatchItem};
use tokio::time::{Duration, Instant};

use super::Selection;
use super::stream::{Lines, failure};
use crate::answer;
use crate::dispatch::Call;
use crate::error::Error;
use crate::metrics::Watching;
use crate::server::Server;
use crate::storage;

/// Lines are sent together up to about this size.
const CHUNK: usize = 64 * 1024;

impl Server {
    /// Begins a watch; everything that fails later is told inside the stream.
    pub(crate) async fn watch(self: &Arc<Self>, call: Call) -> Result<Response, Error> {
        call.query.check_watch()?;
        let selection = Selection::of(&call)?;
        let include = answer::include(&call.query)?;
        let resource = call.resource.clone();
        let prefix = storage::prefix(&self.store, &resource.definition, call.namespace.as_deref());
        let (initial, from) = self.beginning(&call, &prefix).await?;
        let end_bookmark = call.query.send_initial_events == Some(true) && call.query.bookmarks;
        let lines = Lines::new(resource, selection, call.accept, include);
        let body = match self.store.watch(&prefix, from) {
            Ok(events) => self.stream(call, lines, events, initial, from, end_bookmark),
            Err(store::Error::Compacted { requested, oldest }) => {
                let error = Error::Expired(format!("too old resource version: {requested} ({oldest})"));
                Body::from(failure(&error))
            }
            Err(error) => return Err(error.into()),
        };
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(response)
    }

    /// The objects a watch starts with and the revision after which its events begin.
    async fn beginning(&self, call: &Call, prefix: &str) -> Result<(Vec<Entry>, Revision), Error> {
        let asked = call.query.revision;
        let with_state = call.query.send_initial_events.unwrap_or(matches!(asked, None | Some(0)));
        self.reach(asked.unwrap_or(0)).await?;
        if !with_state && asked.is_some_and(|revision| revision > 0) {
            return Ok((Vec::new(), Revision::new(asked.unwrap_or(0))));
        }
        let consistency = if asked.is_none() { Consistency::Linearizable } else { Consistency::Any };
        let (entries, revision) = self.store.list(prefix, consistency).await?;
        Ok((if with_state { entries } else { Vec::new() }, revision))
    }

    fn stream(
        self: &Arc<Self>,
        call: Call,
        lines: Lines,
        events: Watch,
        initial: Vec<Entry>,
        from: Revision,
        end_bookmark: bool,
    ) -> Body {
        let now = Instant::now();
        let lifetime = match call.query.timeout_seconds {
            Some(seconds) if seconds > 0 => Duration::from_secs(seconds),
            _ => self.options.watch_timeout,
        };
        let state = State {
            lines,
            events,
            initial: initial.into_iter(),
            end_bookmark,
            bookmarks: call.query.bookmarks,
            interval: self.options.bookmark_interval,
            due: now + self.options.bookmark_interval,
            recheck: self.options.watch_recheck,
            look: now + self.options.watch_recheck,
            deadline: now + lifetime,
            at: from,
            told: from,
            closing: call.closing.clone(),
            ended: false,
            _gauge: self.metrics.watching(&call.resource.definition.plural),
            server: self.clone(),
            call,
        };
        Body::from_stream(stream::unfold(state, |mut state| async move {
            let chunk = state.next().await?;
            Some((Ok::<Bytes, std::convert::Infallible>(chunk), state))
        }))
    }
}

/// One running watch.
struct State {
    lines: Lines,
    events: Watch,
    initial: vec::IntoIter<Entry>,
    end_bookmark: bool,
    bookmarks: bool,
    interval: Duration,
    due: Instant,
    recheck: Duration,
    /// When the caller's rights are looked at again.
    look: Instant,
    deadline: Instant,
    /// Everything up to here has been delivered.
    at: Revision,
    /// The last revision the client knows to be covered.
    told: Revision,
    closing: tokio::sync::watch::Receiver<bool>,
    ended: bool,
    _gauge: Watching,
    server: Arc<Server>,
    call: Call,
}

/// Why the watch woke.
enum Wake {
    Item(Option<Result<WatchItem, store::Lagged>>),
    Due,
    Look,
    Over,
}

impl State {
    /// The next chunk; `None` ends the watch.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        if let Some(chunk) = self.next_initial() {
            return Some(chunk);
        }
        loop {
            let chunk = match self.wake().await {
                Wake::Item(item) => self.take(item),
                Wake::Due => {
                    self.due = Instant::now() + self.interval;
                    self.bookmark()
                }
                Wake::Look if self.may_go_on() => {
                    self.look = Instant::now() + self.recheck;
                    None
                }
                Wake::Look => {
                    tracing::info!(user = &*self.call.identity.user, "a watch ended with the right to it");
                    self.ended = true;
                    return None;
                }
                Wake::Over => {
                    self.ended = true;
                    return self.bookmark();
                }
            };
            match chunk {
                Some(chunk) => return Some(chunk),
                None if self.ended => return None,
                None => {}
            }
        }
    }

    async fn wake(&mut self) -> Wake {
        tokio::select! {
            item = self.events.next() => Wake::Item(item),
            () = tokio::time::sleep_until(self.due), if self.bookmarks => Wake::Due,
            () = tokio::time::sleep_until(self.deadline.min(self.look)) => {
                if self.look < self.deadline { Wake::Look } else { Wake::Over }
            }
            _ = self.closing.wait_for(|closing| *closing) => Wake::Over,
        }
    }

    /// Whether the caller is still who it was, and may still see this.
    fn may_go_on(&self) -> bool {
        let proven = self.call.token.as_deref().is_none_or(|token| self.server.still_proves(token));
        proven && self.call.may_still_watch()
    }

    /// A chunk of the objects the watch begins with, and the bookmark after the last of them.
    fn next_initial(&mut self) -> Option<Bytes> {
        let mut chunk = Vec::new();
        for entry in self.initial.by_ref() {
            let whole = chunk.len();
            if let Err(error) = self.lines.initial(&entry, &mut chunk) {
                self.ended = true;
                chunk.truncate(whole);
                chunk.extend_from_slice(&failure(&error));
                return Some(Bytes::from(chunk));
            }
            if chunk.len() >= CHUNK {
                return Some(Bytes::from(chunk));
            }
        }
        if std::mem::take(&mut self.end_bookmark) {
            chunk.extend_from_slice(&self.lines.bookmark(self.at, true));
        }
        (!chunk.is_empty()).then(|| Bytes::from(chunk))
    }

    /// The lines of an item and of those that already wait behind it.
    fn take(&mut self, first: Option<Result<WatchItem, store::Lagged>>) -> Option<Bytes> {
        let mut chunk = Vec::new();
        let mut item = first;
        loop {
            match item {
                None => self.ended = true,
                Some(Err(lagged)) => {
                    self.ended = true;
                    let text = format!("too old resource version: {} ({lagged})", self.at);
                    chunk.extend_from_slice(&failure(&Error::Expired(text)));
                }
                Some(Ok(WatchItem::Progress(revision))) => self.at = self.at.max(revision),
                Some(Ok(WatchItem::Event(event))) => {
                    self.at = event.revision();
                    match self.lines.event(&event) {
                        Ok(line) => chunk.extend_from_slice(&line.unwrap_or_default()),
                        Err(error) => {
                            self.ended = true;
                            chunk.extend_from_slice(&failure(&error));
                        }
                    }
                }
            }
            if self.ended || chunk.len() >= CHUNK {
                break;
            }
            match self.events.next().now_or_never() {
                Some(next) => item = next,
                None => break,
            }
        }
        (!chunk.is_empty()).then(|| Bytes::from(chunk))
    }

    /// A bookmark, when the client wants them and would learn something.
    fn bookmark(&mut self) -> Option<Bytes> {
        if !self.bookmarks || self.at <= self.told {
            return None;
        }
        self.told = self.at;
        Some(self.lines.bookmark(self.at, false))
    }
}
