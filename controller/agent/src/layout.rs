//! Where this agent keeps what, below its data directory.
//!
//! ```text
//!  DIR/vms/UID/{owner.json,machine.json,root.qcow2,run/}   DIR/volumes/UID/{owner.json,disk.raw}
//!  DIR/networks/UID/{owner.json,filter.json,dnsmasq…}      DIR/routers/UID/owner.json
//!  DIR/images/…   DIR/accelerator.json
//! ```
//!
//! A directory is named by its owner's UID and says in `owner.json` which object that is, so that what has no object any
//! more can be found and removed.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const OWNER: &str = "owner.json";

/// The agent's directories.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

/// Which object a directory belongs to.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct Owner {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// A file of ours could not be used.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} {path:?}{}", remedy(.source))]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl FileError {
    pub(crate) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self { action, path: path.to_owned(), source }
    }

    /// A stable label for metrics and condition reasons.
    pub fn category(&self) -> &'static str {
        match self.source.kind() {
            io::ErrorKind::StorageFull => "DiskFull",
            _ => "FileFailed",
        }
    }
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull => " (the disk is full: free some space, it is tried again)",
        io::ErrorKind::PermissionDenied => " (the agent must run as root)",
        _ => "",
    }
}

impl Layout {
    /// The layout below `root`, made absolute.
    pub fn new(root: &Path) -> io::Result<Layout> {
        Ok(Layout { root: std::path::absolute(root)? })
    }

    /// Makes the directories. QEMU's users must come through, hence `0711`.
    pub fn create(&self) -> Result<(), FileError> {
        for dir in [self.root.clone(), self.vms(), self.volumes(), self.networks(), self.routers(), self.images()] {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o711);
            builder.create(&dir).map_err(|source| FileError::new("create", &dir, source))?;
        }
        Ok(())
    }

    /// The data directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Machines.
    pub fn vms(&self) -> PathBuf {
        self.root.join("vms")
    }

    /// Volumes.
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// Networks.
    pub fn networks(&self) -> PathBuf {
        self.root.join("networks")
    }

    /// Routers that were elected to be here.
    pub fn routers(&self) -> PathBuf {
        self.root.join("routers")
    }

    /// Image cache.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// The accelerator's verdict.
    pub fn accelerator(&self) -> PathBuf {
        self.root.join("accelerator.json")
    }

    /// The book of user ids.
    pub fn user_ids(&self) -> PathBuf {
        self.root.join("user-ids.json")
    }

    /// Whether this host carries no machine and no network, so that it needs no namespace either.
    pub fn is_idle(&self) -> bool {
        is_empty(&self.vms()) && self.carries_no_network()
    }

    /// Whether no network is here, so that nothing is to be joined to other hosts.
    pub fn carries_no_network(&self) -> bool {
        is_empty(&self.networks())
    }

    /// Whether no router is here, and so no cable of one.
    pub fn has_no_router(&self) -> bool {
        is_empty(&self.routers())
    }

    /// Directory of one machine.
    pub fn vm(&self, uid: &str) -> PathBuf {
        self.vms().join(uid)
    }

    /// Root disk of one machine.
    pub fn root_disk(&self, uid: &str) -> PathBuf {
        self.vm(uid).join("root.qcow2")
    }

    /// Sockets, logs and record of one machine's QEMU.
    pub fn run_dir(&self, uid: &str) -> PathBuf {
        self.vm(uid).join("run")
    }

    /// Directory of one volume.
    pub fn volume(&self, uid: &str) -> PathBuf {
        self.volumes().join(uid)
    }

    /// Disk of one volume.
    pub fn volume_disk(&self, uid: &str) -> PathBuf {
        self.volume(uid).join("disk.raw")
    }

    /// Directory of one router.
    pub fn router(&self, uid: &str) -> PathBuf {
        self.routers().join(uid)
    }

    /// Directory of one network.
    pub fn network(&self, uid: &str) -> PathBuf {
        self.networks().join(uid)
    }
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

/// Makes an object's directory and says in it whose it is.
pub fn ensure_owned(dir: &Path, owner: &Owner) -> Result<(), FileError> {
    if owner_of(dir).as_ref() == Some(owner) {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o711).create(dir).map_err(|source| FileError::new("create", dir, source))?;
    note(dir, OWNER, owner)
}

/// Keeps a note of ours in an object's directory.
pub fn note(dir: &Path, name: &str, what: &impl Serialize) -> Result<(), FileError> {
    let path = dir.join(name);
    let text = serde_json::to_vec_pretty(what).map_err(|error| FileError::new("write", &path, error.into()))?;
    process::write_atomic(&path, text, 0o600).map_err(|source| FileError::new("write", &path, source))
}

/// A note that was kept, when it is there and whole.
pub fn recall<T: for<'de> Deserialize<'de>>(dir: &Path, name: &str) -> Option<T> {
    serde_json::from_slice(&fs::read(dir.join(name)).ok()?).ok()
}

/// Drops a note. That there is none is as well.
pub fn forget(dir: &Path, name: &str) -> Result<(), FileError> {
    let path = dir.join(name);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(FileError::new("remove", &path, source)),
        _ => Ok(()),
    }
}

/// Whose a directory is.
pub fn owner_of(dir: &Path) -> Option<Owner> {
    recall(dir, OWNER)
}

/// Every owned directory in `dir`; one whose owner is not told (we died while making it) has the directory's name as UID.
pub fn owned(dir: &Path) -> Result<Vec<Owner>, FileError> {
    let failed = |source| FileError::new("read", dir, source);
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let uid = entry.file_name().to_string_lossy().into_owned();
        let unknown = Owner { namespace: String::new(), name: String::new(), uid };
        all.push(owner_of(&entry.path()).filter(|owner| owner.uid == unknown.uid).unwrap_or(unknown));
    }
    Ok(all)
}

/// Removes a directory and all in it; fine when it is not there.
pub fn remove(dir: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(FileError::new("remove", dir, source)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_tells_its_owner_and_a_half_made_one_its_uid() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path()).unwrap();
        layout.create().unwrap();
        let owner = Owner { namespace: "t".into(), name: "a".into(), uid: "u1".into() };
        ensure_owned(&layout.vm("u1"), &owner).unwrap();
        ensure_owned(&layout.vm("u1"), &owner).unwrap();
        fs::create_dir(layout.vm("u2")).unwrap();
        let mut all = owned(&layout.vms()).unwrap();
        all.sort_by(|a, b| a.uid.cmp(&b.uid));
        assert_eq!(all[0], owner);
        assert_eq!((all[1].uid.as_str(), all[1].name.as_str()), ("u2", ""));
        remove(&layout.vm("u1")).unwrap();
        remove(&layout.vm("u1")).unwrap();
        assert_eq!(owned(&layout.vms()).unwrap().len(), 1);
    }
}
