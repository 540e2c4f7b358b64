//! Keeps the cache fed: one watch on the root prefix, opened again for as long as the store lives.
//!
//! ```text
//!   load (full list) ─► follow (watch from revision+1) ─┬─ stream broke, ordered ─► follow
//!          ▲                                            │
//!          └────────────── compacted, ordered ──────────┘
//! ```

use std::sync::Arc;

use etcd_client::WatchResponse;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::Revision;
use crate::backoff;
use crate::cache::Change;
use crate::core::Core;
use crate::failure::{Failure, Verdict};
use crate::seal::Closed;

/// What others may ask of the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The watch says nothing: open it again.
    Reopen,
    /// The cache is wrong: list again.
    Reload,
}

/// Feeds the cache until the store is dropped.
pub(crate) async fn run(core: Arc<Core>, mut orders: mpsc::Receiver<Order>) {
    let mut delays = backoff::delays();
    loop {
        let before = core.memory.revision();
        let next = follow(&core, &mut orders).await;
        core.metrics.feed_restarts.inc();
        if core.memory.revision() > before {
            delays = backoff::delays();
        }
        backoff::pause(&mut delays, Instant::now() + core.options.timeout).await;
        if next == Order::Reload {
            reload(&core).await;
        }
    }
}

/// Lists until it succeeds.
async fn reload(core: &Core) {
    let mut delays = backoff::delays();
    while let Err(failure) = load(core).await {
        tracing::warn!(?failure, "failed to list etcd's keys, trying again");
        backoff::pause(&mut delays, Instant::now() + core.options.timeout).await;
    }
}

/// Why what was listed should not be served.
pub(crate) enum Unfit {
    /// The first key whose value stays closed.
    Closed(String, Closed),
    /// A restore was interrupted.
    HalfRestored,
}

/// Makes the cache equal to etcd; tells what is wrong with what it found.
pub(crate) async fn load(core: &Core) -> Result<Option<Unfit>, Failure> {
    let before = core.memory.revision();
    let (mut listing, at) = core.link.list(true).await?;
    let closed = listing.closed.take().map(|(key, closed)| Unfit::Closed(key, closed));
    let unfit = if listing.half_restored { Some(Unfit::HalfRestored) } else { closed };
    let (count, lost_past) = (listing.entries.len(), at < before);
    let differing = core.memory.change(|cache| cache.replace(listing, at, lost_past));
    core.metrics.entries.set(i64::try_from(count).unwrap_or(i64::MAX));
    if lost_past {
        core.forget_past(at);
        tracing::warn!(%before, %at, "etcd lost its past, starting over with what it has");
    }
    tracing::debug!(count, differing, %at, "listed etcd's keys");
    Ok(unfit)
}

/// Watches until the stream ends; returns what to do next.
async fn follow(core: &Core, orders: &mut mpsc::Receiver<Order>) -> Order {
    let known = core.memory.revision();
    let (member, mut stream) = match core.link.watch(known.next()).await {
        Ok(opened) => opened,
        Err(failure) => {
            tracing::debug!(?failure, "failed to open the watch on etcd");
            return Order::Reopen;
        }
    };
    core.pulse.opened();
    loop {
        let message = tokio::select! {
            biased;
            message = stream.message() => message,
            Some(order) = orders.recv() => match order {
                // Ordered of an earlier watch, or this one has spoken since.
                Order::Reopen if !core.pulse.is_silent() => continue,
                Order::Reopen => {
                    tracing::warn!("the watch on etcd is silent, opening it again");
                    core.pulse.given_up();
                    core.link.doubt(member);
                    return Order::Reopen;
                }
                Order::Reload => return Order::Reload,
            },
        };
        match message.map_err(Failure::from) {
            Ok(Some(response)) if response.compact_revision() > 0 => return Order::Reload,
            Ok(Some(response))
                if response.created() && is_behind(&response, known) && has_lost_past(core, known).await =>
            {
                return Order::Reload;
            }
            Ok(Some(response)) if response.canceled() => {
                tracing::warn!(reason = response.cancel_reason(), "etcd ended the watch");
                core.link.doubt(member);
                return Order::Reopen;
            }
            Ok(Some(response)) => take_in(core, &response),
            Ok(None) => return Order::Reopen,
            Err(failure) if failure.verdict == Verdict::Compacted => return Order::Reload,
            Err(failure) => {
                tracing::debug!(?failure, "the watch on etcd broke");
                core.link.doubt(member);
                return Order::Reopen;
            }
        }
    }
}

/// Whether this member of etcd stands before what we know.
fn is_behind(response: &WatchResponse, known: Revision) -> bool {
    response.header().is_some_and(|header| Revision::from_etcd(header.revision()) < known)
}

/// Whether etcd as a whole does, too: else the member has yet to catch up, and will then report what is new to us.
async fn has_lost_past(core: &Core, known: Revision) -> bool {
    core.link.revision(core.deadline()).await.is_ok_and(|now| now < known)
}

/// Hands the events to the cache, revision by revision: a foreign transaction may change several keys in one.
fn take_in(core: &Core, response: &WatchResponse) {
    let revision_of = |event: &etcd_client::Event| event.kv().map_or(0, |kv| kv.mod_revision());
    let events = response.events();
    if events.is_empty() {
        return;
    }
    core.pulse.heard();
    core.memory.change(|cache| {
        for group in events.chunk_by(|a, b| revision_of(a) == revision_of(b)) {
            let revision = group.first().map_or(0, revision_of);
            let revision = Revision::from_etcd(revision);
            if revision > cache.revision() {
                let changes: Vec<Change> = group.iter().filter_map(|event| core.link.change_of(event)).collect();
                cache.watched(revision, changes);
            }
        }
        core.metrics.entries.set(i64::try_from(cache.len()).unwrap_or(i64::MAX));
    });
}
