//! The door: reads from memory, writes to etcd.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::barrier::{self, Ask, Barrier};
use crate::core::Core;
use crate::failure::Verdict;
use crate::feed::{Order, Unfit};
use crate::keys::Keys;
use crate::write::{Action, Write};
use crate::{Entry, Error, Revision, StoreOptions, Term, Watch, backoff, feed, term, upkeep};

/// The largest value etcd takes in a transaction of ours: its limit of 1.5 MiB, less the key and the framing.
const LARGEST_VALUE: usize = 1_572_864 - 4096;

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Sees every write acknowledged before the read began, whoever made it.
    Linearizable,
    /// Whatever the cache holds: own acknowledged writes and a recent state of others'.
    Any,
}

/// A handle to the store; clones share one cache and one watch. The last one to go ends all [`Watch`]es.
#[derive(Clone)]
pub struct Store {
    core: Arc<Core>,
    barrier: Barrier,
    term: Option<Term>,
    _tasks: Arc<Tasks>,
}

/// Ends the background work with the last handle.
struct Tasks {
    core: Arc<Core>,
    running: Vec<JoinHandle<()>>,
}

impl Tasks {
    /// What a task runs is compiled where it is spawned: this is no `async fn`, so that it is here, and not in the program
    /// that connects, which may be built to be small.
    fn start(core: &Arc<Core>, ordered: mpsc::Receiver<Order>, asks: mpsc::UnboundedReceiver<Ask>) -> Self {
        let running = vec![
            tokio::spawn(feed::run(core.clone(), ordered)),
            tokio::spawn(barrier::serve(core.clone(), asks)),
            tokio::spawn(upkeep::run(core.clone())),
        ];
        Self { core: core.clone(), running }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.running {
            task.abort();
        }
        self.core.memory.change(|cache| cache.watchers().close_all());
    }
}

impl Store {
    /// Connects and loads everything under the prefix.
    pub async fn connect(options: StoreOptions) -> Result<Store, Error> {
        if !options.prefix.is_ascii() || !options.prefix.ends_with('/') {
            return Err(Error::InvalidKey { key: options.prefix, prefix: "/".to_owned() });
        }
        let (orders, ordered) = mpsc::channel(4);
        let core = Arc::new(Core::connect(options, orders).await?);
        first_load(&core).await?;
        let (barrier, asks) = Barrier::new();
        let tasks = Arc::new(Tasks::start(&core, ordered, asks));
        Ok(Self { core, barrier, term: None, _tasks: tasks })
    }

    /// Begins a term of leadership for `holder`, provided that the key `guard` was last changed at `revision`; else
    /// [`Error::Deposed`]. All earlier terms are over.
    pub async fn begin_term(&self, guard: &str, revision: Revision, holder: &str) -> Result<Term, Error> {
        term::begin(&self.core, guard, revision, holder).await
    }

    /// The same store; its writes are refused ([`Error::Deposed`]) once a term later than `term` has begun.
    #[must_use]
    pub fn under(&self, term: Term) -> Store {
        Store { term: Some(term), ..self.clone() }
    }

    /// Composes keys under this store's root prefix.
    pub fn keys(&self) -> &Keys {
        &self.core.keys
    }

