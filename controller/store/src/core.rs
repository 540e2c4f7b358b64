//! What the store's parts share, and how they wait for a revision.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

use crate::cache::{Cache, Change};
use crate::claims::Claims;
use crate::failure::Failure;
use crate::feed::Order;
use crate::keys::Keys;
use crate::link::Link;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::pulse::{Pulse, SILENCE};
use crate::{Error, Revision, StoreOptions};

/// How long the watch may take before it is given something to report. It has to be longer than a normal delay: a
/// heartbeat is a write.
const PATIENCE: Duration = Duration::from_millis(25);

pub(crate) struct Core {
    pub(crate) options: StoreOptions,
    pub(crate) keys: Keys,
    pub(crate) link: Link,
    pub(crate) memory: Arc<Memory>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) pulse: Pulse,
    pub(crate) claims: Claims,
    orders: mpsc::Sender<Order>,
    beating: Mutex<()>,
    /// The newest revision any caller has been told.
    acknowledged: AtomicU64,
    /// etcd has refused for want of space, and has not been heard to have some since.
    full: AtomicBool,
}

impl Core {
    pub(crate) async fn connect(options: StoreOptions, orders: mpsc::Sender<Order>) -> Result<Core, Error> {
        let keys = Keys::new(&options.prefix);
        let link = Link::connect(&options, keys.clone()).await?;
        let cache = Cache::new(keys.clone(), options.history, link.parsed.clone());
        Ok(Self {
            memory: Arc::new(Memory::new(cache)),
            metrics: Metrics::shared()?,
            link,
            pulse: Pulse::new(),
            claims: Claims::new(),
            keys,
            orders,
            options,
            beating: Mutex::new(()),
            acknowledged: AtomicU64::new(0),
            full: AtomicBool::new(false),
        })
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.options.timeout
    }

    /// The newest revision that [`Core::acknowledge`] has seen.
    pub(crate) fn acknowledged(&self) -> Revision {
        Revision::new(self.acknowledged.load(Ordering::Acquire))
    }

    /// Takes in a write that etcd acknowledged to us.
    pub(crate) fn acknowledge(&self, change: Change) {
        self.acknowledged.fetch_max(change.revision.get(), Ordering::AcqRel);
        self.memory.change(|cache| cache.acknowledged(change));
    }

    /// etcd counts its revisions anew: what was told of the old ones says nothing of these.
    pub(crate) fn forget_past(&self, now: Revision) {
        self.acknowledged.store(now.get(), Ordering::Release);
        self.claims.forget();
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// Notes whether etcd has space.
    pub(crate) fn set_full(&self, full: bool) {
        if self.full.swap(full, Ordering::AcqRel) != full {
            self.metrics.full.set(i64::from(full));
            if full {
                tracing::error!("etcd's quota is used up, writes are refused: see `clusterctl store status`");
            } else {
                tracing::info!("etcd has space again");
            }
        }
    }

    /// Tells the feed what to do; it is enough that one such order is on its way.
    pub(crate) fn order(&self, order: Order) {
        let _ = self.orders.try_send(order);
    }

    /// Waits until the cache has everything up to `wanted`.
    ///
    /// Every revision that concerns us comes by the watch. One that does not (another program writes elsewhere in the
    /// same etcd) never would: the heartbeat then gives the watch a later one to report.
    pub(crate) async fn caught_up(&self, wanted: Revision, deadline: Instant) -> Result<(), Error> {
        let started = Instant::now();
        if self.memory.reaches(wanted, deadline.min(started + PATIENCE)).await {
            return Ok(());
        }
        let mut beat = std::pin::pin!(self.beat(deadline));
        let mut beaten = false;
        loop {
            let look = deadline.min(Instant::now() + SILENCE);
            tokio::select! {
                reached = self.memory.reaches(wanted, look) => {
                    if reached {
                        return Ok(());
                    }
                    if look == deadline {
                        return Err(Error::Behind { wanted, waited: started.elapsed() });
                    }
                    if self.pulse.is_silent() {
                        self.order(Order::Reopen);
                    }
                }
                // A failed heartbeat shows as the deadline passing.
                _ = &mut beat, if !beaten => beaten = true,
            }
        }
    }

    /// Writes the heartbeat key, unless somebody is already doing so.
    async fn beat(&self, deadline: Instant) -> Result<(), Failure> {
        let Ok(_beating) = self.beating.try_lock() else {
            return Ok(());
        };
        self.bump(self.keys.heartbeat(), deadline).await.map(drop)
    }

    /// Writes one of the store's own keys, which moves the revision.
    pub(crate) async fn bump(&self, key: String, deadline: Instant) -> Result<Revision, Failure> {
        let revision = self.link.bump(&key, deadline).await?;
        let value = Some(bytes::Bytes::new());
        self.acknowledge(Change { key: key.into(), value, create_revision: None, revision });
        Ok(revision)
    }
}
