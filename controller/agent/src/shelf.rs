//! The images that are there, found by key without reading the disk each time.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use host::image::{Builder, Built, Error, Progress, Recipe};

/// A builder with a memory.
pub struct Shelf {
    builder: Builder,
    /// Our name among those who share the builder's cache.
    user: String,
    known: Mutex<HashMap<String, Built>>,
}

/// What a machine needs of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltImage {
    /// Its key.
    pub key: String,
    /// Its disk, only ever read.
    pub disk: PathBuf,
    /// How the disk is written.
    pub format: host::qemu::machine::DiskFormat,
    /// Kernel for direct boot.
    pub kernel: Option<PathBuf>,
    /// Initial RAM disk for it.
    pub initrd: Option<PathBuf>,
}

impl From<Built> for BuiltImage {
    fn from(built: Built) -> Self {
        use host::image::DiskFormat as Written;
        use host::qemu::machine::DiskFormat;
        let format = match built.disk_format {
            Written::Raw => DiskFormat::Raw,
            Written::Qcow2 => DiskFormat::Qcow2,
        };
        Self { key: built.key, disk: built.disk, format, kernel: built.kernel, initrd: built.initrd }
    }
}

impl Shelf {
    /// A shelf over this builder's cache.
    pub fn new(builder: Builder, user: String) -> Self {
        Self { builder, user, known: Mutex::default() }
    }

    /// Says that these images are needed by what is in `dir`, and lets go what nobody has needed for long.
    pub async fn keep(&self, dir: &Path, keys: BTreeSet<String>) -> Result<(), Error> {
        self.builder.declare(&self.user, dir, keys).await?;
        for key in self.builder.prune().await? {
            tracing::info!(key, "removed an image that nobody uses");
            self.known.lock().unwrap_or_else(|broken| broken.into_inner()).remove(&key);
        }
        Ok(())
    }

    /// The image of that key, from memory where possible.
    pub async fn find(&self, key: &str) -> Result<Option<BuiltImage>, Error> {
        let known = self.known.lock().unwrap_or_else(|broken| broken.into_inner()).get(key).cloned();
        match known {
            Some(built) => Ok(Some(built.into())),
            None => Ok(self.look(key).await?.map(Into::into)),
        }
    }

    /// The image of that key, from the disk.
    pub async fn look(&self, key: &str) -> Result<Option<Built>, Error> {
        let found = self.builder.find(key).await;
        let mut known = self.known.lock().unwrap_or_else(|broken| broken.into_inner());
        match &found {
            Ok(Some(built)) => drop(known.insert(key.to_owned(), built.clone())),
            Ok(None) | Err(_) => drop(known.remove(key)),
        }
        found
    }

    /// Builds the image, or takes up an equal one.
    pub async fn build(
        &self,
        recipe: &Recipe,
        progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<Built, Error> {
        let built = self.builder.build(recipe, progress).await?;
        let mut known = self.known.lock().unwrap_or_else(|broken| broken.into_inner());
        known.insert(built.key.clone(), built.clone());
        Ok(built)
    }
}
