//! The door: reads from memory, writes to etcd.

use bytes::Bytes;

use crate::keys::Keys;
use crate::{Entry, Error, Revision, StoreOptions, Watch};

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Sees every write acknowledged before the read began, whoever made it.
    Linearizable,
    /// Whatever the cache holds: own acknowledged writes and a recent state of others'.
    Any,
}

/// A handle to the store; clones share one cache and one watch.
#[derive(Clone)]
pub struct Store {
    keys: Keys,
}

impl Store {
    /// Connects and loads everything under the prefix.
    pub async fn connect(options: StoreOptions) -> Result<Store, Error> {
        Ok(Self {
            keys: Keys::new(&options.prefix),
        })
    }

    /// Composes keys under this store's root prefix.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The key's state, linearizable.
    pub async fn get(&self, _key: &str) -> Result<Option<Entry>, Error> {
        Ok(None)
    }

    /// The key's state as cached.
    pub fn get_stale(&self, _key: &str) -> Option<Entry> {
        None
    }

    /// Everything under `prefix` in key order, and the revision at which that is the truth.
    pub async fn list(
        &self,
        _prefix: &str,
        _consistency: Consistency,
    ) -> Result<(Vec<Entry>, Revision), Error> {
        Ok((Vec::new(), Revision::ZERO))
    }

    /// Stores a new key; [`Error::AlreadyExists`] when it is in use.
    pub async fn create(&self, key: &str, _value: Bytes) -> Result<Entry, Error> {
        Err(Error::NotFound {
            key: key.to_owned(),
        })
    }

    /// Replaces a value last changed at `expected`; else [`Error::Conflict`] or [`Error::NotFound`].
    pub async fn update(
        &self,
        key: &str,
        _value: Bytes,
        _expected: Revision,
    ) -> Result<Entry, Error> {
        Err(Error::NotFound {
            key: key.to_owned(),
        })
    }

    /// Removes a key last changed at `expected`; returns the revision of the removal.
    pub async fn delete(&self, key: &str, _expected: Revision) -> Result<Revision, Error> {
        Err(Error::NotFound {
            key: key.to_owned(),
        })
    }

    /// Changes under `prefix` after `from`; [`Error::Compacted`] when that is too long ago.
    pub fn watch(&self, _prefix: &str, from: Revision) -> Result<Watch, Error> {
        Err(Error::Compacted {
            requested: from,
            oldest: from,
        })
    }

    /// The revision the cache has reached.
    pub fn revision(&self) -> Revision {
        Revision::ZERO
    }
}
