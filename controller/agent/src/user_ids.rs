//! User ids for the processes of this host: one a machine and one a network, so that a guest that breaks out of QEMU, or a
//! frame that breaks dnsmasq, finds nobody's files but its own.
//!
//! Kept in one file, written before an id is used: an id that two owners had at once would undo the point.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::layout::FileError;
use crate::names::IDS_PER_HOST;

/// Who has which id.
pub struct UserIds {
    first: u32,
    path: PathBuf,
    taken: Mutex<BTreeMap<String, u32>>,
}

/// No id could be given.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// All are taken.
    #[error("all {IDS_PER_HOST} user ids of this host are in use: delete machines, or spread them over more hosts")]
    Exhausted,
    /// The book could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Error {
    /// A stable label for metrics and condition reasons.
    pub fn category(&self) -> &'static str {
        match self {
            Error::Exhausted => "UserIdsExhausted",
            Error::File(error) => error.category(),
        }
    }
}

impl UserIds {
    /// The book in `path`, of ids from `first` on.
    pub fn load(path: &Path, first: u32) -> Result<Self, Error> {
        let taken = match std::fs::read(path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| FileError::new("understand", path, error.into()))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(source) => return Err(FileError::new("read", path, source).into()),
        };
        Ok(Self { first, path: path.to_owned(), taken: Mutex::new(taken) })
    }

    /// The owner's id, a free one when it has none.
    pub fn take(&self, owner: &str) -> Result<u32, Error> {
        let mut taken = self.taken.lock().unwrap_or_else(|broken| broken.into_inner());
        if let Some(id) = taken.get(owner) {
            return Ok(*id);
        }
        let used: std::collections::BTreeSet<u32> = taken.values().copied().collect();
        let mut ids = self.first + 1..self.first + IDS_PER_HOST;
        let free = ids.find(|id| !used.contains(id)).ok_or(Error::Exhausted)?;
        let mut next = taken.clone();
        next.insert(owner.to_owned(), free);
        self.save(&next)?;
        *taken = next;
        Ok(free)
    }

    /// The owner needs its id no more.
    pub fn give_back(&self, owner: &str) -> Result<(), Error> {
        let mut taken = self.taken.lock().unwrap_or_else(|broken| broken.into_inner());
        if taken.remove(owner).is_some() {
            self.save(&taken)?;
        }
        Ok(())
    }

    /// Gives back the ids of owners that are no more.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) -> Result<(), Error> {
        let mut taken = self.taken.lock().unwrap_or_else(|broken| broken.into_inner());
        let before = taken.len();
        taken.retain(|owner, _| is_there(owner));
        if taken.len() == before { Ok(()) } else { self.save(&taken) }
    }

    fn save(&self, taken: &BTreeMap<String, u32>) -> Result<(), Error> {
        let failed = |source| FileError::new("write", &self.path, source);
        let text = serde_json::to_vec_pretty(taken).map_err(|error| failed(error.into()))?;
        Ok(process::write_atomic(&self.path, text, 0o600).map_err(failed)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_owner_has_one_id_across_restarts_and_a_freed_one_is_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ids.json");
        let ids = UserIds::load(&path, 1000).unwrap();
        assert_eq!(ids.take("a").unwrap(), 1001);
        assert_eq!(ids.take("b").unwrap(), 1002);
        let ids = UserIds::load(&path, 1000).unwrap();
        assert_eq!(ids.take("b").unwrap(), 1002);
        ids.give_back("a").unwrap();
        assert_eq!(ids.take("c").unwrap(), 1001);
        ids.retain(|owner| owner == "c").unwrap();
        assert_eq!(UserIds::load(&path, 1000).unwrap().take("d").unwrap(), 1002);
    }
}
