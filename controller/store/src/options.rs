//! How a store connects and how much it keeps.

use std::path::PathBuf;
use std::time::Duration;

use crate::Sealing;

/// Files of an mTLS client.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The authority that signed etcd's certificate.
    pub ca: PathBuf,
    /// Our certificate.
    pub cert: PathBuf,
    /// Our key.
    pub key: PathBuf,
}

/// Where etcd is and how the store uses it.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// etcd's client URLs.
    pub endpoints: Vec<String>,
    /// Client certificates, for `https` endpoints.
    pub tls: Option<TlsFiles>,
    /// The root of all keys; ends in `/`.
    pub prefix: String,
    /// Nobody but this store writes under the prefix (our own etcd child, whose directory is locked).
    ///
    /// Then the last acknowledged write *is* the linearizable point, and reads ask memory alone.
    pub sole_writer: bool,
    /// Longest wait for one operation, retries included.
    pub timeout: Duration,
    /// Requests on their way to etcd at once; more wait their turn.
    pub in_flight: usize,
    /// Recent events kept for watches that start in the past or fall behind.
    pub history: History,
    /// How often a watch tells its reader that it is up to date.
    pub progress: Duration,
    /// How often the cache is compared with a full list.
    pub verify: Duration,
    /// What compaction leaves.
    pub compaction: Compaction,
    /// Values that etcd must not be able to read.
    pub sealing: Option<Sealing>,
}

/// Bounds of the event history; the stricter one counts.
#[derive(Clone, Copy, Debug)]
pub struct History {
    /// Events.
    pub events: usize,
    /// Bytes of the entries they hold.
    pub bytes: usize,
}

/// What compaction leaves; the laxer one counts.
#[derive(Clone, Copy, Debug)]
pub struct Compaction {
    /// How often it is considered.
    pub every: Duration,
    /// Age kept.
    pub age: Duration,
    /// Revisions kept.
    pub revisions: u64,
}

impl StoreOptions {
    /// Usual settings for `endpoints`.
    pub fn new(endpoints: Vec<String>, tls: Option<TlsFiles>) -> Self {
        Self {
            endpoints,
            tls,
            prefix: "/registry/".to_owned(),
            sole_writer: false,
            timeout: Duration::from_secs(10),
            in_flight: 256,
            history: History { events: 10_000, bytes: 64 << 20 },
            progress: Duration::from_secs(5),
            verify: Duration::from_secs(300),
            compaction: Compaction { every: Duration::from_secs(60), age: Duration::from_secs(600), revisions: 10_000 },
            sealing: None,
        }
    }
}
