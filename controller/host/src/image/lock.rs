//! Locks that hold between threads and between processes alike, and that a crash gives back.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::{Error, Result};

/// A lock on a file, exclusive unless shared; given back when dropped or when the process dies.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Waits for the lock. Blocks the thread.
    pub(super) fn take(path: &Path) -> Result<Lock> {
        Self::wait(path, FlockOperation::LockExclusive)
    }

    /// Waits until nobody has the lock alone, and shares it. Blocks the thread.
    pub(super) fn take_shared(path: &Path) -> Result<Lock> {
        Self::wait(path, FlockOperation::LockShared)
    }

    fn wait(path: &Path, operation: FlockOperation) -> Result<Lock> {
        let file = open(path)?;
        loop {
            match flock(&file, operation) {
                Ok(()) => return Ok(Lock { file, path: path.to_owned() }),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::io("lock", path)(errno.into())),
            }
        }
    }

    /// Lets others share what was locked, but not lock it alone.
    pub(super) fn share(self) -> Result<Lock> {
        flock(&self.file, FlockOperation::LockShared).map_err(|errno| Error::io("lock", &self.path)(errno.into()))?;
        Ok(self)
    }

    /// Takes the lock if nobody has it.
    pub(super) fn try_take(path: &Path) -> Result<Option<Lock>> {
        Self::try_to(path, FlockOperation::NonBlockingLockExclusive)
    }

    /// Shares the lock unless somebody has it alone.
    pub(super) fn try_take_shared(path: &Path) -> Result<Option<Lock>> {
        Self::try_to(path, FlockOperation::NonBlockingLockShared)
    }

    fn try_to(path: &Path, operation: FlockOperation) -> Result<Option<Lock>> {
        let file = open(path)?;
        match flock(&file, operation) {
            Ok(()) => Ok(Some(Lock { file, path: path.to_owned() })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(Error::io("lock", path)(errno.into())),
        }
    }
}

fn open(path: &Path) -> Result<File> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    }
    // Never removed: a lock on a file that has lost its name would exclude nobody.
    OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(Error::io("open", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_excludes_others_until_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/lock");
        let held = Lock::take(&path).unwrap();
        assert!(Lock::try_take(&path).unwrap().is_none());
        let shared = held.share().unwrap();
        let other = Lock::take_shared(&path).unwrap();
        assert!(Lock::try_take(&path).unwrap().is_none());
        drop((shared, other));
        assert!(Lock::try_take(&path).unwrap().is_some());
    }
}
