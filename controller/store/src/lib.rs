//! The memory: Kubernetes-style objects in a real etcd, read from an ordered cache.
//!
//! No well-kept etcd exists in Rust, so the real one runs as a supervised child ([`Etcd`]) or elsewhere
//! (`--etcd-endpoints`), and [`Store`] is the only door to it:
//!
//! ```text
//!   create/update/delete ── CAS txn, fenced ──► etcd ──┐ acknowledged
//!                                                 │    ▼
//!                                       one watch └► cache ─► history ─► Watch, Watch, …
//!   get/list ── linearizable revision, wait ─────────► cache
//! ```
//!
//! - Every write is a compare-and-swap on the key's `mod_revision`. A write whose outcome is unknown is fenced off,
//!   then looked up in the history: it is never made twice and never lost silently.
//! - Every read comes from memory. A linearizable one first learns a revision from etcd (many readers share one
//!   question) and waits for the cache to reach it; a sole writer knows the revision without asking.
//! - etcd's own watches (Debian ships 3.4.23, with known defects: duplicates, losses after compaction, early progress
//!   notes) are not trusted: one watch on the root, deduplicated by revision, compared with a full list now and then.
//! - Writes under a [`Term`] are refused once another has begun: a superseded leader changes nothing.
//! - Values of chosen folders are sealed before they reach etcd ([`Sealing`]); memory holds them plain.
//! - Watchers share one bounded history; one that falls out of it gets [`Lagged`] and lists again.

mod backoff;
mod barrier;
mod cache;
mod claims;
mod core;
mod entry;
mod error;
mod etcd;
mod failure;
mod feed;
mod history;
mod keeper;
mod keys;
mod link;
mod members;
mod memory;
mod metrics;
mod options;
mod parsed;
mod pulse;
mod revision;
mod seal;
mod store;
mod term;
mod upkeep;
mod watch;
mod watcher;
mod write;

pub use entry::{Entry, Fields};
pub use error::Error;
pub use etcd::{Etcd, EtcdError, EtcdOptions};
pub use keeper::{Keeper, KeeperError, Member, Summary, Tally};
pub use keys::Keys;
pub use options::{Compaction, History, StoreOptions, TlsFiles};
pub use revision::Revision;
pub use seal::{KeyFile, Keyring, SealError, Sealing};
pub use store::{Consistency, Store};
pub use term::Term;
pub use watch::{Event, EventKind, Lagged, Watch, WatchItem};
