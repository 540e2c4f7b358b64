//! Where images lie, and how they get there whole.
//!
//! ```text
//!  CACHE/images/KEY/   image.json disk.raw kernel initrd      an image: there or not, never half
//!        rootfs/KEY/   rootfs.json root.tar status kernel …   what images of equal packages share
//!        partial/KEY/  a build under way; whoever holds locks/KEY owns it, and what nobody owns is rubbish
//!        apt/SUITE/    package lists and files
//!        uses/         who needs which images (see `uses`)
//! ```
//! A build writes below `partial` and renames at the end, so a crash leaves nothing but a directory that the next start
//! removes.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{Error, Result};
use super::lock::Lock;

/// The builder's directory.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    dir: PathBuf,
}

impl Cache {
    pub(super) fn new(dir: PathBuf) -> Cache {
        Cache { dir }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn image(&self, key: &str) -> PathBuf {
        self.dir.join("images").join(key)
    }

    pub(super) fn rootfs(&self, key: &str) -> PathBuf {
        self.dir.join("rootfs").join(key)
    }

    pub(super) fn lock(&self, key: &str) -> PathBuf {
        self.dir.join("locks").join(key)
    }

    fn partials(&self) -> PathBuf {
        self.dir.join("partial")
    }

    /// An empty directory for a build, in place of what a killed one left. The caller holds the key's lock.
    pub(super) fn fresh_partial(&self, key: &str) -> Result<PathBuf> {
        let path = self.partials().join(key);
        remove_tree(&path)?;
        fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        Ok(path)
    }

    /// Reads a description; none when nothing was published there.
    pub(super) fn load<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Damaged { path: path.to_owned(), source })
    }

    /// Makes `files` of a partial directory, with a description, visible at once; the rest of it is thrown away.
    pub(super) fn publish(
        &self,
        partial: &Path,
        place: &Path,
        files: &[&str],
        description: &str,
        value: &impl Serialize,
    ) -> Result<()> {
        let whole = partial.join("whole");
        fs::create_dir(&whole).map_err(Error::io("create", &whole))?;
        for file in files {
            let (from, to) = (partial.join(file), whole.join(file));
            fs::rename(&from, &to).map_err(Error::io("move", &from))?;
            File::open(&to).and_then(|file| file.sync_all()).map_err(Error::io("write", &to))?;
        }
        let path = whole.join(description);
        let text = serde_json::to_vec_pretty(value).map_err(|source| Error::Damaged { path: path.clone(), source })?;
        process::write_atomic(&path, text, 0o644).map_err(Error::io("write", &path))?;
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        remove_tree(place)?;
        fs::rename(&whole, place).map_err(Error::io("publish", place))?;
        remove_tree(partial)
    }

    /// Refuses to begin what would fill the disk.
    pub(super) fn require_space(&self, needed: u64) -> Result<()> {
        fs::create_dir_all(&self.dir).map_err(Error::io("create", &self.dir))?;
        let stat = rustix::fs::statvfs(&self.dir).map_err(|e| Error::io("measure", &self.dir)(e.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        match free >= needed {
            true => Ok(()),
            false => Err(Error::DiskFull { path: self.dir.clone(), free_mib: free >> 20, needed_mib: needed >> 20 }),
        }
    }

    /// Removes what killed builds left behind.
    pub(super) fn sweep_partials(&self) -> Result<()> {
        for key in names(&self.partials())? {
            if let Some(_lock) = Lock::try_take(&self.lock(&key))? {
                remove_tree(&self.partials().join(&key))?;
            }
        }
        Ok(())
    }

    /// Removes the images and root file systems that nobody wants, unless one is being built.
    pub(super) fn retain(
        &self,
        wants_image: impl Fn(&str) -> bool,
        wants_rootfs: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>> {
        type Wants<'a> = &'a dyn Fn(&str) -> bool;
        let mut removed = Vec::new();
        let kinds: [(&str, Wants<'_>); 2] = [("images", &wants_image), ("rootfs", &wants_rootfs)];
        for (kind, wanted) in kinds {
            let dir = self.dir.join(kind);
            for key in names(&dir)?.into_iter().filter(|key| !wanted(key)) {
                // Asked again under the lock: somebody may have come for it since.
                if let Some(_lock) = Lock::try_take(&self.lock(&key))?.filter(|_| !wanted(&key)) {
                    remove_tree(&dir.join(&key))?;
                    removed.push(key);
                }
            }
        }
        Ok(removed)
    }

    /// Keys of all images.
    pub(super) fn images(&self) -> Result<Vec<String>> {
        names(&self.dir.join("images"))
    }
}

pub(super) fn names(dir: &Path) -> Result<Vec<String>> {
    match fs::read_dir(dir) {
        Ok(entries) => Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("list", dir)(error)),
    }
}

/// Removes a directory and what is below; none is as good.
pub(super) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_builds_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().to_owned());
        let _held = Lock::take(&cache.lock("busy")).unwrap();
        let busy = cache.fresh_partial("busy").unwrap();
        let left = cache.fresh_partial("left").unwrap();
        cache.sweep_partials().unwrap();
        assert!(busy.exists());
        assert!(!left.exists());
    }

    #[test]
    fn published_is_whole_and_the_rest_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().to_owned());
        let partial = cache.fresh_partial("k").unwrap();
        fs::write(partial.join("disk"), "d").unwrap();
        fs::write(partial.join("rubbish"), "r").unwrap();
        let place = cache.image("k");
        cache.publish(&partial, &place, &["disk"], "image.json", &7).unwrap();
        assert!(!partial.exists());
        assert_eq!(fs::read(place.join("disk")).unwrap(), b"d");
        assert_eq!(cache.load::<u32>(&place.join("image.json")).unwrap(), Some(7));
        assert!(!place.join("rubbish").exists());
    }

    #[test]
    fn a_damaged_description_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().to_owned());
        fs::write(dir.path().join("x.json"), "{").unwrap();
        let error = cache.load::<u32>(&dir.path().join("x.json")).unwrap_err();
        assert_eq!(error.category(), "CorruptImage");
    }

    #[test]
    fn too_little_space_is_told_with_figures() {
        let dir = tempfile::tempdir().unwrap();
        let error = Cache::new(dir.path().to_owned()).require_space(u64::MAX).unwrap_err();
        assert_eq!(error.category(), "DiskFull");
    }
}
