//! Why etcd cannot be looked after.

use std::path::PathBuf;

/// A failure of backup, restore or repair.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeeperError {
    /// etcd did not do it.
    #[error("etcd does not do as asked")]
    Store(#[from] crate::Error),
    /// A member of the cluster refused or did not answer.
    #[error("{endpoint} does not {action}")]
    Member {
        /// Its URL.
        endpoint: String,
        /// What was asked.
        action: &'static str,
        /// Why.
        source: Box<etcd_client::Error>,
    },
    /// The backup's file cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no whole backup of ours.
    #[error("{} cannot be restored: {why}; nothing was changed", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// There are objects already.
    #[error("{count} objects are stored already; restore into an empty data directory or etcd prefix")]
    NotEmpty {
        /// How many.
        count: usize,
    },
    /// What etcd holds after a restore is not what the backup held.
    #[error("what was restored differs from the backup in {differing}; run the restore again")]
    Differs {
        /// The resources.
        differing: String,
    },
}

impl KeeperError {
    /// A stable word for metrics and condition reasons.
    pub fn category(&self) -> &'static str {
        match self {
            KeeperError::Store(error) => error.category(),
            KeeperError::Member { .. } => "MemberRefused",
            KeeperError::File { .. } => "BackupFileFailed",
            KeeperError::Damaged { .. } => "BackupDamaged",
            KeeperError::NotEmpty { .. } => "NotEmpty",
            KeeperError::Differs { .. } => "RestoreDiffers",
        }
    }

    /// Whether the same call may succeed later, unchanged.
    pub fn retry(&self) -> bool {
        match self {
            KeeperError::Store(error) => error.retry(),
            KeeperError::Member { .. } | KeeperError::Differs { .. } => true,
            _ => false,
        }
    }
}
