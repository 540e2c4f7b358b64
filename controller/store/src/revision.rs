//! The store's clock.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// A point in the store's history: etcd's revision, Kubernetes' `resourceVersion`.
///
/// Revisions only grow, one a write, across all keys. Zero is before the first write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    /// Before the first write: the expected revision of a key that does not exist.
    pub const ZERO: Revision = Revision(0);

    /// A revision from its number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number, as shown in `resourceVersion`.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The revision right after this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// etcd counts in `i64` and never below zero.
    pub(crate) const fn from_etcd(number: i64) -> Self {
        Self(number.unsigned_abs())
    }

    pub(crate) const fn to_etcd(self) -> i64 {
        self.0.cast_signed()
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Revision {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}
