//! Changes as a stream.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::watcher::{Taken, Watcher};
use crate::{Entry, Error, Revision};

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It got a value.
    Put,
    /// It went away.
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The new state; of a deletion the key, the revision of the deletion and no value.
    pub entry: Entry,
    /// The state before; absent when the key was created.
    pub previous: Option<Entry>,
}

impl Event {
    /// When it happened.
    pub fn revision(&self) -> Revision {
        self.entry.mod_revision
    }
}

/// An item of a [`Watch`].
#[derive(Clone, Debug)]
pub enum WatchItem {
    /// A change.
    Event(Event),
    /// All changes up to this revision have been delivered: a bookmark.
    Progress(Revision),
}

/// The watch lost its place; list again and watch from there. Kubernetes' `410 Gone`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the watch fell behind the history kept; list again")]
pub struct Lagged;

/// Changes under a prefix after a revision, in order, each once; ends after [`Lagged`], or when the store is dropped.
///
/// It buffers one batch. What comes after that waits in the shared history, so a slow reader costs no memory, and
/// lags only when the history is full of newer events.
pub struct Watch {
    memory: Arc<Memory>,
    metrics: Arc<Metrics>,
    watcher: Arc<Watcher>,
    batch: VecDeque<crate::Event>,
    progress: Interval,
    /// The revision the reader knows it has reached.
    told: Revision,
    ended: bool,
}

/// Events taken from the history under one lock.
const BATCH: usize = 256;

impl Watch {
    pub(crate) fn start(
        memory: Arc<Memory>,
        metrics: Arc<Metrics>,
        prefix: &str,
        from: Revision,
        progress: Duration,
    ) -> Result<Self, Error> {
        let watcher = Arc::new(Watcher::new(prefix, from));
        memory
            .change(|cache| cache.subscribe(&watcher))
            .map_err(|oldest| Error::Compacted { requested: from, oldest })?;
        metrics.watchers.inc();
        let mut progress = tokio::time::interval_at(Instant::now() + progress, progress);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let batch = VecDeque::new();
        Ok(Self { memory, metrics, watcher, batch, progress, told: from, ended: false })
    }

    fn end(&mut self, last: Option<Lagged>) -> Poll<Option<Result<WatchItem, Lagged>>> {
        self.ended = true;
        if last.is_some() {
            self.metrics.lagged.inc();
        }
        Poll::Ready(last.map(Err))
    }
}

impl Stream for Watch {
    type Item = Result<WatchItem, Lagged>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(event) = this.batch.pop_front() {
                this.told = event.revision();
                return Poll::Ready(Some(Ok(WatchItem::Event(event))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            this.watcher.waker.register(cx.waker());
            let taken = this.memory.read().take(&this.watcher, BATCH);
            let reached = match taken {
                Taken::Events(events) => {
                    this.batch = events.into();
                    continue;
                }
                Taken::Lagged => return this.end(Some(Lagged)),
                Taken::Closed => return this.end(None),
                Taken::Nothing(reached) => reached,
            };
            if this.progress.poll_tick(cx).is_pending() {
                return Poll::Pending;
            }
            if reached > this.told {
                this.told = reached;
                return Poll::Ready(Some(Ok(WatchItem::Progress(reached))));
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.memory.change(|cache| cache.watchers().remove(&self.watcher));
        self.metrics.watchers.dec();
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("told", &self.told).field("ended", &self.ended).finish_non_exhaustive()
    }
}
