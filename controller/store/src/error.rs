//! Why the store could not do what it was asked.

use std::time::Duration;

use crate::{Entry, Revision};

/// A failed store operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A create found the key in use.
    #[error("{} already exists", current.key)]
    AlreadyExists {
        /// What the key holds.
        current: Entry,
    },
    /// An update or delete expected another revision.
    #[error("{} is at revision {}, not {expected}", current.key, current.mod_revision)]
    Conflict {
        /// The revision the caller expected.
        expected: Revision,
        /// What the key holds.
        current: Entry,
    },
    /// An update or delete of a key that does not exist.
    #[error("{key} does not exist")]
    NotFound {
        /// The key.
        key: String,
    },
    /// A watch from a revision older than the history kept.
    #[error("revision {requested} is older than the history kept, which begins after {oldest}")]
    Compacted {
        /// Where the watch was to start.
        requested: Revision,
        /// The oldest revision a watch can start from.
        oldest: Revision,
    },
    /// A key or prefix that is not under the store's root, or is the store's own.
    #[error("{key} is not a key under {prefix}")]
    InvalidKey {
        /// The key.
        key: String,
        /// The root prefix.
        prefix: String,
    },
    /// A value etcd would refuse.
    #[error("{key}: {size} bytes exceed the limit of {limit}")]
    TooLarge {
        /// The key.
        key: String,
        /// The value's size.
        size: usize,
        /// The largest value.
        limit: usize,
    },
    /// etcd's quota is used up: it only reads until that is repaired.
    #[error(
        "etcd's quota is used up and it takes no more writes: delete what is not needed, then run `clusterctl store defrag`, or raise --etcd-quota"
    )]
    NoSpace,
    /// etcd could not be reached; nothing was written.
    #[error("{operation}: etcd did not answer within {waited:?}")]
    Unavailable {
        /// What was asked.
        operation: &'static str,
        /// How long it was tried.
        waited: Duration,
        /// The last refusal, where there was one.
        source: Option<Box<etcd_client::Error>>,
    },
    /// A write was sent and etcd went away before it could be told whether it took effect.
    #[error("{key}: the outcome of the write is unknown")]
    Indeterminate {
        /// The key.
        key: String,
        /// The last failure, where there was one.
        source: Option<Box<etcd_client::Error>>,
    },
    /// The cache did not reach a revision in time.
    #[error("the cache did not reach revision {wanted} within {waited:?}")]
    Behind {
        /// The revision waited for.
        wanted: Revision,
        /// How long.
        waited: Duration,
    },
    /// etcd refused for a reason of its own.
    #[error("{operation}: etcd refused")]
    Etcd {
        /// What was asked.
        operation: &'static str,
        /// etcd's answer.
        source: Box<etcd_client::Error>,
    },
    /// A certificate or key could not be read.
    #[error("cannot read {}", path.display())]
    Tls {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A value could not be sealed.
    #[error("cannot encrypt a value")]
    Seal(#[from] crate::SealError),
    /// A stored value cannot be opened.
    #[error("{key} is encrypted {why}: put the key file of the server that wrote it in its place, or restore a backup")]
    Closed {
        /// The key of the first such value.
        key: String,
        /// With what, or what is wrong.
        why: String,
    },
    /// Another leader's term has begun: this one's writes are over.
    #[error("another server leads now; this write was refused")]
    Deposed,
    /// A restore was interrupted.
    #[error("a restore was interrupted: run `clusterctl restore` again")]
    HalfRestored,
    /// Metrics could not be registered.
    #[error("cannot register the store's metrics")]
    Metrics(#[from] prometheus::Error),
}

impl Error {
    /// A stable word for metrics and condition reasons.
    pub fn category(&self) -> &'static str {
        match self {
            Error::AlreadyExists { .. } => "AlreadyExists",
            Error::Conflict { .. } => "Conflict",
            Error::NotFound { .. } => "NotFound",
            Error::Compacted { .. } => "Compacted",
            Error::InvalidKey { .. } => "InvalidKey",
            Error::TooLarge { .. } => "TooLarge",
            Error::NoSpace => "NoSpace",
            Error::Unavailable { .. } => "Unavailable",
            Error::Indeterminate { .. } => "Indeterminate",
            Error::Behind { .. } => "Behind",
            Error::Etcd { .. } => "EtcdRefused",
            Error::Tls { .. } => "TlsUnreadable",
            Error::Seal(_) => "SealFailed",
            Error::Closed { .. } => "SealedAway",
            Error::Deposed => "Deposed",
            Error::HalfRestored => "HalfRestored",
            Error::Metrics(_) => "Metrics",
        }
    }

    /// Whether the same call may succeed later, unchanged.
    pub fn retry(&self) -> bool {
        matches!(self, Error::Unavailable { .. } | Error::Behind { .. } | Error::NoSpace)
    }
}
