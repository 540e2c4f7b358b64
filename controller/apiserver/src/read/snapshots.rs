//! What paged lists were cut from.
//!
//! The cache only knows the present. A list that did not fit into one page keeps its entries here (reference counts,
//! no copies) so that its later pages are of the same revision and cost nothing. What is not kept any more, or was kept
//! by another server, is asked of etcd.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use store::{Entry, Revision};

/// Lists kept at once.
const KEPT: usize = 64;
/// How long a client may take between two pages.
const LIFETIME: Duration = Duration::from_secs(300);

struct Snapshot {
    prefix: String,
    revision: Revision,
    entries: Arc<Vec<Entry>>,
    used: Instant,
}

/// The lists of recent first pages.
#[derive(Default)]
pub(crate) struct Snapshots(Mutex<VecDeque<Snapshot>>);

impl Snapshots {
    /// Keeps a list for its later pages.
    pub(crate) fn keep(&self, prefix: &str, revision: Revision, entries: Arc<Vec<Entry>>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        kept.retain(|s| now.duration_since(s.used) < LIFETIME && !(s.prefix == prefix && s.revision == revision));
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Snapshot { prefix: prefix.to_owned(), revision, entries, used: now });
    }

    /// The list a token was cut from.
    pub(crate) fn find(&self, prefix: &str, revision: Revision) -> Option<Arc<Vec<Entry>>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |s: &&Snapshot| s.used.elapsed() < LIFETIME;
        kept.iter().filter(fresh).find(|s| s.prefix == prefix && s.revision == revision).map(|s| s.entries.clone())
    }
}
