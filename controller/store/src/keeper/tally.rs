//! What is stored, in numbers that can be compared: a count and a digest for each resource.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Revision;
use crate::keys::Keys;
use crate::seal::key_of;

/// One resource's objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// How many there are.
    pub count: usize,
    /// SHA-256, in hex, over keys and stored values in key order.
    pub digest: String,
}

/// All that is stored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// The revision at which this was so.
    #[serde(with = "number")]
    pub revision: Revision,
    /// Objects by resource, as `GROUP/PLURAL` or `PLURAL`.
    pub resources: BTreeMap<String, Tally>,
    /// Ids of the encryption keys without which some values cannot be read.
    pub encryption_keys: BTreeSet<String>,
    #[serde(skip)]
    open: BTreeMap<String, Sha256>,
}

impl Summary {
    /// Takes in one key; they come in key order.
    pub(super) fn add(&mut self, keys: &Keys, key: &str, value: &[u8]) {
        if keys.is_internal(key) {
            return;
        }
        let folder = keys.folder(key);
        let hasher = self.open.entry(folder.to_owned()).or_default();
        for part in [key.as_bytes(), value] {
            // Lengths first: nothing can move from a key into a value.
            hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(part);
        }
        self.resources.entry(folder.to_owned()).or_default().count += 1;
        if let Some(id) = key_of(value).filter(|id| !self.encryption_keys.contains(*id)) {
            self.encryption_keys.insert(id.to_owned());
        }
    }

    /// Ends the digests.
    pub(super) fn close(&mut self) {
        for (folder, hasher) in std::mem::take(&mut self.open) {
            let digest = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            self.resources.entry(folder).or_default().digest = digest;
        }
    }

    /// How many objects there are.
    pub fn count(&self) -> usize {
        self.resources.values().map(|tally| tally.count).sum()
    }

    /// The resources on which two summaries disagree.
    pub fn differing(&self, other: &Summary) -> Vec<String> {
        let names: BTreeSet<&String> = self.resources.keys().chain(other.resources.keys()).collect();
        names.into_iter().filter(|name| self.resources.get(*name) != other.resources.get(*name)).cloned().collect()
    }
}

/// A revision as its number.
mod number {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::Revision;

    pub(super) fn serialize<S: Serializer>(revision: &Revision, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(revision.get())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Revision, D::Error> {
        u64::deserialize(from).map(Revision::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Summary {
        let keys = Keys::new("/registry/");
        let mut summary = Summary::default();
        pairs.iter().for_each(|(key, value)| summary.add(&keys, key, value.as_bytes()));
        summary.close();
        summary
    }

    #[test]
    fn any_change_of_a_key_or_value_shows_in_its_resource_alone() {
        let base = of(&[("/registry/secrets/n/a", "1"), ("/registry/x.dev/ports/n/a", "1")]);
        assert_eq!(base.count(), 2);
        assert!(base.differing(&base.clone()).is_empty());
        let value = of(&[("/registry/secrets/n/a", "2"), ("/registry/x.dev/ports/n/a", "1")]);
        assert_eq!(base.differing(&value), ["secrets"]);
        let moved = of(&[("/registry/secrets/n/a", "1"), ("/registry/x.dev/ports/n/a1", "")]);
        assert_eq!(base.differing(&moved), ["x.dev/ports"]);
        assert_eq!(base.differing(&of(&[])).len(), 2);
    }

    #[test]
    fn own_keys_do_not_count_and_encryption_keys_are_named() {
        let summary = of(&[("/registry/secrets/n/a", "sealed:v1:k7:…"), ("/registry/~store/fence", "x")]);
        assert_eq!((summary.count(), summary.encryption_keys.iter().next().map(String::as_str)), (1, Some("k7")));
    }
}
