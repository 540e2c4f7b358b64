//! etcd for those who look after it: its state, its size, its backup. No cache, no watch; nothing here is fast.

mod backup;
mod error;
mod members;
mod tally;

pub use error::KeeperError;
pub use members::Member;
pub use tally::{Summary, Tally};

use std::time::Duration;

use tokio::time::Instant;

use crate::keys::Keys;
use crate::link::Link;
use crate::{Revision, StoreOptions};

/// A whole operation of this kind may take long; one request may not.
const REQUEST: Duration = Duration::from_secs(30);

/// A way in to etcd beside the store.
pub struct Keeper {
    options: StoreOptions,
    link: Link,
    keys: Keys,
}

impl Keeper {
    /// Connects; the values are handled as stored, so no encryption key is needed.
    pub async fn connect(options: &StoreOptions) -> Result<Keeper, KeeperError> {
        let options = StoreOptions { sealing: None, ..options.clone() };
        let keys = Keys::new(&options.prefix);
        let link = Link::connect(&options, keys.clone()).await?;
        Ok(Self { options, link, keys })
    }

    /// What is stored now, counted and digested.
    pub async fn summary(&self) -> Result<Summary, KeeperError> {
        let mut summary = Summary::default();
        let scanned = self.link.scan(self.keys.prefix(), true, |kv| {
            if let Ok(key) = kv.key_str() {
                summary.add(&self.keys, key, kv.value());
            }
        });
        summary.revision = scanned.await.map_err(|failure| failure.of("list", self.options.timeout))?;
        summary.close();
        Ok(summary)
    }

    /// Forgets all history before now. Watches of servers that are behind begin anew.
    pub async fn compact(&self) -> Result<Revision, KeeperError> {
        let failed = |failure: crate::failure::Failure| failure.of("compact", REQUEST);
        let now = self.link.revision(Instant::now() + REQUEST).await.map_err(failed)?;
        match self.link.compact(now, Instant::now() + REQUEST).await {
            Err(failure) if failure.verdict != crate::failure::Verdict::Compacted => Err(failed(failure).into()),
            _ => Ok(now),
        }
    }
}
