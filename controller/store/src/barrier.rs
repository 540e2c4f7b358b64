//! Linearizable reads, cheaply: many readers share one question to etcd.
//!
//! A reader may use an answer only if the question was asked after the reader arrived. So those who arrive while a
//! question is on its way wait for the next one, and never for more than two.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::backoff;
use crate::core::Core;
use crate::{Error, Revision};

/// A reader that waits.
pub(crate) type Ask = oneshot::Sender<Revision>;

/// The readers' end.
#[derive(Clone)]
pub(crate) struct Barrier {
    asks: mpsc::UnboundedSender<Ask>,
}

impl Barrier {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Ask>) {
        let (asks, rest) = mpsc::unbounded_channel();
        (Self { asks }, rest)
    }

    /// Waits until the cache holds every write acknowledged, by anyone, before this call.
    pub(crate) async fn pass(&self, core: &Core) -> Result<(), Error> {
        let deadline = core.deadline();
        if core.options.sole_writer {
            return core.caught_up(core.acknowledged(), deadline).await;
        }
        let (ask, answer) = oneshot::channel();
        let waited = core.options.timeout;
        let unavailable = || Error::Unavailable { operation: "read", waited, source: None };
        self.asks.send(ask).map_err(|_| unavailable())?;
        match timeout_at(deadline, answer).await {
            Ok(Ok(revision)) => core.caught_up(revision, deadline).await,
            _ => Err(unavailable()),
        }
    }
}

/// Answers readers until the store is dropped. Their number is bounded by the callers', each holds one.
pub(crate) async fn serve(core: Arc<Core>, mut asks: mpsc::UnboundedReceiver<Ask>) {
    while let Some(first) = asks.recv().await {
        let mut waiting = vec![first];
        let mut delays = backoff::delays();
        loop {
            while let Ok(ask) = asks.try_recv() {
                waiting.push(ask);
            }
            match core.link.revision(core.deadline()).await {
                Ok(revision) => {
                    for ask in waiting {
                        // A reader that has given up does not care.
                        let _ = ask.send(revision);
                    }
                    break;
                }
                Err(failure) => {
                    tracing::debug!(?failure, "failed to ask etcd for its revision");
                    waiting.retain(|ask| !ask.is_closed());
                    if waiting.is_empty() {
                        break;
                    }
                    backoff::pause(&mut delays, Instant::now() + core.options.timeout).await;
                }
            }
        }
    }
}
