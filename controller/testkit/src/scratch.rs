//! A temporary directory that takes its processes with it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use process::Record;
use rustix::process::Signal;
use tempfile::TempDir;

/// A directory for one test. When it goes, so do the processes that records in it name: etcd and its like are made to
/// outlive us, and a failed test would leave them behind.
pub struct Scratch {
    dir: TempDir,
}

impl Scratch {
    /// A new, empty directory.
    pub fn new() -> io::Result<Scratch> {
        Ok(Scratch { dir: tempfile::Builder::new().prefix("clusterctl-test-").tempdir()? })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for path in records(self.path(), 6) {
            if let Some(id) = Record::load(&path).ok().flatten().and_then(|record| record.running()) {
                // Gone in the meantime is as good.
                let _ = id.signal(Signal::KILL);
            }
        }
    }
}

/// The `process.json` files under a directory, to a certain depth.
fn records(dir: &Path, depth: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, is_dir) = (entry.path(), entry.file_type().is_ok_and(|kind| kind.is_dir()));
        if is_dir && depth > 0 {
            found.extend(records(&path, depth - 1));
        } else if entry.file_name() == "process.json" {
            found.push(path);
        }
    }
    found
}
