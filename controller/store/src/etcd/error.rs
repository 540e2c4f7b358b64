//! Why our own etcd does not run, and what to do about it.

use std::path::PathBuf;
use std::time::Duration;

/// A failure of the etcd child.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EtcdError {
    /// No etcd program was found.
    #[error("etcd was not found: apt-get install etcd-server, or pass --etcd-binary or --etcd-endpoints")]
    Missing {
        /// Where it was looked for.
        source: process::Error,
    },
    /// A directory or file of ours could not be used.
    #[error("cannot {action} {}: check its owner and mode, or choose another state directory", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process of ours supervises this etcd.
    #[error("{} is in use by another clusterctl: stop that one, or choose another state directory", path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// Certificates for etcd could not be made.
    #[error("cannot prepare etcd's certificates")]
    Certificates(#[from] pki::Error),
    /// The process could not be started, recorded or ended.
    #[error("cannot {action} etcd")]
    Process {
        /// What was tried.
        action: &'static str,
        /// Why.
        source: process::Error,
    },
    /// Somebody has the port that etcd should listen on.
    #[error("etcd cannot listen: {0}; stop that, etcd is tried again")]
    PortTaken(process::ListenError),
    /// The file system is full.
    #[error("no space is left for etcd in {}: free some; etcd is tried again", path.display())]
    DiskFull {
        /// The data directory.
        path: PathBuf,
    },
    /// etcd ended before it was ready.
    #[error("etcd ended at once; {} says: {tail}", log.display())]
    Died {
        /// Its log file.
        log: PathBuf,
        /// The log's last words.
        tail: String,
    },
    /// etcd runs and answers no reads.
    #[error("etcd does not answer after {waited:?}; see {}", log.display())]
    Unready {
        /// Its log file.
        log: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The client for the readiness check could not be made.
    #[error("cannot make a client for etcd")]
    Client(#[from] crate::Error),
}

impl EtcdError {
    /// A stable word for metrics and condition reasons.
    pub fn category(&self) -> &'static str {
        match self {
            EtcdError::Missing { .. } => "EtcdMissing",
            EtcdError::File { .. } => "EtcdFileFailed",
            EtcdError::Locked { .. } => "EtcdInUse",
            EtcdError::Certificates(_) => "EtcdCertificatesFailed",
            EtcdError::Process { .. } => "EtcdProcessFailed",
            EtcdError::PortTaken(_) => "EtcdPortTaken",
            EtcdError::DiskFull { .. } => "EtcdDiskFull",
            EtcdError::Died { .. } => "EtcdDied",
            EtcdError::Unready { .. } => "EtcdUnready",
            EtcdError::Client(error) => error.category(),
        }
    }

    /// Whether starting again may help without anyone changing the settings.
    pub fn retry(&self) -> bool {
        use EtcdError::{Died, DiskFull, PortTaken, Unready};
        matches!(self, PortTaken(_) | DiskFull { .. } | Died { .. } | Unready { .. })
    }
}