    /// The key's state, linearizable.
    pub async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        let _timer = self.core.metrics.time("get");
        self.barrier.pass(&self.core).await?;
        Ok(self.get_stale(key))
    }

    /// The key's state as cached.
    pub fn get_stale(&self, key: &str) -> Option<Entry> {
        self.core.memory.read().get(key).cloned()
    }

    /// Everything under `prefix` in key order, and the revision at which that is the truth.
    pub async fn list(&self, prefix: &str, consistency: Consistency) -> Result<(Vec<Entry>, Revision), Error> {
        let _timer = self.core.metrics.time("list");
        if consistency == Consistency::Linearizable {
            self.barrier.pass(&self.core).await?;
        }
        let cache = self.core.memory.read();
        Ok((cache.under(prefix).cloned().collect(), cache.revision()))
    }

    /// Everything under `prefix` as it was at `revision`, in key order; `None` when that past is compacted.
    ///
    /// The cache knows the present alone: this is asked of etcd, and costs what such a question costs.
    pub async fn list_at(&self, prefix: &str, revision: Revision) -> Result<Option<Vec<Entry>>, Error> {
        let _timer = self.core.metrics.time("list_at");
        self.check(prefix)?;
        match self.core.link.range(prefix, Some(revision), true).await {
            Ok((listing, _)) => Ok(Some(listing.entries)),
            Err(failure) if failure.verdict == Verdict::Compacted => Ok(None),
            Err(failure) => Err(failure.of("list_at", self.core.options.timeout)),
        }
    }

    /// Stores a new key; [`Error::AlreadyExists`] when it is in use.
    pub async fn create(&self, key: &str, value: Bytes) -> Result<Entry, Error> {
        self.put(key, value.clone(), Action::Create(value)).await
    }

    /// Replaces a value last changed at `expected`; else [`Error::Conflict`] or [`Error::NotFound`].
    pub async fn update(&self, key: &str, value: Bytes, expected: Revision) -> Result<Entry, Error> {
        self.put(key, value.clone(), Action::Update(value, expected)).await
    }

    async fn put(&self, key: &str, value: Bytes, action: Action) -> Result<Entry, Error> {
        if value.len() > LARGEST_VALUE {
            let (key, size) = (key.to_owned(), value.len());
            return Err(Error::TooLarge { key, size, limit: LARGEST_VALUE });
        }
        let creates = matches!(action, Action::Create(_));
        let revision = self.write(key, action).await?;
        let cache = self.core.memory.read();
        if let Some(entry) = cache.written(key, revision) {
            return Ok(entry);
        }
        // Overwritten and forgotten already, or the cache is late: the entry as it was at its revision.
        let created = cache.get(key).filter(|_| !creates).map_or(revision, |entry| entry.create_revision);
        Ok(Entry::new(&self.core.link.parsed, key.into(), value, created, revision))
    }

    /// Removes a key last changed at `expected`; returns the revision of the removal.
    pub async fn delete(&self, key: &str, expected: Revision) -> Result<Revision, Error> {
        self.write(key, Action::Delete(expected)).await
    }

    async fn write(&self, key: &str, action: Action) -> Result<Revision, Error> {
        let _timer = self.core.metrics.time(action.operation());
        self.check(key)?;
        self.refuse_early(key, &action)?;
        let revision = Write::new(&self.core, key, action).under(self.term).run().await?;
        self.core.metrics.writes.with_label_values(&[self.core.keys.resource(key)]).inc();
        Ok(revision)
    }

    fn check(&self, key: &str) -> Result<(), Error> {
        let keys = &self.core.keys;
        if key.len() > keys.prefix().len() && key.starts_with(keys.prefix()) && !keys.is_internal(key) {
            return Ok(());
        }
        Err(Error::InvalidKey { key: key.to_owned(), prefix: keys.prefix().to_owned() })
    }

    /// A key known to be past `expected` never comes back to it: no need to ask etcd.
    fn refuse_early(&self, key: &str, action: &Action) -> Result<(), Error> {
        let expected = match action {
            Action::Create(_) => return Ok(()),
            // Zero would mean "does not exist" to etcd and turn an update into a create.
            Action::Update(_, Revision::ZERO) | Action::Delete(Revision::ZERO) => Revision::ZERO,
            Action::Update(_, expected) | Action::Delete(expected) => *expected,
        };
        match self.get_stale(key) {
            Some(current) if current.mod_revision > expected => Err(Error::Conflict { expected, current }),
            None if expected == Revision::ZERO => Err(Error::NotFound { key: key.to_owned() }),
            _ => Ok(()),
        }
    }

    /// Changes under `prefix` after `from`; [`Error::Compacted`] when that is too long ago.
    ///
    /// Must be called on a tokio runtime. A `from` in the future is fine: what comes before it is left out.
    pub fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, Error> {
        let _timer = self.core.metrics.time("watch");
        let (memory, metrics) = (self.core.memory.clone(), self.core.metrics.clone());
        Watch::start(memory, metrics, prefix, from, self.core.options.progress)
    }

    /// The revision the cache has reached.
    pub fn revision(&self) -> Revision {
        self.core.memory.revision()
    }

    /// Whether etcd's quota is used up: it reads and deletes, and refuses all else ([`Error::NoSpace`]).
    pub fn is_full(&self) -> bool {
        self.core.is_full()
    }

    /// Compares the cache with etcd now rather than at the next turn; returns on how many keys they differed.
    ///
    /// Differences are counted, and healed by listing again.
    pub async fn verify(&self) -> Result<usize, Error> {
        upkeep::compare(&self.core).await
    }
}

/// The first list; etcd may still be electing a leader.
async fn first_load(core: &Core) -> Result<(), Error> {
    let (deadline, mut delays) = (core.deadline(), backoff::delays());
    loop {
        let failure = match load_alone(core, deadline).await {
            Ok(None) => return Ok(()),
            Ok(Some(Unfit::Closed(key, closed))) => return Err(Error::Closed { key, why: closed.to_string() }),
            Ok(Some(Unfit::HalfRestored)) => return Err(Error::HalfRestored),
            Err(failure) => failure,
        };
        if !backoff::pause(&mut delays, deadline).await {
            return Err(failure.of("load", core.options.timeout));
        }
    }
}

/// A sole writer's predecessor may have died with writes on their way: they must not land behind our back.
async fn load_alone(core: &Core, deadline: Instant) -> Result<Option<Unfit>, crate::failure::Failure> {
    if core.options.sole_writer {
        core.link.bump(&core.keys.fence(), deadline).await?;
    }
    feed::load(core).await
}
